// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"runtime"
	"weak"

	"github.com/slipway-dev/slipway/store"
)

// relist lists the source and makes what differs from the contents one
// transaction.
func (f *follower[T]) relist(ctx context.Context) error {
	items, revision, err := f.page(ctx)
	if err != nil {
		return err
	}
	switch {
	case revision == 0:
		return f.bad("a list without a revision")
	case revision < f.revision:
		return f.bad("a list of revision %d after revision %d", revision, f.revision)
	}
	fresh := f.contents.empty()
	fresh.reserve(len(items))
	for n, o := range items {
		if f.direct == nil {
			if err := f.checkObject(o); err != nil {
				return fmt.Errorf("list: %w", err)
			}
			if o, err = f.admit(o); err != nil {
				return err
			}
			items[n] = o
		}
		if _, twice := fresh.put(o); twice {
			return f.bad("a list with %s twice", store.KeyOf(o))
		}
	}
	f.hear()
	f.changes = f.changes[:0]
	if f.isSynced || f.sink != nil {
		f.changes = f.differences(f.changes, items, fresh)
	}
	n := len(f.changes)
	fresh.revision = revision
	f.mu.Lock()
	f.read.Lock()
	f.contents = fresh
	f.read.Unlock()
	f.publish(revision)
	if !f.isSynced {
		f.begin(items)
	}
	f.mu.Unlock()
	f.drain(revision)
	if f.opts.Hooks.Listed != nil {
		f.opts.Hooks.Listed(len(items), n)
	}
	return nil
}

// page lists all that the options select, page by page.
func (f *follower[T]) page(ctx context.Context) (items []T, revision uint64, err error) {
	opts := store.ListOptions{
		ReadOptions: store.ReadOptions{AtLeast: f.revision}, Limit: f.opts.PageSize,
		Namespace: f.opts.Namespace, Labels: f.opts.Labels, Fields: f.opts.Fields,
	}
	for first := true; ; first = false {
		p, err := f.src.Page(ctx, opts)
		if err != nil {
			return nil, 0, err
		}
		switch {
		case !first && p.Revision != revision:
			return nil, 0, f.bad("a list whose pages are of the revisions %d and %d", revision, p.Revision)
		case first && f.direct != nil: // it is nobody else's
			items = p.Items
		default:
			items = append(items, p.Items...)
		}
		revision = p.Revision
		if p.Continue == "" {
			return items, revision, nil
		}
		opts.Continue, opts.AtLeast = p.Continue, 0
	}
}

// differences appends what changes the contents to the listed objects, which are
// fresh, too.
func (f *follower[T]) differences(changes []change[T], listed []T, fresh *contents[T]) []change[T] {
	for old := range f.contents.objects.all {
		if _, ok := fresh.get(store.KeyOf(old)); !ok {
			changes = append(changes, change[T]{op: store.Deleted, old: old})
		}
	}
	for _, o := range listed {
		old, had := f.contents.get(store.KeyOf(o))
		switch {
		case !had:
			changes = append(changes, change[T]{op: store.Added, new: o})
		case f.replaced(old, o):
			changes = append(changes, change[T]{op: store.Deleted, old: old}, change[T]{op: store.Added, new: o})
		case old.GetResourceVersion() != o.GetResourceVersion():
			changes = append(changes, change[T]{store.Modified, old, o})
		}
	}
	return changes
}

// replaced reports whether an object is another one than that which had its key.
// Where nobody knows UIDs they are the same.
func (i *Informer[T]) replaced(old, new T) bool { return i.uid != nil && i.uid(old) != i.uid(new) }

// begin makes the informer synced, and has the handlers begin. The mutex is held.
func (f *follower[T]) begin(items []T) {
	p := &present[T]{objects: items}
	f.present = weak.Make(p)
	f.isSynced = true
	close(f.synced)
	for s := range f.subscribers {
		s.begin()
	}
	runtime.KeepAlive(p)
}

// commit makes a transaction's events changes of the contents and of the
// journal, all at once.
func (f *follower[T]) commit(events []store.Event[T]) error {
	if f.direct == nil {
		if err := f.checkTransaction(events); err != nil {
			return err
		}
	}
	for n := range events {
		if f.direct != nil {
			break
		}
		o, err := f.admit(events[n].Object)
		if err != nil {
			return err
		}
		events[n].Object = o
	}
	f.moved = true
	f.mu.Lock()
	f.changes = f.changes[:0]
	revision := events[len(events)-1].Revision
	f.read.Lock()
	for n := range events {
		f.changes = f.apply(f.changes, &events[n])
	}
	f.contents.revision = revision
	f.read.Unlock()
	f.publish(revision)
	f.mu.Unlock()
	f.drain(revision)
	clear(f.changes)
	return nil
}

// drain tells the sink.
func (f *follower[T]) drain(revision uint64) {
	if f.sink != nil {
		f.sink(f.changes, revision)
	}
}

// apply changes the contents by one event, and appends what handlers are told.
func (f *follower[T]) apply(changes []change[T], ev *store.Event[T]) []change[T] {
	if ev.Type == store.Deleted {
		if _, had := f.contents.remove(store.KeyOf(ev.Object)); had {
			changes = append(changes, change[T]{op: store.Deleted, old: ev.Object})
		}
		return changes
	}
	old, had := f.contents.put(ev.Object)
	switch {
	case !had:
		return append(changes, change[T]{op: store.Added, new: ev.Object})
	case f.replaced(old, ev.Object):
		return append(changes, change[T]{op: store.Deleted, old: old}, change[T]{op: store.Added, new: ev.Object})
	}
	return append(changes, change[T]{store.Modified, old, ev.Object})
}

// publish hands the changes over to the handlers, and tells those who wait for
// the revision. The mutex is held.
func (f *follower[T]) publish(revision uint64) {
	f.err = nil
	f.revision = revision
	f.tell(f.changes)
	f.reach()
}

// admit returns the object as it is kept: transformed, and tried with the index
// functions, which must not panic later, in the midst of a change.
func (f *follower[T]) admit(o T) (out T, err error) {
	key, what := store.KeyOf(o), "an index function"
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("watch: %s panicked on %s: %v", what, key, r)
		}
	}()
	if f.opts.Transform != nil {
		what = "the transform"
		out = f.opts.Transform(o)
		switch {
		case isNil(out):
			return o, fmt.Errorf("watch: the transform of %s returned nil: return the object to keep it as it is", key)
		case store.KeyOf(out) != key:
			return o, fmt.Errorf("watch: the transform of %s made it %s: the key must stay", key, store.KeyOf(out))
		}
		o, what = out, "an index function"
	}
	f.contents.try(o)
	return o, nil
}
