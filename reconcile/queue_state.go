// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"iter"
	"slices"
	"time"
)

// A Phase is what a key of a queue is at present.
type Phase uint8

const (
	// PhaseIdle: it has failed, but nothing is to be done about it: its retry was
	// canceled, or the queue is shut down.
	PhaseIdle Phase = iota
	// PhaseWaiting: it waits for its deadline.
	PhaseWaiting
	// PhaseReady: it waits for a worker.
	PhaseReady
	// PhaseRunning: a worker has it.
	PhaseRunning
	// PhaseParked: it is out of the way until somebody brings it back.
	PhaseParked
)

// String returns "idle", "waiting", "ready", "running" or "parked".
func (p Phase) String() string {
	return [...]string{"idle", "waiting", "ready", "running", "parked"}[p]
}

// State is what a queue knows of a key.
type State[K comparable] struct {
	Key   K
	Phase Phase
	// Since is when the phase began. The age of a key that is ready is the time
	// since then.
	Since time.Time
	// Added says that there is to be another run: of a key that is running, that it
	// was added again.
	Added bool
	// Until is the deadline of what was added; zero where it has none, or has
	// reached it.
	Until time.Time
	// Attempts is how many times in a row the key has failed, and LastError what
	// the last of these failures was, as told to Retry or Park.
	Attempts  int
	LastError error
	Priority  Priority
	Tenant    string // QueueOptions.Tenant of the key
	// Causes are why the key is running or, when parked, why it last ran; else, why
	// it was added. Pending are why it was added again since. MoreCauses counts those
	// of either that were not kept.
	Causes     []Cause
	Pending    []Cause
	MoreCauses int
}

// Explain returns what the queue knows of a key; ok is false if that is nothing.
func (q *Queue[K]) Explain(key K) (state State[K], ok bool) {
	hash := q.hash(key)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance()
	e := q.agenda.keys.find(hash, key)
	if e == nil {
		return State[K]{}, false
	}
	return q.agenda.state(e, time.Now()), true
}

// All yields every key that the queue knows something of, in no order. The states
// are of one moment, that of the call of the iterator: it copies them first, so
// what is done in the loop may use the queue.
func (q *Queue[K]) All() iter.Seq[State[K]] {
	return func(yield func(State[K]) bool) {
		for _, s := range q.states() {
			if !yield(s) {
				return
			}
		}
	}
}

func (q *Queue[K]) states() []State[K] {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance()
	now := time.Now()
	states := make([]State[K], 0, q.agenda.keys.n)
	for e := range q.agenda.keys.all() {
		states = append(states, q.agenda.state(e, now))
	}
	return states
}

// advance sees to the deadlines that have passed; the lock is held.
func (q *Queue[K]) advance() {
	q.agenda.advance(q.now())
	q.wake()
}

// Counts says how many keys a queue has of each phase.
type Counts struct {
	Idle, Waiting, Ready, Running, Parked int
}

// Counts returns how many keys the queue has of each phase. A key that is running
// counts once, whether it was added again or not.
func (q *Queue[K]) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance()
	return q.agenda.counts()
}

// Len returns how many keys are ready.
func (q *Queue[K]) Len() int { return q.Counts().Ready }

func (a *agenda[K]) counts() Counts {
	c := Counts{Waiting: a.waiting.len() - a.later, Ready: a.ready.n, Running: a.running, Parked: a.parked}
	c.Idle = a.keys.n - c.Waiting - c.Ready - c.Running - c.Parked
	return c
}

func (a *agenda[K]) phase(e *entry[K]) Phase {
	switch {
	case e.is(running):
		return PhaseRunning
	case e.is(parked):
		return PhaseParked
	case e.pending == due:
		return PhaseReady
	case e.pending == delayed:
		return PhaseWaiting
	}
	return PhaseIdle
}

// state describes an entry; now is the time of day at a.now.
func (a *agenda[K]) state(e *entry[K], now time.Time) State[K] {
	s := State[K]{
		Key: e.key, Phase: a.phase(e), Since: now.Add(time.Duration(e.since - a.now)),
		Added: e.pending != nothing, Attempts: int(e.attempts), Priority: e.priority, Tenant: e.tenant.name,
	}
	if e.pending == delayed {
		s.Until = now.Add(time.Duration(a.waiting.at(e) - a.now))
	}
	if d := e.detail; d != nil {
		s.LastError = d.err
		s.Causes, s.Pending = slices.Clone(d.run), slices.Clone(d.pending)
		s.MoreCauses = int(d.runMore) + int(d.pendingMore)
	}
	if !e.is(running | parked) {
		s.Causes, s.Pending = s.Pending, nil
	}
	return s
}
