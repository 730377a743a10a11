// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/slipway-dev/slipway/store"
)

func snapshotPromises() []promise {
	return []promise{
		{name: "StaysAsItIs", test: snapshotStays},
		{name: "IsJoint", test: snapshotJoint, clock: true},
		{name: "AtExactRevision", test: snapshotExact},
		{name: "OutlivesCompaction", test: snapshotOutlives},
		{name: "BeforeAKindCame", test: snapshotBeforeKind},
		{name: "FutureIsRefused", test: snapshotFuture},
	}
}

func (x *trial) snapshot(opts store.ReadOptions) store.Snapshot {
	x.Helper()
	snap, err := x.snapshotter().Snapshot(x.ctx, opts)
	x.ok(err)
	return snap
}

func snapshotStays(x *trial) {
	x.create(x.widgets, object("a", "x", node("n1"), label("app", "web")))
	x.create(x.gizmos, object("a", "x"))
	snap := x.snapshot(store.ReadOptions{})
	if snap.Revision() != x.latest() {
		x.Errorf("the snapshot is of %d, and the store at %d", snap.Revision(), x.latest())
	}
	x.patch(x.widgets, key("a", "x"), node("n2"), label("app", "db"))
	x.create(x.widgets, object("a", "y", node("n1"), label("app", "web")))
	x.delete(x.gizmos, key("a", "x"))
	at := x.widgets.At(snap)
	if o, err := at.Get(key("a", "x")); err != nil || o.Spec.Node != "n1" {
		x.Errorf("get: %+v, %v", o, err)
	}
	_, err := at.Get(key("a", "y"))
	x.fails("get of what came later", err, store.ErrNotFound)
	_, err = x.gizmos.At(snap).Get(key("a", "x"))
	x.ok(err)
	for _, opts := range []store.ListOptions{{}, {Namespace: "a"}, {Fields: onNode("n1")}, {Labels: x.selector("app=web")}} {
		if got := x.collect(at.List(opts)); got != "a/x" {
			x.Errorf("list with %+v: %q, want a/x", opts, got)
		}
	}
}

// snapshotJoint: a writer raises a number in one kind and then in the other.
func snapshotJoint(x *trial) {
	x.snapshotter()
	x.create(x.widgets, object("a", "x"))
	x.create(x.gizmos, object("a", "x"))
	var done atomic.Bool
	writer := x.workers()
	writer.Go(func() {
		for n := 1; !done.Load() && x.ctx.Err() == nil; n++ {
			_, err1 := x.widgets.Patch(x.ctx, key("a", "x"), apply(size(n)))
			_, err2 := x.gizmos.Patch(x.ctx, key("a", "x"), apply(size(n)))
			if err := errors.Join(err1, err2); err != nil {
				x.Errorf("patch: %v", err)
				return
			}
		}
	})
	for range scaled(300) {
		snap := x.snapshot(store.ReadOptions{})
		w, err1 := x.widgets.At(snap).Get(key("a", "x"))
		letOthers()
		g, err2 := x.gizmos.At(snap).Get(key("a", "x"))
		x.ok(errors.Join(err1, err2))
		if d := w.Spec.Size - g.Spec.Size; d != 0 && d != 1 {
			x.Fatalf("a snapshot of two revisions: %d in one kind and %d in the other", w.Spec.Size, g.Spec.Size)
		}
	}
	done.Store(true)
	writer.Wait()
	want := x.get(x.gizmos, key("a", "x")).Spec.Size
	snap := x.snapshot(store.ReadOptions{})
	x.patch(x.widgets, key("a", "x"), size(-1))
	x.patch(x.gizmos, key("a", "x"), size(-1))
	w, err1 := x.widgets.At(snap).Get(key("a", "x"))
	g, err2 := x.gizmos.At(snap).Get(key("a", "x"))
	x.ok(errors.Join(err1, err2))
	if w.Spec.Size != want || g.Spec.Size != want {
		x.Errorf("a snapshot of before shows %d and %d, want %d twice", w.Spec.Size, g.Spec.Size, want)
	}
}

func snapshotExact(x *trial) {
	x.snapshotter()
	x.needExact()
	x.create(x.widgets, object("a", "x", size(1)))
	rev := x.revision(x.create(x.gizmos, object("a", "x", size(1))))
	x.patch(x.widgets, key("a", "x"), size(2))
	x.delete(x.gizmos, key("a", "x"))
	x.create(x.racks, object("", "r"))
	snap := x.snapshot(store.ReadOptions{Exact: rev})
	if snap.Revision() != rev {
		x.Errorf("the snapshot says revision %d, want %d", snap.Revision(), rev)
	}
	got := x.collect(x.widgets.At(snap).List()) + "|" + x.collect(x.gizmos.At(snap).List()) + "|" + x.collect(x.racks.At(snap).List())
	if got != "a/x|a/x|" {
		x.Errorf("the snapshot at %d holds %s", rev, got)
	}
	if o, err := x.widgets.At(snap).Get(key("a", "x")); err != nil || o.Spec.Size != 1 {
		x.Errorf("get: %+v, %v", o, err)
	}
}

func snapshotOutlives(x *trial) {
	x.create(x.widgets, object("a", "x", size(1)))
	snap := x.snapshot(store.ReadOptions{})
	x.patch(x.widgets, key("a", "x"), size(2))
	x.ok(x.compactor().Compact(x.ctx, x.latest()))
	if o, err := x.widgets.At(snap).Get(key("a", "x")); err != nil || o.Spec.Size != 1 {
		x.Errorf("get: %+v, %v", o, err)
	}
}

// snapshotBeforeKind: that a kind has come since is no reason to withhold the others.
func snapshotBeforeKind(x *trial) {
	x.snapshotter()
	x.needExact()
	rev := x.revision(x.create(x.widgets, object("a", "x", size(1))))
	x.patch(x.widgets, key("a", "x"), size(2))
	late := x.register(kind("Late", store.Namespaced))
	x.create(late, object("a", "x"))
	snap := x.snapshot(store.ReadOptions{Exact: rev})
	if o, err := x.widgets.At(snap).Get(key("a", "x")); err != nil || o.Spec.Size != 1 {
		x.Errorf("get: %+v, %v", o, err)
	}
	if _, err := late.At(snap).Get(key("a", "x")); err == nil {
		x.Error("an object that came later is in the snapshot")
	}
}

func snapshotFuture(x *trial) {
	s := x.snapshotter()
	for _, opts := range []store.ReadOptions{{AtLeast: x.latest() + 1}, {Exact: x.latest() + 1}} {
		if opts.Exact != 0 && x.opts.NoExact || x.opts.RealTime {
			continue
		}
		_, err := s.Snapshot(x.ctx, opts)
		x.fails(fmt.Sprintf("snapshot with %+v", opts), err, store.ErrFuture)
	}
}
