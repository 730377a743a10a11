// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// NodeAffinity keeps pods to the nodes that their node selector and required node
// affinity choose, and prefers those with a greater sum of weights of the
// preferred terms that match
// (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity).
type NodeAffinity struct{ nodeLocal }

// Name returns "NodeAffinity".
func (NodeAffinity) Name() string { return "NodeAffinity" }

var statusAffinity = NewStatus(UnschedulableAndUnresolvable, "node(s) didn't match Pod's node affinity/selector")

// PreFilter leaves the filter out for pods that accept any node.
func (NodeAffinity) PreFilter(c *Cycle) *Status {
	if c.class.affinity == nil {
		return statusSkip
	}
	return nil
}

// Filter refuses the nodes that the pod does not choose.
func (NodeAffinity) Filter(c *Cycle, n NodeInfo) *Status {
	if !c.class.affinity.match(n.row) {
		return statusAffinity
	}
	return nil
}

// FilterRows is Filter for all rows.
func (NodeAffinity) FilterRows(c *Cycle, rows *Rows) {
	m := c.class.affinity
	for i := range m.selector {
		m.selector[i].filter(rows)
	}
	if !m.anyTerm {
		return
	}
	if len(m.terms) == 1 && len(m.terms[0]) > 0 {
		for i := range m.terms[0] {
			m.terms[0][i].filter(rows)
		}
		return
	}
	for i, w := range rows.words {
		base := (rows.first + i) * blockRows
		for ; w != 0; w &= w - 1 {
			r := bits.TrailingZeros64(w)
			if !m.matchTerms(int32(base + r)) {
				rows.words[i] &^= 1 << r
			}
		}
	}
}

// PreScore leaves the score out for pods without preferences.
func (NodeAffinity) PreScore(c *Cycle) *Status {
	if len(c.class.preferred) == 0 && !c.full {
		return statusSkip
	}
	return nil
}

// Score adds the weights of the preferred terms that match.
func (NodeAffinity) Score(c *Cycle, n NodeInfo) (int64, *Status) {
	var sum int64
	for i := range c.class.preferred {
		if p := &c.class.preferred[i]; matchTerm(p.tests, n.row) {
			sum += p.weight
		}
	}
	return sum, nil
}

// NormalizeRange turns the greatest sum into 100.
func (NodeAffinity) NormalizeRange(score, _, greatest int64) int64 { return toHundred(score, greatest) }

func (NodeAffinity) reason() *Status { return statusAffinity }
