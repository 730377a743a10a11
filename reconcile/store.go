// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"iter"
	"reflect"

	"github.com/slipway-dev/slipway/store"
)

// managed is a store as reconciles see it. With the context of a reconcile, its
// reads come from that reconcile's view, and its writes are fenced and noted;
// with any other context it is the store below. It and its kin are used behind
// pointers, which compare, whatever the store below is.
type managed struct {
	store.Store
	by *Manager
}

// manage wraps a store, with those optional interfaces that it has: all, those
// of a transactor, or none.
func manage(st store.Store, by *Manager) store.Store {
	switch st := st.(type) {
	case store.Engine:
		return &managedEngine{st, managed{st, by}}
	case store.Transactor:
		return &managedTransactor{managed{st, by}, st}
	}
	return &managed{st, by}
}

// activity returns the reconcile that the context belongs to. A reconcile of a
// manager of another store is nothing to this one: neither its view nor its fence
// is of any use here.
func (m *managed) activity(ctx context.Context) *activity {
	a := activityOf(ctx)
	if a == nil || a.in == m.by {
		return a
	}
	if reflect.ValueOf(m.Store).Comparable() && a.base == m.Store {
		return a
	}
	return nil
}

func (m *managed) Get(ctx context.Context, s *store.Schema, key store.Key, opts store.ReadOptions) (store.Object, error) {
	a := m.activity(ctx)
	if a == nil || opts.Exact != 0 {
		return m.Store.Get(ctx, s, key, opts)
	}
	v, err := a.look(ctx, s, opts.AtLeast)
	if err != nil {
		return nil, &store.Error{Op: "get", Kind: s.KindName.String(), Key: key, Err: err}
	}
	return v.get(ctx, s, key)
}

func (m *managed) List(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	a := m.activity(ctx)
	if a == nil || opts.Exact != 0 || opts.Continue != "" && a.joint() { // a page goes on at the revision of its list
		return m.Store.List(ctx, s, opts, yield)
	}
	v, err := a.look(ctx, s, opts.AtLeast)
	if err != nil {
		return store.ListMeta{}, &store.Error{Op: "list", Kind: s.KindName.String(), Err: err}
	}
	return v.list(ctx, s, opts, yield)
}

func (m *managed) Write(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
	a := m.activity(ctx)
	if a == nil {
		return m.Store.Write(ctx, s, w)
	}
	if w.Options.Fence == 0 {
		w.Options.Fence = a.fence
	}
	key := writeTarget(w)
	if a.over() {
		return nil, &store.Error{Op: w.Op.String(), Kind: s.KindName.String(), Key: key, Err: errEnded}
	}
	before := a.before(ctx)
	var patched uint64 // what a patch was applied to
	if change := w.Patch; change != nil {
		w.Patch = func(o store.Object) error {
			patched, _ = store.RevisionOf(o)
			return change(o)
		}
	}
	o, err := m.Store.Write(ctx, s, w)
	if err != nil {
		return o, err
	}
	done := written(w.Op, s, o, key)
	if done.Revision == 0 || done.Revision > before && done.Revision != patched {
		a.write(done, patched)
	}
	return o, err
}

// writeTarget returns the key that a write names.
func writeTarget(w store.Write) store.Key {
	if w.Object != nil {
		return store.KeyOf(w.Object)
	}
	return w.Key
}

// written describes a write from the object that it returned, whose revision is
// 0 where the engine can't tell it.
func written(op store.Op, s *store.Schema, o store.Object, key store.Key) Written {
	w := Written{Op: op, Kind: s.KindName, Key: key}
	if o != nil {
		w.Key = store.KeyOf(o)
		w.Revision, _ = store.RevisionOf(o) // an engine's own version: always a number
	}
	return w
}

// managedTransactor is a managed store with transactions.
type managedTransactor struct {
	managed
	transactor store.Transactor
}

func (m *managedTransactor) Txn(ctx context.Context, f func(store.Tx) error) (uint64, error) {
	return txn(ctx, m.activity(ctx), m.transactor, f)
}

// managedEngine is a managed store that can do everything.
type managedEngine struct {
	store.Engine
	managed managed
}

func (m *managedEngine) Get(ctx context.Context, s *store.Schema, key store.Key, opts store.ReadOptions) (store.Object, error) {
	return m.managed.Get(ctx, s, key, opts)
}

func (m *managedEngine) List(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	return m.managed.List(ctx, s, opts, yield)
}

func (m *managedEngine) Watch(ctx context.Context, s *store.Schema, opts store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return m.Engine.Watch(ctx, s, opts)
}

func (m *managedEngine) Write(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
	return m.managed.Write(ctx, s, w)
}

func (m *managedEngine) Txn(ctx context.Context, f func(store.Tx) error) (uint64, error) {
	return txn(ctx, m.managed.activity(ctx), m.Engine, f)
}

// txn runs a transaction of a reconcile: fenced, and its writes noted when it
// has committed. It reads the state that the transaction reads, not the
// reconcile's view: that is what the commit validates.
func txn(ctx context.Context, a *activity, st store.Transactor, f func(store.Tx) error) (uint64, error) {
	if a == nil {
		return st.Txn(ctx, f)
	}
	if a.over() {
		return 0, &store.Error{Op: "transaction", Err: errEnded}
	}
	var noted *notingTx
	before := a.before(ctx)
	rev, err := st.Txn(ctx, func(tx store.Tx) error {
		noted = &notingTx{Tx: tx} // anew for each run
		if a.fence != 0 {
			tx.Fence(a.fence)
		}
		return f(noted)
	})
	if err == nil && rev > before {
		for _, w := range noted.wrote {
			w.Revision = rev
			a.write(w, 0)
		}
	}
	return rev, err
}

// notingTx notes the writes of a transaction.
type notingTx struct {
	store.Tx
	wrote []Written
}

func (t *notingTx) Write(s *store.Schema, w store.Write) (store.Object, error) {
	key := writeTarget(w)
	o, err := t.Tx.Write(s, w)
	if err == nil {
		noted := Written{Op: w.Op, Kind: s.KindName, Key: key}
		if o != nil {
			noted.Key = store.KeyOf(o)
		}
		t.wrote = append(t.wrote, noted)
	}
	return o, err
}
