// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func watchPromises() []promise {
	return []promise{
		{name: "Events", test: watchEvents},
		{name: "FromNow", test: watchFromNow},
		{name: "Resumes", test: watchResumes},
		{name: "TransactionBoundaries", test: watchBoundaries},
		{name: "Initial", test: watchInitial},
		{name: "InitialThenChanges", test: watchInitialChanges},
		{name: "InitialUnderWrites", test: watchInitialUnderWrites, clock: true},
		{name: "InitialFrom", test: watchInitialFrom},
		{name: "Scope", test: watchScope},
		{name: "LabelsEnterAndLeave", test: watchLabels},
		{name: "FieldsEnterAndLeave", test: watchFields},
		{name: "KindsAreApart", test: watchKinds},
		{name: "Bookmarks", test: watchBookmarks},
		{name: "BookmarksPassWhatIsFilteredOut", test: watchBookmarksFiltered},
		{name: "BookmarkIsAPlaceToResume", test: watchBookmarkResume},
		{name: "FutureIsRefused", test: watchFuture},
		{name: "ContextCause", test: watchCause},
		{name: "StopsWhenLeft", test: watchLeft},
		{name: "UnreadSlowsNobody", test: watchUnread},
		{name: "ManyWatchersSeeTheSame", test: watchMany},
	}
}

func watchEvents(x *trial) {
	w := x.watchNow(x.widgets, store.WatchOptions{})
	k := key("a", "x")
	first := x.create(x.widgets, object("a", "x", size(1)))
	second := x.patch(x.widgets, k, size(2))
	x.delete(x.widgets, k)
	gone := x.latest()
	events := w.want("ADDED a/x.", "MODIFIED a/x.", "DELETED a/x.")
	x.same("the added object", events[0].Object, first)
	x.same("the modified object", events[1].Object, second)
	if ev := events[0]; ev.Old != nil || ev.Revision != x.revision(first) {
		x.Errorf("added: %+v", ev)
	}
	if ev := events[1]; ev.Revision != x.revision(second) {
		x.Errorf("modified: %+v", ev)
	}
	if ev := events[2]; ev.Object.Spec.Size != 2 || x.revision(ev.Object) != gone || ev.Revision != gone {
		x.Errorf("deleted: %+v of revision %d, want the last state with the removal's revision %d", ev.Object, ev.Revision, gone)
	}
	for i, old := range []*widget{first, second} {
		if ev := events[i+1]; ev.Old != nil { // nil where a remote engine does not know it
			x.same("old", ev.Old, old)
		}
	}
}

func watchFromNow(x *trial) {
	x.create(x.widgets, object("a", "before"))
	w := x.watch(x.widgets, store.WatchOptions{Bookmarks: time.Nanosecond})
	if ev := w.next(); ev.Type != store.Bookmark { // so it has begun
		x.Fatalf("got %q, want a bookmark", eventText(ev))
	}
	x.create(x.widgets, object("a", "after"))
	if got := eventText(w.event()); got != "ADDED a/after." {
		x.Errorf("got %q, want ADDED a/after.", got)
	}
}

// event returns the next event that is no bookmark.
func (s *stream) event() event {
	s.x.Helper()
	for {
		if ev := s.next(); ev.Type != store.Bookmark {
			return ev
		}
	}
}

// history writes what most tests of resuming want: single writes and, where
// there are transactions, some of several events. It returns the revision before.
func (x *trial) history() (before uint64) {
	x.Helper()
	before = x.latest()
	for i := range 10 {
		x.create(x.widgets, object("a", numbered("x", i), node("n1")))
		x.create(x.gizmos, object("a", numbered("x", i)))
		x.patch(x.widgets, key("a", numbered("x", i)), node("n2"))
		if _, ok := x.st.(store.Transactor); ok && i%2 == 0 {
			x.txn(func(tx store.Tx) error {
				_, err1 := x.widgets.In(tx).Create(object("b", numbered("y", i)))
				_, err2 := x.gizmos.In(tx).Create(object("b", numbered("y", i)))
				_, err3 := x.widgets.In(tx).Delete(key("a", numbered("x", i)))
				return errors.Join(err1, err2, err3)
			})
		}
	}
	return before
}

