// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// TaintToleration keeps pods off nodes with taints that they don't tolerate, and
// prefers nodes with fewer such taints of effect PreferNoSchedule
// (https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/).
type TaintToleration struct{ nodeLocal }

// Name returns "TaintToleration".
func (TaintToleration) Name() string { return "TaintToleration" }

// Filter refuses a node for its first taint that the pod doesn't tolerate.
func (TaintToleration) Filter(c *Cycle, n NodeInfo) *Status {
	b, i := c.table.at(n.row)
	return c.class.taint(c.table, b.taints[i]).refused
}

// FilterRows is Filter for all rows.
func (TaintToleration) FilterRows(c *Cycle, rows *Rows) {
	if len(c.table.taintSets.sets) == 0 {
		return
	}
	for i, w := range rows.words {
		b := c.table.blocks[rows.first+i]
		for ; w != 0; w &= w - 1 {
			r := bits.TrailingZeros64(w)
			if set := b.taints[r]; set != 0 && c.class.taint(c.table, set).refused != nil {
				rows.words[i] &^= 1 << r
			}
		}
	}
}

// PreScore leaves the score out while no node has a taint that it would count.
func (TaintToleration) PreScore(c *Cycle) *Status {
	if c.full {
		return nil
	}
	for set := range c.table.taintSets.sets {
		if c.class.taint(c.table, int32(set)+1).discouraged > 0 {
			return nil
		}
	}
	return statusSkip
}

// Score counts the taints that the pod had better avoid.
func (TaintToleration) Score(c *Cycle, n NodeInfo) (int64, *Status) {
	b, i := c.table.at(n.row)
	return c.class.taint(c.table, b.taints[i]).discouraged, nil
}

// ScoreRows is Score for all rows.
func (TaintToleration) ScoreRows(c *Cycle, rows *Rows, scores []int64) {
	for i, w := range rows.words {
		b := c.table.blocks[rows.first+i]
		base := (rows.first + i) * blockRows
		for ; w != 0; w &= w - 1 {
			r := bits.TrailingZeros64(w)
			scores[base+r] = c.class.taint(c.table, b.taints[r]).discouraged
		}
	}
}

// NormalizeRange turns the greatest count into 0 and none into 100.
func (TaintToleration) NormalizeRange(score, _, greatest int64) int64 {
	return MaxScore - toHundred(score, greatest)
}

// toHundred scales a score so that the greatest becomes 100.
func toHundred(score, greatest int64) int64 {
	if greatest == 0 {
		return 0
	}
	return MaxScore * score / greatest
}
