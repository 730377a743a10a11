// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// Filter returns the objects of the source for which keep holds. Objects stay as
// they are.
func Filter[T store.Object](src Source[T], keep func(T) bool) *Collection[T] {
	c := newCollection[T](schemaOf(src))
	feedMap(c, src, func(o T) T {
		if keep(o) {
			return o
		}
		var none T
		return none
	})
	return c
}

// Map returns what f makes of each object of the source; nil leaves it out. The
// result must be an object of its own, with the key of the one that it was made
// from, or without a name: then it gets that key. It gets the resource version of
// its source, too.
func Map[A, T store.Object](src Source[A], f func(A) T) *Collection[T] {
	c := newCollection[T](nil)
	feedMap(c, src, func(a A) T {
		o := f(a)
		if !isNil(o) {
			stamp(o, store.KeyOf(a), a.GetResourceVersion())
		}
		return o
	})
	return c
}

// stamp gives a result its key, unless it has a name, and its version.
func stamp(o store.Object, key store.Key, version string) {
	if o.GetName() == "" {
		o.SetNamespace(key.Namespace)
		o.SetName(key.Name)
	}
	o.SetResourceVersion(version)
}

func feedMap[A, T store.Object](c *Collection[T], src Source[A], f func(A) T) {
	feed(c, src, func(changes []change[A], revision uint64) {
		c.work.Lock()
		defer c.work.Unlock()
		results := make([]result[T], 0, len(changes))
		for n := range changes {
			key := store.KeyOf(changes[n].object())
			if changes[n].op == store.Deleted {
				results = append(results, c.gone(key))
				continue
			}
			if r, ok := c.made(key, func() T { return f(changes[n].new) }); ok {
				results = append(results, r)
			}
		}
		c.step(results, revision)
		c.sync()
	})
}

// gone returns the result for an object that is no more.
func (c *Collection[T]) gone(key store.Key) result[T] {
	c.mu.Lock()
	delete(c.failures, key)
	c.mu.Unlock()
	return result[T]{key: key}
}

// Join returns what f makes of each object of the source a together with those of
// b that it refers to: on returns their keys. It is made again whenever one of
// them changes. Those of b that there are come in the order of on's keys; f is
// called without any, too. What it returns is as for Map, with a resource version
// of the collection's own, which has revisions of its own.
func Join[A, B, T store.Object](a Source[A], b Source[B], on func(A) []store.Key, f func(A, []B) T) *Collection[T] {
	j := &join[A, B, T]{
		Collection: newCollection[T](nil), on: on, f: f,
		refers: map[store.Key][]store.Key{}, referred: map[store.Key]map[store.Key]struct{}{},
	}
	j.a = feed(j.Collection, a, j.changeA)
	j.b = feed(j.Collection, b, j.changeB)
	return j.Collection
}

// join is how a collection that was made by Join is kept up to date. Everything is
// under the collection's work.
type join[A, B, T store.Object] struct {
	*Collection[T]
	a      *Informer[A]
	b      *Informer[B]
	on     func(A) []store.Key
	f      func(A, []B) T
	heardA bool
	heardB bool

	refers   map[store.Key][]store.Key            // from an object of a to those of b
	referred map[store.Key]map[store.Key]struct{} // and back
}

func (j *join[A, B, T]) changeA(changes []change[A], _ uint64) {
	j.work.Lock()
	defer j.work.Unlock()
	if !j.heardA || !j.heardB {
		j.heardA = true
		j.begin()
		return
	}
	var results []result[T]
	for n := range changes {
		key := store.KeyOf(changes[n].object())
		if changes[n].op == store.Deleted {
			j.refer(key, nil)
			results = append(results, j.gone(key))
		} else {
			results = j.make(results, changes[n].new)
		}
	}
	j.step(results, 0)
}

func (j *join[A, B, T]) changeB(changes []change[B], _ uint64) {
	j.work.Lock()
	defer j.work.Unlock()
	if !j.heardA || !j.heardB {
		j.heardB = true
		j.begin()
		return
	}
	affected := map[store.Key]struct{}{}
	for n := range changes {
		for key := range j.referred[store.KeyOf(changes[n].object())] {
			affected[key] = struct{}{}
		}
	}
	keys := make([]store.Key, 0, len(affected))
	for key := range affected {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, store.Key.Compare)
	var results []result[T]
	for _, key := range keys {
		if o, ok := j.a.peek(key); ok {
			results = j.make(results, o)
		}
	}
	j.step(results, 0)
}

// begin makes everything for the first time, once both sources have been heard.
func (j *join[A, B, T]) begin() {
	if !j.heardA || !j.heardB {
		return
	}
	var results []result[T]
	for _, o := range j.a.all() {
		results = j.make(results, o)
	}
	j.step(results, 0)
	j.sync()
}

// make appends the result for an object of a.
func (j *join[A, B, T]) make(results []result[T], o A) []result[T] {
	key := store.KeyOf(o)
	r, ok := j.made(key, func() T {
		refers := j.on(o)
		j.refer(key, refers)
		var others []B
		for _, k := range refers {
			if b, ok := j.b.peek(k); ok {
				others = append(others, b)
			}
		}
		out := j.f(o, others)
		if !isNil(out) {
			stamp(out, key, store.FormatRevision(j.next()))
		}
		return out
	})
	if ok {
		results = append(results, r)
	}
	return results
}

// next returns the revision of the step that is being made.
func (j *join[A, B, T]) next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.contents.revision + 1
}

// refer notes the objects of b that one of a refers to.
func (j *join[A, B, T]) refer(key store.Key, to []store.Key) {
	for _, k := range j.refers[key] {
		delete(j.referred[k], key)
		if len(j.referred[k]) == 0 {
			delete(j.referred, k)
		}
	}
	if len(to) == 0 {
		delete(j.refers, key)
		return
	}
	j.refers[key] = to
	for _, k := range to {
		if j.referred[k] == nil {
			j.referred[k] = map[store.Key]struct{}{}
		}
		j.referred[k][key] = struct{}{}
	}
}

// peek returns an object as of what the informer's sink has been told, or is
// about to be.
func (i *Informer[T]) peek(key store.Key) (T, bool) {
	i.read.RLock()
	defer i.read.RUnlock()
	return i.contents.get(key)
}

// all returns the objects in the order of their keys.
func (i *Informer[T]) all() []T {
	i.read.RLock()
	defer i.read.RUnlock()
	var out []T
	for o := range i.contents.objects.all {
		out = append(out, o)
	}
	sortByKey(out)
	return out
}