// until returns the events up to the last one of the revision, which must come.
func (s *stream) until(revision uint64) []event {
	s.x.Helper()
	var all []event
	for {
		ev := s.next()
		all = append(all, ev)
		if ev.Last && ev.Revision >= revision {
			return all
		}
	}
}

func watchResumes(x *trial) {
	before := x.history()
	last := x.revision(x.create(x.widgets, object("z", "end")))
	all := x.watch(x.widgets, store.WatchOptions{From: before}).until(last)
	for _, resume := range all {
		var want []event
		for _, ev := range all {
			if ev.Revision > resume.Revision {
				want = append(want, ev)
			}
		}
		if len(want) == 0 {
			break
		}
		got := x.watch(x.widgets, store.WatchOptions{From: resume.Revision}).until(last)
		if a, b := eventsText(got), eventsText(want); a != b {
			x.Fatalf("resumed from %d:\ngot  %s\nwant %s", resume.Revision, a, b)
		}
	}
}

func eventsText(events []event) string {
	text := ""
	for _, ev := range events {
		text += fmt.Sprintf("%d %s  ", ev.Revision, eventText(ev))
	}
	return text
}

func watchBoundaries(x *trial) {
	x.transactor()
	x.create(x.widgets, object("a", "p", label("app", "web")))
	w := x.watchNow(x.widgets, store.WatchOptions{})
	web := x.watchNow(x.widgets, store.WatchOptions{Labels: x.selector("app=web")})
	other := x.watchNow(x.gizmos, store.WatchOptions{})
	rev := x.txn(func(tx store.Tx) error {
		_, err1 := x.widgets.In(tx).Patch(key("a", "p"), apply(size(1)))
		_, err2 := x.widgets.In(tx).Create(object("a", "q", label("app", "web")))
		_, err3 := x.gizmos.In(tx).Create(object("a", "g"))
		_, err4 := x.widgets.In(tx).Create(object("a", "r"))
		return errors.Join(err1, err2, err3, err4)
	})
	x.create(x.widgets, object("a", "s", label("app", "web")))
	events := w.want("MODIFIED a/p", "ADDED a/q", "ADDED a/r.", "ADDED a/s.")
	events = append(events[:3], web.want("MODIFIED a/p", "ADDED a/q.", "ADDED a/s.")[:2]...)
	for _, ev := range append(events, other.want("ADDED a/g.")...) {
		if ev.Revision != rev {
			x.Errorf("%s is of revision %d, want %d", eventText(ev), ev.Revision, rev)
		}
	}
}

func watchInitial(x *trial) {
	x.create(x.widgets, object("b", "x", node("n1")))
	x.create(x.widgets, object("a", "y", node("n2"), label("app", "web")))
	o := x.create(x.widgets, object("a", "x", node("n1")))
	x.create(x.gizmos, object("a", "g"))
	for _, c := range []struct {
		opts store.WatchOptions
		want []string
	}{
		{store.WatchOptions{}, []string{"ADDED a/x", "ADDED a/y", "ADDED b/x"}},
		{store.WatchOptions{Namespace: "a"}, []string{"ADDED a/x", "ADDED a/y"}},
		{store.WatchOptions{Namespace: "a", Name: "x"}, []string{"ADDED a/x"}},
		{store.WatchOptions{Name: "x"}, []string{"ADDED a/x", "ADDED b/x"}},
		{store.WatchOptions{Fields: onNode("n1")}, []string{"ADDED a/x", "ADDED b/x"}},
		{store.WatchOptions{Labels: x.selector("app=web")}, []string{"ADDED a/y"}},
		{store.WatchOptions{Namespace: "none"}, nil},
	} {
		c.opts.Initial = true
		events := x.watch(x.widgets, c.opts).want(append(c.want, "SYNCED.")...)
		for _, ev := range events {
			if ev.Type == store.Synced && ev.Revision != x.latest() {
				x.Errorf("synced at %d, and the store is at %d", ev.Revision, x.latest())
			}
			if ev.Object != nil && store.KeyOf(ev.Object) == store.KeyOf(o) {
				x.same("the object", ev.Object, o)
			}
		}
	}
}

