// SPDX-License-Identifier: Apache-2.0

package runtime

import "errors"

// The sentinels that errors of a runtime wrap. The gRPC code that stands for
// each in CRI is in parentheses.
var (
	// ErrNotFound: no sandbox, container or image has that ID or name (NotFound).
	ErrNotFound = errors.New("not found")
	// ErrAlreadyExists: a sandbox with this UID and attempt, or a container with
	// this name and attempt, is there already (AlreadyExists).
	ErrAlreadyExists = errors.New("already exists")
	// ErrInvalid: the request can never work as it is (InvalidArgument).
	ErrInvalid = errors.New("invalid")
	// ErrState: the object is in a state in which this can't be done: an exec in a
	// container that has exited, a second start (FailedPrecondition).
	ErrState = errors.New("wrong state")
	// ErrUnsupported: this runtime, or this machine, can't do it (Unimplemented).
	ErrUnsupported = errors.New("not supported")
	// ErrUnavailable: the runtime can't be reached now; try again (Unavailable).
	ErrUnavailable = errors.New("runtime unavailable")
	// ErrExhausted: disk, memory, process IDs or addresses ran out (ResourceExhausted).
	ErrExhausted = errors.New("resource exhausted")
	// ErrImage: the image is damaged, or its registry refused it. A missing
	// image is [ErrNotFound].
	ErrImage = errors.New("bad image")
	// ErrLagged ends an event stream whose reader was too slow. The reader lists
	// and subscribes again.
	ErrLagged = errors.New("event stream fell behind")
)
