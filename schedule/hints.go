// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"maps"
	"slices"
)

// EventKind says what happened to the cluster. Kinds can be added up.
type EventKind uint

// What can happen.
const (
	NodeAdded EventKind = 1 << iota
	NodeLabelsChanged
	NodeTaintsChanged // or cordoned, uncordoned, ready, under pressure
	NodeAllocatableChanged
	NodeRemoved
	PodAssigned // a pod is on a node now
	PodChanged  // a pod on a node has other labels or requests, or is leaving
	PodRemoved  // a pod left its node
	OtherEvent  // something outside: see [Scheduler.Retry]
)

// Event is something that may make a waiting pod fit. Old and new are nil where
// there was, or is, nothing.
type Event struct {
	Kind             EventKind
	OldNode, NewNode *Node
	OldPod, NewPod   *Pod
}

// QueueingHintPlugin says which events may make a pod fit that the plugin has
// refused. Without it, every event is taken to.
type QueueingHintPlugin interface {
	Plugin
	QueueingHints() []QueueingHint
}

// QueueingHint tells the queue to try pods again.
type QueueingHint struct {
	On EventKind
	// Worth is asked about each pod, and may be nil for always. It runs often
	// and must be quick.
	Worth func(pod *Pod, e Event) bool
}

// QueueingHints of NodeUnschedulable: a node was added or uncordoned.
func (NodeUnschedulable) QueueingHints() []QueueingHint {
	return []QueueingHint{{NodeAdded | NodeTaintsChanged, func(_ *Pod, e Event) bool { return !e.NewNode.Unschedulable }}}
}

// QueueingHints of NodeReady: a node was added or became ready.
func (NodeReady) QueueingHints() []QueueingHint {
	return []QueueingHint{{NodeAdded | NodeTaintsChanged, func(_ *Pod, e Event) bool {
		return !e.NewNode.NotReady && len(e.NewNode.Conditions) == 0
	}}}
}

// QueueingHints of NodeName: the node was added.
func (NodeName) QueueingHints() []QueueingHint {
	return []QueueingHint{{NodeAdded, func(p *Pod, e Event) bool { return e.NewNode.Name == p.NodeName }}}
}

// QueueingHints of TaintToleration: a node was added or changed whose taints the
// pod tolerates.
func (TaintToleration) QueueingHints() []QueueingHint {
	return []QueueingHint{{NodeAdded | NodeTaintsChanged, func(p *Pod, e Event) bool {
		return untolerated(p.Tolerations, e.NewNode.Taints) == nil
	}}}
}

// QueueingHints of NodeAffinity: a node was added or has other labels.
func (NodeAffinity) QueueingHints() []QueueingHint {
	return []QueueingHint{{On: NodeAdded | NodeLabelsChanged}}
}

// QueueingHints of NodePorts: a node was added, or a pod with host ports left.
func (NodePorts) QueueingHints() []QueueingHint {
	return []QueueingHint{{On: NodeAdded}, {PodRemoved, func(_ *Pod, e Event) bool { return len(e.OldPod.HostPorts) > 0 }}}
}

// QueueingHints of NodeResourcesFit: a node that is large enough was added or
// grew, or a pod that took some of the same resources left or shrank.
func (NodeResourcesFit) QueueingHints() []QueueingHint {
	return []QueueingHint{
		{NodeAdded | NodeAllocatableChanged, func(p *Pod, e Event) bool { return p.Requests.within(e.NewNode.Allocatable) }},
		{On: PodRemoved | PodChanged},
	}
}

// within reports whether an empty node with so much would do.
func (r Resources) within(o Resources) bool {
	if r.CPU > o.CPU || r.Memory > o.Memory || r.EphemeralStorage > o.EphemeralStorage {
		return false
	}
	for name, v := range r.Extended {
		if v > o.Extended[name] {
			return false
		}
	}
	return true
}

// QueueingHints of PodTopologySpread: the domains changed, or the pods in them.
func (PodTopologySpread) QueueingHints() []QueueingHint {
	return []QueueingHint{
		{On: NodeAdded | NodeRemoved | NodeLabelsChanged | NodeTaintsChanged},
		{PodAssigned | PodRemoved | PodChanged, sameNamespace},
	}
}

func sameNamespace(p *Pod, e Event) bool {
	return e.OldPod != nil && e.OldPod.Namespace == p.Namespace || e.NewPod != nil && e.NewPod.Namespace == p.Namespace
}

// QueueingHints of InterPodAffinity: a node was added or has other labels, a pod
// came that it may want to be near to, or one left that kept it away.
func (InterPodAffinity) QueueingHints() []QueueingHint {
	return []QueueingHint{
		{On: NodeAdded | NodeLabelsChanged | PodRemoved | PodChanged},
		{PodAssigned, func(p *Pod, _ Event) bool { return len(p.PodAffinity.Required) > 0 }},
	}
}

// QueueingHints of SchedulingGates: none; an update of the pod itself opens them.
func (SchedulingGates) QueueingHints() []QueueingHint { return nil }

// nodeEvent says what differs between two versions of a node.
func nodeEvent(old, n *Node) Event {
	e := Event{OldNode: old, NewNode: n}
	if !maps.Equal(old.Labels, n.Labels) {
		e.Kind |= NodeLabelsChanged
	}
	if !slices.Equal(old.Taints, n.Taints) || old.Unschedulable != n.Unschedulable || old.NotReady != n.NotReady ||
		!slices.Equal(old.Conditions, n.Conditions) {
		e.Kind |= NodeTaintsChanged
	}
	if !old.Allocatable.equal(n.Allocatable) {
		e.Kind |= NodeAllocatableChanged
	}
	return e
}
