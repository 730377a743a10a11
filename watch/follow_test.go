// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
	"github.com/slipway-dev/slipway/watch/watchtest"
)

// TestSourceFails: while a source fails, Err says why, the staleness grows, reads
// go on, and attempts come ever less often; after that the difference arrives.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		ok := must[*note](t)
		a := ok(notes.Create(t.Context(), newNote("x", "a", "1", "ann")))
		src := watchtest.New(notes, watchtest.Options{})
		var pauses []time.Duration
		i := watch.New(src, watch.Options[*note]{
			Backoff: watch.Backoff{Initial: time.Second, Max: 10 * time.Second},
			Hooks:   watch.Hooks{Failed: func(_ error, pause time.Duration) { pauses = append(pauses, pause) }},
		})
		var told diary
		i.Handle(told.handler())
		run(t, i.Run)
		time.Sleep(time.Minute)
		synctest.Wait()
		if i.Err() != nil || i.Staleness() > 10*time.Second {
			t.Errorf("a source that works: Err = %v, Staleness = %v", i.Err(), i.Staleness())
		}
		told.read()

		broken := errors.New("broken")
		src.Fail(broken)
		ok(notes.Patch(t.Context(), store.KeyOf(a), func(n *note) error { n.Spec.Text = "2"; return nil }))
		time.Sleep(time.Hour)
		synctest.Wait()
		if !errors.Is(i.Err(), broken) || i.Staleness() < time.Hour {
			t.Errorf("Err = %v, Staleness = %v", i.Err(), i.Staleness())
		}
		for n, pause := range pauses {
			want := min(time.Second<<min(n, 10), 10*time.Second)
			if pause < want/2 || pause > want*3/2 {
				t.Errorf("pause %d is %v, want %v give or take half", n, pause, want)
			}
		}
		if len(pauses) < 200 || len(pauses) > 800 {
			t.Errorf("%d attempts in an hour", len(pauses))
		}
		if got, has := i.Get(store.KeyOf(a)); !has || got != a {
			t.Errorf("Get = %v, %v, want what was there", got, has)
		}
		expect(t, told.read(), "")

		src.Heal()
		time.Sleep(time.Minute)
		synctest.Wait()
		if i.Err() != nil || i.Staleness() > 10*time.Second {
			t.Errorf("healed: Err = %v, Staleness = %v", i.Err(), i.Staleness())
		}
		expect(t, told.read(), "update a 1>2")
	})
}

// TestNeverSynced: a source that fails from the start keeps readers waiting, and
// says why.
func TestNeverSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := watchtest.New(register(t, open(t)), watchtest.Options{})
		broken := errors.New("broken")
		src.Fail(broken)
		i := watch.New(src, watch.Options[*note]{})
		run(t, i.Run)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := i.WaitFor(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitFor: %v", err)
		}
		if !errors.Is(i.Err(), broken) || i.Staleness() < time.Hour {
			t.Errorf("Err = %v, Staleness = %v", i.Err(), i.Staleness())
		}
	})
}

// TestStalled: a watch that says nothing, not even bookmarks, is begun again.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		src := watchtest.New(notes, watchtest.Options{})
		var failures diary
		i := watch.New(src, watch.Options[*note]{Stalled: time.Minute, Hooks: watch.Hooks{
			Failed: func(err error, _ time.Duration) {
				failures.add("%v", err)
				src.Heal()
			},
		}})
		run(t, i.Run)
		synctest.Wait()
		src.SetFaults(watchtest.Faults{Drop: 1}) // connected, and deaf
		n := must[*note](t)(notes.Create(t.Context(), newNote("x", "a", "1", "ann")))
		time.Sleep(59 * time.Second)
		synctest.Wait()
		expect(t, failures.read(), "")
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, failures.read(), "watch: the source has said nothing for longer than Stalled")
		if _, ok := i.Get(store.KeyOf(n)); !ok || i.Err() != nil {
			t.Errorf("resumed: Get = %v, Err = %v", ok, i.Err())
		}
	})
}

// TestTooOld: what an informer misses arrives as differences, a removal with the
// last state that was seen, a replaced object as removal and addition.
func TestTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		ctx, ok := t.Context(), must[*note](t)
		for _, name := range []string{"stays", "changes", "goes", "replaced"} {
			ok(notes.Create(ctx, newNote("x", name, "1", "ann")))
		}
		src := watchtest.New(notes, watchtest.Options{})
		differences := 0
		i := watch.New(src, watch.Options[*note]{Hooks: watch.Hooks{Listed: func(_, n int) { differences += n }}})
		var told diary
		i.Handle(told.handler())
		run(t, i.Run)
		synctest.Wait()
		told.read()

		src.Fail(errors.New("away"))
		ok(notes.Create(ctx, newNote("x", "comes", "1", "ann")))
		ok(notes.Patch(ctx, store.NewKey("x", "changes"), func(n *note) error { n.Spec.Text = "2"; return nil }))
		ok(notes.Delete(ctx, store.NewKey("x", "goes")))
		ok(notes.Delete(ctx, store.NewKey("x", "replaced")))
		ok(notes.Create(ctx, newNote("x", "replaced", "other", "ann")))
		src.Heal()
		src.Compact()
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, sorted(told.read()), "add comes 1; add replaced other; delete goes 1; delete replaced 1; update changes 1>2")
		if differences != 5 {
			t.Errorf("Listed was told of %d differences, want 5", differences)
		}
	})
}

