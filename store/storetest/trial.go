// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/deep"
)

// handle is what the tests call most.
type handle = *store.Handle[*widget]

// event is one of a watch.
type event = store.Event[*widget]

// ok fails the test at once on an error.
func (x *trial) ok(err error) {
	x.Helper()
	if err != nil {
		x.Fatalf("unexpected error: %v", err)
	}
}

// fails demands an error that matches want.
func (x *trial) fails(what string, err, want error) {
	x.Helper()
	if !errors.Is(err, want) {
		x.Fatalf("%s: got error %v, want one that matches %q", what, err, want)
	}
}

// same demands that the two are equal in every respect.
func (x *trial) same(what string, got, want any) {
	x.Helper()
	if d := deep.Diff(got, want); d != "" {
		x.Fatalf("%s: got != want: %s\ngot  %+v\nwant %+v", what, d, got, want)
	}
}

// Errorf fails the test, unless it is over: goroutines whose context was ended
// are not to blame.
func (x *trial) Errorf(format string, args ...any) {
	x.Helper()
	if !x.over.Load() {
		x.T.Errorf(format, args...)
	}
}

// workers are goroutines of a test, which waits for them in any case.
type workers struct {
	x    *trial
	mine sync.WaitGroup
}

func (x *trial) workers() *workers { return &workers{x: x} }

// Go runs f in a goroutine.
func (w *workers) Go(f func()) {
	w.mine.Add(1)
	w.x.all.Go(func() {
		defer w.mine.Done()
		f()
	})
}

// Wait returns once all that Go was given have returned.
func (w *workers) Wait() { w.mine.Wait() }

func (x *trial) create(h handle, w *widget, opts ...store.WriteOptions) *widget {
	x.Helper()
	o, err := h.Create(x.ctx, w, opts...)
	x.ok(err)
	return o
}

func (x *trial) update(h handle, w *widget, opts ...store.WriteOptions) *widget {
	x.Helper()
	o, err := h.Update(x.ctx, w, opts...)
	x.ok(err)
	return o
}

// patch makes the changes to the object of the key.
func (x *trial) patch(h handle, key store.Key, changes ...change) *widget {
	x.Helper()
	o, err := h.Patch(x.ctx, key, apply(changes...))
	x.ok(err)
	return o
}

func (x *trial) delete(h handle, key store.Key, opts ...store.WriteOptions) *widget {
	x.Helper()
	o, err := h.Delete(x.ctx, key, opts...)
	x.ok(err)
	return o
}

func (x *trial) get(h handle, key store.Key, opts ...store.ReadOptions) *widget {
	x.Helper()
	o, err := h.Get(x.ctx, key, opts...)
	x.ok(err)
	return o
}

// absent demands that there is no object of that key.
func (x *trial) absent(h handle, key store.Key) {
	x.Helper()
	_, err := h.Get(x.ctx, key)
	x.fails("get of what is not there", err, store.ErrNotFound)
}

// names lists what the options select, as "namespace/name …".
func (x *trial) names(h handle, opts store.ListOptions) string {
	x.Helper()
	return x.collect(h.List(x.ctx, opts))
}

func (x *trial) collect(list iter.Seq2[*widget, error]) string {
	x.Helper()
	var names []string
	for w, err := range list {
		x.ok(err)
		names = append(names, store.KeyOf(w).String())
	}
	return strings.Join(names, " ")
}

func (x *trial) page(h handle, opts store.ListOptions) store.Page[*widget] {
	x.Helper()
	p, err := h.Page(x.ctx, opts)
	x.ok(err)
	return p
}

// revision returns the revision that last changed the object.
func (x *trial) revision(w *widget) uint64 {
	x.Helper()
	rev, err := store.RevisionOf(w)
	x.ok(err)
	if rev == 0 {
		x.Fatalf("%s has no resource version", store.KeyOf(w))
	}
	return rev
}

// latest returns the store's revision.
func (x *trial) latest() uint64 {
	x.Helper()
	rev, err := x.st.Revision(x.ctx)
	x.ok(err)
	return rev
}

// selector reads a label selector.
func (x *trial) selector(text string) store.Selector {
	x.Helper()
	s, err := store.ParseSelector(text)
	x.ok(err)
	return s
}

// txn runs a transaction that must succeed.
func (x *trial) txn(f func(store.Tx) error) uint64 {
	x.Helper()
	rev, err := x.transactor().Txn(x.ctx, f)
	x.ok(err)
	return rev
}

// apply returns the changes as a patch.
func apply(changes ...change) func(*widget) error {
	return func(w *widget) error {
		for _, c := range changes {
			c(w)
		}
		return nil
	}
}

func key(namespace, name string) store.Key { return store.NewKey(namespace, name) }

// stream is a watch whose events are taken one by one.
type stream struct {
	x    *trial
	pull func() (event, error, bool)
}

func (x *trial) watch(h handle, opts store.WatchOptions) *stream {
	pull, stop := iter.Pull2(h.Watch(x.ctx, opts))
	x.Cleanup(stop)
	return &stream{x, pull}
}

// watchNow returns a watch that has begun, without initial state. Its bookmarks
// are left out.
func (x *trial) watchNow(h handle, opts store.WatchOptions) *stream {
	x.Helper()
	opts.From = x.latest()
	return x.watch(h, opts)
}

// next returns the next event, which must come.
func (s *stream) next() event {
	s.x.Helper()
	ev, err, ok := s.pull()
	if !ok {
		s.x.Fatal("the watch ended without an error")
	}
	if err != nil {
		s.x.Fatalf("the watch failed, or nothing came in time: %v", err)
	}
	return ev
}

// want demands these events next: each as "ADDED namespace/name", with a full
// stop after the last of a transaction.
func (s *stream) want(texts ...string) []event {
	s.x.Helper()
	var all []event
	for i, want := range texts {
		ev := s.next()
		if got := eventText(ev); got != want {
			s.x.Fatalf("event %d of %q: got %q, want %q", i, texts, got, want)
		}
		all = append(all, ev)
	}
	return all
}

// fails demands that the watch ends with the error now.
func (s *stream) fails(want error) {
	s.x.Helper()
	ev, err, ok := s.pull()
	if !ok || err == nil {
		s.x.Fatalf("watch: got %q (more: %v), want an error that matches %q", eventText(ev), ok, want)
	}
	s.x.fails("watch", err, want)
	if _, _, ok := s.pull(); ok {
		s.x.Fatalf("watch: it goes on after the error %v", err)
	}
}

func eventText(ev event) string {
	text := ev.Type.String()
	if ev.Object != nil {
		text += " " + store.KeyOf(ev.Object).String()
	}
	if ev.Last {
		text += "."
	}
	return text
}

// wait lets time pass: virtual, or real.
func (x *trial) wait(d time.Duration) { time.Sleep(d) }

// letOthers gives other goroutines time to come in between, where a test wants
// them to.
func letOthers() { time.Sleep(20 * time.Microsecond) }

// eventually demands that the condition comes to hold.
func (x *trial) eventually(what string, holds func() bool) {
	x.Helper()
	for !holds() {
		if x.ctx.Err() != nil {
			x.Fatalf("%s: not so after %v", what, patience)
		}
		x.wait(10 * time.Millisecond)
	}
}

// names of the keys that fill a list.
func numbered(prefix string, n int) string { return fmt.Sprintf("%s%03d", prefix, n) }
