// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// job is something for a worker to do: exactly one field is set.
type job struct {
	bind  *assumed
	gang  *gang
	evict *eviction
}

type eviction struct {
	victim *Pod
	q      *QueuedPod // for whom
	node   string
}

// crew are the goroutines that bind and evict. A worker whose job takes longer than
// BindTimeout, though its context has ended then, is replaced: the error says where it
// is, others go on, and the worker ends once the job returns. Until then the pod keeps
// its place, for nobody knows whether it is being bound.
type crew struct {
	workers sync.WaitGroup
	mu      sync.Mutex
	busy    map[*worker]bool
}

// worker is one of a crew. The crew's mutex guards it.
type worker struct {
	crew     *crew
	since    time.Time // when the job began
	at       site      // what is being called
	replaced *PluginError
}

// call calls a plugin, or what stands for one, and says so.
func (w *worker) call(at site, f func() *Status) error {
	w.crew.mu.Lock()
	w.at = at
	w.crew.mu.Unlock()
	return guard(at, f)
}

// begin and end frame a job; end returns the error that was reported if the worker
// has been replaced meanwhile.
func (w *worker) begin() {
	w.crew.mu.Lock()
	defer w.crew.mu.Unlock()
	w.since, w.at = time.Now(), site{}
	w.crew.busy[w] = true
}

func (w *worker) end() *PluginError {
	w.crew.mu.Lock()
	defer w.crew.mu.Unlock()
	delete(w.crew.busy, w)
	return w.replaced
}

func (s *Scheduler) startCrew(ctx context.Context) {
	s.crew.busy = map[*worker]bool{}
	for range s.o.BindWorkers {
		s.crew.workers.Go(func() { s.work(ctx) })
	}
	s.crew.workers.Go(func() { s.oversee(ctx) })
}

// work does jobs until there are no more.
func (s *Scheduler) work(ctx context.Context) {
	w := &worker{crew: &s.crew}
	for j := range s.jobs {
		w.begin()
		switch {
		case j.bind != nil:
			s.bind(ctx, w, j.bind)
		case j.gang != nil:
			s.bindGang(ctx, w, j.gang)
		default:
			s.evict(ctx, w, j.evict)
		}
		if e := w.end(); e != nil {
			s.calls.returned(e)
			return
		}
	}
}

// oversee replaces workers that are stuck.
func (s *Scheduler) oversee(ctx context.Context) {
	grace := max(min(s.o.BindTimeout/4, 10*time.Second), time.Millisecond)
	tick := time.NewTicker(grace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.replaceStuck(ctx, now.Add(-s.o.BindTimeout-grace/2))
		}
	}
}

// replaceStuck replaces the workers that are busy since before a time.
func (s *Scheduler) replaceStuck(ctx context.Context, before time.Time) {
	c := &s.crew
	lost := map[*PluginError]*Pod{}
	c.mu.Lock()
	for w := range c.busy {
		if w.replaced != nil || w.at.pod == nil || w.since.After(before) {
			continue
		}
		w.replaced = w.at.blame(overdue(time.Since(w.since).Round(time.Second)))
		s.calls.giveUp(w.replaced)
		lost[w.replaced] = w.at.pod
		c.workers.Go(func() { s.work(ctx) })
	}
	c.mu.Unlock()
	for err, pod := range lost {
		s.report(pod, err)
	}
}

// evict ends a victim of preemption.
func (s *Scheduler) evict(ctx context.Context, w *worker, e *eviction) {
	ctx, cancel := context.WithTimeout(ctx, s.o.BindTimeout)
	defer cancel()
	var failed error
	err := w.call(site{"Evict", "Evict", e.q.Pod, nil}, func() *Status {
		failed = s.o.Evict(ctx, e.victim, e.q.Pod)
		return nil
	})
	if err = errors.Join(err, failed); err == nil {
		if f := s.o.Events.Preempted; f != nil {
			f(e.victim, e.q.Pod, e.node)
		}
		return
	}
	s.mu.Lock()
	delete(s.cluster.evicting, e.victim.key())
	if e.q.where == unschedulable {
		s.queue.delay(e.q, time.Now())
	}
	s.mu.Unlock()
	s.poke()
	s.report(e.q.Pod, fmt.Errorf("evicting pod %s from node %s: %w", e.victim, e.node, err))
}
