// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"errors"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// TestHistoryByBytesAfterKindsCameAndWent registers a kind again and again: what
// its former logs retained must not count against those that are left.
func TestHistoryByBytesAfterKindsCameAndWent(t *testing.T) {
	st := memory.New(memory.Options{History: store.History{Revisions: -1, Bytes: 1 << 20}})
	defer st.Close()
	for range 20 {
		h := register(t, st, "Item")
		for range 200 {
			change(t, h, "a")
		}
		if err := st.Unregister(h.Schema()); err != nil {
			t.Fatal(err)
		}
	}
	h := register(t, st, "Item")
	for range 500 {
		change(t, h, "a")
	}
	oldest, latest, err := st.Window(t.Context())
	if err != nil || latest-oldest < 500 {
		t.Errorf("the window is %d to %d, %v, want 500 revisions at least", oldest, latest, err)
	}
}

// TestRegisterWithHookThatPanics registers a kind whose functions panic on what
// the store holds already: the kind is refused, and its objects stay.
func TestRegisterWithHookThatPanics(t *testing.T) {
	for name, k := range map[string]store.Kind[*item]{
		"index": {Name: "Item", Indexes: []*store.Index[*item]{store.NewIndex("x", func(*item) string { panic("boom") })}},
		"size":  {Name: "Item", Size: func(*item) int { panic("boom") }},
	} {
		t.Run(name, func(t *testing.T) {
			st := memory.New(memory.Options{History: store.History{Bytes: 1 << 20}})
			defer st.Close()
			h := register(t, st, "Item")
			change(t, h, "a")
			if err := st.Unregister(h.Schema()); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Register(st, k); !errors.Is(err, store.ErrHookPanic) {
				t.Errorf("Register: %v, want that a hook panicked", err)
			}
			h = register(t, st, "Item")
			if _, err := h.Get(t.Context(), store.NewKey("default", "a")); err != nil {
				t.Error(err)
			}
			change(t, h, "a")
		})
	}
}
