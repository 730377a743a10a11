// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// This file is how a scheduler learns of nodes and pods.

// AddNode adds a node.
func (s *Scheduler) AddNode(n *Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cluster.AddNode(n); err != nil {
		return err
	}
	s.happened(Event{Kind: NodeAdded, NewNode: n})
	return nil
}

// UpdateNode replaces a node.
func (s *Scheduler) UpdateNode(n *Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.cluster.Node(n.Name)
	if err := s.cluster.UpdateNode(n); err != nil {
		return err
	}
	if e := nodeEvent(old, n); e.Kind != 0 {
		s.happened(e)
	}
	return nil
}

// RemoveNode removes a node. Its pods stay known until they are removed too.
func (s *Scheduler) RemoveNode(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.cluster.Node(name)
	if err := s.cluster.RemoveNode(name); err != nil {
		return err
	}
	s.happened(Event{Kind: NodeRemoved, OldNode: old})
	return nil
}

// SetNamespace sets the labels of a namespace; nil forgets them.
func (s *Scheduler) SetNamespace(name string, labels map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cluster.SetNamespace(name, labels)
	s.happened(Event{Kind: OtherEvent | PodChanged})
}

// Retry has pods tried again that the named plugins refused, because something
// has changed that only these know of; no names means all pods.
func (s *Scheduler) Retry(plugins ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var moved []*QueuedPod
	for plugin, pods := range s.queue.parked {
		if len(plugins) == 0 || slices.Contains(plugins, plugin) {
			for p := range pods {
				moved = append(moved, p)
			}
		}
	}
	s.queue.unparkAll(moved, time.Now())
	var closed []*QueuedPod
	for _, p := range s.queue.pods {
		if p.where == gated {
			closed = append(closed, p)
		}
	}
	slices.SortFunc(closed, func(a, b *QueuedPod) int {
		return cmp.Or(a.Added.Compare(b.Added), compareStrings(a.key, b.key))
	})
	for _, p := range closed {
		s.enqueue(p)
	}
	s.poke()
}

// AddPod adds a pod: one that is on a node counts there, another is queued. A pod
// that the scheduler has placed itself is confirmed by adding or updating it with
// its NodeName.
func (s *Scheduler) AddPod(pod *Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := pod.key()
	if a := s.assumed[key]; a != nil {
		if pod.NodeName == "" {
			return fmt.Errorf("pod %s: %w", pod, ErrExists)
		}
		return s.confirm(a, pod)
	}
	if s.queue.pods[key] != nil {
		return fmt.Errorf("pod %s: %w", pod, ErrExists)
	}
	if pod.NodeName != "" {
		return s.addPlaced(pod)
	}
	if _, ok := s.cluster.placed.get(key); ok {
		return fmt.Errorf("pod %s: %w", pod, ErrExists)
	}
	return s.addPending(pod)
}

func (s *Scheduler) addPlaced(pod *Pod) error {
	err := s.cluster.AddPod(pod)
	if err == nil || errors.Is(err, ErrNotFound) {
		if pod.Group != "" {
			s.group(groupKey(pod.Namespace, pod.Group)).placed[pod.key()] = true
		}
		s.happened(Event{Kind: PodAssigned, NewPod: pod})
	}
	return err
}

func (s *Scheduler) addPending(pod *Pod) error {
	if s.closed {
		return fmt.Errorf("pod %s: %w", pod, ErrClosed)
	}
	t, p, err := s.cluster.prepare(pod)
	if err != nil {
		return err
	}
	t.ref(s.cluster)
	q := &QueuedPod{Pod: pod, Added: time.Now(), key: pod.key(), t: t, profile: p}
	s.queue.pods[q.key] = q
	if pod.NominatedNode != "" {
		s.cluster.nominate(pod, t, pod.NominatedNode)
	}
	s.enqueue(q)
	return nil
}

// enqueue asks the PreEnqueue plugins whether the pod may be tried. Those from
// elsewhere are asked by Run, without the lock: the pod is gated until they answer.
func (s *Scheduler) enqueue(q *QueuedPod) {
	asks := false
	for i := range q.profile.preEnqueue {
		p := &q.profile.preEnqueue[i]
		if p.foreign {
			asks = true
		} else if p.PreEnqueue(context.Background(), q.Pod).Rejected() {
			s.gate(q, p.Name())
			return
		}
	}
	if !asks {
		s.admitToQueue(q)
		return
	}
	s.gate(q, "")
	pod := q.Pod
	s.todo = append(s.todo, task{ask: q, pod: pod})
	s.poke()
}

// gate keeps a pod out of the queue.
func (s *Scheduler) gate(q *QueuedPod, plugin string) {
	s.queue.take(q)
	q.where, q.gatedBy = gated, plugin
}

