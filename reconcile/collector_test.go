// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// wood is a store whose kinds let owner references dangle, so that a test can
// write any: A, B and K are namespaced, C is not.
type wood struct {
	*testing.T
	st    *memory.Store
	kinds map[string]*store.Handle[*plank]
	log   strings.Builder
}

func woodKind(name string) store.Kind[*plank] {
	k := store.Kind[*plank]{Name: name, Group: "wood.example.com", Version: "v1", DanglingOwners: true}
	if name == "C" {
		k.Scope = store.Cluster
	}
	return k
}

func newWood(t *testing.T) *wood {
	w := &wood{T: t, st: memory.New(memory.Options{}), kinds: map[string]*store.Handle[*plank]{}}
	for _, name := range []string{"A", "B", "C", "K"} {
		w.kinds[name] = registerIn(t, w.st, woodKind(name))
	}
	return w
}

// inWood runs a test in virtual time.
func inWood(t *testing.T, test func(t *testing.T, w *wood)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWood(t)
		defer func() { must(t, w.st.Close()) }()
		test(t, w)
	})
}

// collect starts a collector of the store; stop ends it and waits.
func (w *wood) collect(st store.Store) (stop func()) {
	w.Helper()
	c := reconcile.NewCollector(st, reconcile.CollectorOptions{Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	return func() {
		w.Helper()
		cancel()
		must(w.T, <-done)
	}
}

// rest waits until the collector has nothing left to do.
func rest() {
	time.Sleep(time.Minute) // more than a watch that failed waits, and others for it
	synctest.Wait()
}

// make creates an object: "A sea/x", or "C x" in no namespace. Owners are those
// that own and block return.
func (w *wood) make(what string, owners ...store.OwnerReference) *plank {
	w.Helper()
	kind, key := parseWood(what)
	p, err := w.kinds[kind].Create(w.Context(), &plank{Meta: store.Meta{Namespace: key.Namespace, Name: key.Name, OwnerReferences: owners}})
	must(w.T, err)
	return p
}

func parseWood(what string) (kind string, key store.Key) {
	kind, text, _ := strings.Cut(what, " ")
	if namespace, name, found := strings.Cut(text, "/"); found {
		return kind, store.NewKey(namespace, name)
	}
	return kind, store.Key{Name: text}
}

// own returns a reference to the object.
func (w *wood) own(what string) store.OwnerReference {
	w.Helper()
	kind, key := parseWood(what)
	p, err := w.kinds[kind].Get(w.Context(), key)
	must(w.T, err)
	return store.OwnerReference{APIVersion: "wood.example.com/v1", Kind: kind, Name: key.Name, UID: p.UID}
}

// block returns a reference that blocks the owner's deletion.
func (w *wood) block(what string) store.OwnerReference {
	w.Helper()
	r := w.own(what)
	r.BlockOwnerDeletion = new(true)
	return r
}

// gone returns a reference to an owner that is not there.
func goneOwner(kind string) store.OwnerReference {
	return store.OwnerReference{APIVersion: "wood.example.com/v1", Kind: kind, Name: "gone", UID: "gone-" + kind}
}

func (w *wood) patch(what string, change func(*plank)) {
	w.Helper()
	kind, key := parseWood(what)
	_, err := w.kinds[kind].Patch(w.Context(), key, func(p *plank) error { change(p); return nil })
	must(w.T, err)
}

func (w *wood) delete(what string) {
	w.Helper()
	kind, key := parseWood(what)
	_, err := w.kinds[kind].Delete(w.Context(), key)
	must(w.T, err)
}

func (w *wood) deleteWith(what string, del func(context.Context, *store.Handle[*plank], store.Key, ...store.WriteOptions) (*plank, error)) {
	w.Helper()
	kind, key := parseWood(what)
	p, err := del(w.Context(), w.kinds[kind], key)
	must(w.T, err)
	if p.DeletionTimestamp == nil {
		w.Errorf("%s: not marked", what)
	}
}

// expect compares what is in the store: "A sea/x", with "-> owners", "(deleting)".
func (w *wood) expect(want ...string) {
	w.Helper()
	rest()
	got := []string{}
	for _, s := range w.st.Kinds() {
		h, err := store.Lookup[*plank](w.st, s.KindName)
		must(w.T, err)
		for p, err := range h.List(w.Context()) {
			must(w.T, err)
			var text strings.Builder
			text.WriteString(s.Name + " " + store.KeyOf(p).String())
			for _, r := range p.OwnerReferences {
				text.WriteString(" -> " + r.Kind + " " + r.Name)
			}
			if p.DeletionTimestamp != nil {
				text.WriteString(" (deleting)")
			}
			got = append(got, text.String())
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.Errorf("left are\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestCollectorBackground(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		defer w.collect(w.st)()
		w.make("A sea/a")
		w.make("C c")
		w.make("B sea/both", w.own("A sea/a"), w.own("C c"))
		w.make("B sea/one", w.own("A sea/a"))
		w.make("B sea/child", w.own("B sea/one"))
		w.make("C d", w.own("C c"))
		w.make("B sea/free")
		w.expect("A sea/a", "C c", "B sea/both -> A a -> C c", "B sea/one -> A a", "B sea/child -> B one", "C d -> C c", "B sea/free")
		w.delete("A sea/a")
		w.expect("C c", "B sea/both -> C c", "C d -> C c", "B sea/free")
		w.delete("C c")
		w.expect("B sea/free")
		w.make("A sea/a") // of the name, but another
		w.make("B sea/late", goneOwner("A"))
		w.expect("A sea/a", "B sea/free")
	})
}

// TestCollectorStart finds what happened before it ran.
func TestCollectorStart(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		w.make("A sea/a")
		w.make("B sea/b", w.own("A sea/a"))
		w.make("B sea/both", w.own("A sea/a"), goneOwner("B"))
		w.make("B sea/lost", goneOwner("A"))
		w.make("B sea/child", w.own("B sea/lost"))
		w.delete("A sea/a")
		w.make("A sea/a")
		w.make("B sea/held", w.own("A sea/a"), goneOwner("K"))
		defer w.collect(w.st)()
		w.expect("A sea/a", "B sea/held -> A a")
	})
}

// TestCollectorFinalizers leaves marked objects until others have let go, and
// their dependents until then.
func TestCollectorFinalizers(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		defer w.collect(w.st)()
		w.make("A sea/a")
		w.make("B sea/b", w.own("A sea/a"))
		w.make("B sea/child", w.own("B sea/b"))
		w.patch("B sea/b", func(p *plank) { p.Finalizers = []string{holdFinalizer} })
		w.delete("A sea/a")
		w.expect("B sea/b -> A a (deleting)", "B sea/child -> B b")
		w.patch("B sea/b", func(p *plank) { p.Finalizers = nil })
		w.expect()
	})
}

