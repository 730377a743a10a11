// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"cmp"
	"maps"
	"slices"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/deep"
)

// model is what one kind should hold: a plain map, a copy of it for each
// revision, and every event there was.
type model struct {
	now    map[store.Key]*widget
	states []state // oldest first; the first is empty, of revision 0
	events []fact
}

// state is the kind's content from a revision on.
type state struct {
	revision uint64
	objects  map[store.Key]*widget
}

// fact is one change of one object.
type fact struct {
	revision uint64
	old      *widget // nil: there was none
	next     *widget // the last state where it is gone
	gone     bool
}

func newModel() *model {
	return &model{now: map[store.Key]*widget{}, states: []state{{0, map[store.Key]*widget{}}}}
}

// commit makes the facts, all of one revision, true.
func (m *model) commit(facts []fact) {
	if len(facts) == 0 {
		return
	}
	next := make(map[store.Key]*widget, len(m.now)+1)
	maps.Copy(next, m.now)
	for _, f := range facts {
		if f.gone {
			delete(next, store.KeyOf(f.next))
		} else {
			next[store.KeyOf(f.next)] = f.next
		}
	}
	m.now = next
	m.states = append(m.states, state{facts[0].revision, next})
	m.events = append(m.events, facts...)
}

// latest returns the revision of the last change.
func (m *model) latest() uint64 { return m.states[len(m.states)-1].revision }

// at returns the content at the revision.
func (m *model) at(revision uint64) map[store.Key]*widget {
	i := len(m.states) - 1
	for m.states[i].revision > revision {
		i--
	}
	return m.states[i].objects
}

// near returns the key of what changed at the revision or next after it, where
// reading is easiest to get wrong, or k if nothing did.
func (m *model) near(revision uint64, k store.Key) store.Key {
	i, _ := slices.BinarySearchFunc(m.events, revision, func(f fact, rev uint64) int { return cmp.Compare(f.revision, rev) })
	if i < len(m.events) {
		return store.KeyOf(m.events[i].next)
	}
	return k
}

// selection is what a list or a watch asks for, with the same in plain Go.
type selection struct {
	namespace, name string
	labels          string
	labelled        func(*widget) bool
	fields          string
	fielded         func(*widget) bool
}

func (s *selection) matches(w *widget) bool {
	return w != nil && (s.namespace == "" || s.namespace == w.Namespace) && (s.name == "" || s.name == w.Name) &&
		(s.labelled == nil || s.labelled(w)) && (s.fielded == nil || s.fielded(w))
}

// list returns what is selected, in order.
func (s *selection) list(objects map[store.Key]*widget) []*widget {
	var all []*widget
	for _, w := range objects {
		if s.matches(w) {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *widget) int { return store.KeyOf(a).Compare(store.KeyOf(b)) })
	return all
}

// watch returns the events that a watch from the revision delivers.
func (s *selection) watch(facts []fact, from uint64) []event {
	var all []event
	for _, f := range facts {
		if f.revision <= from {
			continue
		}
		was, is := s.matches(f.old), !f.gone && s.matches(f.next)
		ev := event{Object: f.next, Old: f.old, Revision: f.revision}
		switch {
		case was && is:
			ev.Type = store.Modified
		case is:
			ev.Type = store.Added
		case was:
			ev.Type = store.Deleted
			if !f.gone {
				ev.Object = f.old
			}
		default:
			continue
		}
		all = append(all, ev)
	}
	for i := range all {
		all[i].Last = i == len(all)-1 || all[i+1].Revision != all[i].Revision
	}
	return all
}

// operation is one write, and what it should do.
type operation struct {
	kind    int
	op      store.Op
	object  *widget
	key     store.Key
	changes []change
	fails   bool // the patch's function returns errMine
	opts    store.WriteOptions
	text    string
}

// write returns the operation for the store.
func (o *operation) write() store.Write {
	w := store.Write{Op: o.op, Key: o.key, Options: o.opts}
	if o.object != nil {
		w.Object = o.object.DeepCopy()
	}
	if o.op == store.Patch {
		w.Patch = func(obj store.Object) error {
			if err := apply(o.changes...)(obj.(*widget)); err != nil || !o.fails {
				return err
			}
			return errMine
		}
	}
	return w
}

// outcome is what an operation does to the object that is there.
type outcome struct {
	next    *widget // without what only the store knows: version, UID, times
	gone    bool
	changes bool
	err     error
}

// predict says what the operation should do where cur is there (nil: nothing).
func (o *operation) predict(cur *widget) outcome {
	if o.op == store.Create {
		return o.predictCreate(cur)
	}
	if cur == nil {
		return outcome{err: store.ErrNotFound}
	}
	if err := demand(cur, o.opts.ResourceVersion, o.opts.UID); err != nil {
		return outcome{err: err}
	}
	next := cur.DeepCopy()
	switch o.op {
	case store.Update:
		if err := demand(cur, o.object.ResourceVersion, o.object.UID); err != nil {
			return outcome{err: err}
		}
		next = o.object.DeepCopy()
	case store.Patch:
		if o.fails {
			return outcome{err: errMine}
		}
		_ = apply(o.changes...)(next)
	case store.Delete:
		return predictDelete(cur, next)
	}
	next.ResourceVersion, next.UID, next.Generation = cur.ResourceVersion, cur.UID, cur.Generation
	next.CreationTimestamp, next.DeletionTimestamp = cur.CreationTimestamp, cur.DeletionTimestamp
	if deep.Equal(cur, next) {
		return outcome{next: cur}
	}
	if cur.DeletionTimestamp != nil {
		for _, f := range next.Finalizers {
			if !slices.Contains(cur.Finalizers, f) {
				return outcome{err: store.ErrInvalid}
			}
		}
	}
	if !deep.Equal(cur.Spec, next.Spec) {
		next.Generation++
	}
	return outcome{next: next, changes: true, gone: cur.DeletionTimestamp != nil && len(next.Finalizers) == 0}
}

func (o *operation) predictCreate(cur *widget) outcome {
	if cur != nil {
		return outcome{err: store.ErrAlreadyExists}
	}
	next := o.object.DeepCopy()
	next.Generation = 1
	return outcome{next: next, changes: true}
}

func predictDelete(cur, next *widget) outcome {
	if len(cur.Finalizers) == 0 {
		return outcome{next: next, changes: true, gone: true}
	}
	if cur.DeletionTimestamp != nil {
		return outcome{next: cur}
	}
	next.Generation++
	return outcome{next: next, changes: true}
}

func demand(cur *widget, version, uid string) error {
	if version != "" && version != cur.ResourceVersion || uid != "" && uid != cur.UID {
		return store.ErrConflict
	}
	return nil
}

// settle takes over from the store's answer what only the store knows.
func (p *outcome) settle(got *widget) {
	p.next.UID, p.next.CreationTimestamp = got.UID, got.CreationTimestamp
	p.next.DeletionTimestamp = got.DeletionTimestamp
}