// scripted is a source that says what a test tells it to.
type scripted struct {
	mu       sync.Mutex
	items    []*note
	revision uint64
	events   []store.Event[*note] // of the next watch
}

func (s *scripted) set(revision uint64, items ...*note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision, s.items = revision, items
}

func (s *scripted) Page(context.Context, ...store.ListOptions) (store.Page[*note], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Page[*note]{Items: s.items, ListMeta: store.ListMeta{Revision: s.revision}}, nil
}

func (s *scripted) Watch(ctx context.Context, _ ...store.WatchOptions) iter.Seq2[store.Event[*note], error] {
	return func(yield func(store.Event[*note], error) bool) {
		s.mu.Lock()
		events := s.events
		s.events = nil
		s.mu.Unlock()
		for _, ev := range events {
			if !yield(ev, nil) {
				return
			}
		}
		<-ctx.Done()
		yield(store.Event[*note]{}, ctx.Err())
	}
}

func versioned(name, version string) *note {
	n := newNote("x", name, version, "ann")
	n.ResourceVersion, n.UID = version, name
	return n
}

// TestBadSource: what can't be true is refused with an error that says what it
// was, and the cache stays; a list that is right heals it.
func TestBadSource(t *testing.T) {
	a2 := versioned("a", "2")
	for name, test := range map[string]struct {
		items    []*note
		revision uint64
		events   []store.Event[*note]
		want     string
	}{
		"nil in a list":          {items: []*note{nil}, want: "a nil object"},
		"no name":                {items: []*note{versioned("", "1")}, want: "without a name"},
		"version is no number":   {items: []*note{versioned("a", "one")}, want: `x/a: invalid: resource version "one"`},
		"no version":             {items: []*note{versioned("a", "")}, want: "x/a has no resource version"},
		"twice in a list":        {items: []*note{a2, versioned("a", "3")}, want: "x/a twice"},
		"no revision":            {items: []*note{}, want: "a list without a revision"},
		"nil in an event":        {events: []store.Event[*note]{{Type: store.Added, Revision: 6, Last: true}}, want: "without an object"},
		"unknown type":           {events: []store.Event[*note]{{Type: 42, Object: a2, Revision: 6, Last: true}}, want: "type 42"},
		"event from the past":    {events: []store.Event[*note]{{Type: store.Added, Object: versioned("b", "3"), Revision: 3, Last: true}}, want: "of revision 3 after revision 5"},
		"bookmark from the past": {events: []store.Event[*note]{{Type: store.Bookmark, Revision: 3}}, want: "bookmark of revision 3 after revision 5"},
		"event's version":        {events: []store.Event[*note]{{Type: store.Added, Object: versioned("b", "x"), Revision: 6, Last: true}}, want: `resource version "x"`},
		"added twice":            {events: []store.Event[*note]{{Type: store.Added, Object: versioned("a", "6"), Revision: 6, Last: true}}, want: "was there already"},
		"modified from nowhere":  {events: []store.Event[*note]{{Type: store.Modified, Object: versioned("b", "6"), Revision: 6, Last: true}}, want: "was not there"},
		"deleted from nowhere":   {events: []store.Event[*note]{{Type: store.Deleted, Object: versioned("b", "6"), Revision: 6, Last: true}}, want: "was not there"},
		"a version was skipped":  {events: []store.Event[*note]{{Type: store.Modified, Object: versioned("a", "6"), Old: versioned("a", "4"), Revision: 6, Last: true}}, want: "an event was lost"},
		"cut transaction": {events: []store.Event[*note]{
			{Type: store.Added, Object: versioned("b", "6"), Revision: 6},
			{Type: store.Added, Object: versioned("c", "7"), Revision: 7, Last: true},
		}, want: "before the last event of revision 6"},
		"bookmark in a transaction": {events: []store.Event[*note]{
			{Type: store.Added, Object: versioned("b", "6"), Revision: 6}, {Type: store.Bookmark, Revision: 6},
		}, want: "inside the transaction of revision 6"},
		"half of it is right": {events: []store.Event[*note]{
			{Type: store.Modified, Object: versioned("a", "6"), Revision: 6},
			{Type: store.Deleted, Object: versioned("c", "6"), Revision: 6, Last: true},
		}, want: "x/c, which was not there"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := &scripted{items: []*note{a2}, revision: 5, events: test.events}
				var failures []error
				i := watch.New(src, watch.Options[*note]{Hooks: watch.Hooks{
					Failed: func(err error, _ time.Duration) { failures = append(failures, err) },
				}})
				if test.items != nil {
					src.items = test.items
				}
				if name == "no revision" {
					src.revision = 0
				}
				var told diary
				i.Handle(told.handler())
				run(t, i.Run)
				synctest.Wait()
				if len(failures) != 1 || !errors.Is(failures[0], watch.ErrBadSource) || !strings.Contains(failures[0].Error(), test.want) {
					t.Fatalf("failures: %v, want one with %q", failures, test.want)
				}
				if err := i.Err(); !errors.Is(err, watch.ErrBadSource) {
					t.Errorf("Err = %v", err)
				}
				if synced := test.items == nil; closed(i.Synced()) != synced {
					t.Errorf("synced: %v", !synced)
				} else if synced {
					expect(t, names(t, i, store.ListOptions{}), "a=2")
				}
				src.set(7, a2, versioned("b", "7"))
				time.Sleep(time.Minute)
				synctest.Wait()
				expect(t, names(t, i, store.ListOptions{}), "a=2 b=7")
				expect(t, i.Err() == nil, true)
			})
		})
	}
}

