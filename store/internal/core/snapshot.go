// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"

	"github.com/slipway-dev/slipway/store"
)

// snapshot is a revision, under the kinds that were registered when it was
// taken.
type snapshot struct {
	s        *Store
	kinds    *registry
	revision uint64
}

// lasting is a snapshot that holds its views, so that it stays readable after
// its revision has left the history window.
type lasting struct {
	snapshot
	views map[*table]View
}

// Snapshot implements [store.Snapshotter].
func (s *Store) Snapshot(ctx context.Context, opts store.ReadOptions) (store.Snapshot, error) {
	fail := func(err error) (store.Snapshot, error) {
		return nil, &store.Error{Op: "snapshot", Err: err}
	}
	if err := s.usable(ctx); err != nil {
		return fail(err)
	}
	for {
		kinds := s.kinds.Load() // first: a kind is no newer than the revision
		revision, err := s.resolve(opts)
		if err != nil {
			return fail(err)
		}
		views := make(map[*table]View, len(kinds.bySchema))
		for _, t := range kinds.bySchema {
			if revision < t.since {
				continue // the kind came later: the snapshot does without it
			}
			if views[t], err = s.view(t, revision); err != nil {
				break
			}
		}
		if err == nil {
			return &lasting{snapshot{s, kinds, revision}, views}, nil
		}
		if opts.Exact != 0 {
			return fail(err)
		} // the window has left the latest behind since it was loaded: take a newer one
	}
}

func (s *lasting) Revision() uint64 { return s.revision }

// table returns the kind's table, if it was registered then.
func (s *snapshot) table(schema *store.Schema) (*table, error) {
	if t := s.kinds.bySchema[schema]; t != nil {
		return t, nil
	}
	return nil, store.ErrUnknownKind
}

// view returns the kind's content, if it was registered at that revision.
func (s *lasting) view(schema *store.Schema) (View, error) {
	t, err := s.table(schema)
	if err != nil {
		return nil, err
	}
	if v := s.views[t]; v != nil {
		return v, nil
	}
	return nil, store.ErrUnknownKind
}

func (s *lasting) Get(schema *store.Schema, key store.Key) (store.Object, error) {
	v, err := s.view(schema)
	if err != nil {
		return nil, wrap(err, "get", schema, key)
	}
	if e := v.Get(key); e != nil {
		return e.Object, nil
	}
	return nil, wrap(store.ErrNotFound, "get", schema, key)
}

func (s *lasting) List(schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	meta, err := s.list(schema, opts, yield)
	return meta, wrap(err, "list", schema, store.Key{Namespace: opts.Namespace})
}

func (s *lasting) list(schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	v, err := s.view(schema)
	if err != nil {
		return store.ListMeta{}, err
	}
	q, err := newQuery(schema, opts)
	if err != nil {
		return store.ListMeta{}, err
	}
	if opts.Continue != "" && q.opts.Exact != s.revision {
		return store.ListMeta{}, store.Invalidf("the continue token is of revision %d, and the snapshot of %d", q.opts.Exact, s.revision)
	}
	return q.run(v, s.revision, func(e *Entry) bool { return yield(e.Object) })
}
