// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// group is the state of a [Group]. Members are held back until there are enough
// of them; these are then placed in one cycle, all or none. Members that come
// later are placed one by one.
type group struct {
	Group
	members map[string]*QueuedPod // that wait for the others
	unit    *QueuedPod            // the members that are tried together, or nil
	placed  map[string]bool       // members on nodes
}

func groupKey(namespace, name string) string { return namespace + "/" + name }

// SetGroup adds a group or replaces it. Pods may come before their group: they
// wait for it.
func (s *Scheduler) SetGroup(g Group) error {
	if g.Name == "" || g.MinMember < 1 {
		return fmt.Errorf("group %s: %w: want a name, and a minimum of at least 1 member, not %d", groupKey(g.Namespace, g.Name), ErrInvalid, g.MinMember)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.group(groupKey(g.Namespace, g.Name))
	x.Group = g
	s.complete(x)
	return nil
}

// RemoveGroup forgets a group; members that still wait for others go on waiting
// until it is set again.
func (s *Scheduler) RemoveGroup(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.groups[groupKey(namespace, name)]; x != nil {
		x.MinMember = 0
	}
}

func (s *Scheduler) group(key string) *group {
	x := s.groups[key]
	if x == nil {
		x = &group{members: map[string]*QueuedPod{}, placed: map[string]bool{}}
		s.groups[key] = x
	}
	return x
}

// enqueueMember has a pod wait for the rest of its group, or lets it go ahead if
// the group is there already.
func (s *Scheduler) enqueueMember(q *QueuedPod) {
	x := s.group(groupKey(q.Pod.Namespace, q.Pod.Group))
	if x.MinMember > 0 && len(x.placed) >= x.MinMember {
		s.queue.activate(q)
		s.poke()
		return
	}
	s.queue.take(q)
	q.where = grouped
	x.members[q.key] = q
	s.complete(x)
}

// rejoin has a member that had been placed wait for the others again.
func (s *Scheduler) rejoin(q *QueuedPod) {
	q.where = grouped
	s.group(groupKey(q.Pod.Namespace, q.Pod.Group)).members[q.key] = q
}

// complete queues the members as one if there are enough.
func (s *Scheduler) complete(x *group) {
	if x.MinMember == 0 || len(x.members) == 0 || len(x.members)+len(x.placed) < x.MinMember {
		return
	}
	if x.unit != nil {
		s.queue.take(x.unit)
	}
	unit := &QueuedPod{}
	for _, m := range x.members {
		unit.members = append(unit.members, m)
	}
	slices.SortFunc(unit.members, func(a, b *QueuedPod) int {
		switch {
		case s.queue.active.less(a, b):
			return -1
		case s.queue.active.less(b, a):
			return 1
		}
		return compareStrings(a.key, b.key)
	})
	first := unit.members[0]
	unit.Pod, unit.Added, unit.t, unit.profile = first.Pod, first.Added, first.t, first.profile
	x.unit = unit
	s.queue.activate(unit)
	s.poke()
}

// tryGroup places the members of a group, or none of them.
func (s *Scheduler) tryGroup(ctx context.Context, unit *QueuedPod, now time.Time) {
	x := s.group(groupKey(unit.Pod.Namespace, unit.Pod.Group))
	var done []*assumed
	var refusals []error
	for _, m := range unit.members {
		row, err := s.decide(ctx, m)
		if err != nil {
			refusals = append(refusals, err)
			continue
		}
		done = append(done, s.assume(m, row))
	}
	if len(done)+len(x.placed) < x.MinMember {
		s.groupRefused(x, unit, done, refusals, now)
		return
	}
	x.unit = nil
	g := &gang{unit: unit, members: done, open: 1}
	for _, a := range done {
		delete(x.members, a.q.key)
		x.placed[a.q.key] = true
		a.q.Attempts++
		a.gang = g
	}
	s.todo = append(s.todo, task{gang: g})
	// The others were more than had to fit: they go on one by one.
	for _, m := range unit.members {
		if m.where == grouped && x.members[m.key] == m {
			delete(x.members, m.key)
			m.Attempts++
			s.queue.delay(m, now)
		}
	}
}

// groupRefused takes back what was placed of a group that does not fit as a whole.
func (s *Scheduler) groupRefused(x *group, unit *QueuedPod, done []*assumed, refusals []error, now time.Time) {
	for _, a := range slices.Backward(done) {
		delete(s.assumed, a.q.key)
		s.cluster.drop(a.p)
		s.queue.pods[a.q.key] = a.q
		a.q.where = grouped
	}
	err := &GroupError{Placed: len(done) + len(x.placed), Want: x.MinMember, Err: errors.Join(refusals...)}
	var plugins []string
	for _, r := range refusals {
		fit, ok := errors.AsType[*FitError](r)
		if !ok {
			s.queue.delay(unit, time.Now())
			s.later(func() { s.report(unit.Pod, err) })
			return
		}
		plugins = append(plugins, fit.Diagnosis.Plugins...)
	}
	slices.Sort(plugins)
	s.queue.park(unit, slices.Compact(plugins), now)
	s.later(func() {
		s.o.Logger.Info("a group does not fit", "group", unit.Pod.Group, "err", err)
		if f := s.o.Events.Unschedulable; f != nil {
			fit, _ := errors.AsType[*FitError](refusals[0])
			for _, m := range unit.members {
				f(m.Pod, &FitError{m.Pod, fit.Diagnosis})
			}
		}
	})
}

// leaveGroup removes a pod that waits from its group.
func (s *Scheduler) leaveGroup(q *QueuedPod) {
	if q.Pod.Group == "" {
		return
	}
	key := groupKey(q.Pod.Namespace, q.Pod.Group)
	x := s.groups[key]
	if x == nil {
		return
	}
	delete(x.members, q.key)
	if x.unit != nil && slices.Contains(x.unit.members, q) {
		s.queue.take(x.unit)
		x.unit = nil
		s.complete(x)
	}
}

// leftGroup notes that a placed member is gone.
func (s *Scheduler) leftGroup(pod *Pod) {
	if pod.Group == "" {
		return
	}
	key := groupKey(pod.Namespace, pod.Group)
	if x := s.groups[key]; x != nil {
		delete(x.placed, pod.key())
		if x.MinMember == 0 && len(x.members) == 0 && len(x.placed) == 0 {
			delete(s.groups, key)
		}
	}
}
