// SPDX-License-Identifier: Apache-2.0

package core

import (
	"sync"

	"github.com/slipway-dev/slipway/store"
)

// hub lets the watchers of one kind sleep until there is something for them.
//
// A commit costs the same however many sleep: it takes the whole list of
// sleepers and wakes the first two, who wake two more each, and so on. Watchers of one name, one value of an index or one namespace sleep
// in lists of their own, so that a commit wakes nobody whom it does not concern.
type hub struct {
	mu       sync.Mutex
	all      bed
	scoped   map[scope]*bed
	notified uint64 // position in the log up to which sleepers were told
}

// scope is what a watcher waits for, if it is less than the whole kind.
type scope struct {
	by   int // scopeKey, scopeNamespace, or the number of an index
	a, b string
}

const (
	scopeKey       = -1
	scopeNamespace = -2
)

// bed is a list of sleepers that one commit wakes together.
type bed struct {
	sleepers []*sleeper
	turn     uint64 // counts wakings: a sleeper of another turn is not in the list
}

// sleeper is a watcher's place in its hub.
type sleeper struct {
	scope  scope
	scoped bool
	alarm  chan struct{} // of capacity 1: exactly one token for each sleep

	// Under the hub's mutex. The sleeper sleeps while its turn is its bed's.
	bed   *bed
	turn  uint64
	place int

	// Written by the waker before the alarm, read by the sleeper after it.
	resume uint64     // where the log begins to be of interest again
	others []*sleeper // to be woken by this one
}

func newSleeper(f *filter) *sleeper {
	z := &sleeper{alarm: make(chan struct{}, 1), scoped: true}
	switch {
	case f.name != "" && (f.namespace != "" || f.cluster):
		z.scope = scope{scopeKey, f.namespace, f.name}
		return z
	case len(f.fields) > 0:
		for _, t := range f.fields {
			if t.nth >= 0 && !t.not {
				z.scope = scope{t.nth, t.value, ""}
				return z
			}
		}
	}
	if f.namespace != "" {
		z.scope = scope{by: scopeNamespace, a: f.namespace}
		return z
	}
	z.scoped = false
	return z
}

// sleep returns once something wakes z. awake is asked under the hub's mutex
// whether there is a reason not to fall asleep; every waker takes that mutex
// after it has made its reason visible, so that none is missed.
func (h *hub) sleep(z *sleeper, awake func() bool) {
	h.mu.Lock()
	if awake() {
		h.mu.Unlock()
		return
	}
	b := &h.all
	if z.scoped {
		if b = h.scoped[z.scope]; b == nil {
			if h.scoped == nil {
				h.scoped = map[scope]*bed{}
			}
			b = &bed{}
			h.scoped[z.scope] = b
		}
	}
	z.bed, z.turn, z.place = b, b.turn, len(b.sleepers)
	b.sleepers = append(b.sleepers, z)
	h.mu.Unlock()

	<-z.alarm
	others := z.others
	z.others = nil
	rouse(others, z.resume)
}

// rouse wakes two sleepers, who wake the others.
func rouse(group []*sleeper, resume uint64) {
	if len(group) == 0 {
		return
	}
	half := (len(group) + 1) / 2
	for _, part := range [][]*sleeper{group[:half], group[half:]} {
		if len(part) > 0 {
			z := part[0]
			z.resume, z.others = resume, part[1:]
			z.alarm <- struct{}{}
		}
	}
}

// notify wakes those whom the table's commit concerns, and tells them from
// where in the log: nothing before that is for them.
func (h *hub) notify(t *table) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from, end := t.first, t.log.fill
	h.notified = end
	h.rouseBed(&h.all, from)
	if len(h.scoped) == 0 {
		return
	}
	head := t.log.head.Load()
	for pos := from; pos < end; pos++ {
		ev := head.at(pos)
		h.rouseFor(t.schema, ev.next, from)
		if ev.old != nil {
			h.rouseFor(t.schema, ev.old, from)
		}
	}
}

// rouseFor wakes those who wait for one of the entry's scopes.
func (h *hub) rouseFor(schema *store.Schema, e *Entry, from uint64) {
	h.rouseScope(scope{scopeKey, e.Key.Namespace, e.Key.Name}, from)
	h.rouseScope(scope{by: scopeNamespace, a: e.Key.Namespace}, from)
	for i, x := range schema.Indexes {
		if x.One != nil {
			h.rouseScope(scope{i, x.One(e.Object), ""}, from)
			continue
		}
		for _, value := range x.Many(e.Object) {
			h.rouseScope(scope{i, value, ""}, from)
		}
	}
}

func (h *hub) rouseScope(sc scope, from uint64) {
	if b := h.scoped[sc]; b != nil {
		delete(h.scoped, sc)
		h.rouseBed(b, from)
	}
}

func (h *hub) rouseBed(b *bed, from uint64) {
	group := b.sleepers
	b.sleepers = nil
	b.turn++
	rouse(group, from)
}

// wake wakes one sleeper, if it sleeps. What the hub was told of before that is
// not for it.
func (h *hub) wake(z *sleeper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := z.bed
	if b == nil || z.turn != b.turn {
		return // awake, or being woken
	}
	last := len(b.sleepers) - 1
	b.sleepers[z.place] = b.sleepers[last]
	b.sleepers[z.place].place = z.place
	b.sleepers[last] = nil
	b.sleepers = b.sleepers[:last]
	if last == 0 && z.scoped {
		delete(h.scoped, z.scope)
	}
	z.turn-- // no longer of the bed's turn
	z.resume = h.notified
	z.alarm <- struct{}{}
}

// wakeAll wakes everyone: the store closes, or the kind goes.
func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rouseBed(&h.all, h.notified)
	for sc, b := range h.scoped {
		delete(h.scoped, sc)
		h.rouseBed(b, h.notified)
	}
}
