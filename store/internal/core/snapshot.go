// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"

	"github.com/slipway-dev/slipway/store"
)

// snapshot is a state under the kinds that were registered when it was taken.
type snapshot struct {
	state *state
	kinds *registry
}

// Snapshot implements [store.Snapshotter].
func (s *Store) Snapshot(ctx context.Context, opts store.ReadOptions) (store.Snapshot, error) {
	fail := func(err error) (store.Snapshot, error) {
		return nil, &store.Error{Op: "snapshot", Err: err}
	}
	if err := s.usable(ctx); err != nil {
		return fail(err)
	}
	kinds := s.kinds.Load()
	st := s.state.Load()
	if opts == (store.ReadOptions{}) {
		return &snapshot{st, kinds}, nil
	}
	revision, err := s.resolve(st, opts)
	if err != nil {
		return fail(err)
	}
	past := &state{revision, make([]View, len(st.views))}
	for _, t := range kinds.bySchema {
		if st.view(t) == nil {
			continue
		}
		if past.views[t.number], _, err = s.read(st, t, opts); err != nil {
			return fail(err)
		}
	}
	return &snapshot{past, kinds}, nil
}

func (s *snapshot) Revision() uint64 { return s.state.revision }

// view returns the kind's content, or ErrUnknownKind.
func (s *snapshot) view(schema *store.Schema) (View, error) {
	if t := s.kinds.bySchema[schema]; t != nil {
		if v := s.state.view(t); v != nil {
			return v, nil
		}
	}
	return nil, store.ErrUnknownKind
}

func (s *snapshot) Get(schema *store.Schema, key store.Key) (store.Object, error) {
	v, err := s.view(schema)
	if err != nil {
		return nil, wrap(err, "get", schema, key)
	}
	if e := v.Get(key); e != nil {
		return e.Object, nil
	}
	return nil, wrap(store.ErrNotFound, "get", schema, key)
}

func (s *snapshot) List(schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	meta, err := s.list(schema, opts, yield)
	return meta, wrap(err, "list", schema, store.Key{Namespace: opts.Namespace})
}

func (s *snapshot) list(schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	v, err := s.view(schema)
	if err != nil {
		return store.ListMeta{}, err
	}
	q, err := newQuery(schema, opts)
	if err != nil {
		return store.ListMeta{}, err
	}
	if opts.Continue != "" && q.opts.Exact != s.state.revision {
		return store.ListMeta{}, store.Invalidf("the continue token is of revision %d, and the snapshot of %d", q.opts.Exact, s.state.revision)
	}
	return q.run(v, s.state.revision, func(e *Entry) bool { return yield(e.Object) })
}
