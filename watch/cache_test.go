// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

func TestCacheShares(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			st := wrap(open(t))
			notes := register(t, st)
			tasks := must[*store.Handle[*note]](t)(store.Register(st, store.Kind[*note]{Name: "Task"}))
			c := watch.NewCache(st, watch.CacheOptions{})
			i := watch.For(c, notes)
			if watch.For(c, notes) != i {
				t.Error("two informers of one kind")
			}
			stop := run(t, c.Run)
			late := watch.For(c, tasks)
			untyped := watch.UntypedFor(c, notes.Schema())
			if err := c.WaitForSync(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := must[*note](t)(notes.Create(t.Context(), newNote("x", "a", "1", "ann")))
			task := must[*note](t)(tasks.Create(t.Context(), newNote("x", "t", "1", "ann")))
			rev, taskRev := must[uint64](t)(store.RevisionOf(n)), must[uint64](t)(store.RevisionOf(task))
			for _, err := range []error{late.WaitFor(t.Context(), taskRev), untyped.WaitFor(t.Context(), rev)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if o, ok := untyped.Get(store.KeyOf(n)); !ok || o != store.Object(n) {
				t.Errorf("untyped Get = %v, %v", o, ok)
			}

			v := must[store.Snapshot](t)(c.View(t.Context(), watch.Versions{
				notes.Schema().KindName: rev, tasks.Schema().KindName: taskRev,
			}))
			must[*note](t)(notes.Delete(t.Context(), store.KeyOf(n)))
			synctest.Wait()
			if got, err := notes.At(v).Get(store.KeyOf(n)); got != n || err != nil {
				t.Errorf("the view changed: %v, %v", got, err)
			}
			page := must[store.Page[*note]](t)(tasks.At(v).Page(store.ListOptions{Namespace: "x"}))
			if len(page.Items) != 1 || page.Items[0] != task {
				t.Errorf("tasks in the view: %v", page.Items)
			}
			if _, err := notes.At(v).Get(store.NewKey("x", "nobody")); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
			stop()
			if err := c.Run(t.Context()); !errors.Is(err, watch.ErrStarted) {
				t.Errorf("second Run: %v, want ErrStarted", err)
			}
		})
	})
}

func TestViewWithoutInformer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := remote{open(t)}
		notes := register(t, st)
		c := watch.NewCache(st, watch.CacheOptions{})
		run(t, c.Run)
		if _, err := c.View(t.Context(), watch.Versions{notes.Schema().KindName: 1}); !errors.Is(err, watch.ErrNoInformer) {
			t.Errorf("View: %v, want ErrNoInformer", err)
		}
		v := must[store.Snapshot](t)(c.View(t.Context(), nil))
		if _, err := notes.At(v).Get(store.NewKey("x", "a")); !errors.Is(err, watch.ErrNoInformer) {
			t.Errorf("Get: %v, want ErrNoInformer", err)
		}
	})
}

func TestCacheDrop(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			st := wrap(open(t))
			notes := register(t, st)
			c := watch.NewCache(st, watch.CacheOptions{})
			watch.UntypedFor(c, notes.Schema())
			c.Drop(notes.Schema()) // before Run
			i := watch.For(c, notes)
			var told diary
			reg := i.Handle(told.handler())
			stop := run(t, c.Run)
			synctest.Wait()
			c.Drop(notes.Schema())
			if !closed(reg.Done()) || !closed(i.Stopped()) {
				t.Error("dropped, and not over")
			}
			if again := watch.For(c, notes); again == i {
				t.Error("the dropped informer was given again")
			} else if err := again.WaitFor(t.Context(), 0); err != nil {
				t.Error(err)
			}
			c.Drop(notes.Schema())
			stop()
			late := watch.For(c, notes)
			if err := late.WaitFor(t.Context(), 0); !errors.Is(err, watch.ErrStopped) {
				t.Errorf("asked for after Run: %v, want ErrStopped", err)
			}
			c.Drop(notes.Schema())
			c.Drop(notes.Schema())
		})
	})
}
