// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"github.com/slipway-dev/slipway/store"
)

// checkObject refuses an object that no source may hand out.
func (f *follower[T]) checkObject(o T) error {
	if isNil(o) {
		return f.bad("a nil object")
	}
	key := store.KeyOf(o)
	if key.Name == "" {
		return f.bad("an object without a name")
	}
	switch rev, err := store.RevisionOf(o); {
	case err != nil:
		return f.bad("%s: %v", key, err)
	case rev == 0:
		return f.bad("%s has no resource version", key)
	}
	return nil
}

// check refuses an event that can't be true after what came before; known says
// that it repeats what the informer has had.
func (f *follower[T]) check(ev *store.Event[T]) (known bool, err error) {
	if isNil(ev.Object) {
		return false, f.bad("an event of type %v without an object", ev.Type)
	}
	if ev.Type != store.Deleted {
		if err := f.checkObject(ev.Object); err != nil {
			return false, err
		}
	}
	if ev.Revision <= f.revision {
		return f.checkPast(ev)
	}
	if len(f.pending) > 0 && f.pending[0].Revision != ev.Revision {
		return false, f.bad("revision %d began before the last event of revision %d", ev.Revision, f.pending[0].Revision)
	}
	return false, nil
}

// checkPast tells an event that was delivered before from one that comes too
// late.
func (f *follower[T]) checkPast(ev *store.Event[T]) (known bool, err error) {
	key := store.KeyOf(ev.Object)
	have, ok := f.contents.get(key)
	if !ok && ev.Type == store.Deleted {
		return true, nil
	}
	if ok {
		if rev, err := store.RevisionOf(have); err == nil && rev >= ev.Revision {
			return true, nil
		}
	}
	return false, f.bad("%v %s of revision %d after revision %d", ev.Type, key, ev.Revision, f.revision)
}

// checkTransaction refuses a transaction that does not follow from the contents:
// something was lost before it.
func (f *follower[T]) checkTransaction(events []store.Event[T]) error {
	if len(events) == 1 {
		return f.checkStep(&events[0], f.contents.get)
	}
	type state struct {
		object T
		there  bool
	}
	changed := map[store.Key]state{}
	look := func(key store.Key) (T, bool) {
		if s, ok := changed[key]; ok {
			return s.object, s.there
		}
		return f.contents.get(key)
	}
	for n := range events {
		ev := &events[n]
		if err := f.checkStep(ev, look); err != nil {
			return err
		}
		changed[store.KeyOf(ev.Object)] = state{ev.Object, ev.Type != store.Deleted}
	}
	return nil
}

func (f *follower[T]) checkStep(ev *store.Event[T], look func(store.Key) (T, bool)) error {
	key := store.KeyOf(ev.Object)
	have, ok := look(key)
	switch {
	case ev.Type == store.Added && ok:
		return f.bad("added %s, which was there already: its removal was lost", key)
	case ev.Type != store.Added && !ok:
		return f.bad("%v %s, which was not there: an event was lost", ev.Type, key)
	case ev.Type != store.Added && !isNil(ev.Old) && f.opts.Transform == nil &&
		ev.Old.GetResourceVersion() != have.GetResourceVersion():
		return f.bad("%v %s from version %s, which was at %s: an event was lost",
			ev.Type, key, ev.Old.GetResourceVersion(), have.GetResourceVersion())
	}
	return nil
}
