// SPDX-License-Identifier: Apache-2.0

package schedule

// Node is a place for pods: the facts that decide what it takes, and the
// caller's own object. As with [Pod], the scheduler keeps it and nobody changes
// it; hand in a new one.
type Node struct {
	Name          string // unique
	Labels        map[string]string
	Allocatable   Resources // what pods may take; Pods of 0 means no limit on their number
	Taints        []Taint
	Unschedulable bool             // takes no new pods (cordoned)
	NotReady      bool             // its Ready condition is not true
	Conditions    []string         // pressing conditions, such as MemoryPressure; each keeps new pods away
	Images        map[string]int64 // images that are there already: name -> size in bytes

	Object any // the caller's own; read it with [Object]
}

// Labels with a meaning to the default plugins.
const (
	LabelHostname = "kubernetes.io/hostname"
	LabelZone     = "topology.kubernetes.io/zone"
)
