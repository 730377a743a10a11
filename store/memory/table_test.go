// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/core"
)

type row struct {
	store.Meta
	Node string
	Tags []string
}

func (o *row) DeepCopy() *row { return store.DeepCopy(o) }

func rowSchema(t *testing.T) *store.Schema {
	t.Helper()
	s, err := store.Kind[*row]{Name: "Row", Indexes: []*store.Index[*row]{
		store.NewIndex("node", func(o *row) string { return o.Node }),
		store.NewMultiIndex("tags", func(o *row) []string { return o.Tags }),
	}}.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// frozen is a view and what it must contain for ever, by key.
type frozen struct {
	view    core.View
	entries []*core.Entry
}

// check reads the view in each way that there is and compares.
func (f *frozen) check(r *rand.Rand) error {
	if got := f.view.Len(); got != len(f.entries) {
		return fmt.Errorf("Len = %d, want %d", got, len(f.entries))
	}
	key := keyOf(r.IntN(400))
	i, found := slices.BinarySearchFunc(f.entries, key, func(e *core.Entry, key store.Key) int { return e.Key.Compare(key) })
	if got := f.view.Get(key); found && got != f.entries[i] || !found && got != nil {
		return fmt.Errorf("Get(%v) = %+v, want found %t", key, got, found)
	}
	namespace, node, tag := key.Namespace, fmt.Sprint(r.IntN(7)), fmt.Sprint(r.IntN(7))
	most := 1 + r.IntN(2*len(f.entries)+1) // where the reader stops
	for _, test := range []struct {
		what   string
		want   func(*core.Entry) bool
		ascend func(func(*core.Entry) bool)
	}{
		{"all", func(*core.Entry) bool { return true },
			func(y func(*core.Entry) bool) { f.view.Ascend("", store.Key{}, y) }},
		{"all from " + key.String(), func(e *core.Entry) bool { return e.Key.Compare(key) >= 0 },
			func(y func(*core.Entry) bool) { f.view.Ascend("", key, y) }},
		{"of namespace " + namespace, func(e *core.Entry) bool { return e.Key.Namespace == namespace },
			func(y func(*core.Entry) bool) { f.view.Ascend(namespace, store.Key{}, y) }},
		{"of a namespace from " + key.String(), func(e *core.Entry) bool { return e.Key.Namespace == namespace && e.Key.Compare(key) >= 0 },
			func(y func(*core.Entry) bool) { f.view.Ascend(namespace, key, y) }},
		{"on node " + node, func(e *core.Entry) bool { return e.Object.(*row).Node == node },
			func(y func(*core.Entry) bool) { f.view.AscendIndex(0, node, store.Key{}, y) }},
		{"on a node from " + key.String(), func(e *core.Entry) bool { return e.Object.(*row).Node == node && e.Key.Compare(key) >= 0 },
			func(y func(*core.Entry) bool) { f.view.AscendIndex(0, node, key, y) }},
		{"with tag " + tag, func(e *core.Entry) bool { return slices.Contains(e.Object.(*row).Tags, tag) },
			func(y func(*core.Entry) bool) { f.view.AscendIndex(1, tag, store.Key{}, y) }},
	} {
		var want, got []*core.Entry
		for _, e := range f.entries {
			if len(want) < most && test.want(e) {
				want = append(want, e)
			}
		}
		test.ascend(func(e *core.Entry) bool {
			got = append(got, e)
			return len(got) < most
		})
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s, at most %d: %d entries, want %d, or in another order", test.what, most, len(got), len(want))
		}
	}
	return nil
}

// TestViewsStay takes views while a writer goes on, and has readers iterate over
// old ones all the time: each must stay what it was when it was taken.
func TestViewsStay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	table := newTable(rowSchema(t))
	model := map[store.Key]*core.Entry{}

	var readers sync.WaitGroup
	views := make(chan *frozen)
	for n := range 3 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			var kept []*frozen
			for f := range views {
				if kept = append(kept, f); len(kept) > 20 { // some for long, some not
					kept = slices.Delete(kept, 5, 6)
				}
				for range 3 {
					if err := kept[r.IntN(len(kept))].check(r); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 99))
	freeze := func() *frozen {
		f := &frozen{view: table.View()}
		for _, e := range model {
			f.entries = append(f.entries, e)
		}
		slices.SortFunc(f.entries, func(a, b *core.Entry) int { return a.Key.Compare(b.Key) })
		return f
	}
	for revision := range uint64(8_000) {
		key := keyOf(r.IntN(400))
		old := model[key]
		if table.Current(key) != old {
			t.Fatalf("Current(%v) = %+v, want %+v", key, table.Current(key), old)
		}
		if old != nil && r.IntN(3) == 0 {
			table.Replace(old, nil)
			delete(model, key)
		} else {
			o := &row{Meta: store.Meta{Namespace: key.Namespace, Name: key.Name}, Node: fmt.Sprint(r.IntN(7))}
			for range r.IntN(4) {
				o.Tags = append(o.Tags, fmt.Sprint(r.IntN(7))) // the same twice, sometimes
			}
			model[key] = &core.Entry{Object: o, Key: key, Revision: revision + 1}
			table.Replace(old, model[key])
		}
		switch r.IntN(40) {
		case 0:
			views <- freeze()
		case 1: // two views with nothing written in between
			views <- freeze()
			views <- freeze()
		}
	}
	close(views)
	readers.Wait()
}
