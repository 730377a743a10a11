// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"slices"
)

// table is a set of elements that are found by a hash and compared by the
// caller: an extendible hash table whose pages are copied on write, so that a
// snapshot costs nothing but the pages that change after it. Beside the elements
// themselves it takes about 3 bytes for each.
//
// It is not safe for concurrent use. Everything in it belongs to an epoch of its
// owner; what belongs to an earlier one is shared with a snapshot, and copied
// before it is changed.
type table[E any] struct {
	dir   []*page[E] // 1<<depth of them; neighbours may be the same page
	depth uint8
	epoch uint64 // of dir
	len   int
}

// page holds the elements whose hash begins with the same depth bits. A byte of
// the hash of each stands apart, so that a search touches few elements beside
// the right one.
type page[E any] struct {
	epoch uint64
	depth uint8
	tags  [pageSize]byte
	items []E
}

const pageSize = 64

// tagOf returns the byte of the hash that stands in the page: the low one, since
// the high ones chose the page.
func tagOf(hash uint64) byte { return byte(hash) }

// home returns the place in the directory of the page for the hash; the table
// must have a directory.
func (t *table[E]) home(hash uint64) uint64 { return hash >> (64 - t.depth) }

// find returns the position of the element in the page, or -1.
func (p *page[E]) find(hash uint64, is func(E) bool) int {
	tag := tagOf(hash)
	for from := 0; ; {
		i := bytes.IndexByte(p.tags[from:len(p.items)], tag)
		if i < 0 {
			return -1
		}
		if from += i; is(p.items[from]) {
			return from
		}
		from++
	}
}

// each yields the elements that may be of that hash: all that are, and few more.
func (t *table[E]) each(hash uint64, yield func(E)) {
	if t.dir == nil {
		return
	}
	p := t.dir[t.home(hash)]
	p.find(hash, func(e E) bool { yield(e); return false })
}

// get returns the element of that hash for which is holds.
func (t *table[E]) get(hash uint64, is func(E) bool) (e E, ok bool) {
	if t.dir == nil {
		return e, false
	}
	p := t.dir[t.home(hash)]
	if i := p.find(hash, is); i >= 0 {
		return p.items[i], true
	}
	return e, false
}

// set puts the element in the place of the one for which is holds, or adds it.
// hashOf is asked about elements when a page is divided.
func (t *table[E]) set(epoch, hash uint64, e E, is func(E) bool, hashOf func(E) uint64) (old E, had bool) {
	if t.dir != nil {
		if i := t.dir[t.home(hash)].find(hash, is); i >= 0 {
			p := t.own(epoch, t.home(hash))
			old, p.items[i] = p.items[i], e
			return old, true
		}
	}
	t.insert(epoch, hash, e, hashOf)
	return old, false
}

// insert adds an element that is not there.
func (t *table[E]) insert(epoch, hash uint64, e E, hashOf func(E) uint64) {
	if t.dir == nil {
		t.dir, t.epoch, t.depth = []*page[E]{{epoch: epoch}}, epoch, 0
	}
	for t.dir[t.home(hash)].full() {
		t.divide(epoch, hash, hashOf)
	}
	t.own(epoch, t.home(hash)).add(hash, e)
	t.len++
}

// reserve makes room for about n elements in an empty table, which saves the
// dividing of pages on the way there.
func (t *table[E]) reserve(epoch uint64, n int) {
	for n>>t.depth > reserved {
		t.depth++
	}
	t.dir, t.epoch = make([]*page[E], 1<<t.depth), epoch
	for i := range t.dir {
		t.dir[i] = &page[E]{epoch: epoch, depth: t.depth, items: make([]E, 0, room(n>>t.depth))}
	}
}

// reserved is how many elements a page is to have in a table that was reserved:
// few enough that chance fills none of them.
const reserved = 40

