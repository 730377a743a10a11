// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"

	"github.com/slipway-dev/slipway/store"
)

// Ownership says which keys this replica may work on: all of them while it is
// the leader ([Term.Ownership]), or its share of them ([Sharder]).
type Ownership interface {
	// Begin asks whether this replica may work on the key now. If so, End of what
	// it returns must be called when the work is over: the key goes to no other
	// replica before that, unless this one is cut off or paused for longer than its
	// lease. Begin is cheap, and never waits.
	Begin(ctx context.Context, key string) (run Run, ok bool)
	// OnGain calls f each time that keys have come to this replica, with the
	// function that tells which (of any key, also later); the first time for those
	// that it has already, if any. Calls of one f never overlap. Stop ends it, and
	// waits for a call in progress: f itself must not call it.
	OnGain(f func(mine func(key string) bool)) (stop func())
}

// Run is the right to work on a key: see [Ownership].
type Run struct {
	// Context ends with the one given to Begin, when the replica can no longer
	// prove that the key is its own (with the cause [ErrLeadershipLost]), and at End.
	Context context.Context
	// Epoch grows each time that the key goes from one replica to another: what is
	// outside of the store can refuse what comes with a lower one.
	Epoch uint64
	// Fence is the lease that the work's writes should demand, so that they fail
	// once another has the key; 0 where the store has no leases.
	Fence store.LeaseID
	// End says that the work is over.
	End func()
}

// Ownership returns the leader's: every key is its own while the term lasts.
// The leader has to wait for its work before it returns from lead; nothing else
// does.
func (t Term) Ownership() Ownership { return termOwnership{t} }

type termOwnership struct{ term Term }

// Begin implements [Ownership].
func (o termOwnership) Begin(ctx context.Context, _ string) (Run, bool) {
	t := o.term.tenure
	if t == nil || !t.valid() {
		return Run{}, false
	}
	working, end := bind(ctx, t.ctx)
	return Run{Context: working, Epoch: o.term.Epoch, Fence: o.term.Fence, End: end}, true
}

// OnGain implements [Ownership]: a term gains everything once, when it begins.
func (o termOwnership) OnGain(f func(mine func(key string) bool)) (stop func()) {
	if t := o.term.tenure; t != nil && t.valid() {
		f(func(string) bool { return true })
	}
	return func() {}
}
