// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

func done(context.Context, store.Key) reconcile.Result { return reconcile.Done() }

// election makes a manager one replica of one.
func election() reconcile.ManagerOptions {
	return reconcile.ManagerOptions{Election: &reconcile.ElectorOptions{Namespace: "sea", Name: "lead", Identity: "a"}}
}

// TestPredicatesHoldWhereKeysAreShownAgain: what a predicate leaves out is left
// out when this replica begins to lead, and in a resync.
func TestPredicatesHoldWhereKeysAreShownAgain(t *testing.T) {
	inDock(t, election(), func(y *dock) {
		red := func(c reconcile.Change[*convoy]) bool { return c.Object().Spec.Colour == "red" }
		y.add("fleet", done, reconcile.Options[store.Key]{}, reconcile.For(y.fleets, red))
		y.newFleet("blue", 0)
		y.newFleet("red", 0)
		y.patchFleet("red", func(f *convoy) { f.Spec.Colour = "red" })
		y.run()
		after(time.Minute)
		y.m.Resync()
		after(time.Minute)
		if n := len(y.runs("sea/red")); n != 2 {
			t.Errorf("red ran %d times, want at the start and in the resync", n)
		}
		if runs := y.runs("sea/blue"); len(runs) != 0 {
			t.Errorf("blue ran, because of %v: the predicate leaves it out", runs[0].Causes)
		}
	})
}

// TestATriggerThatIsRemovedHoldsNothingUp, though its source was never read.
func TestATriggerThatIsRemovedHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		m := reconcile.NewManager(broken{st, "Boat"}, reconcile.ManagerOptions{})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		boats := register(t, m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		ran := make(chan store.Key, 1)
		c, err := reconcile.New(m, "fleet", func(_ context.Context, key store.Key) reconcile.Result {
			ran <- key
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		must(t, err)
		remove, err := c.AddTrigger(reconcile.Owns(boats, fleets))
		must(t, err)
		_, err = fleets.Create(t.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: "one"}})
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		after(time.Second)
		if err := m.Ready(); err == nil {
			t.Error("ready, with a source that can't be read")
		}
		remove()
		remove() // does no harm
		after(time.Second)
		select {
		case <-ran:
		default:
			t.Error("the controller still waits for the source of a trigger that was removed")
		}
		if err := m.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		stop()
		must(t, <-ended)
		// After the end a trigger can still be added, and does nothing.
		remove, err = c.AddTrigger(reconcile.Owns(boats, fleets))
		must(t, err)
		remove()
	})
}

// broken is a store that can't list a kind.
type broken struct {
	store.Store
	kind string
}

func (b broken) List(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	if s.Name == b.kind {
		return store.ListMeta{}, errors.New("no permission")
	}
	return b.Store.List(ctx, s, opts, yield)
}

// TestAStandbyWithABrokenSourceIsNotReady: it waits for more than to lead.
func TestAStandbyWithABrokenSourceIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		leader, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "sea", Name: "lead", Identity: "other"})
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			left <- leader.Run(ctx, func(ctx context.Context, _ reconcile.Term) error { <-ctx.Done(); return nil })
		}()
		synctest.Wait()
		m := reconcile.NewManager(broken{st, "Boat"}, election())
		boats := register(t, m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		_, err = reconcile.New(m, "boat", done, reconcile.Options[store.Key]{}, reconcile.For(boats))
		must(t, err)
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		after(time.Minute)
		if err := m.Ready(); err == nil || !strings.Contains(err.Error(), "no permission") {
			t.Errorf("Ready says %v, want that the source is broken", err)
		}
		stop()
		must(t, <-ended)
		must(t, <-left)
	})
}

// TestSettledWaitsForTheZeroKey like for any other.
func TestSettledWaitsForTheZeroKey(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		c, err := reconcile.New(y.m, "boats", func(context.Context, int) reconcile.Result {
			time.Sleep(time.Second)
			return reconcile.Done()
		}, reconcile.Options[int]{}, reconcile.Watches(y.fleets, func(f *convoy) []int { return []int{f.Spec.Boats} }))
		must(t, err)
		y.newFleet("one", 0)
		y.run()
		select {
		case <-c.Settled():
			t.Error("settled, and the key 0 is still worked on")
		default:
		}
		after(2 * time.Second)
		<-c.Settled()
	})
}

