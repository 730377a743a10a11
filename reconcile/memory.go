// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
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

// note notes what the work on a key has written, before the key can run again. It
// counts how many times in a row now the key has run, and written, with no other
// cause than the controller's own writes.
func (c *Controller[K]) note(key K, r Reconciled, blind []Written) *lastRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := &lastRun{Reconciled: r, ended: time.Now()}
	last := c.last.get(key)
	if last != nil && len(r.Wrote) > 0 && c.own.causedAll(r.Causes) {
		run.loop = last.loop + 1
	}
	for _, w := range r.Wrote {
		if !slices.Contains(blind, w) {
			c.own.add(key, w)
		}
		c.written[w.Kind] = max(c.written[w.Kind], w.Revision)
	}
	c.last.put(key, run)
	return run
}

// leave notes that a key is no longer worked on, and how that ended.
func (c *Controller[K]) leave(key K, a *activity, run *lastRun, outcome Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	run.Outcome = outcome
	if c.running[key] == a { // it may be worked on again already
		delete(c.running, key)
	}
	c.settle(key)
}

// settle notes that a key of those found at the start has been worked on. The
// caller holds c.mu.
func (c *Controller[K]) settle(key K) {
	if c.found == nil {
		return
	}
	delete(c.found, key)
	c.settleIfEmpty()
}

// settleIfEmpty closes settled once nothing is left of what was found. The caller
// holds c.mu.
func (c *Controller[K]) settleIfEmpty() {
	if len(c.found) > 0 {
		return
	}
	select {
	case <-c.settled:
	default:
		close(c.settled)
	}
}

// abandon gives up the work that is in progress, and names it.
func (c *Controller[K]) abandon() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, a := range c.running {
		a.abandon()
		names = append(names, a.running.Key)
	}
	slices.Sort(names)
	return "the reconcile of " + strings.Join(names, ", ")
}

// healthy reports the reconciles that went on after the end of their contexts for
// longer than the controller's patience; nil where there are none.
func (c *Controller[K]) healthy() error {
	limit := c.opts.limit()
	if limit == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var stuck []error
	for _, a := range c.running {
		if took := time.Since(a.begun); took >= limit {
			stuck = append(stuck, fmt.Errorf("controller %s: %s has been worked on for %v: %w", c.name, a.running.Key, took.Round(time.Second), ErrStuck))
		}
	}
	return errors.Join(stuck...)
}

// ownWrites are a controller's latest writes, by which it knows its own echo,
// with the key that each was made for.
type ownWrites[K comparable] struct {
	known map[echo]K
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

func newOwnWrites[K comparable]() ownWrites[K] {
	return ownWrites[K]{known: map[echo]K{}}
}

func (o *ownWrites[K]) add(by K, w Written) {
	e := echo{w.Kind, w.Key, w.Revision}
	if _, ok := o.known[e]; ok {
		return
	}
	o.known[e] = by
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
func (o *ownWrites[K]) causedAll(causes []Cause) bool {
	for _, c := range causes {
		if _, ok := o.known[echo{c.Kind, c.Key, c.Revision}]; !ok {
			return false
		}
	}
	return len(causes) > 0
}

// isEcho reports whether the cause is what a run of this very key has written:
// no news to it.
func (c *Controller[K]) isEcho(key K, cause Cause) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, ok := c.own.known[echo{cause.Kind, cause.Key, cause.Revision}]
	return ok && by == key
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

func (l *lastRuns[K]) put(key K, r *lastRun) {
	_, known := l.runs[key]
	l.runs[key] = r
	if known {
		return
	}
	if len(l.order) < l.limit {
		l.order = append(l.order, key)
		return
	}
	delete(l.runs, l.order[l.next])
	l.order[l.next] = key
	l.next = (l.next + 1) % l.limit
}
