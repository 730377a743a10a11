// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

// TestSelectors: an informer with selectors knows of no other objects, however it
// is asked; one that stops to match is deleted.
func TestSelectors(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			notes := register(t, wrap(open(t)))
			ctx, ok := t.Context(), must[*note](t)
			ok(notes.Create(ctx, newNote("x", "a", "1", "ann")))
			ok(notes.Create(ctx, newNote("x", "b", "1", "bob")))
			ok(notes.Create(ctx, newNote("y", "c", "1", "ann")))
			label := must[store.Selector](t)(store.ParseSelector("owner=ann"))
			for name, test := range map[string]struct {
				opts watch.Options[*note]
				want string
			}{
				"namespace": {watch.Options[*note]{Namespace: "x"}, "a=1 b=1"},
				"labels":    {watch.Options[*note]{Labels: label}, "a=1 c=1"},
				"fields":    {watch.Options[*note]{Fields: byOwner.Is("bob")}, "b=1"},
				"both":      {watch.Options[*note]{Namespace: "x", Labels: label, Fields: byOwner.Is("ann")}, "a=1"},
			} {
				i := watch.New(notes, test.opts)
				var told diary
				i.Handle(told.handler())
				run(t, i.Run)
				synctest.Wait()
				told.read()
				if got := names(t, i, store.ListOptions{}); got != test.want {
					t.Errorf("%s: listed %q, want %q", name, got, test.want)
				}
				for n := range notes.List(ctx) {
					_, has := i.Get(store.KeyOf(n))
					listed := names(t, i, store.ListOptions{Namespace: n.Namespace, Fields: store.FieldSelector{{Name: store.FieldName, Value: n.Name}}})
					if has != (listed != "") {
						t.Errorf("%s: Get(%s) is %v, and a list has %q", name, store.KeyOf(n), has, listed)
					}
				}
				if name == "both" {
					expect(t, names(t, i, store.ListOptions{Namespace: "y"}), "")
					expect(t, names(t, i, store.ListOptions{Labels: must[store.Selector](t)(store.ParseSelector("owner=bob"))}), "")
					expect(t, names(t, i, store.ListOptions{Labels: label, Fields: byOwner.Is("ann")}), "a=1")
					ok(notes.Patch(ctx, store.NewKey("x", "a"), func(n *note) error { n.Labels["owner"] = "bob"; return nil }))
					synctest.Wait()
					expect(t, told.read(), "delete a 1")
					ok(notes.Patch(ctx, store.NewKey("x", "a"), func(n *note) error { n.Labels["owner"] = "ann"; return nil }))
					synctest.Wait()
					expect(t, told.read(), "add a 1")
				}
			}
		})
	})
}

func TestListErrors(t *testing.T) {
	eachMode(t, func(t *testing.T, wrap func(store.Store) store.Store) {
		synctest.Test(t, func(t *testing.T) {
			i := watch.New(register(t, wrap(open(t))), watch.Options[*note]{})
			run(t, i.Run)
			synctest.Wait()
			for _, test := range []struct {
				opts store.ListOptions
				want error
			}{
				{store.ListOptions{Fields: store.FieldSelector{{Name: "spec.nonsense", Value: "1"}}}, store.ErrInvalid},
				{store.ListOptions{Limit: -1}, store.ErrInvalid},
				{store.ListOptions{Continue: "nonsense"}, store.ErrInvalid},
				{store.ListOptions{ReadOptions: store.ReadOptions{AtLeast: 1 << 40}}, store.ErrFuture},
			} {
				n := 0
				for _, err := range i.List(test.opts) {
					n++
					var e *store.Error
					if !errors.Is(err, test.want) || !errors.As(err, &e) || e.Kind != "Note" {
						t.Errorf("List(%+v): %v, want %v that names the kind", test.opts, err, test.want)
					}
				}
				if n != 1 {
					t.Errorf("List(%+v) yielded %d times, want an error", test.opts, n)
				}
			}
		})
	})
}

