// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// gcFeed keeps the graph up to date with one kind.
type gcFeed struct {
	run    *collection
	schema *store.Schema

	// Under the run's mutex.
	synced   bool   // the graph has had all objects
	revision uint64 // the graph holds what the kind was then
	ended    bool   // the kind is not registered any more

	// The feed's own.
	from  uint64 // where to resume; 0: begin with the present state
	works bool   // the watch has got somewhere since it began
}

const maxFeedPause = 30 * time.Second

// follow watches the kind until the context ends or the kind is unregistered.
func (f *gcFeed) follow(ctx context.Context) {
	pause := f.run.opts.Interval
	for {
		f.works = false
		err := f.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrUnknownKind):
			f.end()
			return
		case errors.Is(err, store.ErrClosed):
			f.run.fail(err)
			return
		case errors.Is(err, store.ErrTooOld) && f.from != 0:
			f.from = 0
			continue
		}
		if f.works {
			pause = f.run.opts.Interval
		}
		f.run.opts.Logger.Error("the garbage collector's watch ended; it is tried again", "kind", f.schema.String(), "error", err, "after", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, maxFeedPause)
	}
}

// end takes the kind out of the graph.
func (f *gcFeed) end() {
	f.run.update(func(g *gcGraph) {
		f.ended = true
		delete(f.run.feeds, f.schema.KindName)
		g.dropKind(f.schema.KindName)
	})
}

// watch delivers events to the graph until the watch ends. Of one that begins
// with the present state, what the graph has and that state has not is gone.
func (f *gcFeed) watch(ctx context.Context) error {
	opts := store.WatchOptions{From: f.from, Initial: f.from == 0, Bookmarks: f.run.opts.Interval}
	seen := map[string]bool{}
	for ev, err := range f.run.st.Watch(ctx, f.schema, opts) {
		if err != nil {
			return err
		}
		f.run.update(func(g *gcGraph) { f.event(g, ev, seen) })
	}
	return errors.New("the watch ended without a reason")
}

// event changes the graph. seen are the UIDs of a state that is being delivered,
// until it has been.
func (f *gcFeed) event(g *gcGraph, ev store.Event[store.Object], seen map[string]bool) {
	switch ev.Type {
	case store.Added, store.Modified:
		o := gcObjectOf(f.schema, ev.Object)
		if o.uid == "" {
			break // nobody can own it, or delete it by its UID
		}
		if f.from == 0 {
			seen[o.uid] = true
		}
		g.set(o)
	case store.Deleted:
		g.remove(f.schema.Accessors.UID(ev.Object))
	case store.Synced:
		for _, uid := range g.ofKind(f.schema.KindName) {
			if !seen[uid] {
				g.remove(uid)
			}
		}
		clear(seen)
		f.synced = true
		g.addKind(f.schema.KindName)
	}
	if ev.Type == store.Synced || ev.Type == store.Bookmark || ev.Last && f.from != 0 {
		f.from, f.works = ev.Revision, true
		f.revision = max(f.revision, ev.Revision)
	}
}

// gcObjectOf returns what the collector needs to know about an object.
func gcObjectOf(s *store.Schema, obj store.Object) gcObject {
	o := gcObject{
		uid: s.Accessors.UID(obj), kind: s.KindName, key: store.KeyOf(obj), version: obj.GetResourceVersion(),
		deleting: IsDeleted(s, obj),
	}
	o.foreground = o.deleting && HasFinalizer(obj, FinalizerForeground)
	o.orphan = o.deleting && HasFinalizer(obj, FinalizerOrphan)
	if s.Accessors.Owners == nil {
		return o
	}
	for _, r := range s.Accessors.Owners(obj) {
		o.owners = append(o.owners, gcOwner{
			uid: r.UID, kind: kindOf(r), name: r.Name,
			blocks: r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion,
		})
	}
	return o
}

// kindOf returns the kind that a reference names.
func kindOf(r store.OwnerReference) store.KindName {
	group, _, found := strings.Cut(r.APIVersion, "/")
	if !found {
		group = ""
	}
	return store.KindName{Group: group, Name: r.Kind}
}