func (s *Scheduler) admitToQueue(q *QueuedPod) {
	if q.Pod.Group != "" {
		s.enqueueMember(q)
		return
	}
	s.queue.activate(q)
	s.poke()
}

// ask asks the PreEnqueue plugins from elsewhere about a pod that is gated meanwhile.
func (s *Scheduler) ask(ctx context.Context, q *QueuedPod, pod *Pod) {
	for i := range q.profile.preEnqueue {
		p := &q.profile.preEnqueue[i]
		if !p.foreign {
			continue
		}
		refused := false
		err := s.call(ctx, site{p.Name(), "PreEnqueue", pod, nil}, &State{}, func(ctx context.Context, _ *State) *Status {
			st := p.PreEnqueue(ctx, pod)
			if st.Rejected() {
				return &Status{Code: st.Code, Err: errGated}
			}
			return st
		}, nil)
		if refused = errors.Is(err, errGated); err == nil {
			continue
		}
		s.mu.Lock()
		if s.queue.pods[q.key] == q && q.where == gated {
			q.gatedBy = p.Name()
		}
		s.mu.Unlock()
		if !refused {
			s.report(pod, err)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.pods[q.key] == q && q.where == gated && q.Pod == pod { // otherwise it is asked again
		s.admitToQueue(q)
	}
}

// errGated is how a refusal comes out of a call.
var errGated = errors.New("gated")

// confirm replaces an assumed pod by what the caller knows of it.
func (s *Scheduler) confirm(a *assumed, pod *Pod) error {
	delete(s.assumed, a.q.key)
	old := a.p.pod
	if pod.NodeName == a.node.Name {
		if t, err := s.cluster.template(pod); err == nil && t == a.p.t {
			s.cluster.replace(a.p, pod)
			s.happened(Event{Kind: PodAssigned, NewPod: pod})
			return nil
		}
	}
	s.cluster.drop(a.p) // it differs, or went elsewhere
	s.happened(Event{Kind: PodRemoved, OldPod: old})
	return s.addPlaced(pod)
}

// UpdatePod replaces a pod, which may have come to be on a node meanwhile.
func (s *Scheduler) UpdatePod(pod *Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := pod.key()
	if a := s.assumed[key]; a != nil {
		if pod.NodeName == "" {
			return nil // older than the decision
		}
		return s.confirm(a, pod)
	}
	if q := s.queue.pods[key]; q != nil {
		if pod.NodeName != "" {
			s.forgetPending(q)
			return s.addPlaced(pod)
		}
		return s.updatePending(q, pod)
	}
	old := s.cluster.Pod(key)
	if old == nil {
		return fmt.Errorf("pod %s: %w", pod, ErrNotFound)
	}
	if pod.NodeName == "" {
		return nil // older than what is known
	}
	if err := s.cluster.UpdatePod(pod); err != nil {
		return err
	}
	s.happened(Event{Kind: PodChanged, OldPod: old, NewPod: pod})
	return nil
}

// updatePending replaces a pod that waits. If it differs in anything that
// matters it is tried again.
func (s *Scheduler) updatePending(q *QueuedPod, pod *Pod) error {
	t, p, err := s.cluster.prepare(pod)
	if err != nil {
		return err
	}
	same := t == q.t && pod.Priority == q.Pod.Priority && p == q.profile && pod.Group == q.Pod.Group &&
		slices.Equal(pod.SchedulingGates, q.Pod.SchedulingGates)
	if same && q.where != gated {
		q.Pod = pod
		return nil
	}
	added := q.Added
	s.forgetPending(q)
	if err := s.addPending(pod); err != nil {
		return err
	}
	s.queue.pods[pod.key()].Added = added
	return nil
}

// forgetPending removes a pod that waits.
func (s *Scheduler) forgetPending(q *QueuedPod) {
	s.leaveGroup(q)
	s.queue.take(q)
	delete(s.queue.pods, q.key)
	s.cluster.nominated.remove(q.key)
	q.t.unref(s.cluster)
}

// RemovePod forgets a pod, wherever it is, by its UID, or Namespace/Name if it
// has none.
func (s *Scheduler) RemovePod(uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queue.pods[uid]; q != nil {
		nominated := s.cluster.nominated.byKey[uid] != nil
		s.forgetPending(q)
		if nominated { // its room is free for others
			s.happened(Event{Kind: PodRemoved, OldPod: q.Pod})
		}
		return nil
	}
	old := s.cluster.Pod(uid)
	if old == nil {
		return fmt.Errorf("pod %s: %w", uid, ErrNotFound)
	}
	if w := s.waiting[uid]; w != nil {
		w.finish(errRemoved)
	}
	delete(s.assumed, uid)
	delete(s.cluster.evicting, uid)
	if err := s.cluster.RemovePod(uid); err != nil {
		return err
	}
	s.leftGroup(old)
	s.happened(Event{Kind: PodRemoved, OldPod: old})
	return nil
}
