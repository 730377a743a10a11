// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"sync/atomic"

	"github.com/slipway-dev/slipway/store"
)

func readPromises() []promise {
	return []promise{
		{name: "SeesTheWriteBefore", test: readLatest},
		{name: "SeesTheWriteBeforeConcurrently", test: readConcurrently, clock: true},
		{name: "NotFound", test: readNotFound},
		{name: "AtLeast", test: readAtLeast},
		{name: "FutureIsRefused", test: readFuture},
		{name: "Exact", test: readExact},
		{name: "ExactList", test: readExactList},
		{name: "ExactContradictsAtLeast", test: readContradiction},
	}
}

func readLatest(x *trial) {
	k := key("a", "x")
	x.create(x.widgets, object("a", "x"))
	for i := range 20 {
		o := x.patch(x.widgets, k, size(i+1))
		x.same("get after a write", x.get(x.widgets, k), o)
		for w, err := range x.widgets.List(x.ctx) {
			x.ok(err)
			x.same("list after a write", w, o)
		}
		if rev := x.latest(); rev < x.revision(o) {
			x.Fatalf("the store is at revision %d after a write of %d", rev, x.revision(o))
		}
	}
}

// readConcurrently: what one has read, nobody who begins to read later sees
// undone.
func readConcurrently(x *trial) {
	const keys, writes = 3, 200
	for i := range keys {
		x.create(x.widgets, object("a", numbered("x", i)))
	}
	var seen [keys]atomic.Uint64 // the newest version that anyone has read
	writers := x.workers()
	readers := x.workers()
	var done atomic.Bool
	for i := range keys {
		writers.Go(func() {
			for n := range writes {
				o, err := x.widgets.Patch(x.ctx, key("a", numbered("x", i)), apply(size(n+1)))
				if err != nil {
					x.Errorf("patch: %v", err)
					return
				}
				rev, _ := store.RevisionOf(o)
				raise(&seen[i], rev)
			}
		})
		readers.Go(func() {
			for !done.Load() {
				before := seen[i].Load()
				o, err := x.widgets.Get(x.ctx, key("a", numbered("x", i)))
				if err != nil {
					x.Errorf("get: %v", err)
					return
				}
				rev, _ := store.RevisionOf(o)
				if rev < before {
					x.Errorf("read version %d when %d had been seen", rev, before)
					return
				}
				raise(&seen[i], rev)
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
}

// raise makes v at least n.
func raise(v *atomic.Uint64, n uint64) {
	for {
		have := v.Load()
		if have >= n || v.CompareAndSwap(have, n) {
			return
		}
	}
}

func readNotFound(x *trial) {
	x.create(x.widgets, object("a", "x"))
	for _, k := range []store.Key{key("a", "y"), key("b", "x"), key("", "x"), {}} {
		x.absent(x.widgets, k)
	}
	x.absent(x.gizmos, key("a", "x"))
	x.absent(x.racks, key("", "x"))
}

func readAtLeast(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	opts := store.ReadOptions{AtLeast: x.revision(o)}
	x.same("get", x.get(x.widgets, key("a", "x"), opts), o)
	if got := x.page(x.widgets, store.ListOptions{ReadOptions: opts}); len(got.Items) != 1 || got.Revision < opts.AtLeast {
		x.Errorf("list at least at %d: %d objects of revision %d", opts.AtLeast, len(got.Items), got.Revision)
	}
}

func readFuture(x *trial) {
	if x.opts.RealTime {
		x.Skip("by design: an engine with a cache may wait for the revision")
	}
	x.create(x.widgets, object("a", "x"))
	future := x.latest() + 1
	options := []store.ReadOptions{{AtLeast: future}}
	if !x.opts.NoExact {
		options = append(options, store.ReadOptions{Exact: future})
	}
	for _, opts := range options {
		_, err := x.widgets.Get(x.ctx, key("a", "x"), opts)
		x.fails(fmt.Sprintf("get with %+v", opts), err, store.ErrFuture)
		_, err = x.widgets.Page(x.ctx, store.ListOptions{ReadOptions: opts})
		x.fails(fmt.Sprintf("list with %+v", opts), err, store.ErrFuture)
	}
}

func readExact(x *trial) {
	if x.opts.NoExact {
		o := x.create(x.widgets, object("a", "x"))
		_, err := x.widgets.Get(x.ctx, key("a", "x"), store.ReadOptions{Exact: x.revision(o)})
		x.fails("get at an exact revision", err, store.ErrUnsupported)
		return
	}
	k := key("a", "x")
	before := x.revision(x.create(x.widgets, object("a", "other")))
	first := x.create(x.widgets, object("a", "x", size(1)))
	second := x.patch(x.widgets, k, size(2))
	between := x.revision(x.create(x.widgets, object("b", "y")))
	x.delete(x.widgets, k)
	gone := x.latest()
	last := x.create(x.widgets, object("a", "x", size(3)))
	at := func(rev uint64, want *widget) {
		x.Helper()
		x.same(fmt.Sprintf("get at revision %d", rev), x.get(x.widgets, k, store.ReadOptions{Exact: rev}), want)
	}
	at(x.revision(first), first)
	at(x.revision(second), second)
	at(between, second)
	at(x.revision(last), last)
	for _, rev := range []uint64{before, gone} {
		_, err := x.widgets.Get(x.ctx, k, store.ReadOptions{Exact: rev})
		x.fails(fmt.Sprintf("get at revision %d", rev), err, store.ErrNotFound)
	}
}

func readExactList(x *trial) {
	x.needExact()
	x.create(x.widgets, object("a", "x", node("n1"), label("app", "web")))
	x.create(x.widgets, object("a", "y", node("n2"), tags("t")))
	rev := x.revision(x.create(x.widgets, object("b", "z", node("n1"))))
	x.patch(x.widgets, key("a", "y"), node("n1"), tags(), label("app", "web"))
	x.patch(x.widgets, key("a", "x"), node("n2"), label("app", "db"))
	x.delete(x.widgets, key("b", "z"))
	x.create(x.widgets, object("a", "w", node("n1"), tags("t"), label("app", "web")))
	for _, c := range []struct {
		opts store.ListOptions
		want string
	}{
		{store.ListOptions{}, "a/x a/y b/z"},
		{store.ListOptions{Namespace: "a"}, "a/x a/y"},
		{store.ListOptions{Fields: onNode("n1")}, "a/x b/z"},
		{store.ListOptions{Fields: onNode("n1"), Namespace: "b"}, "b/z"},
		{store.ListOptions{Fields: tagged("t")}, "a/y"},
		{store.ListOptions{Labels: x.selector("app=web")}, "a/x"},
		{store.ListOptions{Labels: x.selector("!app")}, "a/y b/z"},
	} {
		c.opts.Exact = rev
		if got := x.names(x.widgets, c.opts); got != c.want {
			x.Errorf("list at revision %d with %+v: %q, want %q", rev, c.opts, got, c.want)
		}
		if got := x.page(x.widgets, c.opts).Revision; got != rev {
			x.Errorf("the list says that it is of revision %d, want %d", got, rev)
		}
	}
}

func readContradiction(x *trial) {
	x.needExact()
	first := x.revision(x.create(x.widgets, object("a", "x")))
	second := x.revision(x.create(x.widgets, object("a", "y")))
	_, err := x.widgets.Get(x.ctx, key("a", "x"), store.ReadOptions{Exact: first, AtLeast: second})
	x.fails("get exactly before at least", err, store.ErrInvalid)
}