// TestViewsStay: a view of caches is a state that the store was in, page by page,
// and stays so while the caches go on.
func TestViewsStay(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		st := open(t)
		notes := register(t, st)
		shown := must[*store.Handle[*note]](t)(store.Lookup[*note](remote{st}, notes.Schema().KindName))
		c := watch.NewCache(remote{st}, watch.CacheOptions{})
		watch.For(c, shown)
		run(t, c.Run)
		random := rand.New(rand.NewPCG(seed, 3))
		type taken struct {
			view store.Snapshot
			want string
		}
		var views []taken
		for range 200 {
			writeAtRandom(t, random, st, notes)
			if random.IntN(4) > 0 {
				continue
			}
			rev := must[uint64](t)(st.Revision(t.Context()))
			v := must[store.Snapshot](t)(c.View(t.Context(), watch.Versions{notes.Schema().KindName: rev}))
			if v.Revision() != rev {
				t.Errorf("view of revision %d, want %d", v.Revision(), rev)
			}
			views = append(views, taken{v, stateOf(notes.List(t.Context()))})
		}
		for _, v := range views {
			expect(t, stateOf(shown.At(v.view).List()), v.want)
			expect(t, stateOf(func(yield func(*note, error) bool) {
				opts := store.ListOptions{Limit: 1 + random.IntN(4)}
				for more := true; more; more = opts.Continue != "" {
					page, err := shown.At(v.view).Page(opts)
					if err != nil {
						t.Fatal(err)
					}
					for _, n := range page.Items {
						yield(n, nil)
					}
					opts.Continue = page.Continue
				}
			}), v.want)
			for owner := range owners {
				opts := store.ListOptions{Fields: byOwner.Is(fmt.Sprint(owner))}
				byIndex := stateOf(shown.At(v.view).List(opts))
				expect(t, byIndex, stateOf(func(yield func(*note, error) bool) {
					for n := range shown.At(v.view).List() {
						if n.Spec.Owner == fmt.Sprint(owner) {
							yield(n, nil)
						}
					}
				}))
			}
		}
	})
}

// TestManyObjects: tables and postings beyond a page, up and down again.
func TestManyObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(t)
		notes := register(t, st)
		const count = 3000
		owner := func(n int) string { return []string{"all", fmt.Sprint(n % 7)}[n%2] }
		write := func(f func(in store.TxView[*note], n int) error) {
			must[uint64](t)(st.Txn(t.Context(), func(tx store.Tx) error {
				for n := range count {
					if err := f(notes.In(tx), n); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		key := func(n int) store.Key { return store.NewKey("x", fmt.Sprintf("n%04d", n)) }
		shown := must[*store.Handle[*note]](t)(store.Lookup[*note](remote{st}, notes.Schema().KindName))
		i := watch.New(shown, watch.Options[*note]{})
		run(t, i.Run)
		same := func() {
			t.Helper()
			synctest.Wait()
			for _, o := range []string{"", "all", "1", "3"} {
				opts := store.ListOptions{}
				if o != "" {
					opts.Fields = byOwner.Is(o)
				}
				if stateOf(i.List(opts)) != stateOf(notes.List(t.Context(), opts)) {
					t.Errorf("the lists of owner %q differ", o)
				}
			}
		}
		write(func(in store.TxView[*note], n int) error {
			_, err := in.Create(newNote("x", key(n).Name, "1", owner(n)))
			return err
		})
		same()
		write(func(in store.TxView[*note], n int) error {
			_, err := in.Patch(key(n), func(o *note) error { o.Spec.Owner = owner(n + 1); return nil })
			return err
		})
		same()
		write(func(in store.TxView[*note], n int) error {
			if n%50 == 0 {
				return nil
			}
			_, err := in.Delete(key(n))
			return err
		})
		same()
	})
}
