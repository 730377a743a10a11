// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"fmt"
	"time"
)

// WaitingPod is a pod that a Permit plugin holds.
type WaitingPod struct {
	s       *Scheduler
	a       *assumed
	plugin  string // the one whose time is up first
	until   time.Time
	pending map[string]bool // plugins that have not allowed it yet
}

// Pod returns the pod, Node where it would go.
func (w *WaitingPod) Pod() *Pod { return w.a.q.Pod }

// Node returns where the pod would go.
func (w *WaitingPod) Node() *Node { return w.a.node }

// wait notes that a plugin holds a pod. The scheduler's lock is held.
func (s *Scheduler) wait(a *assumed, plugin string, d time.Duration) {
	key := a.q.Pod.key()
	w := s.waiting[key]
	until := time.Now().Add(d)
	if w == nil {
		w = &WaitingPod{s: s, a: a, plugin: plugin, until: until, pending: map[string]bool{}}
		s.waiting[key] = w
	}
	w.pending[plugin] = true
	if until.Before(w.until) {
		w.plugin, w.until = plugin, until
	}
	s.poke()
}

// Waiting returns the pods that Permit plugins hold.
func (s *Scheduler) Waiting() []*WaitingPod {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*WaitingPod
	for _, w := range s.waiting {
		list = append(list, w)
	}
	return list
}

// Allow lets the pod go on to be bound, as far as the plugin is concerned: all
// plugins that hold it must. It has no effect once the pod waits no more.
func (w *WaitingPod) Allow(plugin string) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.pending, plugin)
	if len(w.pending) == 0 {
		w.finish(context.Background(), nil)
	}
}

// Reject takes the pod back; it is tried again after its backoff.
func (w *WaitingPod) Reject(plugin, reason string) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.finish(context.Background(), fmt.Errorf("plugin %s: not permitted: %s", plugin, reason))
}

// finish ends the wait. The scheduler's lock is held.
func (w *WaitingPod) finish(ctx context.Context, err error) {
	key := w.a.q.Pod.key()
	if w.s.waiting[key] != w {
		return
	}
	delete(w.s.waiting, key)
	w.s.ready = append(w.s.ready, func() {
		if err != nil {
			w.s.fail(ctx, w.a, err)
			return
		}
		w.s.jobs <- func(ctx context.Context) { w.s.bind(ctx, w.a) }
	})
	w.s.poke()
}