// TestAHugeTimeoutNeverEnds.
func TestAHugeTimeoutNeverEnds(t *testing.T) {
	var overdue list[reconcile.Overdue]
	opts := reconcile.ManagerOptions{Hooks: reconcile.Hooks{Overdue: overdue.add}}
	inDock(t, opts, func(y *dock) {
		y.add("fleet", func(ctx context.Context, _ store.Key) reconcile.Result {
			time.Sleep(24 * time.Hour)
			return reconcile.OK(ctx.Err())
		}, reconcile.Options[store.Key]{Timeout: math.MaxInt64}, reconcile.For(y.fleets))
		y.newFleet("one", 0)
		y.run()
		after(25 * time.Hour)
		if runs := y.runs("sea/one"); len(runs) != 1 || runs[0].Err != nil || len(overdue.all()) != 0 {
			t.Errorf("runs %v, overdue %v; want one that took its time", runs, overdue.all())
		}
	})
}

// TestAnElectionThatFailsForGoodEndsTheManager: it would never work again, and
// nobody would know.
func TestAnElectionThatFailsForGoodEndsTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		sharder, err := reconcile.NewSharder(st, reconcile.SharderOptions{Namespace: "sea", Name: "shards", Identity: "other", Shards: 8})
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- sharder.Run(ctx) }()
		after(time.Minute)
		m := reconcile.NewManager(st, reconcile.ManagerOptions{Sharding: &reconcile.SharderOptions{Namespace: "sea", Name: "shards", Identity: "a", Shards: 16}})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		_, err = reconcile.New(m, "fleet", done, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		must(t, err)
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		select {
		case err := <-ended:
			refused(t, "Run", err, store.ErrInvalid, "8 shards")
		case <-time.After(time.Hour):
			t.Errorf("the manager runs on; Ready says %v", m.Ready())
			stop()
			<-ended
		}
		stop()
		must(t, <-left)
	})
}

// TestAReconcileUsesAnotherManagersStore: it reads and writes there, not in its own.
func TestAReconcileUsesAnotherManagersStore(t *testing.T) {
	there := memory.New(memory.Options{})
	defer there.Close()
	inDock(t, election(), func(y *dock) {
		m := reconcile.NewManager(there, reconcile.ManagerOptions{})
		remote := register(t, m, store.Kind[*convoy]{Name: "Fleet", Group: "sea.example", Version: "v1"})
		y.add("copy", func(ctx context.Context, key store.Key) reconcile.Result {
			if _, err := y.fleets.Get(ctx, key); err != nil {
				return reconcile.Park(err)
			}
			if _, err := remote.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a read of the other store: %v, want not found", err)
			}
			_, err := remote.Create(ctx, &convoy{Meta: store.Meta{Namespace: "sea", Name: "copy"}})
			if err != nil {
				t.Errorf("a write to the other store: %v", err)
			}
			_, err = remote.Get(ctx, sea("copy"))
			if err != nil {
				t.Errorf("a read after it: %v", err)
			}
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.newFleet("one", 0)
		y.run()
		after(time.Minute)
		if len(y.runs("sea/one")) == 0 {
			t.Error("did not run")
		}
	})
}

// TestAWriteAfterTheEnd is refused: the key may be worked on by another already.
func TestAWriteAfterTheEnd(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		kept := make(chan context.Context, 1)
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			kept <- context.WithoutCancel(ctx)
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(y.fleets, reconcile.GenerationChanged))
		y.newFleet("one", 0)
		y.run()
		ctx := <-kept
		if _, err := y.fleets.Patch(ctx, sea("one"), func(f *convoy) error { f.Status.Runs = 1; return nil }); err == nil {
			t.Error("a write with the context of a reconcile that has ended goes through")
		}
		_, err := y.m.Store().(store.Transactor).Txn(ctx, func(store.Tx) error { return nil })
		if err == nil {
			t.Error("so does a transaction")
		}
	})
}

