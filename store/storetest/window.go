// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"

	"github.com/slipway-dev/slipway/store"
)

func windowPromises() []promise {
	return []promise{
		{name: "CompactedIsTooOld", test: windowTooOld},
		{name: "WatchFromBeforeIsTooOld", test: windowWatchTooOld},
		{name: "EdgeIsReadable", test: windowEdge},
		{name: "LatestStays", test: windowLatest},
		{name: "CompactAgainDoesNothing", test: windowAgain},
		{name: "FutureIsRefused", test: windowFuture},
		{name: "SlowWatcherIsTold", test: windowSlow},
		{name: "SlowWatcherIsToldAtEachEdge", test: windowEdges},
		{name: "IdleWatcherGoesOn", test: windowIdle},
		{name: "InitialStateIsAlwaysThere", test: windowInitial},
	}
}

// compacted writes history and forgets what is before the revision returned.
func (x *trial) compacted() (edge uint64) {
	x.Helper()
	c := x.compactor()
	x.create(x.widgets, object("a", "x", size(1)))
	x.patch(x.widgets, key("a", "x"), size(2))
	edge = x.revision(x.patch(x.widgets, key("a", "x"), size(3)))
	x.patch(x.widgets, key("a", "x"), size(4))
	x.create(x.widgets, object("a", "y"))
	x.ok(c.Compact(x.ctx, edge))
	return edge
}

func windowTooOld(x *trial) {
	edge := x.compacted()
	oldest, latest, err := x.compactor().Window(x.ctx)
	x.ok(err)
	if oldest != edge || latest != x.latest() {
		x.Errorf("the window is %d to %d, want %d to %d", oldest, latest, edge, x.latest())
	}
	x.needExact()
	opts := store.ReadOptions{Exact: edge - 1}
	_, err = x.widgets.Get(x.ctx, key("a", "x"), opts)
	x.fails("get", err, store.ErrTooOld)
	_, err = x.widgets.Page(x.ctx, store.ListOptions{ReadOptions: opts})
	x.fails("list", err, store.ErrTooOld)
	if s, ok := x.st.(store.Snapshotter); ok {
		_, err = s.Snapshot(x.ctx, opts)
		x.fails("snapshot", err, store.ErrTooOld)
	}
}

func windowWatchTooOld(x *trial) {
	edge := x.compacted()
	x.watch(x.widgets, store.WatchOptions{From: edge - 1}).fails(store.ErrTooOld)
	x.watch(x.widgets, store.WatchOptions{From: 1}).fails(store.ErrTooOld)
}

func windowEdge(x *trial) {
	edge := x.compacted()
	x.watch(x.widgets, store.WatchOptions{From: edge}).want("MODIFIED a/x.", "ADDED a/y.")
	x.needExact()
	if o := x.get(x.widgets, key("a", "x"), store.ReadOptions{Exact: edge}); o.Spec.Size != 3 {
		x.Errorf("at the oldest revision there is %+v, want size 3", o.Spec)
	}
}

func windowLatest(x *trial) {
	c := x.compactor()
	o := x.create(x.widgets, object("a", "x", size(1)))
	x.create(x.gizmos, object("a", "x"))
	x.ok(c.Compact(x.ctx, x.latest()))
	x.same("get", x.get(x.widgets, key("a", "x")), o)
	if got := x.names(x.widgets, store.ListOptions{}); got != "a/x" {
		x.Errorf("list: %q, want a/x", got)
	}
	x.patch(x.widgets, key("a", "x"), size(2))
	x.watch(x.widgets, store.WatchOptions{From: x.revision(o) + 1}).want("MODIFIED a/x.")
}

func windowAgain(x *trial) {
	edge := x.compacted()
	c := x.compactor()
	for _, rev := range []uint64{edge, edge - 1, 0} {
		x.ok(c.Compact(x.ctx, rev))
		if oldest, _, err := c.Window(x.ctx); err != nil || oldest != edge {
			x.Errorf("after compacting %d the oldest is %d (%v), want %d", rev, oldest, err, edge)
		}
	}
}

func windowFuture(x *trial) {
	edge := x.compacted()
	c := x.compactor()
	x.fails("compact", c.Compact(x.ctx, x.latest()+1), store.ErrFuture)
	if oldest, _, err := c.Window(x.ctx); err != nil || oldest != edge {
		x.Errorf("the oldest is %d (%v), want %d", oldest, err, edge)
	}
}

// windowSlow: a watcher that has fallen behind may still get all that it missed,
// or be told; it must not go on with a gap.
func windowSlow(x *trial) {
	c := x.compactor()
	x.create(x.widgets, object("a", "x"))
	w := x.watchNow(x.widgets, store.WatchOptions{})
	x.patch(x.widgets, key("a", "x"), size(1))
	w.want("MODIFIED a/x.")
	const writes = 400 // beyond what an engine might keep for a watcher
	for i := range writes {
		x.patch(x.widgets, key("a", "x"), size(i+2))
	}
	x.ok(c.Compact(x.ctx, x.latest()))
	x.patch(x.widgets, key("a", "x"), size(writes+2))
	for i := range writes + 1 {
		ev, err, ok := w.pull()
		if err != nil {
			x.fails("slow watch", err, store.ErrTooOld)
			return
		}
		if !ok || ev.Type != store.Modified || ev.Object.Spec.Size != i+2 {
			x.Fatalf("the slow watch has a gap: event %d is %q of %+v", i, eventText(ev), ev.Object)
		}
	}
}

// windowEdges: wherever the window begins, to a slow watcher or in the pieces that
// an engine keeps its history in.
func windowEdges(x *trial) {
	const edges = 300
	c := x.compactor()
	x.create(x.widgets, object("a", "x"))
	start := x.latest()
	slow := make([]*stream, edges)
	x.patch(x.widgets, key("a", "x"), size(1))
	for i := range slow {
		slow[i] = x.watch(x.widgets, store.WatchOptions{From: start})
		slow[i].want("MODIFIED a/x.")
	}
	var revisions []uint64
	for i := range edges {
		revisions = append(revisions, x.revision(x.patch(x.widgets, key("a", "x"), size(i+2))))
	}
	for i, w := range slow {
		x.ok(c.Compact(x.ctx, revisions[i]))
		ev, err, _ := w.pull()
		if err == nil && ev.Revision == revisions[0] {
			continue
		}
		if !errors.Is(err, store.ErrTooOld) {
			x.Fatalf("compacted to %d: got %q of %d (%v), want %d or too old", revisions[i], eventText(ev), ev.Revision, err, revisions[0])
		}
	}
}

func windowIdle(x *trial) {
	c := x.compactor()
	x.create(x.widgets, object("a", "x"))
	w := x.watch(x.widgets, store.WatchOptions{Initial: true})
	w.want("ADDED a/x", "SYNCED.")
	x.create(x.gizmos, object("a", "g"))
	x.ok(c.Compact(x.ctx, x.latest()))
	x.patch(x.widgets, key("a", "x"), size(1))
	if ev, err, _ := w.pull(); err == nil {
		if got := eventText(ev); got != "MODIFIED a/x." {
			x.Errorf("got %q, want MODIFIED a/x.", got)
		}
	} else if !errors.Is(err, store.ErrTooOld) {
		x.Errorf("idle watch after compaction: %v", err)
	}
}

func windowInitial(x *trial) {
	edge := x.compacted()
	for _, from := range []uint64{0, 1, edge} {
		w := x.watch(x.widgets, store.WatchOptions{Initial: true, From: from})
		w.want("ADDED a/x", "ADDED a/y", "SYNCED.")
	}
}
