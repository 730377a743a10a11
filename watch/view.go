// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"

	"github.com/slipway-dev/slipway/store"
)

// Versions are the revisions that a view must have got to, by kind.
type Versions map[store.KindName]uint64

// View returns the state of the kinds at one moment, at least as new as the
// versions demand: it waits for them. Read it with Handle.At, or as it is.
//
// Where the store can take snapshots of all kinds, it is one of those: every kind
// of the store, all at one revision. Elsewhere it is over the caches of the
// informers asked for so far, each at a revision of its own with no transaction
// of its kind cut; its Revision is the lowest of them. A kind without an informer
// is [ErrNoInformer] there, when it is named among the versions or read; so is,
// when it is read, one that was not named and has not synced.
func (c *Cache) View(ctx context.Context, atLeast Versions) (store.Snapshot, error) {
	if st, ok := c.st.(store.Snapshotter); ok {
		var latest uint64
		for _, revision := range atLeast {
			latest = max(latest, revision)
		}
		return st.Snapshot(ctx, store.ReadOptions{AtLeast: latest})
	}
	readers := c.readers()
	for kind, revision := range atLeast {
		r, ok := find(readers, kind)
		if !ok {
			return nil, fmt.Errorf("%w: %v", ErrNoInformer, kind)
		}
		if err := r.WaitFor(ctx, revision); err != nil {
			return nil, fmt.Errorf("watch: wait for revision %d of %v: %w", revision, kind, err)
		}
	}
	v := &view{kinds: make(map[*store.Schema]reader, len(readers))}
	for schema, i := range readers {
		r, synced := i.reader()
		if !synced {
			continue // its source may be broken: that is for those who need it
		}
		if v.kinds[schema] = r; len(v.kinds) == 1 || r.Revision() < v.revision {
			v.revision = r.Revision()
		}
	}
	return v, nil
}

// readers returns an informer for each kind.
func (c *Cache) readers() map[*store.Schema]shared {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[*store.Schema]shared, len(c.members))
	for key, m := range c.members {
		if !key.untyped || out[key.schema] == nil {
			out[key.schema] = m.shared
		}
	}
	return out
}

func find(readers map[*store.Schema]shared, kind store.KindName) (shared, bool) {
	for schema, i := range readers {
		if schema.KindName == kind {
			return i, true
		}
	}
	return nil, false
}

// view is a snapshot over caches.
type view struct {
	kinds    map[*store.Schema]reader
	revision uint64
}

// reader reads one kind in a view.
type reader interface {
	Revision() uint64
	get(store.Key) (store.Object, bool)
	listMeta(store.ListOptions, func(store.Object) bool) (store.ListMeta, error)
}

func (v *view) Revision() uint64 { return v.revision }

// kind returns the reader of the kind. A schema of a store that wraps the cache's
// is known by its name.
func (v *view) kind(s *store.Schema) (reader, error) {
	if r := v.kinds[s]; r != nil {
		return r, nil
	}
	for known, r := range v.kinds {
		if known.KindName == s.KindName {
			return r, nil
		}
	}
	return nil, ErrNoInformer
}

func (v *view) Get(s *store.Schema, key store.Key) (store.Object, error) {
	fail := func(err error) (store.Object, error) {
		return nil, &store.Error{Op: "get", Kind: s.KindName.String(), Key: key, Err: err}
	}
	r, err := v.kind(s)
	if err != nil {
		return fail(err)
	}
	o, ok := r.get(key)
	if !ok {
		return fail(store.ErrNotFound)
	}
	return o, nil
}

func (v *view) List(s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	r, err := v.kind(s)
	if err == nil {
		opts.ReadOptions = store.ReadOptions{}
		var meta store.ListMeta
		if meta, err = r.listMeta(opts, yield); err == nil {
			return meta, nil
		}
	}
	return store.ListMeta{}, &store.Error{Op: "list", Kind: s.KindName.String(), Key: store.Key{Namespace: opts.Namespace}, Err: err}
}

// frozen is the contents of an informer at one moment.
type frozen[T store.Object] struct{ *contents[T] }

func (i *Informer[T]) reader() (r reader, synced bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.read.Lock()
	defer i.read.Unlock()
	return frozen[T]{i.contents.snapshot()}, i.isSynced
}

func (f frozen[T]) Revision() uint64 { return f.revision }

func (f frozen[T]) get(key store.Key) (store.Object, bool) {
	o, ok := f.contents.get(key)
	return o, ok
}

func (f frozen[T]) listMeta(opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	q, err := f.query(opts)
	if err != nil {
		return store.ListMeta{}, err
	}
	meta := store.ListMeta{Revision: f.revision}
	objects, more := f.list(&q)
	if more {
		meta.Continue, meta.Remaining = tokenPrefix+store.KeyOf(objects[len(objects)-1]).String(), -1
	}
	for _, o := range objects {
		if !yield(o) {
			break
		}
	}
	return meta, nil
}
