// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// overlay is a view with some objects as they were at another time, or as a
// transaction makes them.
type overlay struct {
	base    View
	changed map[store.Key]*Entry // in the place of what base has, nil: there is none
	there   []*Entry             // those of changed that are there, by key
	schema  *store.Schema
}

// undo returns the table at a past revision: its content at a later one, with
// what changed in between undone from the log. It costs the number of those
// changes, and nothing is kept for a revision that nobody reads.
func (s *Store) undo(t *table, latest View, revision, to uint64) (View, error) {
	h, end := t.log.window()
	if oldest := max(s.floor.Load(), h.dropped); to < oldest {
		return nil, tooOld(to, oldest)
	}
	v := newOverlay(t.schema, latest)
	for pos := h.after(to, end); pos < end; pos++ {
		ev := h.at(pos)
		if ev.next.Revision > revision {
			break
		}
		if _, seen := v.changed[ev.next.Key]; !seen { // the first change tells what was before all
			v.put(ev.next.Key, ev.old)
		}
	}
	return v.sorted(), nil
}

func newOverlay(schema *store.Schema, base View) *overlay {
	return &overlay{base: base, changed: map[store.Key]*Entry{}, schema: schema}
}

// put puts the entry, or nil for none, in the place of what base has; once for
// each key.
func (v *overlay) put(key store.Key, e *Entry) {
	v.changed[key] = e
	if e != nil {
		v.there = append(v.there, e)
	}
}

// sorted makes the overlay ready to be read.
func (v *overlay) sorted() View {
	if len(v.changed) == 0 {
		return v.base
	}
	slices.SortFunc(v.there, func(a, b *Entry) int { return a.Key.Compare(b.Key) })
	return v
}

func (v *overlay) Get(key store.Key) *Entry {
	if e, ok := v.changed[key]; ok {
		return e
	}
	return v.base.Get(key)
}

func (v *overlay) Len() int {
	n := v.base.Len() + len(v.there)
	for key := range v.changed {
		if v.base.Get(key) != nil {
			n--
		}
	}
	return n
}

func (v *overlay) Ascend(namespace string, from store.Key, yield func(*Entry) bool) {
	was := func(e *Entry) bool { return namespace == "" || e.Key.Namespace == namespace }
	v.merge(from, was, yield, func(yield func(*Entry) bool) { v.base.Ascend(namespace, from, yield) })
}

func (v *overlay) AscendIndex(i int, value string, from store.Key, yield func(*Entry) bool) {
	test := fieldTest{index: v.schema.Indexes[i], value: value}
	was := func(e *Entry) bool { return test.matches(e.Object) }
	v.merge(from, was, yield, func(yield func(*Entry) bool) { v.base.AscendIndex(i, value, from, yield) })
}

// merge yields, in order of keys, what base yields and did not change, and the
// old entries that are selected.
func (v *overlay) merge(from store.Key, selected func(*Entry) bool, yield func(*Entry) bool, base func(func(*Entry) bool)) {
	rest := v.there
	old := func(before *Entry) bool { // the old entries before that one, or all
		for len(rest) > 0 && (before == nil || rest[0].Key.Compare(before.Key) < 0) {
			e := rest[0]
			rest = rest[1:]
			if e.Key.Compare(from) >= 0 && selected(e) && !yield(e) {
				return false
			}
		}
		return true
	}
	stopped := false
	base(func(e *Entry) bool {
		if _, changed := v.changed[e.Key]; changed {
			return true
		}
		stopped = !old(e) || !yield(e)
		return !stopped
	})
	if !stopped {
		old(nil)
	}
}
