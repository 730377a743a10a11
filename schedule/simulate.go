// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"slices"
)

// PlaceCopies places up to n copies of a pod, one after the other, and returns
// the nodes they went to. It stops at the first that fits nowhere: the error, a
// [*FitError], says why. Copies are named after the pod with -0, -1 and so on.
// Meant for a fork: how many more would fit?
func (c *Cluster) PlaceCopies(pod *Pod, n int) ([]*Node, error) {
	var nodes []*Node
	for i := range n {
		p := *pod
		p.Name = fmt.Sprintf("%s-%d", pod.Name, i)
		p.UID, p.NodeName = "", ""
		d, err := c.Place(&p)
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, d.Node)
	}
	return nodes, nil
}

// Move is what would become of a pod.
type Move struct {
	Pod *Pod  // as it was
	To  *Node // nil if no node takes it; then Err says why
	Err error
}

// Drain removes a node and places its pods, the most important first, on others.
// Meant for a fork: what would happen if that node went away?
func (c *Cluster) Drain(node string) ([]Move, error) {
	row, ok := c.rowOf(node)
	if !ok {
		return nil, fmt.Errorf("node %s: %w", node, ErrNotFound)
	}
	b, i := c.table.at(row)
	pods := slices.Clone(b.pods[i])
	sortByImportance(pods)
	for _, p := range pods {
		if err := c.RemovePod(p.pod.key()); err != nil {
			return nil, err
		}
	}
	if err := c.RemoveNode(node); err != nil {
		return nil, err
	}
	var moves []Move
	for _, p := range pods {
		again := *p.pod
		again.NodeName = ""
		d, err := c.Place(&again)
		moves = append(moves, Move{p.pod, d.Node, err})
	}
	return moves, nil
}