func TestCollectorForeground(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		defer w.collect(w.st)()
		w.make("A sea/a")
		w.make("C other")
		w.make("B sea/b", w.block("A sea/a"))
		w.make("B sea/child", w.block("B sea/b"))
		w.make("B sea/loose", w.own("A sea/a"))                      // goes, too, but is not waited for
		w.make("B sea/shared", w.block("A sea/a"), w.own("C other")) // is let go of
		for _, name := range []string{"B sea/child", "B sea/loose"} {
			w.patch(name, func(p *plank) { p.Finalizers = []string{holdFinalizer} })
		}
		w.deleteWith("A sea/a", reconcile.DeleteForeground)
		w.expect("A sea/a (deleting)", "C other", "B sea/b -> A a (deleting)", "B sea/child -> B b (deleting)", "B sea/loose -> A a (deleting)", "B sea/shared -> C other")
		w.make("B sea/late", w.block("A sea/a"))
		w.patch("B sea/child", func(p *plank) { p.Finalizers = nil })
		w.expect("C other", "B sea/loose -> A a (deleting)", "B sea/shared -> C other")
		w.patch("B sea/loose", func(p *plank) { p.Finalizers = nil })
		w.deleteWith("C other", reconcile.DeleteForeground)
		w.expect()
	})
}

