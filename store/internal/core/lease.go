// SPDX-License-Identifier: Apache-2.0

package core

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// leases are the leases of a store, under its commit mutex. Which object is
// attached to which lease stands here, not in the entries: most objects have
// none.
type leases struct {
	byID     map[store.LeaseID]*lease
	attached map[place]*lease
	queue    leaseQueue // by the deadline that each had when it was put there
	last     store.LeaseID
	keeper   bool          // the goroutine that ends leases runs
	earlier  chan struct{} // tells it that the first deadline may have come nearer
}

// place is an object's address, whatever stands there.
type place struct {
	table *table
	key   store.Key
}

type lease struct {
	store.Lease
	deadline time.Time
	objects  map[place]struct{}
	retry    time.Time // when to try again, if the end has failed
	queued   time.Time // when the queue has it due
	index    int       // in the queue
}

// due returns when the lease is to end: at its deadline, or later where that has
// failed.
func (l *lease) due() time.Time {
	if l.retry.After(l.deadline) {
		return l.retry
	}
	return l.deadline
}

// ending is the end of a lease in a commit.
type ending struct {
	lease    *lease
	revoked  bool              // whether or not its time is up
	removals map[*Entry]*Entry // what comes in the place of its objects, as far as prepared
}

func newLeases() leases {
	return leases{
		byID:     map[store.LeaseID]*lease{},
		attached: map[place]*lease{},
		earlier:  make(chan struct{}, 1),
	}
}

// Grant implements [store.Leaser].
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	fail := func(err error) (store.Lease, error) {
		return store.Lease{}, &store.Error{Op: "grant a lease", Err: err}
	}
	if err := s.usable(ctx); err != nil {
		return fail(err)
	}
	if ttl <= 0 {
		return fail(store.Invalidf("time to live %v: want more than 0", ttl))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return fail(store.ErrClosed)
	}
	l := &s.leases
	l.last++
	granted := &lease{
		Lease:    store.Lease{ID: l.last, TTL: ttl},
		deadline: time.Now().Add(ttl),
		objects:  map[place]struct{}{},
	}
	granted.queued = granted.deadline
	l.byID[granted.ID] = granted
	heap.Push(&l.queue, granted)
	if !l.keeper { // most stores never have a lease: the first starts it
		l.keeper = true
		s.running.Go(s.keepLeases)
	}
	l.nudge()
	return granted.Lease, nil
}

// nudge makes the keeper look at the queue again.
func (l *leases) nudge() {
	select {
	case l.earlier <- struct{}{}:
	default:
	}
}

// KeepAlive implements [store.Leaser].
func (s *Store) KeepAlive(ctx context.Context, id store.LeaseID) error {
	fail := func(err error) error { return &store.Error{Op: "keep a lease alive", Err: err} }
	if err := s.usable(ctx); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.leases.held(id); err != nil {
		return fail(err)
	}
	// The queue learns of it when the old deadline comes: a lease that is kept
	// alive each second costs no more than this.
	l := s.leases.byID[id]
	l.deadline = time.Now().Add(l.TTL)
	return nil
}

// Revoke implements [store.Leaser].
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error {
	fail := func(err error) error { return &store.Error{Op: "revoke a lease", Err: err} }
	if err := s.usable(ctx); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	err := s.leases.held(id)
	l := s.leases.byID[id]
	s.mu.Unlock()
	if err != nil {
		return fail(err)
	}
	if err := s.endLease(l, true); err != nil && err != errStale { // errStale: somebody else has ended it meanwhile
		return fail(err)
	}
	return nil
}

// keepLeases ends leases whose time is up, until the store closes.
func (s *Store) keepLeases() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.leases.earlier:
		case <-timer.C:
		}
		timer.Reset(s.endExpired())
	}
}

// endExpired ends the leases whose time is up, and returns how long it is until
// the next may be.
func (s *Store) endExpired() time.Duration {
	const never = time.Hour
	for {
		s.mu.Lock()
		l, wait := s.leases.first(time.Now())
		s.mu.Unlock()
		if l == nil {
			if wait < 0 {
				wait = never
			}
			return wait
		}
		switch err := s.endLease(l, false); err {
		case nil, errStale: // look again: there may be another, or this one was kept alive
		case store.ErrClosed:
			return never
		default: // a hook panics on one of its objects, say; the other leases must not wait for it
			s.opts.Logger.Error("store: a lease can't be ended yet", "lease", l.ID, "error", err)
			s.mu.Lock()
			l.retry = time.Now().Add(time.Second)
			s.mu.Unlock()
		}
	}
}

