// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/slipway-dev/slipway/store"
)

// hubWorld is a table whose commits only go to the log and the hub.
type hubWorld struct {
	*table
	r        *rand.Rand
	objects  map[store.Key]*Entry
	revision uint64
}

func newHubWorld(t *testing.T) *hubWorld {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &hubWorld{
		table:   &table{schema: itemSchema(t), log: newLog(0)},
		r:       rand.New(rand.NewPCG(seed, 0)),
		objects: map[store.Key]*Entry{},
	}
}

func (w *hubWorld) letter() string { return string(rune('a' + w.r.IntN(4))) }

// commit makes a transaction of a few changes and returns its events.
func (w *hubWorld) commit() []event {
	w.revision++
	w.first = w.log.fill
	var events []event
	for range 1 + w.r.IntN(3) {
		o := &item{Meta: store.Meta{Namespace: w.letter(), Name: w.letter()}, Node: w.letter()}
		for range w.r.IntN(3) {
			o.Tags = append(o.Tags, w.letter())
		}
		ev := event{old: w.objects[store.KeyOf(o)], next: entryOf(o, w.revision)}
		w.objects[ev.next.Key] = ev.next
		if ev.old != nil && w.r.IntN(3) == 0 {
			ev.next = &Entry{Object: ev.old.Object, Key: ev.old.Key, Revision: w.revision, Gone: true}
			delete(w.objects, ev.next.Key)
		}
		w.log.append(ev)
		events = append(events, ev)
	}
	w.log.publish()
	w.hub.notify(w.table)
	return events
}

// filter returns a random filter, and a function that says whether a commit of
// these events wakes whoever sleeps under it: by the narrowest of its conditions
// that the hub keeps a list for.
func (w *hubWorld) filter(t *testing.T) (*filter, func([]event) bool) {
	ns, name, value := w.letter(), w.letter(), w.letter()
	always := func([]event) bool { return true }
	any := func(is func(*Entry) bool) func([]event) bool {
		return func(events []event) bool {
			return slices.ContainsFunc(events, func(ev event) bool { return is(ev.next) || ev.old != nil && is(ev.old) })
		}
	}
	onNode := any(func(e *Entry) bool { return e.Object.(*item).Node == value })
	field := func(name string, not bool) store.FieldSelector {
		return store.FieldSelector{{Name: name, Value: value, Not: not}}
	}
	labels, err := store.ParseSelector("app")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		ns, name  string
		labels    store.Selector
		fields    store.FieldSelector
		concerned func([]event) bool
	}{
		{"", "", store.Selector{}, nil, always},
		{"", name, store.Selector{}, nil, always},
		{"", "", labels, nil, always},
		{"", "", store.Selector{}, field("node", true), always},
		{ns, "", labels, nil, any(func(e *Entry) bool { return e.Key.Namespace == ns })},
		{ns, name, store.Selector{}, nil, any(func(e *Entry) bool { return e.Key == store.NewKey(ns, name) })},
		{"", "", store.Selector{}, field("node", false), onNode},
		{ns, "", store.Selector{}, field("node", false), onNode},
		{"", "", store.Selector{}, field("tags", false), any(func(e *Entry) bool { return slices.Contains(e.Object.(*item).Tags, value) })},
	}
	c := cases[w.r.IntN(len(cases))]
	f, none, err := newFilter(w.schema, c.ns, c.name, c.labels, c.fields)
	if err != nil || none {
		t.Fatal(err, none)
	}
	return &f, c.concerned
}

// napper sleeps in the hub whenever it is told to.
type napper struct {
	z         *sleeper
	concerned func([]event) bool
	start     chan bool // whether there is a reason not to sleep
	up        atomic.Bool
}

