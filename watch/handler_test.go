// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

// TestHandlerPanics: a panic is reported with the key, the change counts as
// delivered, and all else goes on: the handler, the others, the informer.
func TestHandlerPanics(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			notes := register(t, wrap(open(t)))
			ctx, ok := t.Context(), must[*note](t)
			var reports, told, other diary
			i := watch.New(notes, watch.Options[*note]{Hooks: watch.Hooks{Panicked: func(p watch.Panic) {
				reports.add("%s %v %v %v", p.Handler, p.Key, p.Value, strings.Contains(string(p.Stack), "handler_test.go"))
			}}})
			h := told.handler()
			h.Name = "careless"
			h.Add = func(n *note, initial bool) {
				if n.Name == "bad" {
					panic("oh")
				}
				told.add("add %s %v", n.Name, initial)
			}
			reg := i.Handle(h)
			i.Handle(other.handler())
			ok(notes.Create(ctx, newNote("x", "bad", "1", "ann")))
			ok(notes.Create(ctx, newNote("x", "good", "1", "ann")))
			run(t, i.Run)
			synctest.Wait()
			expect(t, told.read(), "add good true")
			expect(t, other.read(), "initial bad 1; initial good 1")
			expect(t, reports.read(), "careless x/bad oh true")
			if !closed(reg.Synced()) {
				t.Error("the handler has not synced")
			}
			ok(notes.Create(ctx, newNote("y", "bad", "1", "ann")))
			ok(notes.Create(ctx, newNote("y", "fine", "1", "ann")))
			synctest.Wait()
			expect(t, told.read(), "add fine false")
			expect(t, other.read(), "add bad 1; add fine 1")
			expect(t, reports.read(), "careless y/bad oh true")
		})
	})
}

// TestHandlerExits: a handler whose function ends its goroutine, as t.FailNow
// does, goes on with the next change.
func TestHandlerExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		var told diary
		i := watch.New(notes, watch.Options[*note]{})
		i.Handle(watch.Handler[*note]{Add: func(n *note, _ bool) {
			told.add("%s", n.Name)
			runtime.Goexit()
		}})
		run(t, i.Run)
		synctest.Wait()
		for _, name := range []string{"a", "b"} {
			must[*note](t)(notes.Create(t.Context(), newNote("x", name, "1", "ann")))
		}
		synctest.Wait()
		expect(t, told.read(), "a; b")
	})
}

// TestStuckHandler: a handler that is stuck holds no more than the objects, delays
// nobody, and catches up with what the changes amount to.
func TestStuckHandler(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			notes := register(t, wrap(open(t)))
			ctx, ok := t.Context(), must[*note](t)
			i := watch.New(notes, watch.Options[*note]{})
			var told diary
			release := make(chan struct{})
			h := told.handler()
			h.Add = func(n *note, _ bool) {
				<-release
				told.add("add %s %s", n.Name, n.Spec.Text)
			}
			stuck := i.Handle(h)
			quick := 0
			i.Handle(watch.Handler[*note]{Update: func(_, _ *note) { quick++ }})
			run(t, i.Run)
			ok(notes.Create(ctx, newNote("x", "first", "0", "ann")))
			synctest.Wait() // the handler is stuck in it
			ok(notes.Create(ctx, newNote("x", "gone", "0", "ann")))
			ok(notes.Delete(ctx, store.NewKey("x", "gone")))
			ok(notes.Create(ctx, newNote("x", "second", "0", "ann")))
			const updates = 6000
			for n := range updates {
				name := []string{"first", "second"}[n%2]
				ok(notes.Patch(ctx, store.NewKey("x", name), func(o *note) error { o.Spec.Text = fmt.Sprint(n + 1); return nil }))
				synctest.Wait()
			}
			ok(notes.Delete(ctx, store.NewKey("x", "first")))
			ok(notes.Create(ctx, newNote("x", "first", "new", "ann")))
			synctest.Wait()
			if quick != updates {
				t.Errorf("the other handler had %d updates, want %d", quick, updates)
			}
			if n := stuck.Backlog(); n > 2*1024 {
				t.Errorf("%d changes wait for the stuck handler: two objects have changed", n)
			}
			close(release)
			synctest.Wait()
			lines := strings.Split(told.read(), "; ")
			expect(t, lines[0], "add first 0")
			if len(lines) > 2*1024 {
				t.Errorf("told %d times", len(lines))
			}
			expect(t, strings.Join(lines[len(lines)-2:], "; "), fmt.Sprintf("delete first %d; add first new", updates-1))
			if n := stuck.Backlog(); n != 0 {
				t.Errorf("Backlog = %d", n)
			}
		})
	})
}

func TestResync(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			notes := register(t, wrap(open(t)))
			ok := must[*note](t)
			ok(notes.Create(t.Context(), newNote("x", "b", "1", "ann")))
			ok(notes.Create(t.Context(), newNote("x", "a", "1", "ann")))
			i := watch.New(notes, watch.Options[*note]{})
			var told diary
			reg := i.Handle(watch.Handler[*note]{Resync: time.Minute, Update: func(old, new *note) {
				told.add("%v %s %v", time.Now().Second(), new.Name, old == new)
			}})
			run(t, i.Run)
			time.Sleep(3*time.Minute - time.Second)
			expect(t, told.read(), "0 a true; 0 b true; 0 a true; 0 b true")
			time.Sleep(2 * time.Second)
			reg.Remove()
			told.read()
			time.Sleep(time.Hour)
			expect(t, told.read(), "")
		})
	})
}

// TestRemoveWaits: Remove returns when a call in progress has, and what was not
// delivered never is.
func TestRemoveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		ok := must[*note](t)
		ok(notes.Create(t.Context(), newNote("x", "a", "1", "ann")))
		ok(notes.Create(t.Context(), newNote("x", "b", "1", "ann")))
		i := watch.New(notes, watch.Options[*note]{})
		calls := 0
		reg := i.Handle(watch.Handler[*note]{Add: func(*note, bool) {
			calls++
			time.Sleep(time.Minute)
		}})
		run(t, i.Run)
		synctest.Wait()
		began := time.Now()
		reg.Remove()
		if took := time.Since(began); took != time.Minute || calls != 1 {
			t.Errorf("Remove took %v, after %d calls", took, calls)
		}
		time.Sleep(time.Hour)
		if calls != 1 || !closed(reg.Done()) || closed(reg.Synced()) {
			t.Errorf("%d calls; done %v, synced %v", calls, closed(reg.Done()), closed(reg.Synced()))
		}
	})
}

// TestIdleHandlers: handlers that have had everything have no goroutines.
func TestIdleHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		i := watch.New(notes, watch.Options[*note]{})
		run(t, i.Run)
		synctest.Wait()
		before := runtime.NumGoroutine()
		calls := make([]int, 1000)
		for n := range calls {
			i.Handle(watch.Handler[*note]{Add: func(*note, bool) { calls[n]++ }})
		}
		synctest.Wait()
		must[*note](t)(notes.Create(t.Context(), newNote("x", "a", "1", "ann")))
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 10 {
			t.Errorf("%d goroutines more with 1000 idle handlers", n)
		}
		for n, c := range calls {
			if c != 1 {
				t.Fatalf("handler %d had %d calls, want 1", n, c)
			}
		}
	})
}
