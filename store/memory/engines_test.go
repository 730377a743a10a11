// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memdb"
	"github.com/slipway-dev/slipway/store/memory"
)

// engine is one of those in this process: they share their options.
type engine interface {
	store.Transactor
	store.Compactor
}

// eachEngine runs a test of what the options promise against both of them.
func eachEngine(t *testing.T, test func(t *testing.T, open func(memory.Options) engine)) {
	t.Run("memory", func(t *testing.T) { test(t, func(o memory.Options) engine { return memory.New(o) }) })
	t.Run("memdb", func(t *testing.T) { test(t, func(o memory.Options) engine { return memdb.New(o) }) })
}

// note is the objects' type in these tests.
type note struct {
	store.Meta
	Spec struct {
		Text string
		Tags []string
	}
}

func (n *note) DeepCopy() *note { return store.DeepCopy(n) }

func newNote(name, text string) *note {
	n := &note{Meta: store.Meta{Namespace: "a", Name: name, Labels: map[string]string{"app": "web"}}}
	n.Spec.Text, n.Spec.Tags = text, []string{"t"}
	return n
}

func register(t *testing.T, s store.Store, k store.Kind[*note]) *store.Handle[*note] {
	t.Helper()
	k.Name = "Note"
	h, err := store.Register(s, k)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// write makes a new version of the note x.
func write(t *testing.T, h *store.Handle[*note], text string) *note {
	t.Helper()
	n, err := h.Patch(t.Context(), store.NewKey("a", "x"), func(n *note) error {
		n.Spec.Text = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