// TestPagesWhereKindsHaveTheirOwnRevisions: the second comes from where the first did.
func TestPagesWhereKindsHaveTheirOwnRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		m := reconcile.NewManager(distant{Store: st}, reconcile.ManagerOptions{})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		var names list[string]
		_, err := reconcile.New(m, "fleet", func(ctx context.Context, _ store.Key) reconcile.Result {
			opts := store.ListOptions{Limit: 1}
			for range 3 {
				page, err := fleets.Page(ctx, opts)
				if err != nil {
					t.Error(err)
					return reconcile.Park(err)
				}
				names.add(page.Items[0].Name)
				opts.Continue = page.Continue
			}
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		must(t, err)
		for _, name := range []string{"a", "b", "c"} {
			_, err := fleets.Create(t.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: name}})
			must(t, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		after(time.Minute)
		if got := strings.Join(names.all(), ""); got != "abcabcabc" {
			t.Errorf("pages show %s", got)
		}
		stop()
		must(t, <-ended)
	})
}

// TestAConflictSaysWhyItRunsAgain.
func TestAConflictSaysWhyItRunsAgain(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		runs := 0
		y.add("fleet", func(context.Context, store.Key) reconcile.Result {
			if runs++; runs == 1 {
				return reconcile.Retry(store.ErrConflict)
			}
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.newFleet("one", 0)
		y.run()
		after(time.Minute)
		got := y.runs("sea/one")
		if len(got) != 2 || len(got[1].Causes) != 1 || got[1].Causes[0].Reason != "conflict" {
			t.Errorf("runs %v, want a second because of the conflict", got)
		}
	})
}

// TestAStuckReconcileKeepsNoShards: the manager gives up, and so do the shards.
func TestAStuckReconcileKeepsNoShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		m := reconcile.NewManager(st, reconcile.ManagerOptions{
			GracePeriod: time.Second,
			Sharding:    &reconcile.SharderOptions{Namespace: "sea", Name: "shards", Identity: "a"},
		})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		hold, late := make(chan bool), make(chan error, 1)
		_, err := reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			<-hold
			_, err := fleets.Patch(context.WithoutCancel(ctx), key, func(f *convoy) error { f.Status.Runs++; return nil })
			late <- err
			return reconcile.Done()
		}, reconcile.Options[store.Key]{Timeout: -1}, reconcile.For(fleets))
		must(t, err)
		_, err = fleets.Create(t.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: "one"}})
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		after(time.Minute)
		stop()
		select {
		case err := <-ended:
			refused(t, "Run", err, reconcile.ErrStuck, "sea/one")
		case <-time.After(time.Hour):
			t.Error("the manager waits for ever")
			close(hold)
			<-ended
			return
		}
		close(hold)
		if err := <-late; err == nil {
			t.Error("a reconcile that was given up still writes")
		}
		synctest.Wait()
	})
}

// TestAChangeThatAFailedRunPatchedOver runs the key at once: what the run read was
// the state before it.
func TestAChangeThatAFailedRunPatchedOver(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		var fail func(ctx context.Context) error
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			f, err := y.fleets.Get(ctx, key)
			if err != nil || f.Spec.Boats == 1 {
				return reconcile.OK(err)
			}
			return reconcile.Retry(fail(ctx))
		}, reconcile.Options[store.Key]{Backoff: reconcile.Backoff{Initial: time.Hour}}, reconcile.For(y.fleets))
		fail = func(ctx context.Context) error {
			y.patchFleet("one", func(f *convoy) { f.Spec.Boats = 1 }) // somebody mends it
			_, err := y.fleets.Patch(ctx, sea("one"), func(f *convoy) error { f.Status.Runs++; return nil })
			time.Sleep(time.Second) // both changes arrive
			return errors.Join(errors.New("no boats"), err)
		}
		y.newFleet("one", 0)
		y.run()
		after(time.Minute)
		if runs := y.runs("sea/one"); len(runs) != 2 || runs[1].Outcome != reconcile.OutcomeDone {
			t.Errorf("runs %v, want a second at once that succeeds", runs)
		}
	})
}