// remove takes out the element of that hash for which is holds.
func (t *table[E]) remove(epoch, hash uint64, is func(E) bool, hashOf func(E) uint64) (old E, had bool) {
	if t.dir == nil {
		return old, false
	}
	i := t.dir[t.home(hash)].find(hash, is)
	if i < 0 {
		return old, false
	}
	p := t.own(epoch, t.home(hash))
	last := len(p.items) - 1
	old = p.items[i]
	p.items[i], p.tags[i] = p.items[last], p.tags[last]
	var zero E
	p.items[last] = zero
	p.items = p.items[:last]
	t.len--
	if len(t.dir) > 1 && t.len < len(t.dir)*pageSize/16 {
		t.shrink(epoch, hashOf)
	}
	return old, true
}

// own returns the page at the place of the directory, copied if it is shared.
func (t *table[E]) own(epoch, at uint64) *page[E] {
	p := t.dir[at]
	if p.epoch == epoch {
		return p
	}
	own := &page[E]{epoch: epoch, depth: p.depth, tags: p.tags, items: make([]E, len(p.items), room(len(p.items)+1))}
	copy(own.items, p.items)
	start, end := t.span(epoch, at, p.depth)
	for i := start; i < end; i++ {
		t.dir[i] = own
	}
	return own
}

// span returns the part of the directory that a page of that depth takes, which
// includes the given place, and makes the directory the table's own.
func (t *table[E]) span(epoch, at uint64, depth uint8) (start, end uint64) {
	if t.epoch != epoch {
		t.dir, t.epoch = slices.Clone(t.dir), epoch
	}
	n := uint64(1) << (t.depth - depth)
	start = at &^ (n - 1)
	return start, start + n
}

func (p *page[E]) full() bool { return len(p.items) == pageSize }

// add adds an element to a page that is not full and not shared.
func (p *page[E]) add(hash uint64, e E) {
	p.tags[len(p.items)] = tagOf(hash)
	p.items = append(grow(p.items), e)
}

// grow makes room for one element more: by eights, since doubling would leave a
// quarter of the memory unused.
func grow[E any](items []E) []E {
	if len(items) < cap(items) {
		return items
	}
	larger := make([]E, len(items), room(len(items)+1))
	copy(larger, items)
	return larger
}

// room returns the capacity of a slice for n elements.
func room(n int) int {
	switch {
	case n <= 2:
		return n
	case n <= 4:
		return 4
	}
	return (n + 7) &^ 7
}

// divide makes two pages of the one for the hash, by one bit more.
func (t *table[E]) divide(epoch, hash uint64, hashOf func(E) uint64) {
	old := t.dir[t.home(hash)]
	if old.depth == t.depth {
		dir := make([]*page[E], 2*len(t.dir))
		for i, p := range t.dir {
			dir[2*i], dir[2*i+1] = p, p
		}
		t.dir, t.epoch = dir, epoch
		t.depth++
	}
	depth := old.depth + 1
	halves := [2]*page[E]{{epoch: epoch, depth: depth}, {epoch: epoch, depth: depth}}
	for _, e := range old.items {
		h := hashOf(e)
		halves[h>>(64-depth)&1].add(h, e)
	}
	start, end := t.span(epoch, t.home(hash), old.depth)
	for i := start; i < end; i++ {
		t.dir[i] = halves[2*(i-start)/(end-start)]
	}
}

// shrink puts what is left of a large table into a small one.
func (t *table[E]) shrink(epoch uint64, hashOf func(E) uint64) {
	var small table[E]
	for e := range t.all {
		small.insert(epoch, hashOf(e), e, hashOf)
	}
	*t = small
}

// all yields the elements in no particular order.
func (t *table[E]) all(yield func(E) bool) {
	for at := uint64(0); at < uint64(len(t.dir)); {
		p := t.dir[at]
		for _, e := range p.items {
			if !yield(e) {
				return
			}
		}
		at += uint64(1) << (t.depth - p.depth)
	}
}
