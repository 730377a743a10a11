// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"hash/maphash"
	"iter"
	"reflect"
	"slices"

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
	cluster bool       // the objects have no namespaces
	indexes []index[T] // the first is of namespaces, unless cluster
	// revision is the source's revision of which these are the objects.
	revision uint64
}

// index is one secondary index: a set of objects for each value.
type index[T store.Object] struct {
	store.SchemaIndex
	values table[*posting]
}

// newContents returns contents with these indexes, and with one of namespaces
// unless the objects have none.
func newContents[T store.Object](indexes []store.SchemaIndex, cluster bool) *contents[T] {
	c := &contents[T]{seed: maphash.MakeSeed(), cluster: cluster}
	if !cluster {
		c.indexes = append(c.indexes, index[T]{SchemaIndex: byNamespace})
	}
	for _, x := range indexes {
		c.indexes = append(c.indexes, index[T]{SchemaIndex: x})
	}
	return c
}

// empty returns contents of the same indexes without objects.
func (c *contents[T]) empty() *contents[T] {
	e := &contents[T]{seed: c.seed, cluster: c.cluster}
	for i := range c.indexes {
		e.indexes = append(e.indexes, index[T]{SchemaIndex: c.indexes[i].SchemaIndex})
	}
	return e
}

// reserve makes room for about n objects, before the first is put.
func (c *contents[T]) reserve(n int) { c.objects.reserve(c.epoch, n) }

// snapshot returns the contents as they are, never to be changed.
func (c *contents[T]) snapshot() *contents[T] {
	s := *c
	s.indexes = slices.Clone(c.indexes)
	c.epoch++
	return &s
}

func (c *contents[T]) hash(namespace, name string) uint64 {
	return maphash.String(c.seed, name) ^ maphash.String(c.seed, namespace)*0x9e3779b97f4a7c15
}

func (c *contents[T]) hashOf(o T) uint64 { return c.hash(o.GetNamespace(), o.GetName()) }

func (c *contents[T]) hashOfPosting(p *posting) uint64 { return maphash.String(c.seed, p.value) }

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
		switch x := &c.indexes[i]; {
		case had:
			c.reindex(x, hash, old, o)
		case x.One != nil:
			c.enter(x, x.One(o), hash)
		default:
			for value := range distinct(x.Many(o)) {
				c.enter(x, value, hash)
			}
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
		if x := &c.indexes[i]; x.One != nil {
			c.leave(x, x.One(old), hash)
		} else {
			for value := range distinct(x.Many(old)) {
				c.leave(x, value, hash)
			}
		}
	}
	return old, true
}

// reindex replaces old by o in the index. An object whose values stay, as most do
// in most updates, leaves the index as it is.
func (c *contents[T]) reindex(x *index[T], hash uint64, old, o T) {
	if x.One != nil {
		was, is := x.One(old), x.One(o)
		if was != is {
			c.leave(x, was, hash)
			c.enter(x, is, hash)
		}
		return
	}
	was, is := x.Many(old), x.Many(o)
	if slices.Equal(was, is) {
		return
	}
	for value := range distinct(was) {
		c.leave(x, value, hash)
	}
	for value := range distinct(is) {
		c.enter(x, value, hash)
	}
}

func (c *contents[T]) enter(x *index[T], value string, hash uint64) {
	p := c.find(x, value)
	if p == nil || p.epoch != c.epoch {
		p = p.own(value, c.epoch)
		x.values.set(c.epoch, c.hashOfPosting(p), p, p.same, c.hashOfPosting)
	}
	p.add(hash)
}

func (c *contents[T]) leave(x *index[T], value string, hash uint64) {
	p := c.find(x, value)
	switch {
	case p.len() == 1:
		x.values.remove(c.epoch, c.hashOfPosting(p), p.same, c.hashOfPosting)
		return
	case p.epoch != c.epoch:
		p = p.own(value, c.epoch)
		x.values.set(c.epoch, c.hashOfPosting(p), p, p.same, c.hashOfPosting)
	}
	p.remove(hash)
}

// find returns the index's posting of the value, or nil.
func (c *contents[T]) find(x *index[T], value string) *posting {
	p, _ := x.values.get(maphash.String(c.seed, value), func(p *posting) bool { return p.value == value })
	return p
}

// try calls the index functions.
func (c *contents[T]) try(o T) {
	for i := range c.indexes {
		if x := &c.indexes[i]; x.One != nil {
			x.One(o)
		} else {
			x.Many(o)
		}
	}
}

// distinct yields each of the values once; there are few.
func distinct(values []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, v := range values {
			if !slices.Contains(values[:i], v) && !yield(v) {
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