// TestHubWakesWhomItConcerns sends random watchers to sleep, and checks after
// each commit that those whom it concerns are awake, with the right place to
// resume from, and that all others sleep on.
func TestHubWakesWhomItConcerns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHubWorld(t)
		var all sync.WaitGroup
		nappers := make([]*napper, 40)
		for i := range nappers {
			f, concerned := w.filter(t)
			n := &napper{z: newSleeper(f), concerned: concerned, start: make(chan bool)}
			n.up.Store(true)
			nappers[i] = n
			all.Go(func() {
				for reason := range n.start {
					w.hub.sleep(n.z, func() bool { return reason })
					n.up.Store(true)
				}
			})
		}
		woken, left := 0, 0
		for range 1000 {
			asleep := 0
			for _, n := range nappers {
				if n.up.Load() && w.r.IntN(3) > 0 {
					reason := w.r.IntN(10) == 0
					n.up.Store(reason)
					n.start <- reason
				}
				if w.r.IntN(50) == 0 {
					was := n.up.Load()
					synctest.Wait()
					w.hub.wake(n.z) // its context ended, or a bookmark is due
					synctest.Wait()
					if !n.up.Load() {
						t.Fatal("a watcher that was woken sleeps")
					}
					if end := w.log.fill; !was && n.z.resume != end {
						t.Fatalf("a watcher that was woken resumes at %d, want %d", n.z.resume, end)
					}
				}
				if !n.up.Load() {
					asleep++
				}
			}
			synctest.Wait()
			for i, n := range nappers {
				if got := n.z.bed != nil && n.z.turn == n.z.bed.turn; got == n.up.Load() {
					t.Fatalf("watcher %d: asleep %t, up %t", i, got, n.up.Load())
				}
			}
			if got := w.hub.asleep(); got != asleep {
				t.Fatalf("%d watchers are asleep, want %d", got, asleep)
			}
			for sc, b := range w.hub.scoped {
				if len(b.sleepers) == 0 {
					t.Fatalf("the list of %+v is empty and kept", sc)
				}
			}
			var slept []*napper
			for _, n := range nappers {
				if !n.up.Load() {
					slept = append(slept, n)
				}
			}
			events := w.commit()
			synctest.Wait()
			for _, n := range slept {
				want := n.concerned(events)
				switch {
				case n.up.Load() != want:
					t.Fatalf("a watcher of %+v: woken %t, want %t", n.z.scope, n.up.Load(), want)
				case want && n.z.resume != w.first:
					t.Fatalf("a watcher resumes at %d, want %d", n.z.resume, w.first)
				case want:
					woken++
				default:
					left++
				}
			}
		}
		w.hub.wakeAll()
		synctest.Wait()
		for i, n := range nappers {
			if !n.up.Load() {
				t.Errorf("watcher %d sleeps after wakeAll", i)
			}
			close(n.start)
		}
		all.Wait()
		if len(w.hub.scoped) != 0 || w.hub.asleep() != 0 {
			t.Errorf("%d beds and %d sleepers are left", len(w.hub.scoped), w.hub.asleep())
		}
		if woken == 0 || left == 0 {
			t.Errorf("%d woken, %d left asleep: the test tests little", woken, left)
		}
	})
}

// TestHubLosesNobody runs watchers beside commits, each at its own pace: when all
// is done, each must have seen every event that its filter selects.
func TestHubLosesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHubWorld(t)
		var stop atomic.Bool
		var all sync.WaitGroup
		type watching struct {
			f    *filter
			seen []uint64 // positions
		}
		watchers := make([]*watching, 30)
		for i := range watchers {
			f, _ := w.filter(t)
			x := &watching{f: f}
			watchers[i] = x
			z := newSleeper(f)
			all.Go(func() {
				for pos := uint64(0); ; pos = max(pos, z.resume) {
					last := stop.Load()
					for h, end := w.log.window(); pos < end; pos++ {
						if concerns(f, h.at(pos)) {
							x.seen = append(x.seen, pos)
						}
					}
					if last {
						return
					}
					w.hub.sleep(z, func() bool { return stop.Load() || pos < w.log.end.Load() })
				}
			})
		}
		for range 3000 {
			w.commit()
			if w.r.IntN(100) == 0 {
				synctest.Wait() // all asleep
			}
		}
		stop.Store(true)
		w.hub.wakeAll()
		all.Wait()
		for i, x := range watchers {
			var want []uint64
			h, end := w.log.window()
			for pos := range end {
				if concerns(x.f, h.at(pos)) {
					want = append(want, pos)
				}
			}
			if !slices.Equal(x.seen, want) {
				t.Errorf("watcher %d saw %d events of %d, or in another order", i, len(x.seen), len(want))
			}
		}
	})
}

func concerns(f *filter, ev *event) bool {
	return f.matches(ev.next) || ev.old != nil && f.matches(ev.old)
}

// TestHubWakesMany wakes a long list of sleepers, who wake each other.
func TestHubWakesMany(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 7, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHubWorld(t)
				var all sync.WaitGroup
				var up atomic.Int32
				for range n {
					z := newSleeper(&filter{})
					all.Go(func() {
						w.hub.sleep(z, func() bool { return false })
						if len(z.others) != 0 || len(z.alarm) != 0 {
							t.Error("a watcher kept others to wake, or a token")
						}
						up.Add(1)
					})
				}
				synctest.Wait()
				if got := up.Load(); got != 0 {
					t.Fatalf("%d do not sleep", got)
				}
				w.commit()
				all.Wait()
				if got := up.Load(); got != int32(n) {
					t.Errorf("%d woke, want %d", got, n)
				}
			})
		})
	}
}
