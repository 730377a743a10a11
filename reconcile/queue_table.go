// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"iter"
)

// A table finds entries by key. It is a hash table of its own instead of a map
// because the hash is computed once per call, outside of the queue's lock, and
// because a map never gives memory back: a queue that was long once would keep
// that memory. It consists of several parts, each with its own array, so that
// growing never holds the lock for long.
type table[K comparable] struct {
	parts [tableParts]tablePart[K]
	n     int
	free  *entry[K] // spare entries, linked by newer: at most n and a few
	spare int
	block []entry[K] // entries that have not been used yet
}

const (
	tableBits  = 6
	tableParts = 1 << tableBits
	tableMin   = 8 // slots of a part
	spareMin   = 64
	blockSize  = 8 // entries allocated at once: an eighth of the allocations, a tenth of the time of an add
)

// A tablePart is an open-addressed array with linear probing: the entry of a hash
// is in the first slot from its home on that has its key; there is no free slot
// between.
type tablePart[K comparable] struct {
	slots []tableSlot[K] // a power of two, at most 3/4 of them used
	n     int
}

type tableSlot[K comparable] struct {
	hash  uint32
	entry *entry[K] // nil: free
}

func (t *table[K]) part(hash uint32) *tablePart[K] { return &t.parts[hash%tableParts] }

// home is where the search for a hash begins, but for the mask.
func home(hash uint32) uint32 { return hash >> tableBits }

// find returns the entry of the key, or nil.
func (t *table[K]) find(hash uint32, key K) *entry[K] {
	p := t.part(hash)
	if p.n == 0 {
		return nil
	}
	mask := uint32(len(p.slots) - 1)
	for i := home(hash) & mask; ; i = (i + 1) & mask {
		s := &p.slots[i]
		if s.entry == nil {
			return nil
		}
		if s.hash == hash && s.entry.key == key {
			return s.entry
		}
	}
}

// insert adds an entry for a key that has none.
func (t *table[K]) insert(hash uint32, key K) *entry[K] {
	if !equal(key, key) {
		panic(fmt.Sprintf("reconcile: a queue can't hold the key %v: it is not equal to itself (NaN), so it could not be found again", key))
	}
	p := t.part(hash)
	if p.n*4 >= len(p.slots)*3 {
		p.resize(max(2*len(p.slots), tableMin))
	}
	e := t.free
	if e == nil {
		if len(t.block) == 0 {
			t.block = make([]entry[K], blockSize)
		}
		e, t.block = &t.block[0], t.block[1:]
	} else {
		t.free, e.newer = e.newer, nil
		t.spare--
	}
	e.key, e.hash = key, hash
	p.put(hash, e)
	p.n++
	t.n++
	return e
}

// equal keeps tools from calling a comparison with itself pointless.
func equal[K comparable](a, b K) bool { return a == b }

func (p *tablePart[K]) put(hash uint32, e *entry[K]) {
	mask := uint32(len(p.slots) - 1)
	i := home(hash) & mask
	for p.slots[i].entry != nil {
		i = (i + 1) & mask
	}
	p.slots[i] = tableSlot[K]{hash, e}
}

func (p *tablePart[K]) resize(size int) {
	old := p.slots
	p.slots = make([]tableSlot[K], size)
	for _, s := range old {
		if s.entry != nil {
			p.put(s.hash, s.entry)
		}
	}
}

// remove takes the entry out and empties it for its next use.
func (t *table[K]) remove(e *entry[K]) {
	p := t.part(e.hash)
	mask := uint32(len(p.slots) - 1)
	i := home(e.hash) & mask
	for p.slots[i].entry != e {
		i = (i + 1) & mask
	}
	// Close the gap: the entries behind it move up, unless they would come before
	// the slot where their search begins.
	for j := (i + 1) & mask; p.slots[j].entry != nil; j = (j + 1) & mask {
		if (j-home(p.slots[j].hash))&mask >= (j-i)&mask {
			p.slots[i] = p.slots[j]
			i = j
		}
	}
	p.slots[i] = tableSlot[K]{}
	p.n--
	t.n--
	if len(p.slots) > tableMin && p.n*8 < len(p.slots) {
		p.resize(len(p.slots) / 2)
	}
	*e = entry[K]{}
	if t.spare < t.n+spareMin {
		e.newer, t.free = t.free, e
		t.spare++
	}
	for t.spare > t.n+spareMin {
		e := t.free
		t.free, e.newer = e.newer, nil
		t.spare--
	}
}

// all yields the entries, which may be changed meanwhile but neither inserted nor
// removed.
func (t *table[K]) all() iter.Seq[*entry[K]] {
	return func(yield func(*entry[K]) bool) {
		for i := range t.parts {
			for _, s := range t.parts[i].slots {
				if s.entry != nil && !yield(s.entry) {
					return
				}
			}
		}
	}
}
