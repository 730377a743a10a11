// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// pastView is a table at a past revision: the view of a later state, with what
// changed in between undone from the log. It costs the number of those changes
// once, and nothing is kept for a revision that nobody reads.
type pastView struct {
	base    View
	changed map[store.Key]*Entry // the entry as it was, nil: was not there
	was     []*Entry             // those that were there, by key
	schema  *store.Schema
}

// past returns the table at the revision, which is not after the state's.
func (s *Store) past(st *state, t *table, revision uint64) (View, error) {
	h, end := t.log.window()
	if oldest := max(s.floor.Load(), h.dropped); revision < oldest {
		return nil, tooOld(revision, oldest)
	}
	v := &pastView{base: st.views[t.number], changed: map[store.Key]*Entry{}, schema: t.schema}
	for pos := h.after(revision, end); pos < end; pos++ {
		ev := h.at(pos)
		if ev.next.Revision > st.revision {
			break
		}
		if _, seen := v.changed[ev.next.Key]; !seen { // the first change tells what was before all
			v.changed[ev.next.Key] = ev.old
			if ev.old != nil {
				v.was = append(v.was, ev.old)
			}
		}
	}
	if len(v.changed) == 0 {
		return v.base, nil
	}
	slices.SortFunc(v.was, func(a, b *Entry) int { return a.Key.Compare(b.Key) })
	return v, nil
}

func (v *pastView) Get(key store.Key) *Entry {
	if e, ok := v.changed[key]; ok {
		return e
	}
	return v.base.Get(key)
}

func (v *pastView) Len() int {
	n := v.base.Len() + len(v.was)
	for key := range v.changed {
		if v.base.Get(key) != nil {
			n--
		}
	}
	return n
}

func (v *pastView) Ascend(namespace string, from store.Key, yield func(*Entry) bool) {
	was := func(e *Entry) bool { return namespace == "" || e.Key.Namespace == namespace }
	v.merge(from, was, yield, func(yield func(*Entry) bool) { v.base.Ascend(namespace, from, yield) })
}

func (v *pastView) AscendIndex(i int, value string, from store.Key, yield func(*Entry) bool) {
	test := fieldTest{index: v.schema.Indexes[i], value: value}
	was := func(e *Entry) bool { return test.matches(e.Object) }
	v.merge(from, was, yield, func(yield func(*Entry) bool) { v.base.AscendIndex(i, value, from, yield) })
}

// merge yields, in order of keys, what base yields and did not change, and the
// old entries that are selected.
func (v *pastView) merge(from store.Key, selected func(*Entry) bool, yield func(*Entry) bool, base func(func(*Entry) bool)) {
	rest := v.was
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
