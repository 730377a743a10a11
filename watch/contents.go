// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"hash/maphash"
	"reflect"

	"github.com/slipway-dev/slipway/store"
)

// contents are the objects of an informer by key and by index. A snapshot of
// them is O(1) to take; it stays as it is, and what changes afterwards copies the
// pages that the two share.
//
// It has no lock: one goroutine changes it, under its owner's.
type contents[T store.Object] struct {
	seed    maphash.Seed
	epoch   uint64
	objects table[T]
	indexes []index[T]
	// revision is the source's revision of which these are the objects.
	revision uint64
}

// index is one secondary index: a set of objects for each value.
type index[T store.Object] struct {
	store.SchemaIndex
	values table[*posting[T]]
}

// posting is the set of objects that have one value in an index.
type posting[T store.Object] struct {
	value   string
	epoch   uint64
	objects table[T]
}

func newContents[T store.Object](indexes []store.SchemaIndex) *contents[T] {
	c := &contents[T]{seed: maphash.MakeSeed(), indexes: make([]index[T], len(indexes))}
	for i := range indexes {
		c.indexes[i].SchemaIndex = indexes[i]
	}
	return c
}

// empty returns contents of the same indexes without objects.
func (c *contents[T]) empty() *contents[T] {
	e := &contents[T]{seed: c.seed, epoch: c.epoch, indexes: make([]index[T], len(c.indexes))}
	for i := range c.indexes {
		e.indexes[i].SchemaIndex = c.indexes[i].SchemaIndex
	}
	return e
}

// snapshot returns the contents as they are, never to be changed.
func (c *contents[T]) snapshot() *contents[T] {
	s := *c
	s.indexes = append([]index[T](nil), c.indexes...)
	c.epoch++
	return &s
}

func (c *contents[T]) hash(namespace, name string) uint64 {
	return maphash.String(c.seed, name) ^ maphash.String(c.seed, namespace)*0x9e3779b97f4a7c15
}

func (c *contents[T]) hashOf(o T) uint64 { return c.hash(o.GetNamespace(), o.GetName()) }

func (c *contents[T]) hashOfPosting(p *posting[T]) uint64 { return maphash.String(c.seed, p.value) }

func (c *contents[T]) get(key store.Key) (T, bool) {
	return c.objects.get(c.hash(key.Namespace, key.Name), func(o T) bool {
		return o.GetName() == key.Name && o.GetNamespace() == key.Namespace
	})
}

// put adds the object, or replaces the one of the same key.
func (c *contents[T]) put(o T) (old T, had bool) {
	name, namespace := o.GetName(), o.GetNamespace()
	hash := c.hash(namespace, name)
	is := func(x T) bool { return x.GetName() == name && x.GetNamespace() == namespace }
	old, had = c.objects.set(c.epoch, hash, o, is, c.hashOf)
	for i := range c.indexes {
		x := &c.indexes[i]
		if had {
			c.reindex(x, hash, is, old, o)
			continue
		}
		for value := range x.of(o) {
			c.enter(x, value, hash, is, o)
		}
	}
	return old, had
}

// remove takes the object of the key out.
func (c *contents[T]) remove(key store.Key) (old T, had bool) {
	hash := c.hash(key.Namespace, key.Name)
	is := func(x T) bool { return x.GetName() == key.Name && x.GetNamespace() == key.Namespace }
	if old, had = c.objects.remove(c.epoch, hash, is, c.hashOf); !had {
		return old, had
	}
	for i := range c.indexes {
		x := &c.indexes[i]
		for value := range x.of(old) {
			c.leave(x, value, hash, is)
		}
	}
	return old, true
}

// reindex replaces old by o in the index.
func (c *contents[T]) reindex(x *index[T], hash uint64, is func(T) bool, old, o T) {
	for value := range x.of(old) {
		if !x.Has(o, value) {
			c.leave(x, value, hash, is)
		}
	}
	for value := range x.of(o) {
		c.enter(x, value, hash, is, o)
	}
}

func (c *contents[T]) enter(x *index[T], value string, hash uint64, is func(T) bool, o T) {
	p := c.posting(x, value)
	if p == nil {
		p = &posting[T]{value: value, epoch: c.epoch}
		c.setPosting(x, p)
	}
	p.objects.set(c.epoch, hash, o, is, c.hashOf)
}

func (c *contents[T]) leave(x *index[T], value string, hash uint64, is func(T) bool) {
	p := c.posting(x, value)
	if p == nil {
		return // a value that the object gave twice
	}
	p.objects.remove(c.epoch, hash, is, c.hashOf)
	if p.objects.len == 0 {
		x.values.remove(c.epoch, c.hashOfPosting(p), p.same, c.hashOfPosting)
	}
}

// posting returns the index's posting of the value to be changed, or nil.
func (c *contents[T]) posting(x *index[T], value string) *posting[T] {
	p := c.find(x, value)
	if p != nil && p.epoch != c.epoch {
		p = &posting[T]{p.value, c.epoch, p.objects}
		c.setPosting(x, p)
	}
	return p
}

// find returns the index's posting of the value to be read, or nil.
func (c *contents[T]) find(x *index[T], value string) *posting[T] {
	p, _ := x.values.get(maphash.String(c.seed, value), func(p *posting[T]) bool { return p.value == value })
	return p
}

func (c *contents[T]) setPosting(x *index[T], p *posting[T]) {
	x.values.set(c.epoch, c.hashOfPosting(p), p, p.same, c.hashOfPosting)
}

func (p *posting[T]) same(other *posting[T]) bool { return p.value == other.value }

// of yields the object's values in the index.
func (x *index[T]) of(o T) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if x.One != nil {
			yield(x.One(o))
			return
		}
		for _, value := range x.Many(o) {
			if !yield(value) {
				return
			}
		}
	}
}

// isNil reports whether there is no object, be it a nil interface or a nil
// pointer.
func isNil[T store.Object](o T) bool {
	v := reflect.ValueOf(o)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}
