// SPDX-License-Identifier: Apache-2.0

package schedule

import "slices"

// NodeUnschedulable keeps pods off cordoned nodes, unless they tolerate the taint
// node.kubernetes.io/unschedulable.
type NodeUnschedulable struct{ nodeLocal }

// Name returns "NodeUnschedulable".
func (NodeUnschedulable) Name() string { return "NodeUnschedulable" }

var (
	statusCordoned = NewStatus(UnschedulableAndUnresolvable, "node(s) were unschedulable")
	cordonTaint    = Taint{Key: "node.kubernetes.io/unschedulable", Effect: NoSchedule}
)

// PreFilter leaves the filter out for a pod that tolerates cordons.
func (NodeUnschedulable) PreFilter(c *Cycle) *Status {
	if len(c.class.t.tolerations) > 0 && tolerated(c.class.t.tolerations, &cordonTaint) {
		return statusSkip
	}
	return nil
}

var statusSkip = NewStatus(Skip)

// Filter refuses cordoned nodes.
func (NodeUnschedulable) Filter(c *Cycle, n NodeInfo) *Status {
	if n.Node().Unschedulable {
		return statusCordoned
	}
	return nil
}

// FilterRows is Filter for all rows.
func (NodeUnschedulable) FilterRows(c *Cycle, rows *Rows) {
	for i := range rows.words {
		rows.words[i] &^= c.table.blocks[rows.first+i].cordoned
	}
}

// NodeReady keeps pods off nodes that are not ready or report a pressing
// condition. Kubernetes does the same by taints, which a controller sets; here a
// toleration of that taint (node.kubernetes.io/not-ready) counts too.
type NodeReady struct{ nodeLocal }

// Name returns "NodeReady".
func (NodeReady) Name() string { return "NodeReady" }

var (
	statusUnready = NewStatus(UnschedulableAndUnresolvable, "node(s) were not ready")
	unreadyTaint  = Taint{Key: "node.kubernetes.io/not-ready", Effect: NoSchedule}
)

// PreFilter leaves the filter out for a pod that tolerates unready nodes.
func (NodeReady) PreFilter(c *Cycle) *Status {
	if len(c.class.t.tolerations) > 0 && tolerated(c.class.t.tolerations, &unreadyTaint) {
		return statusSkip
	}
	return nil
}

// Filter refuses unready nodes and those under pressure.
func (NodeReady) Filter(c *Cycle, n NodeInfo) *Status {
	node := n.Node()
	switch {
	case node.NotReady:
		return statusUnready
	case len(node.Conditions) > 0:
		return NewStatus(UnschedulableAndUnresolvable, "node(s) had condition "+slices.Min(node.Conditions))
	}
	return nil
}

// FilterRows is Filter for all rows.
func (NodeReady) FilterRows(c *Cycle, rows *Rows) {
	for i := range rows.words {
		rows.words[i] &^= c.table.blocks[rows.first+i].unready
	}
}

// NodeName lets a pod that names its node onto that node only.
type NodeName struct{}

// Name returns "NodeName".
func (NodeName) Name() string { return "NodeName" }

var statusWrongName = NewStatus(UnschedulableAndUnresolvable, "node(s) didn't match the requested node name")

// PreFilter leaves the filter out for pods that name no node.
func (NodeName) PreFilter(c *Cycle) *Status {
	if c.Pod.NodeName == "" {
		return statusSkip
	}
	return nil
}

// Filter refuses the nodes with other names.
func (NodeName) Filter(c *Cycle, n NodeInfo) *Status {
	if n.Node().Name != c.Pod.NodeName {
		return statusWrongName
	}
	return nil
}

// FilterRows is Filter for all rows.
func (NodeName) FilterRows(c *Cycle, rows *Rows) {
	row, ok := c.table.names.get(c.Pod.NodeName)
	keep := ok && rows.Has(int(row))
	clear(rows.words)
	if keep {
		rows.words[int(row)/blockRows-rows.first] |= 1 << (row % blockRows)
	}
}

func (NodeUnschedulable) reason() *Status { return statusCordoned }

func (NodeName) reason() *Status { return statusWrongName }