func TestCollectorOrphan(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		defer w.collect(w.st)()
		w.make("A sea/a")
		w.make("C c")
		w.make("B sea/b", w.own("A sea/a"))
		w.make("B lake/b", w.own("C c"))
		w.make("B sea/both", w.block("A sea/a"), w.own("C c"))
		w.make("B sea/child", w.own("B sea/b"))
		w.deleteWith("A sea/a", reconcile.DeleteOrphan)
		w.expect("C c", "B sea/b", "B lake/b -> C c", "B sea/both -> C c", "B sea/child -> B b")
		w.deleteWith("C c", reconcile.DeleteOrphan)
		w.expect("B sea/b", "B lake/b", "B sea/both", "B sea/child -> B b")
		// Both at once: the dependents are orphaned first.
		w.patch("B sea/b", func(p *plank) { p.Finalizers = []string{reconcile.FinalizerForeground} })
		w.deleteWith("B sea/b", reconcile.DeleteOrphan)
		w.expect("B lake/b", "B sea/both", "B sea/child")
	})
}

// TestCollectorMisplaced never deletes for a mistake in a reference, and says
// what is wrong, once.
func TestCollectorMisplaced(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		stop := w.collect(w.st)
		w.make("A sea/a")
		w.make("B lake/cross", w.own("A sea/a"))
		w.make("C high", w.own("A sea/a"))
		named, kinded, nobody := w.own("A sea/a"), w.own("A sea/a"), w.own("A sea/a")
		named.Name, kinded.Kind, nobody.UID = "b", "B", ""
		w.make("B sea/named", named)
		w.make("B sea/kinded", kinded)
		w.make("B sea/nobody", nobody)
		left := []string{"A sea/a", "B lake/cross -> A a", "C high -> A a", "B sea/named -> A b", "B sea/kinded -> B a", "B sea/nobody -> A a"}
		w.expect(left...)
		w.patch("B lake/cross", func(p *plank) { p.Labels = map[string]string{"a": "b"} })
		w.expect(left...)
		for _, key := range []string{"lake/cross", "key=high", "sea/named", "sea/kinded", "sea/nobody"} {
			if n := strings.Count(w.log.String(), key); n != 1 {
				t.Errorf("%s was reported %d times, want once:\n%s", key, n, &w.log)
			}
		}
		stop() // and the next sees it the same
		defer w.collect(w.st)()
		w.expect(left...)
		w.deleteWith("A sea/a", reconcile.DeleteForeground) // is not held up by them
		w.expect("B sea/nobody -> A a")
	})
}

// TestCollectorUnknownKinds holds what belongs to a kind that is not registered,
// until it is.
func TestCollectorUnknownKinds(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		defer w.collect(w.st)()
		w.make("K sea/k")
		w.make("B sea/of-k", w.own("K sea/k"))
		w.make("B sea/never", goneOwner("Never"))
		ghost := w.own("K sea/k")
		ghost.UID = "ghost"
		w.expect("K sea/k", "B sea/of-k -> K k", "B sea/never -> Never gone")
		must(t, w.st.Unregister(w.kinds["K"].Schema()))
		rest()
		w.make("B sea/ghost", ghost)
		w.delete("B sea/never")
		w.expect("B sea/of-k -> K k", "B sea/ghost -> K k")
		w.kinds["K"] = registerIn(t, w.st, woodKind("K"))
		w.expect("K sea/k", "B sea/of-k -> K k")
		// Unregistered and back between two looks of the collector, with a delete that it did not see.
		must(t, w.st.Unregister(w.kinds["K"].Schema()))
		w.kinds["K"] = registerIn(t, w.st, woodKind("K"))
		w.delete("K sea/k")
		w.expect()
		must(t, w.st.Unregister(w.kinds["K"].Schema()))
	})
}

