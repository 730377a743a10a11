// SPDX-License-Identifier: Apache-2.0

package storetest_test

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// broken is an engine that keeps the contract but for what a bug replaces: the
// fields are nil, or take the place of the method of that name.
type broken struct {
	*memory.Store

	register   func(*store.Schema) error
	unregister func(*store.Schema) error
	revision   func(context.Context) (uint64, error)
	get        func(context.Context, *store.Schema, store.Key, store.ReadOptions) (store.Object, error)
	list       func(context.Context, *store.Schema, store.ListOptions, func(store.Object) bool) (store.ListMeta, error)
	watch      func(context.Context, *store.Schema, store.WatchOptions) iter.Seq2[change, error]
	write      func(context.Context, *store.Schema, store.Write) (store.Object, error)
	begin      func(store.Tx) store.Tx // wraps the transaction
	end        func(error) error       // of the transaction's function
	snapshot   func(context.Context, store.ReadOptions) (store.Snapshot, error)
	grant      func(context.Context, time.Duration) (store.Lease, error)
	keepAlive  func(context.Context, store.LeaseID) error
	revoke     func(context.Context, store.LeaseID) error
	compact    func(context.Context, uint64) error

	done    chan struct{} // closed by Close
	running sync.WaitGroup
}

// change is an event as engines deliver it.
type change = store.Event[store.Object]

// newBroken returns an engine with that bug. It does not watch for callers who
// change shared objects, because some bugs do.
func newBroken(b bug) *broken {
	e := &broken{Store: memory.New(memory.Options{Mutations: store.DetectNever}), done: make(chan struct{})}
	b.plant(e)
	return e
}

func (e *broken) Register(s *store.Schema) error {
	if e.register != nil && s != nil && s.Is != nil {
		return e.register(s)
	}
	return e.Store.Register(s)
}

func (e *broken) Unregister(s *store.Schema) error {
	if e.unregister != nil {
		return e.unregister(s)
	}
	return e.Store.Unregister(s)
}

func (e *broken) Revision(ctx context.Context) (uint64, error) {
	if e.revision != nil {
		return e.revision(ctx)
	}
	return e.Store.Revision(ctx)
}

func (e *broken) Get(ctx context.Context, s *store.Schema, k store.Key, o store.ReadOptions) (store.Object, error) {
	if e.get != nil {
		return e.get(ctx, s, k, o)
	}
	return e.Store.Get(ctx, s, k, o)
}

func (e *broken) List(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	if e.list != nil {
		return e.list(ctx, s, o, yield)
	}
	return e.Store.List(ctx, s, o, yield)
}

func (e *broken) Watch(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[change, error] {
	if e.watch != nil {
		return e.watch(ctx, s, o)
	}
	return e.Store.Watch(ctx, s, o)
}

func (e *broken) Write(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
	if e.write != nil {
		return e.write(ctx, s, w)
	}
	return e.Store.Write(ctx, s, w)
}

func (e *broken) Txn(ctx context.Context, f func(store.Tx) error) (uint64, error) {
	if f == nil || e.begin == nil && e.end == nil {
		return e.Store.Txn(ctx, f)
	}
	var failed error
	rev, err := e.Store.Txn(ctx, func(tx store.Tx) error {
		if e.begin != nil {
			tx = e.begin(tx)
		}
		if failed = f(tx); e.end != nil {
			return e.end(failed)
		}
		return failed
	})
	if failed != nil {
		err = failed
	}
	return rev, err
}

func (e *broken) Snapshot(ctx context.Context, o store.ReadOptions) (store.Snapshot, error) {
	if e.snapshot != nil {
		return e.snapshot(ctx, o)
	}
	return e.Store.Snapshot(ctx, o)
}

func (e *broken) Grant(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	if e.grant != nil {
		return e.grant(ctx, ttl)
	}
	return e.Store.Grant(ctx, ttl)
}

func (e *broken) KeepAlive(ctx context.Context, id store.LeaseID) error {
	if e.keepAlive != nil {
		return e.keepAlive(ctx, id)
	}
	return e.Store.KeepAlive(ctx, id)
}

func (e *broken) Revoke(ctx context.Context, id store.LeaseID) error {
	if e.revoke != nil {
		return e.revoke(ctx, id)
	}
	return e.Store.Revoke(ctx, id)
}

func (e *broken) Compact(ctx context.Context, rev uint64) error {
	if e.compact != nil {
		return e.compact(ctx, rev)
	}
	return e.Store.Compact(ctx, rev)
}

func (e *broken) Close() error {
	select {
	case <-e.done:
	default:
		close(e.done)
	}
	e.running.Wait()
	return e.Store.Close()
}

// now returns the latest revision.
func (e *broken) now() uint64 {
	rev, _ := e.Store.Revision(context.Background())
	return rev
}

// brokenTx is a transaction with a bug.
type brokenTx struct {
	store.Tx
	get   func(*store.Schema, store.Key) (store.Object, error)
	list  func(*store.Schema, store.ListOptions, func(store.Object) bool) (store.ListMeta, error)
	write func(*store.Schema, store.Write) (store.Object, error)
	fence func(store.LeaseID)
}

func (x *brokenTx) Get(s *store.Schema, k store.Key) (store.Object, error) {
	if x.get != nil {
		return x.get(s, k)
	}
	return x.Tx.Get(s, k)
}

func (x *brokenTx) List(s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	if x.list != nil {
		return x.list(s, o, yield)
	}
	return x.Tx.List(s, o, yield)
}

func (x *brokenTx) Write(s *store.Schema, w store.Write) (store.Object, error) {
	if x.write != nil {
		return x.write(s, w)
	}
	return x.Tx.Write(s, w)
}

func (x *brokenTx) Fence(id store.LeaseID) {
	if x.fence != nil {
		x.fence(id)
		return
	}
	x.Tx.Fence(id)
}