// TestRepeatedEvents: what the informer has had already does no harm.
func TestRepeatedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b6, a7 := versioned("b", "6"), versioned("a", "7")
		added := store.Event[*note]{Type: store.Added, Object: b6, Revision: 6, Last: true}
		deleted := store.Event[*note]{Type: store.Deleted, Object: a7, Revision: 7, Last: true}
		src := &scripted{items: []*note{versioned("a", "2")}, revision: 5, events: []store.Event[*note]{added, added, deleted, deleted, added}}
		i := watch.New(src, watch.Options[*note]{})
		var told diary
		i.Handle(told.handler())
		run(t, i.Run)
		synctest.Wait()
		expect(t, told.read(), "initial a 2; add b 6; delete a 7")
		expect(t, i.Err() == nil, true)
	})
}

// TestListFromThePast: a list that is older than what the informer has is refused.
func TestListFromThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &scripted{items: []*note{versioned("a", "2")}, revision: 5}
		i := watch.New(src, watch.Options[*note]{Relist: time.Minute})
		run(t, i.Run)
		synctest.Wait()
		src.set(3)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if err := i.Err(); err == nil || !strings.Contains(err.Error(), "a list of revision 3 after revision 5") {
			t.Errorf("Err = %v", err)
		}
		expect(t, names(t, i, store.ListOptions{}), "a=2")
	})
}

func TestTransform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		ctx, ok := t.Context(), must[*note](t)
		ok(notes.Create(ctx, newNote("x", "a", "secret", "ann")))
		var mode atomic.Value
		mode.Store("good")
		i := watch.New(notes, watch.Options[*note]{Transform: func(n *note) *note {
			n = n.DeepCopy()
			switch mode.Load() {
			case "nil":
				return nil
			case "key":
				n.Name = "other"
			case "panic":
				panic("oh")
			}
			n.Spec.Text = ""
			return n
		}})
		var told diary
		i.Handle(told.handler())
		run(t, i.Run)
		synctest.Wait()
		expect(t, names(t, i, store.ListOptions{Fields: byOwner.Is("ann")}), "a=")
		expect(t, told.read(), "initial a ")
		for _, bad := range []struct{ mode, want string }{
			{"nil", "transform of x/a returned nil"}, {"key", "made it x/other"}, {"panic", "the transform panicked on x/a: oh"},
		} {
			mode.Store(bad.mode)
			ok(notes.Patch(ctx, store.NewKey("x", "a"), func(n *note) error { n.Spec.Text += "!"; return nil }))
			synctest.Wait()
			if err := i.Err(); err == nil || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("Err = %v, want %q", err, bad.want)
			}
			expect(t, names(t, i, store.ListOptions{}), "a=")
			mode.Store("good")
			time.Sleep(time.Minute)
			synctest.Wait()
			expect(t, i.Err() == nil, true)
			expect(t, told.read(), "update a >")
		}
	})
}

// TestIndexPanics: an index function that panics on an object of a source fails
// the source, not the process.
func TestIndexPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &scripted{items: []*note{versioned("a", "2")}, revision: 5}
		i := watch.New(src, watch.Options[*note]{Indexes: []store.SchemaIndex{{
			Name: "fussy", One: func(o store.Object) string {
				if o.GetName() == "b" {
					panic("oh")
				}
				return o.GetName()
			},
		}}})
		run(t, i.Run)
		synctest.Wait()
		src.set(6, versioned("a", "2"), versioned("b", "6"))
		stale := watch.New(src, watch.Options[*note]{Indexes: []store.SchemaIndex{{
			Name: "fussy", Many: func(store.Object) []string { panic("oh") },
		}}})
		run(t, stale.Run)
		synctest.Wait()
		if err := stale.Err(); err == nil || !strings.Contains(err.Error(), "an index function panicked on x/a: oh") {
			t.Errorf("Err = %v", err)
		}
		expect(t, names(t, i, store.ListOptions{Fields: store.FieldSelector{{Name: "fussy", Value: "a"}}}), "a=2")
	})
}