// TestCollectorCycles deletes circles whose members wait for each other.
func TestCollectorCycles(t *testing.T) {
	for name, del := range map[string]func(context.Context, *store.Handle[*plank], store.Key, ...store.WriteOptions) (*plank, error){
		"foreground": reconcile.DeleteForeground[*plank],
		"background": func(ctx context.Context, h *store.Handle[*plank], key store.Key, o ...store.WriteOptions) (*plank, error) {
			return h.Delete(ctx, key, o...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; n <= 5; n++ {
				inWood(t, func(t *testing.T, w *wood) {
					defer w.collect(w.st)()
					at := func(i int) string { return fmt.Sprintf("A sea/p%d", i%n) }
					for i := range n {
						w.make(at(i))
					}
					for i := range n {
						owner := w.block(at(i))
						w.patch(at(i+1), func(p *plank) { p.OwnerReferences = []store.OwnerReference{owner} })
					}
					rest()
					_, key := parseWood(at(0))
					_, err := del(t.Context(), w.kinds["A"], key)
					must(t, err)
					w.expect()
				})
			}
		})
	}
	// All members are deleted in the foreground before anybody looks, and one waits
	// for somebody outside.
	inWood(t, func(t *testing.T, w *wood) {
		w.make("A sea/a")
		w.make("A sea/b", w.block("A sea/a"))
		owner := w.block("A sea/b")
		w.patch("A sea/a", func(p *plank) { p.OwnerReferences = []store.OwnerReference{owner} })
		w.make("B sea/tail", w.block("A sea/b"))
		w.patch("B sea/tail", func(p *plank) { p.Finalizers = []string{holdFinalizer} })
		w.deleteWith("A sea/a", reconcile.DeleteForeground)
		w.deleteWith("A sea/b", reconcile.DeleteForeground)
		defer w.collect(w.st)()
		w.expect("A sea/a -> A b (deleting)", "A sea/b -> A a (deleting)", "B sea/tail -> A b (deleting)")
		w.patch("B sea/tail", func(p *plank) { p.Finalizers = nil })
		w.expect()
	})
}

// TestCollectorTwoControllers keeps an object whose one controller is left.
func TestCollectorTwoControllers(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		defer w.collect(w.st)()
		w.make("A sea/a")
		w.make("A sea/b")
		a, b := w.own("A sea/a"), w.own("A sea/b")
		a.Controller, b.Controller = new(true), new(true)
		w.make("B sea/x", a, b)
		w.delete("A sea/a")
		w.expect("A sea/b", "B sea/x -> A b")
		w.delete("A sea/b")
		w.expect()
	})
}

func TestCollectorIgnores(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		c := reconcile.NewCollector(w.st, reconcile.CollectorOptions{Ignore: func(k store.KindName) bool { return k.Name == "K" }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		w.make("K sea/dependent", goneOwner("A"))
		w.make("B sea/b", goneOwner("K"))
		w.make("B sea/c", goneOwner("A"))
		w.expect("K sea/dependent -> A gone", "B sea/b -> K gone")
		cancel()
		must(t, <-done)
	})
}

// TestCollectorStoreCloses ends with the store.
func TestCollectorStoreCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWood(t)
		c := reconcile.NewCollector(w.st, reconcile.CollectorOptions{})
		done := make(chan error)
		go func() { done <- c.Run(t.Context()) }()
		rest()
		must(t, w.st.Close())
		if err := <-done; !errors.Is(err, store.ErrClosed) {
			t.Errorf("error %v", err)
		}
	})
}

func TestDeleteWithBadInput(t *testing.T) {
	inWood(t, func(t *testing.T, w *wood) {
		_, err := reconcile.DeleteForeground(t.Context(), w.kinds["A"], store.NewKey("sea", "none"))
		refused(t, "not there", err, store.ErrNotFound, "sea/none")
		a := w.make("A sea/a")
		_, err = reconcile.DeleteOrphan(t.Context(), w.kinds["A"], store.NewKey("sea", "a"), store.WriteOptions{UID: "another"})
		refused(t, "another UID", err, store.ErrConflict, "sea/a")
		w.patch("A sea/a", func(p *plank) { p.Finalizers = []string{holdFinalizer} })
		w.delete("A sea/a")
		_, err = reconcile.DeleteForeground(t.Context(), w.kinds["A"], store.KeyOf(a))
		refused(t, "being deleted", err, store.ErrInvalid, "foregroundDeletion")
		w.make("A sea/b")
		w.deleteWith("A sea/b", reconcile.DeleteForeground)
		w.deleteWith("A sea/b", reconcile.DeleteForeground) // again does no harm
	})
}
