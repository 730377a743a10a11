// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// Options say what the engine under test does not do. The zero value is an
// engine that runs within this process and honours every option of the contract.
type Options struct {
	// RealTime: the engine waits for what lies outside of this process, so that its
	// tests can't run in virtual time. They take some seconds longer, and run in
	// parallel: open is then called at the same time for several stores.
	RealTime bool
	// NoExact: ReadOptions.Exact is refused with ErrUnsupported.
	NoExact bool
	// NoFences: WriteOptions.Fence is refused with ErrUnsupported.
	NoFences bool
	// NoKeep: Kind.Keep is not asked, because another store decides what a delete
	// removes.
	NoKeep bool
	// NoListsInTxn: a list in a transaction is refused with ErrUnsupported, because
	// the engine could not see that it has changed.
	NoListsInTxn bool
}

// Run tests an engine. open returns a new, empty store, and fails the test that
// it is given where it can't. Run closes the store.
func Run(t *testing.T, open func(t *testing.T) store.Store, opts Options) {
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) {
			for _, p := range s.promises {
				t.Run(p.name, func(t *testing.T) { try(t, open, opts, p) })
			}
		})
	}
}

// subject is a group of promises.
type subject struct {
	name     string
	promises []promise
}

// promise is one statement of the contract and the test of it.
type promise struct {
	name string
	test func(*trial)
	// clock: in real time on every engine. In virtual time, who waits to try again
	// waits until all others are done, so that writers contend less.
	clock bool
}

func subjects() []subject {
	return []subject{
		{"Create", createPromises()},
		{"Update", updatePromises()},
		{"Patch", patchPromises()},
		{"Delete", deletePromises()},
		{"Read", readPromises()},
		{"List", listPromises()},
		{"Txn", txnPromises()},
		{"Snapshot", snapshotPromises()},
		{"Watch", watchPromises()},
		{"Window", windowPromises()},
		{"Lease", leasePromises()},
		{"Hook", hookPromises()},
		{"Owner", ownerPromises()},
		{"Kind", kindPromises()},
		{"BadInput", badInputPromises()},
		{"Close", closePromises()},
		{"Model", modelPromises()},
		{"Linearizable", linearPromises()},
		{"Concurrent", concurrentPromises()},
	}
}

// patience is how long a test may take before what it waits for counts as lost:
// virtual time, or real time where the engine needs that.
const patience = 2 * time.Minute

// trial is the test of one promise, with a store of its own that has three
// kinds.
type trial struct {
	*testing.T
	opts    Options
	open    func(*testing.T) store.Store
	ctx     context.Context // ends with the trial's patience
	st      store.Store
	widgets *store.Handle[*widget]
	gizmos  *store.Handle[*widget] // another kind on the same Go type
	racks   *store.Handle[*widget] // cluster-scoped

	all  sync.WaitGroup // every goroutine of the test
	over atomic.Bool    // what goes wrong from here on is a consequence
}

func try(t *testing.T, open func(*testing.T) store.Store, opts Options, p promise) {
	run := func(t *testing.T) { p.test(newTrial(t, open, opts)) }
	if opts.RealTime {
		t.Parallel()
	}
	if opts.RealTime || p.clock {
		run(t)
		return
	}
	synctest.Test(t, run)
}

func newTrial(t *testing.T, open func(*testing.T) store.Store, opts Options) *trial {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	x := &trial{T: t, opts: opts, open: open, ctx: ctx, st: open(t)}
	t.Cleanup(func() {
		x.over.Store(true)
		cancel()
		x.all.Wait()
		if err := x.st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	x.widgets = x.register(widgetKind())
	x.gizmos = x.register(gizmoKind())
	x.racks = x.register(rackKind())
	return x
}

func (x *trial) register(k store.Kind[*widget]) *store.Handle[*widget] {
	x.Helper()
	h, err := store.Register(x.st, k)
	x.ok(err)
	return h
}

// The optional parts of the contract; without one, the test is skipped.

func (x *trial) transactor() store.Transactor   { return optional[store.Transactor](x, "Transactor") }
func (x *trial) snapshotter() store.Snapshotter { return optional[store.Snapshotter](x, "Snapshotter") }
func (x *trial) leaser() store.Leaser           { return optional[store.Leaser](x, "Leaser") }
func (x *trial) compactor() store.Compactor     { return optional[store.Compactor](x, "Compactor") }

func optional[I store.Store](x *trial, name string) I {
	s, ok := x.st.(I)
	if !ok {
		x.Skipf("by design: a %T is no store.%s", x.st, name)
	}
	return s
}

// needExact skips the test where the engine has declared that it reads the latest only.
func (x *trial) needExact() {
	if x.opts.NoExact {
		x.Skip("by design: no reads at an exact revision")
	}
}

// needListsInTxn likewise for lists in transactions.
func (x *trial) needListsInTxn() {
	if x.opts.NoListsInTxn {
		x.Skip("by design: no lists in transactions")
	}
}

// needFences likewise for fences.
func (x *trial) needFences() {
	if x.opts.NoFences {
		x.Skip("by design: no fences")
	}
}
