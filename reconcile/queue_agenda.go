// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"math"
	"time"
)

// An agenda is a queue's state and its rules, without clock, lock or goroutines:
// what is done to it happens at the time that it was last advanced to.
type agenda[K comparable] struct {
	now         int64 // ns; it never goes back
	keys        table[K]
	ready       readyList[K]
	waiting     deadlines[K]
	tenants     tenants[K]
	limiter     limiter
	maxAttempts int
	maxWait     int64
	echo        func(K, Cause) bool // QueueOptions.Echo

	running int  // entries that are running
	again   int  // of these, those that become ready when the run ends
	later   int  // and those that wait for a deadline
	parked  int  // entries that are parked
	closed  bool // ShutDown or Stop was called
}

func newAgenda[K comparable](l limiter, maxAttempts int, maxWait time.Duration) agenda[K] {
	return agenda[K]{limiter: l, maxAttempts: maxAttempts, maxWait: int64(maxWait)}
}

// advance moves the time on, and makes ready what has reached its deadline. now
// may be a little earlier than it was in the call before, for callers read the
// clock before they take the lock.
func (a *agenda[K]) advance(now int64) {
	a.now = max(a.now, now)
	for a.waiting.next() <= a.now && a.waiting.len() > 0 {
		e, at := a.waiting.first(), a.waiting.next()
		a.unwait(e)
		a.makeReady(e, at)
	}
}

// deadline returns when advance will make something ready.
func (a *agenda[K]) deadline() int64 { return a.waiting.next() }

// when says what an add does to the deadline of an entry.
type when uint8

const (
	notLater  when = iota // it becomes at, unless it is earlier
	notBefore             // it becomes at
	limited               // notLater than the backoff and the overall limit allow
)

// addReady is add for a key that is ready already, and so is most of what happens
// to a busy queue: it needs no clock, which would take as long as the rest. It
// returns false if there is more to do.
func (a *agenda[K]) addReady(key K, hash uint32, w when, o *AddOptions) bool {
	e := a.keys.find(hash, key)
	if e == nil || e.pending != due || w != notLater || o.priority() > e.priority || !o.KeepBackoff && !e.is(news) || a.closed {
		return false
	}
	e.note(&o.Cause)
	return true
}

// add is all of the Add methods; at is not before now.
func (a *agenda[K]) add(key K, hash uint32, tenant string, w when, at int64, o *AddOptions) {
	if a.closed {
		return
	}
	e := a.keys.find(hash, key)
	if e == nil {
		e = a.insert(key, hash, tenant)
	}
	e.note(&o.Cause)
	if e.is(parked) {
		if o.KeepBackoff {
			return
		}
		a.unpark(e)
	}
	a.prioritise(e, o.priority())
	e.set(news, e.is(news) || !o.KeepBackoff)
	if e.is(backingOff) && (o.KeepBackoff || w == limited) {
		return
	}
	if w != limited {
		a.schedule(e, w, at)
		return
	}
	if e.is(running) && !e.is(failed) || !e.is(running) && e.pending == nothing {
		a.fail(e)
	}
	if e.pending == due {
		return
	}
	at = a.limiter.after(a.now, int(e.attempts))
	a.schedule(e, notLater, at)
	e.set(backingOff, e.pending == delayed && a.waiting.at(e) == at)
}

// insert makes an entry, without anything pending.
func (a *agenda[K]) insert(key K, hash uint32, tenant string) *entry[K] {
	e := a.keys.insert(hash, key)
	e.tenant = a.tenants.join(tenant)
	return e
}

// schedule sets the deadline of what is pending.
func (a *agenda[K]) schedule(e *entry[K], w when, at int64) {
	was := e.pending
	switch was {
	case due:
		if w != notBefore || at <= a.now {
			return
		}
		a.unready(e)
	case delayed:
		if w != notBefore && a.waiting.at(e) <= at {
			return
		}
		a.unwait(e)
	}
	if at <= a.now {
		a.makeReady(e, a.now)
		return
	}
	if was != delayed && !e.is(running) {
		e.since = a.now
	}
	a.wait(e, at)
}