// TestAPatchThatChangesNothing is no write of the controller's, whoever made the
// revision that it returns.
func TestAPatchThatChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		var runs list[reconcile.Reconciled]
		m := reconcile.NewManager(distant{Store: st}, reconcile.ManagerOptions{Hooks: reconcile.Hooks{Reconciled: runs.add}})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		_, err := reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			_, err := fleets.Patch(ctx, key, func(*convoy) error { return nil })
			return reconcile.OK(err)
		}, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		must(t, err)
		_, err = fleets.Create(t.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: "one"}})
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		after(time.Minute)
		if got := runs.all(); len(got) != 1 || len(got[0].Wrote) != 0 {
			t.Errorf("runs %v, want one that wrote nothing", got)
		}
		stop()
		must(t, <-ended)
	})
}

// TestAStandbyForgetsWhatIsGone, but not what may have gone as the leader died.
func TestAStandbyForgetsWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		leader, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "sea", Name: "lead", Identity: "other"})
		must(t, err)
		leads, resign := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			left <- leader.Run(leads, func(ctx context.Context, _ reconcile.Term) error { <-ctx.Done(); return nil })
		}()
		synctest.Wait()
		var runs list[reconcile.Reconciled]
		opts := election()
		opts.Hooks.Reconciled = runs.add
		m := reconcile.NewManager(st, opts)
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		c, err := reconcile.New(m, "fleet", done, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		make := func(name string) {
			_, err := fleets.Create(ctx, &convoy{Meta: store.Meta{Namespace: "sea", Name: name}})
			must(t, err)
		}
		sink := func(name string) {
			_, err := fleets.Delete(ctx, sea(name))
			must(t, err)
		}
		make("stays")
		make("late")
		for _, name := range []string{"a", "b", "c"} {
			make(name)
			sink(name)
		}
		after(21 * time.Minute)
		if n := m.Stats()[0].Ready; n != 0 {
			t.Errorf("the standby remembers %d keys", n)
		}
		sink("late")
		after(9*time.Minute + 30*time.Second) // beyond a round of forgetting
		resign()
		must(t, <-left)
		after(time.Minute)
		<-c.Settled()
		got := map[string]string{}
		for _, r := range runs.all() {
			got[r.Key] = r.Causes[0].Reason
		}
		if len(got) != 2 || got["sea/stays"] != "gained" || got["sea/late"] != "deleted" {
			t.Errorf("the new leader ran %v, want what stays and what was deleted late", got)
		}
		stop()
		must(t, <-ended)
	})
}

// TestWritesOfAKindWithoutAnInformer hold up no read where kinds have revisions of
// their own.
func TestWritesOfAKindWithoutAnInformer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		m := reconcile.NewManager(distant{Store: st}, reconcile.ManagerOptions{})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		boats := register(t, m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		ran := 0
		_, err := reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			if _, err := boats.Create(ctx, &barge{Meta: store.Meta{Namespace: "sea", GenerateName: "b-"}}); err != nil {
				t.Error(err)
			}
			_, err := fleets.Get(ctx, key)
			if err != nil {
				t.Error(err)
			}
			page, err := boats.Page(ctx)
			if ran++; err != nil || len(page.Items) != ran {
				t.Errorf("sees %d boats, %v; want %d", len(page.Items), err, ran)
			}
			return reconcile.Done()
		}, reconcile.Options[store.Key]{}, reconcile.For(fleets))
		must(t, err)
		_, err = fleets.Create(t.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: "one"}})
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		after(time.Minute)
		m.Resync()
		after(time.Minute)
		if ran != 2 {
			t.Errorf("ran %d times, want 2", ran)
		}
		stop()
		must(t, <-ended)
	})
}

// TestAKindThatIsUnregistered while the manager runs holds up nobody else, and is
// told of.
func TestAKindThatIsUnregistered(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		y.add("boat", done, reconcile.Options[store.Key]{}, reconcile.For(y.boats))
		y.add("fleet", done, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.run()
		must(t, y.store.Unregister(y.boats.Schema()))
		y.newFleet("one", 0)
		after(time.Minute)
		if n := len(y.runs("sea/one")); n != 1 {
			t.Errorf("ran %d times, want once", n)
		}
		if err := y.m.Ready(); !errors.Is(err, store.ErrUnknownKind) || strings.Contains(err.Error(), "controller fleet") {
			t.Errorf("Ready says %v, want that the kind of the controller boat is not registered", err)
		}
	})
}