// first returns the lease whose time is up longest, or how long it is until the
// next may be; negative where there is none.
func (l *leases) first(now time.Time) (*lease, time.Duration) {
	for len(l.queue) > 0 {
		first := l.queue[0]
		if due := first.due(); first.queued != due { // it was kept alive since, or could not be ended
			first.queued = due
			heap.Fix(&l.queue, 0)
			continue
		}
		if wait := first.queued.Sub(now); wait > 0 {
			return nil, wait
		}
		return first, 0
	}
	return nil, -1
}

// endLease deletes the objects attached to the lease and the lease itself, at
// one revision; it is errStale where the lease has ended or was kept alive. The
// copies are made without the mutex, as many as are not changed meanwhile: the
// rest in the commit, or a lease on many objects that are written to all the
// time would never end.
func (s *Store) endLease(l *lease, revoked bool) error {
	s.mu.Lock()
	attached := make(map[place]*Entry, len(l.objects))
	for at := range l.objects {
		if e := at.table.rows.Current(at.key); e != nil { // else another has ended the lease, and this will be told
			attached[at] = e
		}
	}
	s.mu.Unlock()
	removals := make(map[*Entry]*Entry, len(attached))
	for at, e := range attached {
		var err error
		if removals[e], err = s.removal(at, e); err != nil {
			return err
		}
	}
	_, err := s.commit(&commit{ends: &ending{l, revoked, removals}})
	return err
}

// removal makes what the end of a lease puts in the place of the entry.
func (s *Store) removal(at place, e *Entry) (*Entry, error) {
	s.mutation.check(e)
	p := preparer{s: s, t: at.table}
	return p.remove(e)
}

// ends returns what the end of a lease does to the objects attached to it.
func (s *Store) ends(e *ending) ([]change, error) {
	if !s.leases.stillEnds(e) {
		return nil, errStale
	}
	changes := make([]change, 0, len(e.lease.objects))
	for at := range e.lease.objects {
		c := change{table: at.table, key: at.key, old: at.table.rows.Current(at.key)}
		var prepared bool
		if c.next, prepared = e.removals[c.old]; !prepared {
			var err error
			if c.next, err = s.removal(at, c.old); err != nil {
				return nil, err
			}
		}
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b change) int { // the order of the events
		x, y := a.table.schema, b.table.schema
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Group, y.Group), a.key.Compare(b.key))
	})
	return changes, nil
}

// stillEnds reports whether the lease can end: it may have been kept alive, or
// have ended, since.
func (l *leases) stillEnds(e *ending) bool {
	return l.byID[e.lease.ID] == e.lease && (e.revoked || !time.Now().Before(e.lease.deadline))
}

// held returns an error unless the lease is held now.
func (l *leases) held(id store.LeaseID) error {
	if lease := l.byID[id]; lease != nil && time.Now().Before(lease.deadline) {
		return nil
	}
	return fmt.Errorf("%w: lease %d expired, was revoked, or never was", store.ErrLeaseLost, id)
}

// attach attaches the change's object to its lease, in place of the one it may
// have. The lease is held.
func (l *leases) attach(c *change) {
	if c.lease == 0 {
		return
	}
	l.detach(c.table, c.key)
	to, at := l.byID[c.lease], place{c.table, c.key}
	to.objects[at] = struct{}{}
	l.attached[at] = to
}

// detach forgets the attachment of an object that is removed.
func (l *leases) detach(t *table, key store.Key) {
	if len(l.attached) == 0 {
		return
	}
	at := place{t, key}
	if from := l.attached[at]; from != nil {
		delete(from.objects, at)
		delete(l.attached, at)
	}
}

// remove forgets a lease. Objects that only were marked stay, unattached.
func (l *leases) remove(gone *lease) {
	for at := range gone.objects {
		delete(l.attached, at)
	}
	delete(l.byID, gone.ID)
	heap.Remove(&l.queue, gone.index)
}

// move carries the attachments of a kind's objects over to the table that takes
// the old one's place.
func (l *leases) move(from, to *table) {
	for at, lease := range l.attached {
		if at.table != from {
			continue
		}
		next := place{to, at.key}
		delete(lease.objects, at)
		delete(l.attached, at)
		lease.objects[next] = struct{}{}
		l.attached[next] = lease
	}
}

// leaseQueue is a heap of leases by deadline.
type leaseQueue []*lease

func (q leaseQueue) Len() int           { return len(q) }
func (q leaseQueue) Less(i, j int) bool { return q[i].queued.Before(q[j].queued) }
func (q leaseQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *leaseQueue) Push(x any) {
	l := x.(*lease)
	l.index = len(*q)
	*q = append(*q, l)
}

func (q *leaseQueue) Pop() any {
	old := *q
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return l
}
