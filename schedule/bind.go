// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// This file is what becomes of a pod once a node is chosen.

// admit runs Reserve and Permit, and sends the pod on to be bound.
func (s *Scheduler) admit(ctx context.Context, a *assumed) {
	p := a.q.profile
	if len(p.reserve) == 0 && len(p.permit) == 0 {
		s.jobs <- job{bind: a}
		return
	}
	waits, err := s.reserveAndPermit(ctx, a)
	switch {
	case err != nil:
		s.fail(ctx, a, err)
	case !waits:
		s.jobs <- job{bind: a}
	}
}

// reserveAndPermit reports whether a Permit plugin wants the pod to wait.
func (s *Scheduler) reserveAndPermit(ctx context.Context, a *assumed) (waits bool, err error) {
	pod, node := a.q.Pod, a.node
	for i, r := range a.q.profile.reserve {
		a.reserved = i + 1
		late := func(st *State) {
			if err := guard(site{r.Name(), "Unreserve", pod, node}, func() *Status {
				r.Unreserve(ctx, st, pod, node)
				return nil
			}); err != nil {
				s.report(pod, err)
			}
		}
		err := s.call(ctx, site{r.Name(), "Reserve", pod, node}, &a.state, func(ctx context.Context, st *State) *Status {
			return r.Reserve(ctx, st, pod, node)
		}, late)
		if _, ok := errors.AsType[overdue](err); ok {
			a.reserved = i // late does it
		}
		if err != nil {
			return false, err
		}
	}
	for _, plugin := range a.q.profile.permit {
		wait := time.Duration(-1)
		err := s.call(ctx, site{plugin.Name(), "Permit", pod, node}, &a.state, func(ctx context.Context, st *State) *Status {
			status, d := plugin.Permit(ctx, st, pod, node)
			if status.code() == Wait {
				wait = max(d, 0)
				return nil
			}
			return status
		}, nil)
		if err != nil {
			if waits && !s.waitNoMore(a) {
				return true, nil // it was refused already, and that is being dealt with
			}
			return false, err
		}
		if wait < 0 {
			continue
		}
		if !s.wait(a, plugin.Name(), wait) {
			return false, errRemoved
		}
		waits = true
	}
	if waits {
		s.allow(a, admission)
	}
	return waits, nil
}

// errRemoved is why a pod is not bound that was removed meanwhile.
var errRemoved = fmt.Errorf("the pod was removed: %w", ErrNotFound)

// unreserve takes back what the Reserve plugins did, in reverse.
func (s *Scheduler) unreserve(ctx context.Context, a *assumed) error {
	var errs []error
	for _, r := range slices.Backward(a.q.profile.reserve[:a.reserved]) {
		errs = append(errs, s.call(ctx, site{r.Name(), "Unreserve", a.q.Pod, a.node}, &a.state, func(ctx context.Context, st *State) *Status {
			r.Unreserve(ctx, st, a.q.Pod, a.node)
			return nil
		}, nil))
	}
	a.reserved = 0
	return errors.Join(errs...)
}

// bind makes the placement real. It runs in a worker.
func (s *Scheduler) bind(ctx context.Context, w *worker, a *assumed) {
	bounded, cancel := context.WithTimeout(ctx, s.o.BindTimeout)
	defer cancel()
	var err error
	if a.rebinds == 0 {
		err = s.preBind(bounded, w, a)
	} else if s.gone(a) {
		s.fail(ctx, a, errRemoved)
		return
	}
	if err == nil {
		err = s.bindNow(bounded, w, a)
	}
	switch {
	case err == nil:
		s.bound(ctx, w, a)
	case a.rebinds > 0:
		s.rebindLater(ctx, a, err)
	default:
		s.fail(ctx, a, err)
	}
}

// gone reports whether the pod was removed, or came to be on a node otherwise.
func (s *Scheduler) gone(a *assumed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.assumed[a.q.key] != a
}

func (s *Scheduler) preBind(ctx context.Context, w *worker, a *assumed) error {
	for _, p := range a.q.profile.preBind {
		err := w.call(site{p.Name(), "PreBind", a.q.Pod, a.node}, func() *Status { return p.PreBind(ctx, &a.state, a.q.Pod, a.node) })
		if err != nil {
			return err
		}
	}
	return nil
}

// bindNow has the first plugin bind the pod that does, or else the binder.
func (s *Scheduler) bindNow(ctx context.Context, w *worker, a *assumed) error {
	pod, node := a.q.Pod, a.node
	for _, p := range a.q.profile.bind {
		skipped := false
		err := w.call(site{p.Name(), "Bind", pod, node}, func() *Status {
			st := p.Bind(ctx, &a.state, pod, node)
			if st.code() == Skip {
				skipped = true
				return nil
			}
			return st
		})
		if err != nil || !skipped {
			return err
		}
	}
	return w.call(site{"DefaultBinder", "Bind", pod, node}, func() *Status {
		if err := s.o.Binder.Bind(ctx, pod, node); err != nil {
			return Fail(err)
		}
		return nil
	})
}

// bound does what is left once a pod is bound.
func (s *Scheduler) bound(ctx context.Context, w *worker, a *assumed) {
	s.mu.Lock()
	if s.o.AssumeTimeout > 0 && s.assumed[a.q.key] == a {
		a.expires = time.Now().Add(s.o.AssumeTimeout)
		if a.expires.Before(s.tidied) {
			s.tidied = a.expires
			s.poke()
		}
	}
	a.q.t.unref(s.cluster) // the queue's; the placed pod keeps its own
	s.mu.Unlock()
	for _, plugin := range a.q.profile.postBind {
		err := w.call(site{plugin.Name(), "PostBind", a.q.Pod, a.node}, func() *Status {
			plugin.PostBind(ctx, &a.state, a.q.Pod, a.node)
			return nil
		})
		if err != nil {
			s.o.Logger.Error("after binding", "err", err)
		}
	}
	if f := s.o.Events.Bound; f != nil {
		f(a.q.Pod, a.node)
	}
}

// fail takes an assumed pod back and has it tried again after its backoff. No
// event can be lost that way, whatever happened meanwhile.
func (s *Scheduler) fail(ctx context.Context, a *assumed, cause error) {
	// What was reserved is released first: the next cycle must not see it.
	if err := s.unreserve(ctx, a); err != nil {
		cause = errors.Join(cause, err)
	}
	s.mu.Lock()
	if s.takeBack(a) {
		s.queue.delay(a.q, time.Now())
		s.happened(Event{Kind: PodRemoved, OldPod: a.q.Pod})
	}
	s.mu.Unlock()
	s.poke()
	s.report(a.q.Pod, cause)
}

// takeBack makes a pod that was assumed one that waits again, if it was not removed
// meanwhile. The lock is held.
func (s *Scheduler) takeBack(a *assumed) bool {
	key := a.q.key
	if s.assumed[key] != a {
		a.q.t.unref(s.cluster)
		return false
	}
	delete(s.assumed, key)
	s.cluster.drop(a.p)
	s.leftGroup(a.q.Pod)
	s.queue.pods[key] = a.q
	return true
}
