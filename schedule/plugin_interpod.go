// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math/bits"
	"slices"
)

// InterPodAffinity keeps pods near to or away from others, and prefers nodes where
// more of what the pod, and the pods already there, would like is so
// (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity).
type InterPodAffinity struct{}

// hardAffinityWeight is what a placed pod's required affinity for the pod at hand
// counts as a preference: affinity is symmetric, if only softly.
const hardAffinityWeight = 1

// Name returns "InterPodAffinity".
func (InterPodAffinity) Name() string { return "InterPodAffinity" }

var (
	statusAffinityTo  = NewStatus(UnschedulableAndUnresolvable, "node(s) didn't match pod affinity rules")
	statusAntiTo      = Reject("node(s) didn't match pod anti-affinity rules")
	statusCarriedAnti = Reject("node(s) didn't satisfy existing pods anti-affinity rules")
)

// PreFilter leaves the filter out where nobody has required terms.
func (InterPodAffinity) PreFilter(c *Cycle) *Status {
	x := c.class
	if len(x.affinityTo) > 0 || len(x.antiTo) > 0 {
		return nil
	}
	for _, k := range x.carriedAnti {
		if k.total > 0 {
			return nil
		}
	}
	return statusSkip
}

// first reports whether the pod is the first of those that want to be near each
// other: then it may go anywhere with the right topologies.
func (x *class) first() bool {
	if !x.selfAffine {
		return false
	}
	for _, k := range x.affinityTo {
		if k.total > 0 {
			return false
		}
	}
	return true
}

// Filter refuses nodes in the wrong domains.
func (InterPodAffinity) Filter(c *Cycle, n NodeInfo) *Status {
	x := c.class
	near := true
	for _, k := range x.affinityTo {
		d := k.column.of(n.row)
		if d == absent {
			return statusAffinityTo
		}
		near = near && k.n.get(d) > 0
	}
	if !near && !x.first() {
		return statusAffinityTo
	}
	for _, k := range x.antiTo {
		if k.nearRow(n.row) {
			return statusAntiTo
		}
	}
	for _, k := range x.carriedAnti {
		if k.nearRow(n.row) {
			return statusCarriedAnti
		}
	}
	return nil
}

// nearRow reports whether the row's domain has a pod that counts.
func (k *counter) nearRow(row int32) bool {
	d := k.column.of(row)
	return d != absent && k.n.get(d) > 0
}

// FilterRows is Filter for all rows. The counters know which rows have a pod
// near: a term costs one operation per 64 nodes.
func (InterPodAffinity) FilterRows(c *Cycle, rows *Rows) {
	x := c.class
	c.allowed = resize(c.allowed, len(c.table.blocks))
	scratch := c.allowed
	if len(x.affinityTo) > 0 && x.first() {
		for _, k := range x.affinityTo {
			rows.and(k.column.labelled())
		}
	} else {
		for _, k := range x.affinityTo {
			rows.and(k.near(scratch))
		}
	}
	for _, list := range [2][]*counter{x.antiTo, x.carriedAnti} {
		for _, k := range list {
			if k.total > 0 {
				rows.andNot(k.near(scratch))
			}
		}
	}
}

// PreScore leaves the score out where there is no pod to be near to or away from.
func (InterPodAffinity) PreScore(c *Cycle) *Status {
	c.rating = c.rating[:0]
	for _, list := range [2][]weightedCounter{c.class.prefers, c.class.carriedPrefers} {
		for _, k := range list {
			if k.total > 0 {
				c.rating = append(c.rating, k)
			}
		}
	}
	if len(c.rating) == 0 {
		return statusSkip
	}
	return nil
}

// scoreDomains rates the domains, if all terms are about one topology.
func (InterPodAffinity) scoreDomains(c *Cycle) (*column, []int64) {
	column := c.rating[0].column
	for i := range c.rating {
		if c.rating[i].column != column {
			return nil, nil
		}
	}
	if column.rowSets() == nil {
		return nil, nil
	}
	c.byDomain = resize(c.byDomain, len(column.values)+1)
	clear(c.byDomain)
	for i := range c.rating {
		k := &c.rating[i]
		for d := range column.values {
			c.byDomain[d+1] += k.n.get(int32(d)) * k.weight
		}
	}
	return column, c.byDomain
}

// meets reports whether two sets of rows have one in common.
func meets(words, set []uint64) bool {
	for i, w := range set {
		if words[i]&w != 0 {
			return true
		}
	}
	return false
}

// meetsOthers reports whether there is a row that is in none of the sets.
func meetsOthers(words []uint64, sets [][]uint64) bool {
	for i, w := range words {
		for _, set := range sets {
			if w == 0 {
				break
			}
			if i < len(set) {
				w &^= set[i]
			}
		}
		if w != 0 {
			return true
		}
	}
	return false
}

// Score adds the weights of the terms, as often as there are pods for them in the
// node's domains.
func (InterPodAffinity) Score(c *Cycle, n NodeInfo) (int64, *Status) {
	var sum int64
	for i := range c.rating {
		sum += c.rating[i].rate(n.row)
	}
	return sum, nil
}

func (k *weightedCounter) rate(row int32) int64 {
	if d := k.column.of(row); d != absent {
		return k.n.get(d) * k.weight
	}
	return 0
}

// ScoreRows is Score for all rows. If all terms are about topologies with so many
// domains that few have a pod, only their rows are visited, and noted in c.touched.
func (InterPodAffinity) ScoreRows(c *Cycle, rows *Rows, scores []int64) {
	n := len(rows.words) * blockRows
	clear(scores[rows.first*blockRows : min(len(scores), rows.first*blockRows+n)])
	sparse := !slices.ContainsFunc(c.rating, func(k weightedCounter) bool { return len(k.column.values) <= coarse })
	if sparse {
		c.touched = resize(c.touched, len(c.table.blocks))
		clear(c.touched)
		c.sparse = c.touched
	}
	for i := range c.rating {
		if k := &c.rating[i]; sparse {
			k.rateDomains(scores, c.touched)
		} else {
			k.rateRows(rows, scores)
		}
	}
}

// rateRows is rate for all rows.
func (k *weightedCounter) rateRows(rows *Rows, scores []int64) {
	ids := k.column.ids
	for wi, w := range rows.words {
		base := (rows.first + wi) * blockRows
		for ; w != 0; w &= w - 1 {
			row := base + bits.TrailingZeros64(w)
			if d := ids[row]; d != absent {
				scores[row] += k.n.get(d) * k.weight
			}
		}
	}
}

// rateDomains is rate for the domains that have pods. It may rate rows that nobody
// asked about.
func (k *weightedCounter) rateDomains(scores []int64, touched []uint64) {
	for d, n := range k.n.all {
		for _, row := range k.column.members[d] {
			scores[row] += int64(n) * k.weight
			touched[row/blockRows] |= 1 << (row % blockRows)
		}
	}
}

// NormalizeRange maps the least sum to 0 and the greatest to 100.
func (InterPodAffinity) NormalizeRange(score, least, greatest int64) int64 {
	if greatest == least {
		return 0
	}
	return int64(float64(MaxScore) * (float64(score-least) / float64(greatest-least)))
}
