// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"time"
)

// WaitingPod is a pod that a Permit plugin holds.
type WaitingPod struct {
	s       *Scheduler
	a       *assumed
	plugin  string // the one whose time is up first
	until   time.Time
	pending map[string]bool // plugins that have not allowed it yet, and admission
}

// Pod returns the pod, Node where it would go.
func (w *WaitingPod) Pod() *Pod { return w.a.q.Pod }

// Node returns where the pod would go.
func (w *WaitingPod) Node() *Node { return w.a.node }

// wait notes that a plugin holds a pod. It fails if the pod was removed meanwhile.
func (s *Scheduler) wait(a *assumed, plugin string, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := a.q.key
	if s.assumed[key] != a {
		return false
	}
	w := s.waiting[key]
	until := time.Now().Add(d)
	if w == nil {
		w = &WaitingPod{s: s, a: a, plugin: plugin, until: until, pending: map[string]bool{admission: true}}
		s.waiting[key] = w
		if a.gang != nil {
			a.gang.open++
		}
	}
	w.pending[plugin] = true
	if until.Before(w.until) {
		w.plugin, w.until = plugin, until
	}
	s.tidied = time.Time{}
	s.poke()
	return true
}

// admission stands among the plugins that hold a pod while others may still be asked.
const admission = ""

// waitNoMore forgets that plugins hold a pod, because another refused it. It reports
// whether any did.
func (s *Scheduler) waitNoMore(a *assumed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[a.q.key]
	if w == nil || w.a != a {
		return false
	}
	delete(s.waiting, a.q.key)
	return true
}

// allow is Allow for a pod that may wait no more.
func (s *Scheduler) allow(a *assumed, plugin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.waiting[a.q.key]; w != nil && w.a == a {
		w.allow(plugin)
	}
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
	w.allow(plugin)
}

func (w *WaitingPod) allow(plugin string) {
	delete(w.pending, plugin)
	if len(w.pending) == 0 {
		w.finish(nil)
	}
}

// Reject takes the pod back, and with it the group that it was placed with; it is
// tried again after its backoff.
func (w *WaitingPod) Reject(plugin, reason string) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.finish(fmt.Errorf("plugin %s: not permitted: %s", plugin, reason))
}

// finish ends the wait. The scheduler's lock is held.
func (w *WaitingPod) finish(err error) {
	s, a := w.s, w.a
	if s.waiting[a.q.key] != w {
		return
	}
	delete(s.waiting, a.q.key)
	switch {
	case err != nil:
		s.todo = append(s.todo, task{fail: a, err: err})
	case a.gang == nil:
		s.todo = append(s.todo, task{job: job{bind: a}})
	default:
		a.gang.open--
		s.gangReady(a.gang)
	}
	s.poke()
}
