// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// distant is a store as one at the other end of a network looks: none of the
// optional interfaces, and each watch is late by a time of its kind's own.
type distant struct {
	store.Store
	late map[string]time.Duration
}

func (d distant) Watch(ctx context.Context, s *store.Schema, opts store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return func(yield func(store.Event[store.Object], error) bool) {
		for ev, err := range d.Store.Watch(ctx, s, opts) {
			if err == nil && !opts.Initial {
				select {
				case <-time.After(d.late[s.Name]):
				case <-ctx.Done():
					return
				}
			}
			if !yield(ev, err) {
				return
			}
		}
	}
}

// TestOwnWritesAreSeenThroughALateWatch: a controller that counts what it owns
// never makes one too many, though its caches are behind.
func TestOwnWritesAreSeenThroughALateWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		m := reconcile.NewManager(distant{st, map[string]time.Duration{"Boat": time.Second, "Fleet": 10 * time.Millisecond}}, reconcile.ManagerOptions{})
		if _, ok := m.Store().(store.Transactor); ok {
			t.Error("the manager's store has transactions, and the store below has not")
		}
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		boats := register(t, m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		made := 0
		_, err := reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			f, err := fleets.Get(ctx, key)
			if errors.Is(err, store.ErrNotFound) {
				return reconcile.Done()
			} else if err != nil {
				return reconcile.Retry(err)
			}
			page, err := boats.Page(ctx)
			if err != nil {
				return reconcile.Retry(err)
			}
			if len(page.Items) >= f.Spec.Boats {
				return reconcile.Done()
			}
			b := &barge{Meta: store.Meta{Namespace: key.Namespace, Name: fmt.Sprintf("b-%d", made)}} // a new name each time
			if _, err := boats.Create(ctx, b); err != nil {
				return reconcile.Retry(err)
			}
			made++
			after, err := boats.Page(ctx)
			if err != nil || len(after.Items) != made {
				t.Errorf("after its write the reconcile sees %d boats, %v; want %d", len(after.Items), err, made)
			}
			return reconcile.Again(0)
		}, reconcile.Options[store.Key]{}, reconcile.For(fleets), reconcile.Watches(boats, func(*barge) []store.Key { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()
		after(time.Second)
		f := &convoy{Meta: store.Meta{Namespace: "sea", Name: "one"}}
		f.Spec.Boats = 5
		if _, err := fleets.Create(ctx, f); err != nil {
			t.Fatal(err)
		}
		for range 3 { // each change has it look again
			after(20 * time.Second)
			if made != 5 {
				t.Errorf("%d boats were made, want 5", made)
			}
			if _, err := fleets.Patch(ctx, store.KeyOf(f), func(f *convoy) error { f.Spec.Colour += "x"; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestAKindWithoutAnInformerIsReadFromTheStore where there is no joint snapshot.
func TestAKindWithoutAnInformerIsReadFromTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		m := reconcile.NewManager(distant{st, nil}, reconcile.ManagerOptions{})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		boats := register(t, m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		var got list[string]
		_, err := reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			b, err := boats.Get(ctx, key)
			if err != nil {
				return reconcile.Retry(err)
			}
			for b, err := range boats.List(ctx) {
				if err != nil {
					return reconcile.Retry(err)
				}
				got.add(b.Name)
			}
			got.add(b.Name)
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := boats.Create(t.Context(), &barge{Meta: store.Meta{Namespace: "sea", Name: "one"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := fleets.Create(t.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: "one"}}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()
		after(time.Minute)
		if n := len(got.all()); n != 2 {
			t.Errorf("read %d objects, want 2", n)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestAReadAfterTheEnd of a reconcile says so.
func TestAReadAfterTheEnd(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		kept := make(chan context.Context, 1)
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			kept <- context.WithoutCancel(ctx)
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("one", 0)
		synctest.Wait()
		ctx := <-kept
		if _, err := y.fleets.Get(ctx, sea("one")); err == nil {
			t.Error("a read with the context of a reconcile that has ended goes through")
		}
		if r, ok := reconcile.Current(ctx); !ok || r.Key != "sea/one" || r.Controller != "fleet" {
			t.Errorf("Current says %+v, %t", r, ok)
		}
	})
}

// TestAViewThatTheWindowOvertakes: with a short history, a long reconcile fails
// once, and reads from a snapshot the next time.
func TestAViewThatTheWindowOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{History: store.History{Revisions: 5}})
		defer st.Close()
		m := reconcile.NewManager(st, reconcile.ManagerOptions{})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		boats := register(t, m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		var results list[error]
		_, err := reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			if _, err := fleets.Get(ctx, key); err != nil {
				return reconcile.Retry(err)
			}
			for i := range 20 { // others write meanwhile
				name := fmt.Sprintf("b-%d-%d", len(results.all()), i)
				if _, err := boats.Create(context.Background(), &barge{Meta: store.Meta{Namespace: "sea", Name: name}}); err != nil {
					return reconcile.Retry(err)
				}
			}
			page, err := boats.Page(ctx)
			if err == nil && len(page.Items) != 20*len(results.all()) {
				t.Errorf("a list sees %d boats, want the %d from before", len(page.Items), 20*len(results.all()))
			}
			results.add(err)
			return reconcile.OK(err)
		}, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fleets.Create(t.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: "one"}}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()
		after(time.Hour)
		if got := results.all(); len(got) != 2 || !errors.Is(got[0], store.ErrTooOld) || got[1] != nil {
			t.Errorf("results %v, want too old, then none", got)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestALeaderThatIsDeposedComesBack and works on what it missed.
func TestALeaderThatIsDeposedComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(t)
		defer r.end()
		var leading list[bool]
		r.start("a", reconcile.ManagerOptions{
			Election: &reconcile.ElectorOptions{Namespace: "sea", Name: "fleet", Identity: "a"},
			Hooks:    reconcile.Hooks{Leading: func(_ string, leads bool) { leading.add(leads) }},
		}, time.Second)
		r.create(3)
		after(10 * time.Second)
		leases, err := store.Lookup[*reconcile.Lease](r.store, reconcile.LeaseKind().KindName())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leases.Delete(t.Context(), sea("fleet")); err != nil {
			t.Fatal(err)
		}
		r.create(3)
		after(2 * time.Minute)
		if r.left() != 0 {
			t.Errorf("%d fleets were not worked on after the lead was lost and won again", r.left())
		}
		if got := fmt.Sprint(leading.all()); got != "[true false true]" {
			t.Errorf("leading %s, want to be told each time", got)
		}
	})
}

// TestResyncShowsEverythingAgain, with low priority.
func TestResyncShowsEverythingAgain(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		y.add("fleet", func(context.Context, store.Key) reconcile.Result { return reconcile.Done() },
			reconcile.Options[store.Key]{Resync: time.Hour}, reconcile.For(y.fleets, reconcile.GenerationChanged))
		y.run()
		y.newFleet("one", 0)
		after(5*time.Hour + time.Minute)
		runs := y.runs("sea/one")
		if len(runs) != 6 {
			t.Fatalf("ran %d times in five hours, want once for the creation and five times for the resync", len(runs))
		}
		if c := runs[1].Causes; len(c) != 1 || c[0].Reason != "resync" {
			t.Errorf("causes %v, want the resync", c)
		}
	})
}

// TestAKeyDeletedWhileQueued is run, and finds nothing.
func TestAKeyDeletedWhileQueued(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		var missing list[store.Key]
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			time.Sleep(time.Second)
			if _, err := y.fleets.Get(ctx, key); errors.Is(err, store.ErrNotFound) {
				missing.add(key)
			}
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("first", 0)
		y.newFleet("second", 0)
		if _, err := y.fleets.Delete(t.Context(), sea("second")); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if got := missing.all(); len(got) != 1 || got[0] != sea("second") {
			t.Errorf("missing %v, want the second, once", got)
		}
	})
}

// TestTheStoreIsClosedUnderneath: the manager says so and ends when it is told to.
func TestTheStoreIsClosedUnderneath(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		y.add("fleet", y.build, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.run()
		if err := y.store.Close(); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if err := y.m.Ready(); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Ready says %v, want that the store is closed", err)
		}
	})
}
