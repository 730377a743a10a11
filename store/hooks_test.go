// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// TestHookPanics has each hook in turn panic: the write fails, nothing changes,
// and the store goes on.
func TestHookPanics(t *testing.T) {
	for _, test := range []struct {
		name string
		hook func(k *store.Kind[*thing], call func())
	}{
		{"ValidateName", func(k *store.Kind[*thing], call func()) {
			k.ValidateName = func(string) error { call(); return nil }
		}},
		{"Default", func(k *store.Kind[*thing], call func()) { k.Default = func(*thing) { call() } }},
		{"Validate", func(k *store.Kind[*thing], call func()) {
			k.Validate = func(_, _ *thing) error { call(); return nil }
		}},
		{"Immutable", func(k *store.Kind[*thing], call func()) {
			k.Immutable = []store.Field[*thing]{{Name: "x", Get: func(*thing) any { call(); return nil }}}
		}},
		{"Spec", func(k *store.Kind[*thing], call func()) {
			k.Spec = func(o *thing) any { call(); return o.Spec }
		}},
		{"Equal", func(k *store.Kind[*thing], call func()) { k.Equal = func(_, _ *thing) bool { call(); return false } }},
		{"Size", func(k *store.Kind[*thing], call func()) { k.Size = func(*thing) int { call(); return 1 } }},
		{"index", func(k *store.Kind[*thing], call func()) {
			k.Indexes = append(k.Indexes, store.NewIndex("x", func(*thing) string { call(); return "" }))
		}},
		{"index of many", func(k *store.Kind[*thing], call func()) {
			k.Indexes = append(k.Indexes, store.NewMultiIndex("x", func(*thing) []string { call(); return nil }))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := t.Context()
			st := memory.New(memory.Options{History: memory.History{Bytes: 1 << 20}})
			defer st.Close()
			k, bad := store.Kind[*thing]{Name: "Thing"}, false
			test.hook(&k, func() {
				if bad {
					panic("boom")
				}
			})
			things, err := store.Register(st, k)
			if err != nil {
				t.Fatal(err)
			}
			o, err := things.Create(ctx, &thing{Meta: store.Meta{Namespace: "a", Name: "b"}})
			if err != nil {
				t.Fatal(err)
			}
			change := func(o *thing) error { o.Spec.Node += "x"; return nil }
			bad = true
			_, err = things.Patch(ctx, store.KeyOf(o), change)
			if !errors.Is(err, store.ErrHookPanic) || !strings.Contains(err.Error(), "boom") {
				t.Errorf("patch: %v, want that a hook panicked", err)
			}
			bad = false
			if got, err := things.Get(ctx, store.KeyOf(o)); err != nil || got != o {
				t.Errorf("the refused write left %v, %v", got, err)
			}
			got, err := things.Patch(ctx, store.KeyOf(o), change)
			if err != nil || got.ResourceVersion != "2" || got.Spec.Node != "x" {
				t.Errorf("afterwards: %+v, %v, want version 2", got, err)
			}
		})
	}
}

// TestHookErrors has hooks return errors of their own, which must be found in
// what the store returns, as invalid.
func TestHookErrors(t *testing.T) {
	mine := errors.New("mine")
	for name, k := range map[string]store.Kind[*thing]{
		"ValidateName": {Name: "Thing", ValidateName: func(string) error { return mine }},
		"Validate":     {Name: "Thing", Validate: func(_, _ *thing) error { return mine }},
	} {
		st := memory.New(memory.Options{})
		things, err := store.Register(st, k)
		if err != nil {
			t.Fatal(err)
		}
		_, err = things.Create(t.Context(), &thing{Meta: store.Meta{Namespace: "a", Name: "b"}})
		if !errors.Is(err, store.ErrInvalid) || !errors.Is(err, mine) {
			t.Errorf("%s: %v, want an invalid error that is mine", name, err)
		}
		st.Close()
	}

	// A patch's function fails with its own error, which is not made invalid.
	st := memory.New(memory.Options{})
	defer st.Close()
	things, err := store.Register(st, store.Kind[*thing]{Name: "Thing"})
	if err != nil {
		t.Fatal(err)
	}
	o, err := things.Create(t.Context(), &thing{Meta: store.Meta{Namespace: "a", Name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = things.Patch(t.Context(), store.KeyOf(o), func(*thing) error { return io.EOF })
	if !errors.Is(err, io.EOF) || errors.Is(err, store.ErrInvalid) {
		t.Errorf("patch: %v, want EOF", err)
	}
}

// TestPrepare has the hooks see what they should.
func TestPrepare(t *testing.T) {
	type call struct{ old, new string }
	var calls []call
	s, err := store.Kind[*thing]{
		Name:    "Thing",
		Default: func(o *thing) { o.Status.Phase = "defaulted" },
		Validate: func(old, o *thing) error {
			c := call{new: o.Spec.Node + " " + o.Status.Phase}
			if old != nil {
				c.old = old.Spec.Node
			}
			calls = append(calls, c)
			return nil
		},
		Immutable: []store.Field[*thing]{{Name: "spec.node", Get: func(o *thing) any { return o.Spec.Node }}},
	}.Schema()
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := &thing{}, &thing{}, &thing{}
	a.Spec.Node, b.Spec.Node, c.Spec.Node = "n", "n", "m"
	if err := s.Prepare(nil, a); err != nil {
		t.Error(err)
	}
	if err := s.Prepare(a, b); err != nil {
		t.Error(err)
	}
	err = s.Prepare(a, c)
	if want := "invalid: spec.node is immutable: it is n and can't become m"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	want := []call{{"", "n defaulted"}, {"n", "n defaulted"}}
	if len(calls) != 2 || calls[0] != want[0] || calls[1] != want[1] {
		t.Errorf("Validate was called with %v, want %v", calls, want)
	}
}
