// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// TestMutations: a caller who changes an object that he shares with the store is
// found by the next write of that object, or when the store is closed.
func TestMutations(t *testing.T) {
	ctx, x := t.Context(), store.NewKey("a", "x")
	// Each returns an object that is shared.
	sources := map[string]func(*testing.T, engine, *store.Handle[*note]) *note{
		"what a create returned": func(t *testing.T, _ engine, h *store.Handle[*note]) *note {
			return must(h.Create(ctx, newNote("x", "")))(t)
		},
		"what was taken over": func(t *testing.T, _ engine, h *store.Handle[*note]) *note {
			n := newNote("x", "")
			must(h.Create(ctx, n, store.WriteOptions{TakeOver: true}))(t)
			return n
		},
		"what a get returned": func(t *testing.T, _ engine, h *store.Handle[*note]) *note {
			must(h.Create(ctx, newNote("x", "")))(t)
			return must(h.Get(ctx, x))(t)
		},
		"what a list returned": func(t *testing.T, _ engine, h *store.Handle[*note]) *note {
			must(h.Create(ctx, newNote("x", "")))(t)
			return must(h.Page(ctx))(t).Items[0]
		},
		"what a watch delivered": func(t *testing.T, _ engine, h *store.Handle[*note]) *note {
			must(h.Create(ctx, newNote("x", "")))(t)
			for ev, err := range h.Watch(ctx, store.WatchOptions{Initial: true}) {
				if err != nil {
					t.Fatal(err)
				}
				return ev.Object
			}
			return nil
		},
		"what a transaction read": func(t *testing.T, s engine, h *store.Handle[*note]) *note {
			must(h.Create(ctx, newNote("x", "")))(t)
			var n *note
			must(s.Txn(ctx, func(tx store.Tx) (err error) {
				n, err = h.In(tx).Get(x)
				return err
			}))(t)
			return n
		},
	}
	changes := map[string]func(*note){
		"Spec.Text":    func(n *note) { n.Spec.Text = "changed" },
		"Spec.Tags[0]": func(n *note) { n.Spec.Tags[0] = "changed" },
		"Labels[app]":  func(n *note) { n.Labels["app"] = "changed" },
	}
	finders := map[string]func(*testing.T, engine, *store.Handle[*note]){
		"an update": func(t *testing.T, _ engine, h *store.Handle[*note]) { _, _ = h.Update(ctx, newNote("x", "new")) },
		"a patch": func(t *testing.T, _ engine, h *store.Handle[*note]) {
			_, _ = h.Patch(ctx, x, func(*note) error { return nil })
		},
		"a delete": func(t *testing.T, _ engine, h *store.Handle[*note]) { _, _ = h.Delete(ctx, x) },
		"a transaction": func(t *testing.T, s engine, h *store.Handle[*note]) {
			_, _ = s.Txn(ctx, func(tx store.Tx) error {
				_, err := h.In(tx).Delete(x)
				return err
			})
		},
		"close": func(_ *testing.T, s engine, _ *store.Handle[*note]) { _ = s.Close() },
	}
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		for from, source := range sources {
			for field, change := range changes {
				for by, find := range finders {
					s := open(memory.Options{})
					h := register(t, s, store.Kind[*note]{})
					change(source(t, s, h))
					what := panicOf(func() { find(t, s, h) })
					if !strings.Contains(what, "a/x was changed outside of a write") || !strings.Contains(what, field) {
						t.Errorf("%s, changed %s: %s panics with %q, want the key and the field", from, field, by, what)
					}
				}
			}
		}
	})
}

// TestMutationsAllowed: what is no mistake is not called one.
func TestMutationsAllowed(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		s := open(memory.Options{})
		h := register(t, s, store.Kind[*note]{})
		in := newNote("x", "")
		n := must(h.Create(t.Context(), in))(t)
		in.Spec.Text = "the caller's own"
		n.DeepCopy().Spec.Text = "a copy"
		write(t, h, "a patch's copy")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestMutationsNever(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		s := open(memory.Options{Mutations: store.DetectNever})
		h := register(t, s, store.Kind[*note]{})
		must(h.Create(t.Context(), newNote("x", "")))(t).Spec.Text = "changed"
		if what := panicOf(func() { _ = s.Close() }); what != "" {
			t.Errorf("told never to look, and it panics: %s", what)
		}
	})
}

// TestMutationsOfKindAgain: what the detector keeps of the objects of a kind that
// is registered again goes when they go.
func TestMutationsOfKindAgain(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		s := open(memory.Options{Mutations: store.DetectAlways, History: store.History{Revisions: 10}})
		defer s.Close()
		h := register(t, s, store.Kind[*note]{})
		first := weak.Make(must(h.Create(t.Context(), newNote("x", "")))(t))
		if err := s.Unregister(h.Schema()); err != nil {
			t.Fatal(err)
		}
		h = register(t, s, store.Kind[*note]{})
		for i := range 500 {
			write(t, h, fmt.Sprint(i))
		}
		if runtime.GC(); first.Value() != nil {
			t.Error("the first version is still there")
		}
	})
}

// must returns a function that fails the test on the error, or returns the value.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// panicOf returns the text of f's panic, or "".
func panicOf(f func()) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}
