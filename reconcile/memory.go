// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// enter notes that a key is worked on.
func (c *Controller[K]) enter(key K, a *activity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.lasting = c.lasting[key]
	delete(c.lasting, key)
	c.running[key] = a
}

// leave notes what the work on a key has written, and returns how many times in
// a row now the key has run, and written, with no other cause than the
// controller's own writes.
func (c *Controller[K]) leave(key K, r *Reconciled) (loop int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, key)
	c.settle(key)
	last := c.last.get(key)
	if last != nil && len(r.Wrote) > 0 && c.own.causedAll(r.Causes) {
		loop = last.loop + 1
	}
	for _, w := range r.Wrote {
		c.own.add(w)
		c.written[w.Kind] = max(c.written[w.Kind], w.Revision)
	}
	c.last.put(key, lastRun{Reconciled: *r, ended: time.Now(), loop: loop})
	return loop
}

// settle notes that a key of those found at the start has been worked on. The
// caller holds c.mu.
func (c *Controller[K]) settle(key K) {
	if c.found == nil {
		return
	}
	delete(c.found, key)
	if len(c.found) > 0 {
		return
	}
	select {
	case <-c.settled:
	default:
		close(c.settled)
	}
}

// inProgress names the keys that are worked on.
func (c *Controller[K]) inProgress() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, a := range c.running {
		names = append(names, a.running.Key)
	}
	slices.Sort(names)
	return "the reconcile of " + strings.Join(names, ", ")
}

// ownWrites are a controller's latest writes, by which it knows its own echo.
type ownWrites struct {
	known map[echo]bool
	order []echo // a ring, the oldest at next
	next  int
}

// echo is what the cause of a reconcile says about a write.
type echo struct {
	kind     store.KindName
	key      store.Key
	revision uint64
}

// ownWritesKept bounds the memory of one's own writes: an echo that takes longer
// counts as a cause from outside, so a loop may go unreported, never the reverse.
const ownWritesKept = 1024

func newOwnWrites() ownWrites {
	return ownWrites{known: map[echo]bool{}}
}

func (o *ownWrites) add(w Written) {
	e := echo{w.Kind, w.Key, w.Revision}
	if o.known[e] {
		return
	}
	o.known[e] = true
	if len(o.order) < ownWritesKept {
		o.order = append(o.order, e)
		return
	}
	delete(o.known, o.order[o.next])
	o.order[o.next] = e
	o.next = (o.next + 1) % ownWritesKept
}

// causedAll reports whether the controller's own writes are all there is to the
// causes.
func (o *ownWrites) causedAll(causes []Cause) bool {
	for _, c := range causes {
		if !o.known[echo{c.Kind, c.Key, c.Revision}] {
			return false
		}
	}
	return len(causes) > 0
}

// lastRun is how the work on a key ended last.
type lastRun struct {
	Reconciled
	ended time.Time
	loop  int
}

// lastRuns are the last runs of a bounded number of keys: the keys that came
// first are forgotten first.
type lastRuns[K comparable] struct {
	runs  map[K]*lastRun
	order []K // a ring, the oldest at next
	next  int
	limit int
}

func newLastRuns[K comparable](limit int) lastRuns[K] {
	return lastRuns[K]{runs: map[K]*lastRun{}, limit: limit}
}

func (l *lastRuns[K]) get(key K) *lastRun { return l.runs[key] }

func (l *lastRuns[K]) put(key K, r lastRun) {
	if old := l.runs[key]; old != nil {
		*old = r
		return
	}
	l.runs[key] = &r
	if len(l.order) < l.limit {
		l.order = append(l.order, key)
		return
	}
	delete(l.runs, l.order[l.next])
	l.order[l.next] = key
	l.next = (l.next + 1) % l.limit
}