func watchInitialChanges(x *trial) {
	x.create(x.widgets, object("a", "x"))
	w := x.watch(x.widgets, store.WatchOptions{Initial: true})
	w.want("ADDED a/x", "SYNCED.")
	x.patch(x.widgets, key("a", "x"), size(1))
	x.delete(x.widgets, key("a", "x"))
	w.want("MODIFIED a/x.", "DELETED a/x.")

	// What is written while the initial state is being read comes after it, once.
	x.create(x.widgets, object("a", "p"))
	x.create(x.widgets, object("a", "q"))
	w = x.watch(x.widgets, store.WatchOptions{Initial: true})
	w.want("ADDED a/p")
	x.patch(x.widgets, key("a", "q"), size(1))
	x.create(x.widgets, object("a", "r"))
	events := w.want("ADDED a/q", "SYNCED.", "MODIFIED a/q.", "ADDED a/r.")
	if events[0].Object.Spec.Size != 0 {
		x.Error("the initial state shows what was written after it")
	}
}

// watchInitialUnderWrites: each revision changes one object, so that the newest
// object of the initial state tells which state it is.
func watchInitialUnderWrites(x *trial) {
	const objects = 20
	stop := x.sweep(objects)
	defer stop()
	for range scaled(300) {
		var items []*widget
		newest, synced := uint64(0), uint64(0)
		for ev, err := range x.widgets.Watch(x.ctx, store.WatchOptions{Initial: true}) {
			x.ok(err)
			if ev.Type == store.Synced {
				synced = ev.Revision
				break
			}
			items, newest = append(items, ev.Object), max(newest, ev.Revision)
		}
		checkOneRevision(x, items, synced, objects)
		if newest != synced {
			x.Fatalf("synced at %d, and the state is that of %d", synced, newest)
		}
	}
}

func watchInitialFrom(x *trial) {
	rev := x.revision(x.create(x.widgets, object("a", "x")))
	x.create(x.widgets, object("a", "y"))
	w := x.watch(x.widgets, store.WatchOptions{Initial: true, From: rev})
	for ev := w.next(); ev.Type != store.Synced; ev = w.next() {
		if ev.Type != store.Added {
			x.Errorf("got %q before the end of the initial state", eventText(ev))
		}
	}
	_, err, _ := x.watch(x.widgets, store.WatchOptions{Initial: true, From: x.latest() + 1}).pull()
	if !x.opts.RealTime {
		x.fails("initial state of the future", err, store.ErrFuture)
	}
}

func watchScope(x *trial) {
	all := x.watchNow(x.widgets, store.WatchOptions{})
	a := x.watchNow(x.widgets, store.WatchOptions{Namespace: "a"})
	ax := x.watchNow(x.widgets, store.WatchOptions{Namespace: "a", Name: "x"})
	named := x.watchNow(x.widgets, store.WatchOptions{Name: "x"})
	rack := x.watchNow(x.racks, store.WatchOptions{Name: "x"})
	for _, k := range []string{"a/y", "b/x", "a/x", "ab/x"} {
		var ns, name = k[:len(k)-2], k[len(k)-1:]
		x.create(x.widgets, object(ns, name))
	}
	x.create(x.racks, object("", "y"))
	x.create(x.racks, object("", "x"))
	all.want("ADDED a/y.", "ADDED b/x.", "ADDED a/x.", "ADDED ab/x.")
	a.want("ADDED a/y.", "ADDED a/x.")
	ax.want("ADDED a/x.")
	named.want("ADDED b/x.", "ADDED a/x.", "ADDED ab/x.")
	rack.want("ADDED x.")
	x.delete(x.widgets, key("a", "y"))
	x.delete(x.widgets, key("a", "x"))
	a.want("DELETED a/y.", "DELETED a/x.")
	ax.want("DELETED a/x.")
}

