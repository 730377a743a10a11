// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

// Trigger adds keys to a controller's queue as objects change. [For], [Owns],
// [Watches] and [From] make one. What is there when a trigger begins is added
// with low priority, so that it does not hold up what changes meanwhile.
type Trigger[K comparable] struct {
	name   string
	attach func(*Controller[K]) (*attached[K], error)
}

// attached is a trigger at work.
type attached[K comparable] struct {
	name   string
	synced <-chan struct{}                        // closed once what was there has been added
	done   <-chan struct{}                        // closed once it was removed: it may never be synced then
	err    func() error                           // why its source fails at present
	again  func(reason string, want func(K) bool) // adds what it knows anew
	remove func()
}

// For runs the controller for each object of the kind, by its own key.
func For[T store.Copier[T]](h *store.Handle[T], where ...Predicate[T]) Trigger[store.Key] {
	return trigger("for", h, func(o T, add func(store.Key)) { add(store.KeyOf(o)) }, where)
}

// Owns runs the controller for the owner of each object of the kind: the one
// that its controller owner reference names ([SetController]).
func Owns[T store.Copier[T], O store.Copier[O]](owned *store.Handle[T], owner *store.Handle[O], where ...Predicate[T]) Trigger[store.Key] {
	owners, by := owned.Schema().Accessors.Owners, owner.Schema()
	return trigger("owns", owned, func(o T, add func(store.Key)) {
		if owners == nil {
			return
		}
		for _, ref := range owners(o) {
			if ref.Controller == nil || !*ref.Controller || !refers(ref, by) {
				continue
			}
			key := store.Key{Name: ref.Name}
			if by.Scope == store.Namespaced {
				key.Namespace = o.GetNamespace()
			}
			add(key)
		}
	}, where)
}

// refers reports whether the reference names an object of the kind, whatever its
// version.
func refers(ref store.OwnerReference, s *store.Schema) bool {
	group, _, found := strings.Cut(ref.APIVersion, "/")
	if !found {
		group = ""
	}
	return ref.Kind == s.Name && group == s.Group
}

// Watches runs the controller for the keys that the function returns for an
// object that changed: for a change, those of the object before and after. The
// function must be pure; a key that it returns twice counts once.
func Watches[T store.Copier[T], K comparable](h *store.Handle[T], keys func(T) []K, where ...Predicate[T]) Trigger[K] {
	return trigger("watches", h, func(o T, add func(K)) {
		for _, key := range keys(o) {
			add(key)
		}
	}, where)
}

// From is Watches over any informer, such as one of another store or of a derived
// collection. The informer is the caller's to run.
func From[T store.Object, K comparable](name string, informer *watch.Informer[T], keys func(T) []K, where ...Predicate[T]) Trigger[K] {
	return Trigger[K]{name: "from " + name, attach: func(c *Controller[K]) (*attached[K], error) {
		return attach(c, "from "+name, store.KindName{Name: name}, informer, func(o T, add func(K)) {
			for _, key := range keys(o) {
				add(key)
			}
		}, where), nil
	}}
}

// trigger returns a trigger over the shared informer of a kind.
func trigger[T store.Copier[T], K comparable](verb string, h *store.Handle[T], each func(T, func(K)), where []Predicate[T]) Trigger[K] {
	kind := h.Schema().KindName
	name := verb + " " + kind.String()
	return Trigger[K]{name: name, attach: func(c *Controller[K]) (*attached[K], error) {
		if h.Store() != c.m.store {
			return nil, fmt.Errorf("reconcile: controller %s: %s: the handle is not bound to this manager's store: register or look it up in Manager.Store(), so that what a reconcile reads and writes goes through the manager", c.name, name)
		}
		return attach(c, name, kind, watch.For(c.m.cache, h), each, where), nil
	}}
}

// attach connects an informer with the controller's queue.
func attach[T store.Object, K comparable](c *Controller[K], name string, kind store.KindName, informer *watch.Informer[T], each func(T, func(K)), where []Predicate[T]) *attached[K] {
	t := &feed[T, K]{c: c, name: name, kind: kind, each: each, where: where}
	reg := informer.Handle(watch.Handler[T]{
		Add: func(o T, initial bool) {
			t.change(Change[T]{Type: store.Added, New: o}, initial)
		},
		Update: func(old, new T) {
			t.change(Change[T]{Type: store.Modified, Old: old, New: new, Resync: any(old) == any(new)}, false)
		},
		Delete: func(last T) {
			t.change(Change[T]{Type: store.Deleted, Old: last}, false)
		},
		Resync: c.opts.Resync,
	})
	return &attached[K]{
		name:   name,
		synced: reg.Synced(),
		done:   reg.Done(),
		err:    informer.Err,
		again: func(reason string, want func(K) bool) {
			for o, err := range informer.List(store.ListOptions{}) {
				if err != nil {
					c.report("list of what is to be run again failed", err, "trigger", name)
					return
				}
				t.again(o, reason, want)
			}
		},
		remove: reg.Remove,
	}
}

// feed turns the changes of one informer into keys of one queue.
type feed[T store.Object, K comparable] struct {
	c     *Controller[K]
	name  string
	kind  store.KindName
	each  func(T, func(K))
	where []Predicate[T]
}

func (t *feed[T, K]) change(ch Change[T], initial bool) {
	o := ch.Object()
	defer t.recover(o)
	for _, pass := range t.where {
		if !pass(ch) {
			return
		}
	}
	add := AddOptions{Cause: Cause{Kind: t.kind, Key: store.KeyOf(o)}}
	add.Cause.Revision, _ = store.RevisionOf(o) // garbage versions are the informer's to refuse
	switch {
	case initial:
		add.Priority, add.Cause.Reason = PriorityLow, "initial"
	case ch.Resync:
		add.Priority, add.Cause.Reason = PriorityLow, "resync"
	case ch.Type == store.Added:
		add.Cause.Reason = "added"
	case ch.Type == store.Deleted:
		add.Cause.Reason = "deleted"
	default:
		add.Cause.Reason = "modified"
	}
	enqueue := func(key K) {
		add.KeepBackoff = ch.Resync || t.c.isEcho(key, add.Cause)
		t.c.queue.Add(key, add)
	}
	t.each(o, enqueue)
	if ch.Type == store.Modified && !ch.Resync {
		t.each(ch.Old, enqueue) // whom it concerned before may be concerned no more
	}
}

// again adds those keys of an object that are wanted. What the predicates leave
// out at the start they leave out here.
func (t *feed[T, K]) again(o T, reason string, want func(K) bool) {
	defer t.recover(o)
	for _, pass := range t.where {
		if !pass(Change[T]{Type: store.Modified, Old: o, New: o, Resync: true}) {
			return
		}
	}
	t.each(o, func(key K) {
		if want(key) {
			t.c.queue.Add(key, AddOptions{Priority: PriorityLow, Cause: Cause{Reason: reason, Kind: t.kind, Key: store.KeyOf(o)}})
		}
	})
}

// recover reports a panic of a predicate or a mapping function.
func (t *feed[T, K]) recover(o T) {
	v := recover()
	if v == nil {
		return
	}
	p := Panicked{
		Controller: t.c.name,
		Trigger:    t.name,
		Object:     t.kind.String() + " " + store.KeyOf(o).String(),
		Value:      v,
		Stack:      string(debug.Stack()),
	}
	t.c.report("a predicate or mapping function panicked: the change triggers nothing", fmt.Errorf("panic: %v", v),
		"trigger", p.Trigger, "object", p.Object, "stack", p.Stack)
	if f := t.c.m.opts.Hooks.Panicked; f != nil {
		f(p)
	}
}
