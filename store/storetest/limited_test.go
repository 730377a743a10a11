// SPDX-License-Identifier: Apache-2.0

package storetest_test

import (
	"context"
	"iter"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/store/storetest"
)

// TestLimitedEngine runs the suite on an engine that does what it must, and
// nothing that the contract leaves open: the tests of the rest must be skipped.
func TestLimitedEngine(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return limited{memory.New(memory.Options{})} },
		storetest.Options{NoExact: true, NoFences: true})
}

// TestRealTime runs the suite as for an engine that can't run in virtual time.
func TestRealTime(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of real time")
	}
	storetest.Run(t, func(*testing.T) store.Store { return memory.New(memory.Options{}) }, storetest.Options{RealTime: true})
}

// limited has none of the optional interfaces, because the store is no embedded
// field. Like a remote engine, it knows neither what an object was before an
// event nor the revision of a removal.
type limited struct{ all *memory.Store }

func (l limited) Register(s *store.Schema) error               { return l.all.Register(s) }
func (l limited) Unregister(s *store.Schema) error             { return l.all.Unregister(s) }
func (l limited) Kind(n store.KindName) *store.Schema          { return l.all.Kind(n) }
func (l limited) Kinds() []*store.Schema                       { return l.all.Kinds() }
func (l limited) Revision(ctx context.Context) (uint64, error) { return l.all.Revision(ctx) }
func (l limited) Close() error                                 { return l.all.Close() }

func unsupported(op string, s *store.Schema) error {
	return &store.Error{Op: op, Kind: s.KindName.String(), Err: store.ErrUnsupported}
}

func (l limited) Get(ctx context.Context, s *store.Schema, k store.Key, o store.ReadOptions) (store.Object, error) {
	if o.Exact != 0 {
		return nil, unsupported("get", s)
	}
	return l.all.Get(ctx, s, k, o)
}

func (l limited) List(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	if o.Exact != 0 {
		return store.ListMeta{}, unsupported("list", s)
	}
	return l.all.List(ctx, s, o, yield)
}

func (l limited) Watch(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return func(yield func(store.Event[store.Object], error) bool) {
		for ev, err := range l.all.Watch(ctx, s, o) {
			ev.Old = nil
			if !yield(ev, err) {
				return
			}
		}
	}
}

func (l limited) Write(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
	if w.Options.Fence != 0 {
		return nil, unsupported(w.Op.String(), s)
	}
	o, err := l.all.Write(ctx, s, w)
	if err == nil && w.Op == store.Delete && (s.Accessors.DeletionTime == nil || s.Accessors.DeletionTime(o).IsZero()) {
		o = s.Copy(o)
		o.SetResourceVersion("")
	}
	return o, err
}
