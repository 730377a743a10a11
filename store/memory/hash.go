// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/core"
)

// hash finds the latest entry of a key: an open-addressing table of pointers
// that one goroutine writes and any number read, without locks. It makes a get
// cost a sixth of what the B-tree's search costs (0.15 µs against 0.9 µs of
// 100k), and a commit's check of what it replaces likewise, for 8 to 16 bytes
// an object.
//
// A reader may run beside a writer and sees a change or not; which, its caller
// finds out (core.Store.get). A reader that began before the table grew goes on
// in the one that was left behind.
type hash struct {
	seed  maphash.Seed
	slots atomic.Pointer[[]atomic.Pointer[core.Entry]] // a power of two of them
	used  int                                          // slots that are not nil, removed ones included
	live  int                                          // entries
}

// removed stands in the place of an entry that is no longer there, so that a
// search goes on past it.
var removed = &core.Entry{}

const minSlots = 16

func (h *hash) init(seed maphash.Seed) {
	h.seed = seed
	slots := make([]atomic.Pointer[core.Entry], minSlots)
	h.slots.Store(&slots)
}

func (h *hash) sum(key store.Key) uint32 {
	return uint32(maphash.String(h.seed, key.Name))*31 + uint32(maphash.String(h.seed, key.Namespace))
}

// get returns the entry of the key, or nil.
func (h *hash) get(key store.Key) *core.Entry {
	slots := *h.slots.Load()
	sum := h.sum(key)
	for i := int(sum) & (len(slots) - 1); ; i = (i + 1) & (len(slots) - 1) {
		e := slots[i].Load()
		if e == nil {
			return nil
		}
		if e.Hash == sum && e != removed && e.Key == key {
			return e
		}
	}
}

// put adds the entry, or puts it in the place of old, which has the same key.
func (h *hash) put(old, e *core.Entry) {
	slots := *h.slots.Load()
	if (h.used+1)*4 > len(slots)*3 {
		slots = h.grow()
	}
	if old != nil {
		e.Hash = old.Hash
	} else {
		e.Hash = h.sum(e.Key)
	}
	for i := int(e.Hash) & (len(slots) - 1); ; i = (i + 1) & (len(slots) - 1) {
		switch slots[i].Load() {
		case nil:
			h.used++
			h.live++
			slots[i].Store(e)
			return
		case old:
			slots[i].Store(e)
			return
		}
	}
}

// remove removes the entry, which must be there.
func (h *hash) remove(e *core.Entry) {
	slots := *h.slots.Load()
	for i := int(e.Hash) & (len(slots) - 1); ; i = (i + 1) & (len(slots) - 1) {
		if slots[i].Load() == e {
			slots[i].Store(removed)
			h.live--
			return
		}
	}
}

// grow moves the entries to a table with room for half as many more at least.
func (h *hash) grow() []atomic.Pointer[core.Entry] {
	n := minSlots
	for n*3 < h.live*6 {
		n *= 2
	}
	slots := make([]atomic.Pointer[core.Entry], n)
	for i := range *h.slots.Load() {
		e := (*h.slots.Load())[i].Load()
		if e == nil || e == removed {
			continue
		}
		j := int(e.Hash) & (n - 1)
		for slots[j].Load() != nil {
			j = (j + 1) & (n - 1)
		}
		slots[j].Store(e)
	}
	h.used = h.live
	h.slots.Store(&slots)
	return slots
}
