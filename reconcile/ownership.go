// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"

	"github.com/slipway-dev/slipway/store"
)

// Ownership says which keys this replica may work on: all of them while it is
// the leader, or its share of them.
type Ownership interface {
	// Begin asks whether this replica may work on the key now. If so, it returns a
	// context that ends as soon as it no longer may, the lease that fences what it
	// writes (0 where the store has none), and the function to call when the work
	// is over: the key goes to no other replica before that, unless this one is cut
	// off or paused for longer than its lease.
	Begin(ctx context.Context, key string) (run Run, ok bool)
	// OnGain calls f each time that keys have come to this replica, with the
	// function that tells which; stop ends it, and waits for a call in progress.
	OnGain(f func(mine func(key string) bool)) (stop func())
}

// Run is the right to work on a key: see [Ownership].
type Run struct {
	Context context.Context
	Fence   store.LeaseID
	End     func()
}
