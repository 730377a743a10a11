// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"sync"
	"time"
)

// gcQueue is the objects that the collector has to look at: each once, oldest
// first, and never by two workers at once.
type gcQueue struct {
	mu      sync.Mutex
	ready   []string
	state   map[string]gcEntry
	failed  map[string]gcFailure
	waiting chan struct{} // closed when something is ready, and replaced
}

type gcEntry struct {
	queued  bool
	running bool
}

type gcFailure struct {
	pause time.Duration
	due   time.Time // zero: it has been put back
}

const maxGCPause = time.Minute

func newGCQueue() *gcQueue {
	return &gcQueue{state: map[string]gcEntry{}, failed: map[string]gcFailure{}, waiting: make(chan struct{})}
}

func (q *gcQueue) add(uids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, uid := range uids {
		q.addLocked(uid)
	}
}

func (q *gcQueue) addLocked(uid string) {
	e := q.state[uid]
	if e.queued {
		return
	}
	e.queued = true
	q.state[uid] = e
	if !e.running {
		q.push(uid)
	}
}

func (q *gcQueue) push(uid string) {
	if q.ready = append(q.ready, uid); len(q.ready) == 1 {
		close(q.waiting)
		q.waiting = make(chan struct{})
	}
}

// next waits for an object to look at. It is the caller's until done or retry.
func (q *gcQueue) next(ctx context.Context) (uid string, ok bool) {
	for ctx.Err() == nil {
		q.mu.Lock()
		if len(q.ready) > 0 {
			uid = q.ready[0]
			q.ready = q.ready[1:]
			q.state[uid] = gcEntry{running: true}
			if len(q.ready) > 0 { // another worker may be asleep
				close(q.waiting)
				q.waiting = make(chan struct{})
			}
			q.mu.Unlock()
			return uid, true
		}
		waiting := q.waiting
		q.mu.Unlock()
		select {
		case <-waiting:
		case <-ctx.Done():
		}
	}
	return "", false
}

// done ends the work on an object that succeeded.
func (q *gcQueue) done(uid string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.failed, uid)
	q.release(uid)
}

// retry ends the work on an object that failed: it is put back after a pause,
// which doubles each time.
func (q *gcQueue) retry(uid string, now time.Time, first time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pause := min(max(2*q.failed[uid].pause, first), maxGCPause)
	q.failed[uid] = gcFailure{pause, now.Add(pause)}
	q.release(uid)
}

// postpone ends the work on an object that can't be decided on yet: it is put
// back after the pause.
func (q *gcQueue) postpone(uid string, now time.Time, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failed[uid] = gcFailure{due: now.Add(pause)}
	q.release(uid)
}

func (q *gcQueue) release(uid string) {
	if q.state[uid].queued { // since it was taken
		q.state[uid] = gcEntry{queued: true}
		q.push(uid)
	} else {
		delete(q.state, uid)
	}
}

// addDue puts back what has waited long enough.
func (q *gcQueue) addDue(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for uid, f := range q.failed {
		if !f.due.IsZero() && !now.Before(f.due) {
			q.failed[uid] = gcFailure{pause: f.pause}
			q.addLocked(uid)
		}
	}
}
