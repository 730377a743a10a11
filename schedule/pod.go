// SPDX-License-Identifier: Apache-2.0

package schedule

import "time"

// Pod is what is placed: the facts that decide where, and the caller's own
// object. The scheduler never changes a Pod, keeps it as long as the pod is
// known, and expects the caller not to change it either: hand in a new Pod
// instead ([Scheduler.UpdatePod]).
type Pod struct {
	Namespace string
	Name      string
	UID       string // unique among all pods; empty means Namespace/Name
	Labels    map[string]string

	SchedulerName   string   // picks the [Profile]; empty means "default-scheduler"
	Priority        int32    // higher goes first, and may preempt lower
	NeverPreempt    bool     // true: wait for room, evict nobody (Kubernetes' preemptionPolicy: Never)
	SchedulingGates []string // while not empty, the pod is not considered
	Group           string   // the pod group it belongs to, in its namespace; see [Group]

	Requests    Resources // Pods is ignored: every pod takes one
	NodeName    string    // the node it is on; empty means that it wants one
	Tolerations []Toleration

	NodeSelector     map[string]string // labels that the node must have
	NodeAffinity     NodeSelection
	PodAffinity      PodAffinity        // be near pods such as …
	PodAntiAffinity  PodAffinity        // stay away from pods such as …
	SpreadConstraint []SpreadConstraint // be spread evenly over …

	HostPorts []HostPort
	Images    []string // one per container; see [ImageLocality]
	Claims    []string // names of volume claims in the pod's namespace; see [VolumeBinding]

	NominatedNode string    // where room is being made for the pod
	Created       time.Time // when the pod came to be; breaks ties of priority
	Started       time.Time // when it began to run; preemption spares the older
	Terminating   bool      // on its way out: still takes room, counts for no spread

	Object any // the caller's own; read it with [Object]
}

// key is what identifies the pod.
func (p *Pod) key() string {
	if p.UID != "" {
		return p.UID
	}
	return p.Namespace + "/" + p.Name
}

// String returns the namespace and name, as errors print them.
func (p *Pod) String() string {
	if p.Namespace == "" {
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// HostPort is a port of the node that the pod takes for itself.
type HostPort struct {
	IP       string // empty means every address, as does 0.0.0.0
	Protocol string // TCP, UDP or SCTP; empty means TCP
	Port     int    // 1 to 65535
}

// TaintEffect says what a taint does to pods that don't tolerate it.
type TaintEffect string

// The effects of taints. NoExecute also evicts running pods, which is not a
// scheduler's business; for placement it is as NoSchedule.
const (
	NoSchedule       TaintEffect = "NoSchedule"
	PreferNoSchedule TaintEffect = "PreferNoSchedule"
	NoExecute        TaintEffect = "NoExecute"
)

// Taint repels the pods that don't tolerate it
// (https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/).
type Taint struct {
	Key    string
	Value  string
	Effect TaintEffect
}

// TolerationOperator relates a toleration to a taint of the same key.
type TolerationOperator string

// The operators of tolerations. Empty means Equal. Gt and Lt (KEP-5471) compare
// whole numbers: the taint's value must be above or below the toleration's.
const (
	TolerateEqual  TolerationOperator = "Equal"
	TolerateExists TolerationOperator = "Exists"
	TolerateGt     TolerationOperator = "Gt"
	TolerateLt     TolerationOperator = "Lt"
)

// Toleration lets a pod onto nodes with matching taints. An empty key, which
// wants the operator Exists, matches every key; an empty effect every effect.
type Toleration struct {
	Key      string
	Operator TolerationOperator
	Value    string
	Effect   TaintEffect
}

// Operator compares a label with the values of a [Requirement].
type Operator string

// The operators of label and node selectors. Gt and Lt compare whole numbers
// and occur in node selectors only.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
	Gt           Operator = "Gt"
	Lt           Operator = "Lt"
)

// Requirement is one condition on one label.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string
}

// Selector chooses pods or namespaces by their labels: all of MatchLabels and
// all of MatchExpressions must hold. A nil *Selector chooses nothing, an empty
// one everything (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/).
type Selector struct {
	MatchLabels      map[string]string
	MatchExpressions []Requirement
}

// NodeSelection attracts a pod to nodes by their labels
// (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity).
type NodeSelection struct {
	Required  []NodeSelectorTerm      // the node must match one of them; empty asks nothing
	Preferred []PreferredNodeSelector // each that matches adds its weight
}

// NodeSelectorTerm holds for a node that meets all its requirements. A term
// without any holds for none.
type NodeSelectorTerm struct {
	MatchExpressions []Requirement // on labels
	MatchFields      []Requirement // on the key metadata.name, with In or NotIn
}

// PreferredNodeSelector is a term with a weight of 1 to 100.
type PreferredNodeSelector struct {
	Weight int32
	Term   NodeSelectorTerm
}

// PodAffinity relates a pod to other pods, by the topology domains that these
// are in (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity).
type PodAffinity struct {
	Required  []PodAffinityTerm
	Preferred []PreferredPodAffinity
}

// PodAffinityTerm means the pods that Selector chooses, in the pod's own
// namespace or in the ones named here, within a domain of nodes with the same
// value of the label TopologyKey.
type PodAffinityTerm struct {
	Selector          *Selector
	TopologyKey       string
	Namespaces        []string  // with NamespaceSelector both empty: the pod's own
	NamespaceSelector *Selector // by namespace labels; empty, not nil, means every namespace
	MatchLabelKeys    []string  // the pod's own values of these are added to Selector (KEP-3633)
	MismatchLabelKeys []string  // … and pods with these are left out
}

// PreferredPodAffinity is a term with a weight of 1 to 100.
type PreferredPodAffinity struct {
	Weight int32
	Term   PodAffinityTerm
}

// SpreadConstraint asks for an even spread of the pods that Selector chooses
// over the domains of TopologyKey
// (https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/).
type SpreadConstraint struct {
	MaxSkew        int32 // how uneven it may be; at least 1
	TopologyKey    string
	ScheduleAnyway bool      // true: a preference; false: a condition (DoNotSchedule)
	Selector       *Selector // among pods of the same namespace
	MatchLabelKeys []string  // the pod's own values of these are added to Selector (KEP-3243)
	MinDomains     int32     // with fewer eligible domains the minimum counts as 0; 0 means 1 (KEP-3022)

	IgnoreNodeAffinity bool // true: nodes that the pod's node affinity excludes count too (nodeAffinityPolicy: Ignore, KEP-3094)
	HonorTaints        bool // true: nodes whose taints the pod doesn't tolerate don't count (nodeTaintsPolicy: Honor, KEP-3094)
}

// Group is a set of pods that are placed together or not at all, and bound so if the
// binder is a [GroupBinder].
type Group struct {
	Namespace string
	Name      string
	MinMember int // how many must fit at once; at least 1
}

// Object returns the caller's own object of a pod or node. It panics if the
// object is not a T: that is a mistake of the program, and inside a plugin the
// scheduler reports it with the plugin's name.
func Object[T any, C *Pod | *Node](carrier C) T {
	var object any
	switch c := any(carrier).(type) {
	case *Pod:
		object = c.Object
	case *Node:
		object = c.Object
	}
	return object.(T)
}