func watchLabels(x *trial) {
	k := key("a", "x")
	w := x.watchNow(x.widgets, store.WatchOptions{Labels: x.selector("app in (web, db)")})
	x.create(x.widgets, object("a", "x"))
	x.patch(x.widgets, k, size(1))
	in := x.patch(x.widgets, k, label("app", "web"))
	still := x.patch(x.widgets, k, label("app", "db"))
	x.patch(x.widgets, k, label("app", "none"))
	out := x.latest()
	x.patch(x.widgets, k, size(2))
	x.delete(x.widgets, k)
	x.create(x.widgets, object("a", "y", label("app", "web")))
	x.delete(x.widgets, key("a", "y"))
	events := w.want("ADDED a/x.", "MODIFIED a/x.", "DELETED a/x.", "ADDED a/y.", "DELETED a/y.")
	x.same("what came to match", events[0].Object, in)
	x.same("what matched still", events[1].Object, still)
	x.same("what stopped to match", events[2].Object, still)
	if events[2].Revision != out {
		x.Errorf("it left at %d, says the watch; it was %d", events[2].Revision, out)
	}
}

func watchFields(x *trial) {
	k := key("a", "x")
	n1 := x.watchNow(x.widgets, store.WatchOptions{Fields: onNode("n1")})
	notN1 := x.watchNow(x.widgets, store.WatchOptions{Fields: store.FieldSelector{{Name: indexNode, Value: "n1", Not: true}}})
	tagT := x.watchNow(x.widgets, store.WatchOptions{Fields: tagged("t"), Namespace: "a"})
	x.create(x.widgets, object("a", "x", node("n1"), tags("s")))
	x.patch(x.widgets, k, tags("s", "t"))
	x.patch(x.widgets, k, node("n2"))
	x.patch(x.widgets, k, tags("u"))
	x.create(x.widgets, object("b", "x", tags("t")))
	x.patch(x.widgets, k, node("n1"), tags("t"))
	x.delete(x.widgets, k)
	n1.want("ADDED a/x.", "MODIFIED a/x.", "DELETED a/x.", "ADDED a/x.", "DELETED a/x.")
	notN1.want("ADDED a/x.", "MODIFIED a/x.", "ADDED b/x.", "DELETED a/x.")
	tagT.want("ADDED a/x.", "MODIFIED a/x.", "DELETED a/x.", "ADDED a/x.", "DELETED a/x.")
}

func watchKinds(x *trial) {
	w := x.watchNow(x.widgets, store.WatchOptions{})
	g := x.watchNow(x.gizmos, store.WatchOptions{})
	x.create(x.gizmos, object("a", "g"))
	x.create(x.widgets, object("a", "w"))
	w.want("ADDED a/w.")
	g.want("ADDED a/g.")
}

func watchBookmarks(x *trial) {
	x.create(x.widgets, object("a", "x"))
	w := x.watchNow(x.widgets, store.WatchOptions{Bookmarks: 50 * time.Millisecond})
	start := time.Now()
	for i := range 3 {
		ev := w.next()
		if ev.Type != store.Bookmark || ev.Object != nil || !ev.Last {
			x.Fatalf("bookmark %d: got %q", i, eventText(ev))
		}
		if ev.Revision != x.latest() {
			x.Errorf("bookmark %d is of revision %d, and the store at %d", i, ev.Revision, x.latest())
		}
		x.create(x.gizmos, object("a", numbered("g", i))) // progress without events
	}
	if took := time.Since(start); took < 100*time.Millisecond {
		x.Errorf("three bookmarks in %v, asked for every 50ms", took)
	}
}