// wait lets the entry wait for its deadline.
func (a *agenda[K]) wait(e *entry[K], at int64) {
	e.pending = delayed
	a.waiting.push(e, at)
	if e.is(running) {
		a.later++
	}
}

// unwait takes back wait.
func (a *agenda[K]) unwait(e *entry[K]) {
	e.pending = nothing
	e.flags &^= backingOff
	a.waiting.remove(e)
	if e.is(running) {
		a.later--
	}
}

// makeReady lets the key be handed out, or, if it is running, when its run ends.
// It has been so since then; nobody may have looked at the deadlines meanwhile.
func (a *agenda[K]) makeReady(e *entry[K], since int64) {
	e.pending = due
	if e.is(running) {
		a.again++
		return
	}
	e.since = since
	a.ready.push(e)
}

// unready takes back makeReady.
func (a *agenda[K]) unready(e *entry[K]) {
	e.pending = nothing
	if e.is(running) {
		a.again--
		return
	}
	a.ready.remove(e)
}

// prioritise gives the entry a priority for what is added now: of several adds,
// the highest counts.
func (a *agenda[K]) prioritise(e *entry[K], p Priority) {
	switch {
	case e.pending == nothing:
		e.priority = p
	case p <= e.priority:
	case e.pending == due && !e.is(running):
		a.ready.raise(e, p)
	default:
		e.priority = p
	}
}

// take begins the run of the key whose turn it is; ok is false if none is ready.
func (a *agenda[K]) take() (item Item[K], ok bool) {
	e := a.ready.choose(a.now, a.maxWait)
	if e == nil {
		return item, false
	}
	a.ready.remove(e)
	e.pending = nothing
	item = Item[K]{Key: e.key, Attempts: int(e.attempts), Priority: e.priority, Waited: time.Duration(a.now - e.since)}
	item.Causes, item.MoreCauses = e.handOut()
	e.flags = running
	e.since = a.now
	a.running++
	return item, true
}

// endRun ends the run but for what is pending then.
func (a *agenda[K]) endRun(e *entry[K]) {
	e.flags &^= running
	e.since = a.now
	a.running--
	switch e.pending {
	case due:
		a.again--
		a.ready.push(e)
	case delayed:
		a.later--
	}
}

// done ends a run that succeeded, or of which AddRateLimited said that it failed.
func (a *agenda[K]) done(e *entry[K]) {
	if !e.is(failed) {
		e.forget()
	}
	e.endCauses()
	a.endRun(e)
	a.release(e)
}

// repeat ends a run that succeeded and is to be repeated.
func (a *agenda[K]) repeat(e *entry[K], d time.Duration) {
	e.forget()
	e.endCauses()
	a.endRun(e)
	if !a.closed {
		a.prioritise(e, PriorityNormal)
		e.flags |= repeated
		a.schedule(e, notLater, dueAt(a.now, d))
	}
	a.release(e)
}

// retry ends a run that failed.
func (a *agenda[K]) retry(e *entry[K], err error) (isParked bool) {
	a.failRun(e, err)
	if a.maxAttempts > 0 && int(e.attempts) >= a.maxAttempts {
		return a.setAside(e)
	}
	a.endRun(e)
	if a.closed {
		e.endCauses()
		return false
	}
	if a.isEcho(e) {
		e.flags &^= news
	}
	e.keepCauses()
	e.flags |= retried
	if e.pending == due && e.is(news) || e.is(backingOff) {
		return false
	}
	w := notLater
	if !e.is(news) {
		w = notBefore // what was added does not shorten the backoff
	}
	at := a.limiter.after(a.now, int(e.attempts))
	a.schedule(e, w, at)
	e.set(backingOff, e.pending == delayed && a.waiting.at(e) == at)
	return false
}

