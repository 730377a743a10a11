// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"slices"
	"time"
)

// Get waits for a key that is ready and hands it out. The key is running then,
// until exactly one call of Done, Again, Retry or Park ends that. Get returns
// [ErrShutDown] when no more will come, and the context's cause when that has
// ended; it takes no key then.
func (q *Queue[K]) Get(ctx context.Context) (Item[K], error) {
	if ctx.Err() != nil {
		return Item[K]{}, context.Cause(ctx)
	}
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		q.agenda.advance(now)
		if item, ok := q.agenda.take(); ok {
			q.wake()
			return item, nil
		}
		if q.agenda.drained() {
			q.wake()
			return Item[K]{}, ErrShutDown
		}
		if !q.sleep(ctx) {
			q.wake()
			return Item[K]{}, context.Cause(ctx)
		}
		now = q.now()
	}
}

// A waiter is a worker in Get that found nothing.
type waiter struct {
	called chan struct{} // one call
}

// sleep waits, without the lock, until the worker is called; it returns false if
// the context ended.
func (q *Queue[K]) sleep(ctx context.Context) (called bool) {
	w := q.newWaiter()
	q.waiting = append(q.waiting, w)
	q.arm()
	q.mu.Unlock()
	called = true
	select {
	case <-w.called:
	case <-ctx.Done():
		called = false
	}
	q.mu.Lock()
	if i := slices.Index(q.waiting, w); i >= 0 { // only if it was not called
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.spare = append(q.spare, w)
		return false
	}
	q.waking--
	if !called {
		<-w.called // the call came with the end of the context
	}
	q.spare = append(q.spare, w)
	return called
}

func (q *Queue[K]) newWaiter() *waiter {
	n := len(q.spare)
	if n == 0 {
		return &waiter{called: make(chan struct{}, 1)}
	}
	w := q.spare[n-1]
	q.spare = q.spare[:n-1]
	return w
}

// wake calls a worker if there is something for it. Whoever changes the agenda
// calls wake afterwards, and so does a worker that was called, once it has looked:
// so while there are keys ready and workers waiting, one is on its way. That one is
// enough, for it calls the next. It saves waking a worker for each of many keys
// that are added at once, which the first would have taken before the others woke.
func (q *Queue[K]) wake() {
	switch {
	case len(q.waiting) == 0:
	case q.agenda.drained():
		for len(q.waiting) > 0 {
			q.call()
		}
	case q.agenda.ready.n > 0:
		if q.waking == 0 {
			q.call()
		}
	default:
		q.arm()
	}
}

// call has a waiting worker look.
func (q *Queue[K]) call() {
	n := len(q.waiting)
	w := q.waiting[n-1]
	q.waiting[n-1] = nil
	q.waiting = q.waiting[:n-1]
	q.waking++
	w.called <- struct{}{}
}

// arm sets the timer to the next deadline. Only a waiting worker needs it: every
// call into the queue sees to the deadlines that have passed. A timer that would
// fire too early is left alone: it is set again when it does.
func (q *Queue[K]) arm() {
	next := q.agenda.deadline()
	if next >= q.alarm || next == never {
		return
	}
	q.alarm = next
	d := max(time.Duration(next-q.now()), 0)
	if q.timer == nil {
		q.timer = time.AfterFunc(d, q.ring)
	} else {
		q.timer.Reset(d)
	}
}

// ring is what the timer does.
func (q *Queue[K]) ring() {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alarm = never
	q.agenda.advance(now)
	q.wake()
}

// ShutDown lets the queue run dry: nothing can be added any more, delayed adds are
// dropped, and when the keys that are ready have been handed out, Get returns
// ErrShutDown. A key that was added again while running is handed out once more
// after its run; one that fails is not. Adding after ShutDown does nothing. A second
// call does nothing.
func (q *Queue[K]) ShutDown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.agenda.shutDown()
	q.disarm()
	q.wake()
}

// Stop is ShutDown without the keys that are ready: Get returns ErrShutDown at
// once. The runs in progress still end with Done, Again, Retry or Park. A second
// call does nothing.
func (q *Queue[K]) Stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.agenda.stop()
	q.disarm()
	q.wake()
}

func (q *Queue[K]) disarm() {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.alarm = never
}