func watchBookmarksFiltered(x *trial) {
	for i, opts := range []store.WatchOptions{
		{Namespace: "none"}, {Name: "none", Namespace: "a"}, {Fields: onNode("none")}, {Labels: x.selector("none")},
	} {
		opts.Bookmarks = 10 * time.Millisecond
		w := x.watchNow(x.widgets, opts)
		rev := x.revision(x.create(x.widgets, object("a", numbered("x", i))))
		for ev := w.next(); ev.Revision < rev; ev = w.next() {
			if ev.Type != store.Bookmark {
				x.Fatalf("watch with %+v: got %q", opts, eventText(ev))
			}
		}
	}
}

func watchBookmarkResume(x *trial) {
	w := x.watchNow(x.widgets, store.WatchOptions{Bookmarks: time.Nanosecond})
	seen := map[uint64]string{} // what follows each bookmark
	for i := range 5 {
		ev := w.next()
		for ev.Type != store.Bookmark {
			ev = w.next()
		}
		o := x.create(x.widgets, object("a", numbered("x", i)))
		seen[ev.Revision] = o.Name
	}
	for rev, name := range seen {
		x.watch(x.widgets, store.WatchOptions{From: rev}).want("ADDED a/" + name + ".")
	}
}

func watchFuture(x *trial) {
	x.create(x.widgets, object("a", "x"))
	x.watch(x.widgets, store.WatchOptions{From: x.latest() + 1}).fails(store.ErrFuture)
}

func watchCause(x *trial) {
	ctx, cancel := context.WithCancelCause(x.ctx)
	group := x.workers()
	ends := make(chan error, 1)
	group.Go(func() {
		for _, err := range x.widgets.Watch(ctx) {
			ends <- err
		}
	})
	x.wait(50 * time.Millisecond)
	cancel(errMine)
	x.fails("watch whose context ended", <-ends, errMine)
	group.Wait()
	for _, err := range x.widgets.Watch(ctx) {
		x.fails("watch whose context had ended", err, errMine)
	}
}

func watchLeft(x *trial) {
	x.fill(x.widgets, "a", 5)
	for _, opts := range []store.WatchOptions{{From: 1}, {Initial: true}, {Bookmarks: time.Nanosecond}} {
		n := 0
		for _, err := range x.widgets.Watch(x.ctx, opts) {
			x.ok(err)
			n++
			break
		}
		if n != 1 {
			x.Errorf("%d events after the loop was left", n)
		}
	}
}

func watchUnread(x *trial) {
	var slow []*stream
	for range 20 {
		slow = append(slow, x.watch(x.widgets, store.WatchOptions{Initial: true}))
	}
	for _, w := range slow {
		w.want("SYNCED.")
	}
	last := uint64(0)
	for i := range 300 {
		last = x.revision(x.create(x.widgets, object("a", numbered("x", i))))
	}
	for _, w := range slow {
		if n := len(w.until(last)); n != 300 {
			x.Errorf("%d events, want 300", n)
		}
	}
}

func watchMany(x *trial) {
	const watchers, writes = 20, 100
	before := x.latest()
	texts := make([]string, watchers)
	all := x.workers()
	for i := range watchers {
		all.Go(func() {
			n := 0
			for ev, err := range x.widgets.Watch(x.ctx, store.WatchOptions{From: before}) {
				if err != nil {
					x.Errorf("watch: %v", err)
					return
				}
				texts[i] += fmt.Sprintf("%d %s ", ev.Revision, eventText(ev))
				if n++; n == writes {
					return
				}
			}
		})
	}
	writers := x.workers()
	for i := range 4 {
		writers.Go(func() {
			for n := range writes / 4 {
				if _, err := x.widgets.Create(x.ctx, object("a", numbered("x", i*writes+n))); err != nil {
					x.Errorf("create: %v", err)
				}
			}
		})
	}
	writers.Wait()
	all.Wait()
	for i, text := range texts {
		if text != texts[0] {
			x.Fatalf("watcher %d:\ngot  %s\nwant %s", i, text, texts[0])
		}
	}
}