// isEcho reports whether all that was added during the run is its own doing.
func (a *agenda[K]) isEcho(e *entry[K]) bool {
	d := e.detail
	if a.echo == nil || d == nil || d.pendingMore > 0 {
		return false
	}
	for _, c := range d.pending {
		if !a.echo(e.key, c) {
			return false
		}
	}
	return len(d.pending) > 0
}

// park ends a run that failed for good.
func (a *agenda[K]) park(e *entry[K], err error) {
	a.failRun(e, err)
	a.setAside(e)
}

// setAside ends the run and parks the key, unless there was news during the run.
func (a *agenda[K]) setAside(e *entry[K]) (isParked bool) {
	if a.isEcho(e) {
		e.flags &^= news
	}
	if e.pending != nothing && e.is(news) {
		e.forget()
		e.endCauses()
		a.endRun(e)
		return false
	}
	a.withdraw(e)
	a.endRun(e)
	e.flags |= parked
	a.parked++
	return true
}

// unpark takes the key back among the others; its failures are forgotten.
func (a *agenda[K]) unpark(e *entry[K]) {
	e.flags = 0
	e.forget()
	e.endCauses()
	a.parked--
}

func (a *agenda[K]) unparkKey(key K, hash uint32) bool {
	e := a.keys.find(hash, key)
	if e == nil || !e.is(parked) || a.closed {
		return false
	}
	a.unpark(e)
	a.prioritise(e, PriorityNormal)
	e.flags |= news
	a.makeReady(e, a.now)
	return true
}

func (a *agenda[K]) cancel(key K, hash uint32) bool {
	e := a.keys.find(hash, key)
	if e == nil || e.pending != delayed {
		return false
	}
	a.drop(e)
	return true
}

// withdraw takes back what is pending.
func (a *agenda[K]) withdraw(e *entry[K]) {
	switch e.pending {
	case due:
		a.unready(e)
	case delayed:
		a.unwait(e)
	}
	e.flags &^= news | retried | repeated
	if !e.is(running) {
		e.since = a.now
	}
}

// drop gives up what is pending, and the entry if there is nothing else.
func (a *agenda[K]) drop(e *entry[K]) {
	a.withdraw(e)
	e.cancelCauses()
	a.release(e)
}

func (a *agenda[K]) forget(key K, hash uint32) {
	if e := a.keys.find(hash, key); e != nil {
		e.forget()
		a.release(e)
	}
}

// fail counts a failure of the key.
func (a *agenda[K]) fail(e *entry[K]) {
	e.attempts = uint32(min(uint64(e.attempts)+1, math.MaxUint32))
	e.flags |= failed
}

// failRun counts the failure of a run, if AddRateLimited has not.
func (a *agenda[K]) failRun(e *entry[K], err error) {
	if !e.is(failed) || e.attempts == 0 {
		a.fail(e)
	}
	e.setErr(err)
}

// release gives up an entry about which there is nothing to know any more.
func (a *agenda[K]) release(e *entry[K]) {
	if e.pending == nothing && e.flags&(running|parked) == 0 && e.attempts == 0 {
		a.tenants.leave(e.tenant)
		a.keys.remove(e)
	}
}

func (a *agenda[K]) shutDown() {
	if a.closed {
		return
	}
	a.closed = true
	for a.waiting.len() > 0 {
		a.drop(a.waiting.first())
	}
}

func (a *agenda[K]) stop() {
	a.shutDown()
	for a.ready.n > 0 {
		a.drop(a.ready.oldest)
	}
	for e := range a.keys.all() {
		if e.pending == due { // and running: so the entry stays
			a.drop(e)
		}
	}
}

// drained reports whether nothing will become ready any more.
func (a *agenda[K]) drained() bool { return a.closed && a.ready.n == 0 && a.again == 0 }
