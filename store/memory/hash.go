// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/core"
)

// hash finds the latest entry of a key: an open-addressing table of pointers
// that one goroutine writes and any number read, without locks. It serves
// gets, without a view and without allocation (BenchmarkGet), and a commit's
// check of what it replaces, for 10 to 16 bytes an object.
//
// A reader may run beside a writer and sees a change or not; which, its caller
// finds out (core.Store.get). A reader that began before the table grew goes on
// in the one that was left behind.
type hash struct {
	seed  maphash.Seed
	slots atomic.Pointer[[]atomic.Pointer[core.Entry]]
	used  int // slots that are not nil, removed ones included
	live  int // entries
}

// removed stands in the place of an entry that is no longer there, so that a
// search goes on past it.
var removed = &core.Entry{}

const minSlots = 16

func (h *hash) init() {
	h.seed = maphash.MakeSeed()
	slots := make([]atomic.Pointer[core.Entry], minSlots)
	h.slots.Store(&slots)
}

func (h *hash) sum(key store.Key) uint32 {
	return uint32(maphash.String(h.seed, key.Name))*31 + uint32(maphash.String(h.seed, key.Namespace))
}

// home returns the slot in which the search for a key of that sum begins.
func home(sum uint32, slots int) int { return int(uint64(sum) * uint64(slots) >> 32) }

// next returns the slot after i.
func next(i, slots int) int {
	if i++; i == slots {
		return 0
	}
	return i
}

// get returns the entry of the key, or nil.
func (h *hash) get(key store.Key) *core.Entry {
	slots := *h.slots.Load()
	sum := h.sum(key)
	for i := home(sum, len(slots)); ; i = next(i, len(slots)) {
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
	if old != nil {
		e.Hash = old.Hash
	} else {
		e.Hash = h.sum(e.Key)
		if (h.used+1)*5 > len(slots)*4 { // at most four fifths full
			slots = h.grow()
		}
		h.used++
		h.live++
	}
	slots[find(slots, e.Hash, old)].Store(e)
}

// remove removes the entry, which must be there.
func (h *hash) remove(e *core.Entry) {
	slots := *h.slots.Load()
	slots[find(slots, e.Hash, e)].Store(removed)
	h.live--
}

// find returns the slot of an entry that is there, or, for nil, the first free
// one, for a key of that sum.
func find(slots []atomic.Pointer[core.Entry], sum uint32, e *core.Entry) int {
	i := home(sum, len(slots))
	for slots[i].Load() != e {
		i = next(i, len(slots))
	}
	return i
}

// grow moves the entries to a table that they fill by half.
func (h *hash) grow() []atomic.Pointer[core.Entry] {
	slots := make([]atomic.Pointer[core.Entry], max(minSlots, h.live*2))
	for i := range *h.slots.Load() {
		if e := (*h.slots.Load())[i].Load(); e != nil && e != removed {
			slots[find(slots, e.Hash, nil)].Store(e)
		}
	}
	h.used = h.live
	h.slots.Store(&slots)
	return slots
}
