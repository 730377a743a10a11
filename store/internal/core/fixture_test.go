// SPDX-License-Identifier: Apache-2.0

package core

import (
	"testing"

	"github.com/slipway-dev/slipway/store"
)

// item is what the tests of this package keep.
type item struct {
	store.Meta
	Node string
	Tags []string
}

func (o *item) DeepCopy() *item { return store.DeepCopy(o) }

// itemSchema has an index of one value, and one of many.
func itemSchema(t testing.TB) *store.Schema {
	t.Helper()
	s, err := store.Kind[*item]{Name: "Item", Indexes: []*store.Index[*item]{
		store.NewIndex("node", func(o *item) string { return o.Node }),
		store.NewMultiIndex("tags", func(o *item) []string { return o.Tags }),
	}}.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entryOf(o *item, revision uint64) *Entry {
	return &Entry{Object: o, Key: store.KeyOf(o), Revision: revision}
}
