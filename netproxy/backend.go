// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"context"
	"errors"
)

// Backend puts routes into effect: in the kernel, or in a proxy of its own. It
// remembers what it has to do until it is done, so that a call that failed can
// be followed by one without changes. Its methods are called by one goroutine
// at a time.
type Backend interface {
	// Sync puts changes into effect, and whatever earlier calls could not. An
	// error that holds only *ServiceErrors means that those services were left
	// out and all others are in effect.
	Sync(ctx context.Context, changes []Change) error
	// Resync compares what is in effect with what should be, repairs it, and
	// says how many chains, sets or listeners were wrong.
	Resync(ctx context.Context) (repaired int, err error)
	// Cleanup removes everything that the backend ever made, by any process,
	// and nothing else.
	Cleanup(ctx context.Context) error
}

// What a Backend's errors are for errors.Is, where the system is the cause.
var (
	// ErrNotInstalled means that a program is missing.
	ErrNotInstalled = errors.New("program not installed")
	// ErrPermission means that the process may not change the kernel's rules.
	ErrPermission = errors.New("not permitted; this needs root or CAP_NET_ADMIN")
	// ErrLocked means that another program held the lock for too long.
	ErrLocked = errors.New("locked by another program")
	// ErrRefused means that the kernel refused the rules.
	ErrRefused = errors.New("refused by the kernel")
)

// OnlyServices says whether the error consists of *ServiceErrors alone: the
// services named were left out, and trying again makes no difference.
func OnlyServices(err error) bool {
	switch e := err.(type) {
	case *ServiceError:
		return true
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if !OnlyServices(err) {
				return false
			}
		}
		return true
	}
	return false
}
