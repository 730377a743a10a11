// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// GroupBinder is a [Binder] that can bind a whole group at once, for instance in one
// transaction: all of it or, on an error, nothing. With any other binder the pods of a
// group are bound one after the other, and a failure after the first leaves some of
// them bound; see [Group].
type GroupBinder interface {
	Binder
	BindGroup(ctx context.Context, bindings []Binding) error
}

// Binding is a pod and the node that it goes to.
type Binding struct {
	Pod  *Pod
	Node *Node
}

// gang is the members of a group that were placed together, on their way to be bound.
// Until the first of them is bound, what happens to one happens to all.
type gang struct {
	unit    *QueuedPod
	members []*assumed
	open    int   // members that wait for permission, and one while they are asked; guarded by the scheduler's lock
	failed  error // guarded by the scheduler's lock
}

// admitGang runs Reserve and Permit for all members, and sends them on to be bound
// once none has to wait.
func (s *Scheduler) admitGang(ctx context.Context, g *gang) {
	for _, a := range g.members {
		if _, err := s.reserveAndPermit(ctx, a); err != nil {
			s.failGang(ctx, g, a, err)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.open-- // this look
	s.gangReady(g)
}

// gangReady sends the gang on if nobody waits. The lock is held.
func (s *Scheduler) gangReady(g *gang) {
	if g.open == 0 && g.failed == nil {
		s.todo = append(s.todo, task{job: job{gang: g}})
	}
}

// failGang takes all members back, because of one, and has the group tried again after
// its backoff.
func (s *Scheduler) failGang(ctx context.Context, g *gang, culprit *assumed, cause error) {
	s.mu.Lock()
	if g.failed != nil {
		s.mu.Unlock()
		return
	}
	g.failed = cause
	for _, a := range g.members {
		delete(s.waiting, a.q.key)
	}
	s.mu.Unlock()
	for _, a := range g.members {
		if err := s.unreserve(ctx, a); err != nil {
			cause = errors.Join(cause, err)
		}
	}
	s.mu.Lock()
	for _, a := range slices.Backward(g.members) {
		if s.takeBack(a) {
			s.rejoin(a.q)
			s.happened(Event{Kind: PodRemoved, OldPod: a.q.Pod})
		}
	}
	if x := s.groups[groupKey(g.unit.Pod.Namespace, g.unit.Pod.Group)]; x != nil {
		s.complete(x)
		if x.unit != nil {
			x.unit.Attempts = g.unit.Attempts
			s.queue.delay(x.unit, time.Now())
		}
	}
	s.mu.Unlock()
	s.poke()
	for _, a := range g.members {
		err := cause
		if a != culprit {
			err = fmt.Errorf("group %s is tried again as a whole: %w", g.unit.Pod.Group, cause)
		}
		s.report(a.q.Pod, err)
	}
}

// bindGang binds the members. It runs in a worker.
func (s *Scheduler) bindGang(ctx context.Context, w *worker, g *gang) {
	bounded, cancel := context.WithTimeout(ctx, s.o.BindTimeout)
	defer cancel()
	for _, a := range g.members {
		if err := s.preBind(bounded, w, a); err != nil {
			s.failGang(ctx, g, a, err)
			return
		}
	}
	if i := slices.IndexFunc(g.members, s.gone); i >= 0 {
		s.failGang(ctx, g, g.members[i], errRemoved)
		return
	}
	if b, ok := s.o.Binder.(GroupBinder); ok && !g.hasBindPlugins() {
		s.bindAtOnce(bounded, w, g, b)
		return
	}
	for i, a := range g.members {
		err := s.bindNow(bounded, w, a)
		switch {
		case err == nil:
			s.bound(ctx, w, a)
		case i == 0:
			s.failGang(ctx, g, a, err)
			return
		default: // there is no way back: the others are bound
			s.rebindLater(ctx, a, err)
		}
	}
}

func (s *Scheduler) bindAtOnce(ctx context.Context, w *worker, g *gang, b GroupBinder) {
	var list []Binding
	for _, a := range g.members {
		list = append(list, Binding{a.q.Pod, a.node})
	}
	first := g.members[0]
	err := w.call(site{"DefaultBinder", "BindGroup", first.q.Pod, first.node}, func() *Status {
		if err := b.BindGroup(ctx, list); err != nil {
			return Fail(err)
		}
		return nil
	})
	if err != nil {
		s.failGang(ctx, g, first, err)
		return
	}
	for _, a := range g.members {
		s.bound(ctx, w, a)
	}
}

func (g *gang) hasBindPlugins() bool {
	return slices.ContainsFunc(g.members, func(a *assumed) bool { return len(a.q.profile.bind) > 0 })
}

// rebindLater has the binding of a member tried again, on the same node: its room is
// kept, for the others of the group are bound and count on it.
func (s *Scheduler) rebindLater(ctx context.Context, a *assumed, cause error) {
	if s.gone(a) {
		s.fail(ctx, a, cause)
		return
	}
	s.mu.Lock()
	a.rebinds++
	a.rebind = time.Now().Add(s.queue.backoffAfter(a.rebinds))
	s.rebinds[a] = true
	s.tidied = time.Time{}
	s.mu.Unlock()
	s.poke()
	s.report(a.q.Pod, cause)
}
