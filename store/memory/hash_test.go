// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/core"
)

func newHash() *hash {
	h := &hash{}
	h.init()
	return h
}

func keyOf(i int) store.Key {
	return store.NewKey(fmt.Sprint("ns-", i%10), fmt.Sprint("name-", i/10))
}

// TestHashModel puts, replaces and removes at random, in waves that let the table
// grow and empty itself, and compares with a map.
func TestHashModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	h, model := newHash(), map[store.Key]*core.Entry{}
	const keys = 2000
	for step := range 80_000 {
		key := keyOf(r.IntN(keys))
		growing := step/8_000%2 == 0
		old := model[key]
		if removing := r.IntN(10) < 3; old != nil && removing != growing {
			h.remove(old)
			delete(model, key)
		} else if old != nil || growing {
			e := &core.Entry{Key: key, Revision: uint64(step)}
			h.put(old, e)
			model[key] = e
		}
		probe := keyOf(r.IntN(keys))
		if got := h.get(probe); got != model[probe] {
			t.Fatalf("step %d: get(%v) = %+v, want %+v", step, probe, got, model[probe])
		}
		if step%8_000 != 7_999 {
			continue
		}
		for i := range keys {
			if got := h.get(keyOf(i)); got != model[keyOf(i)] {
				t.Fatalf("step %d: get(%v) = %+v, want %+v", step, keyOf(i), got, model[keyOf(i)])
			}
		}
		slots := len(*h.slots.Load())
		if h.live != len(model) || h.used < h.live || h.used >= slots { // a search ends at a free slot
			t.Fatalf("step %d: %d live, %d used of %d slots, want %d live", step, h.live, h.used, slots, len(model))
		}
	}
}

// TestHashOfRemoved fills the table with what was removed: a search for a key that
// is not there must end all the same, and the table must not grow for it.
func TestHashOfRemoved(t *testing.T) {
	h := newHash()
	for i := range 100_000 {
		e := &core.Entry{Key: keyOf(i)}
		h.put(nil, e)
		h.remove(e)
	}
	if got := h.get(keyOf(1)); got != nil {
		t.Errorf("get of a removed key = %+v", got)
	}
	if slots := len(*h.slots.Load()); slots > 4*minSlots {
		t.Errorf("the empty table has %d slots", slots)
	}
}

// TestHashTwoKeysOfOneSum plants an entry where a search for another key looks.
func TestHashTwoKeysOfOneSum(t *testing.T) {
	h := newHash()
	a, b := &core.Entry{Key: keyOf(1)}, &core.Entry{Key: keyOf(2), Hash: h.sum(keyOf(1))}
	slots := *h.slots.Load()
	slots[find(slots, b.Hash, nil)].Store(b)
	if got := h.get(a.Key); got != nil {
		t.Errorf("get(%v) = %+v, which is another key", a.Key, got)
	}
	h.put(nil, a)
	if got := h.get(a.Key); got != a {
		t.Errorf("get(%v) = %+v, want %+v", a.Key, got, a)
	}
	h.remove(a)
	if got := h.get(a.Key); got != nil {
		t.Errorf("get(%v) = %+v after it was removed", a.Key, got)
	}
}

// TestHashConcurrent has readers look for keys while a writer replaces some and
// adds and removes others: a key that is always there is always found, in
// versions that never go back.
func TestHashConcurrent(t *testing.T) {
	const steady = 50
	h := newHash()
	present := map[store.Key]*core.Entry{}
	put := func(key store.Key, revision uint64) {
		e := &core.Entry{Key: key, Revision: revision}
		h.put(present[key], e)
		present[key] = e
	}
	for i := range steady {
		put(keyOf(i), 1)
	}
	var done atomic.Bool
	var readers sync.WaitGroup
	for n := range 4 {
		readers.Go(func() {
			var seen [steady]uint64
			r := rand.New(rand.NewPCG(uint64(n), 0))
			for !done.Load() {
				i := r.IntN(steady)
				e := h.get(keyOf(i))
				if e == nil || e.Key != keyOf(i) || e.Revision < seen[i] {
					panic(fmt.Sprintf("get(%v) = %+v after version %d", keyOf(i), e, seen[i]))
				}
				seen[i] = e.Revision
				other := keyOf(steady + r.IntN(2000))
				if e := h.get(other); e != nil && e.Key != other {
					panic(fmt.Sprintf("get(%v) = %+v", other, e))
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(9, 9))
	for revision := range uint64(15_000) {
		put(keyOf(r.IntN(steady)), revision+2)
		key := keyOf(steady + r.IntN(2000))
		if old := present[key]; old != nil && r.IntN(2) == 0 {
			h.remove(old)
			delete(present, key)
		} else {
			put(key, revision+2)
		}
	}
	done.Store(true)
	readers.Wait()
}
