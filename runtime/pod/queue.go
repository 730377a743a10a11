// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"sync"
)

// queue runs the turns of pods on a few goroutines that exist only while there
// is work: 100,000 idle pods need none. A turn that has to wait steps aside (aside),
// so that the limit counts those that compute.
type queue struct {
	limit int

	mu      sync.Mutex
	ctx     context.Context // of all turns; nil before open
	closed  bool
	ready   []*worker // a ring would save little: it is emptied all the time
	runners int       // not counting those aside
	wg      sync.WaitGroup
}

// open lets turns begin.
func (q *queue) open(ctx context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ctx = ctx
	for range q.ready {
		q.spawn()
	}
}

// close waits for the turns and goroutines in progress. Nothing begins afterwards.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.ready = nil
	q.mu.Unlock()
	q.wg.Wait()
}

// add queues a worker, which its caller has marked as queued.
func (q *queue) add(w *worker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.ready = append(q.ready, w)
	q.spawn()
}

// spawn adds a runner, if there is room; one that finds nothing to do ends. It needs q.mu.
func (q *queue) spawn() {
	if q.ctx != nil && !q.closed && q.runners < q.limit {
		q.runners++
		q.wg.Go(q.run)
	}
}

func (q *queue) run() {
	for {
		q.mu.Lock()
		if len(q.ready) == 0 || q.closed {
			q.runners--
			q.mu.Unlock()
			return
		}
		w := q.ready[0]
		q.ready = q.ready[1:]
		if len(q.ready) == 0 {
			q.ready = nil // lets go of the array
		}
		ctx := q.ctx
		q.mu.Unlock()
		w.turn(ctx)
	}
}

// aside calls f, which may wait for long, without counting as a runner.
func (q *queue) aside(f func()) {
	q.mu.Lock()
	q.runners--
	if len(q.ready) > 0 {
		q.spawn()
	}
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.runners++
		q.mu.Unlock()
	}()
	f()
}

// spawnFunc runs f in a goroutine that close waits for, unless closed.
func (q *queue) spawnFunc(f func(ctx context.Context)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.ctx == nil {
		return
	}
	ctx := q.ctx
	q.wg.Go(func() { f(ctx) })
}
