// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

func TestInformer(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			st := wrap(open(t))
			notes := register(t, st)
			ctx, ok := t.Context(), must[*note](t)
			ok(notes.Create(ctx, newNote("x", "b", "1", "ann")))
			ok(notes.Create(ctx, newNote("x", "a", "1", "bob")))

			i := watch.New(notes, watch.Options[*note]{})
			var early, late diary
			reg := i.Handle(early.handler())
			synctest.Wait()
			if closed(i.Synced()) || closed(reg.Synced()) || early.read() != "" {
				t.Fatal("an informer that was not started has synced")
			}
			run(t, i.Run)
			synctest.Wait()
			if !closed(i.Synced()) || !closed(reg.Synced()) {
				t.Fatal("not synced")
			}
			expect(t, early.read(), "initial a 1; initial b 1")
			expect(t, names(t, i, store.ListOptions{}), "a=1 b=1")

			ok(notes.Create(ctx, newNote("y", "c", "1", "ann")))
			ok(notes.Patch(ctx, store.NewKey("x", "a"), func(n *note) error { n.Spec.Text = "2"; return nil }))
			ok(notes.Delete(ctx, store.NewKey("x", "b")))
			last := ok(notes.Patch(ctx, store.NewKey("x", "a"), func(n *note) error { n.Spec.Owner = "ann"; return nil }))
			rev := must[uint64](t)(store.RevisionOf(last))
			if err := i.WaitFor(ctx, rev); err != nil {
				t.Fatal(err)
			}
			expect(t, names(t, i, store.ListOptions{}), "a=2 c=1")
			expect(t, names(t, i, store.ListOptions{Namespace: "y"}), "c=1")
			expect(t, names(t, i, store.ListOptions{Fields: byOwner.Is("ann")}), "a=2 c=1")
			expect(t, names(t, i, store.ListOptions{Fields: byOwner.Is("bob")}), "")
			if got, has := i.Get(store.NewKey("x", "a")); !has || got != last {
				t.Errorf("Get = %v, %v, want the object written", got, has)
			}
			if i.Revision() < rev {
				t.Errorf("Revision = %d, want %d", i.Revision(), rev)
			}
			synctest.Wait()
			expect(t, early.read(), "add c 1; update a 1>2; delete b 1; update a 2>2")

			reg = i.Handle(late.handler())
			synctest.Wait()
			expect(t, late.read(), "initial a 2; initial c 1")
			if !closed(reg.Synced()) {
				t.Error("the late handler has not synced")
			}
			reg.Remove()
			reg.Remove()
			ok(notes.Delete(ctx, store.NewKey("y", "c")))
			synctest.Wait()
			expect(t, late.read(), "")
			expect(t, early.read(), "delete c 1")
		})
	})
}

func TestRunEnds(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			notes := register(t, wrap(open(t)))
			i := watch.New(notes, watch.Options[*note]{})
			var d diary
			h := d.handler()
			h.Resync = time.Minute
			reg := i.Handle(h)
			stop := run(t, i.Run)
			synctest.Wait()
			if err := i.Run(t.Context()); !errors.Is(err, watch.ErrStarted) {
				t.Errorf("second Run: %v, want ErrStarted", err)
			}
			stop()
			if !closed(reg.Done()) || !closed(i.Stopped()) {
				t.Error("Run has returned, and not all is over")
			}
			reg.Remove()
			after := i.Handle(d.handler())
			if !closed(after.Done()) || closed(after.Synced()) {
				t.Error("a handler added after Run is not done, or synced")
			}
			after.Remove()
			if err := i.WaitFor(t.Context(), 1<<60); !errors.Is(err, watch.ErrStopped) {
				t.Errorf("WaitFor after Run: %v, want ErrStopped", err)
			}
			if err := i.Run(t.Context()); !errors.Is(err, watch.ErrStarted) {
				t.Errorf("Run after Run: %v, want ErrStarted", err)
			}
		})
	})
}

func expect[V comparable](t *testing.T, got, want V) {
	t.Helper()
	if got != want {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
}
