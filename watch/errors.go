// SPDX-License-Identifier: Apache-2.0

package watch

import "errors"

// The errors of this package, beside those of package store that a source
// returns.
var (
	// ErrStarted: Run was called before; an informer, a cache and a collection run
	// once. Make a new one.
	ErrStarted = errors.New("watch: has been started already")
	// ErrStopped: Run has ended, so that what is waited for will not come.
	ErrStopped = errors.New("watch: has been stopped")
	// ErrBadSource: the source broke its contract (see [Source]); the text says
	// how. The informer keeps what it has, and asks again.
	ErrBadSource = errors.New("the source broke its contract")
	// ErrNoInformer: a view was asked for a kind that the cache has no informer of.
	// Ask for the informer first ([For]).
	ErrNoInformer = errors.New("watch: the cache has no informer of the kind")
)
