// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math"
	"math/bits"
)

// PodTopologySpread keeps the pods that a constraint selects spread over the
// domains of a topology: as a condition, or as a preference
// (https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/,
// KEP-895, and KEP-3022, 3094 and 3243 for what was added).
type PodTopologySpread struct{}

// Name returns "PodTopologySpread".
func (PodTopologySpread) Name() string { return "PodTopologySpread" }

var (
	statusNoDomain = NewStatus(UnschedulableAndUnresolvable, "node(s) didn't match pod topology spread constraints (missing required label)")
	statusSkew     = Reject("node(s) didn't match pod topology spread constraints")
)

// PreFilter leaves the filter out for pods without conditions.
func (PodTopologySpread) PreFilter(c *Cycle) *Status {
	if len(c.class.hardSpread) == 0 {
		return statusSkip
	}
	return nil
}

// limit returns how many pods a domain may have before this one.
func (s *spread) limit() int64 {
	least := int64(0)
	if s.eligible.domains >= s.minDomains {
		least = s.least()
	}
	return s.maxSkew + least - s.self
}

// Filter refuses nodes without a domain, and those whose domain would have too
// many pods.
func (PodTopologySpread) Filter(c *Cycle, n NodeInfo) *Status {
	for i := range c.class.hardSpread {
		s := &c.class.hardSpread[i]
		d := s.column.of(n.row)
		if d == absent {
			return statusNoDomain
		}
		if s.n.get(d) > s.limit() {
			return statusSkew
		}
	}
	return nil
}

// FilterRows is Filter for all rows.
func (PodTopologySpread) FilterRows(c *Cycle, rows *Rows) {
	for i := range c.class.hardSpread {
		s := &c.class.hardSpread[i]
		limit := s.limit()
		if sets := s.column.rowSets(); sets != nil {
			s.keepDomains(c, rows, sets, limit)
			continue
		}
		for wi, w := range rows.words {
			base := (rows.first + wi) * blockRows
			for ; w != 0; w &= w - 1 {
				r := bits.TrailingZeros64(w)
				if d := s.column.ids[base+r]; d == absent || s.n.get(d) > limit {
					rows.words[wi] &^= 1 << r
				}
			}
		}
	}
}

// keepDomains leaves the rows of the domains with no more pods than the limit.
func (s *spread) keepDomains(c *Cycle, rows *Rows, sets [][]uint64, limit int64) {
	c.allowed = resize(c.allowed, len(c.table.blocks))
	clear(c.allowed)
	for d, set := range sets {
		if s.n.get(int32(d)) > limit {
			continue
		}
		for i, w := range set {
			c.allowed[i] |= w
		}
	}
	rows.and(c.allowed)
}

// spreadState is what PreScore leaves for Score and NormalizeScore.
type spreadState struct {
	weights []float64
}

// PreScore weighs the constraints: the more domains a topology has, the more each
// pod in one of them counts.
func (PodTopologySpread) PreScore(c *Cycle) *Status {
	soft := c.class.softSpread
	if len(soft) == 0 {
		return statusSkip
	}
	c.spread.weights = c.spread.weights[:0]
	for i := range soft {
		domains := 0
		if soft[i].key == LabelHostname {
			for row := range c.feasible.All() {
				if hasDomains(soft, int32(row)) {
					domains++
				}
			}
		} else {
			domains = c.domains(soft, &soft[i])
		}
		c.spread.weights = append(c.spread.weights, math.Log(float64(domains+2)))
	}
	return nil
}

// domains counts the values of a constraint's topology among the feasible nodes
// that have all topologies.
func (c *Cycle) domains(soft []spread, s *spread) (n int) {
	c.seen = resize(c.seen, len(s.column.values))
	clear(c.seen)
	for i, w := range c.words {
		base := i * blockRows
		for ; w != 0; w &= w - 1 {
			row := int32(base + bits.TrailingZeros64(w))
			if d := s.column.of(row); d != absent && !c.seen[d] && (len(soft) == 1 || hasDomains(soft, row)) {
				c.seen[d] = true
				n++
			}
		}
	}
	return n
}

// hasDomains reports whether a node has all topologies; others get no score.
func hasDomains(soft []spread, row int32) bool {
	for i := range soft {
		if soft[i].column.of(row) == absent {
			return false
		}
	}
	return true
}

// Score counts the pods in the node's domains, weighted: the fewer the better.
// It is -1 for nodes that lack a topology.
func (PodTopologySpread) Score(c *Cycle, n NodeInfo) (int64, *Status) {
	soft := c.class.softSpread
	if !hasDomains(soft, n.row) {
		return -1, nil
	}
	var sum float64
	for i := range soft {
		s := &soft[i]
		var pods int64
		if s.host != nil {
			pods = s.host.n.get(s.host.column.of(n.row))
		} else {
			pods = s.n.get(s.column.of(n.row))
		}
		sum += float64(pods)*c.spread.weights[i] + float64(s.maxSkew-1)
	}
	return int64(math.Round(sum)), nil
}

// ScoreRows is Score for all rows.
func (p PodTopologySpread) ScoreRows(c *Cycle, rows *Rows, scores []int64) {
	soft := c.class.softSpread
	if len(soft) != 1 || soft[0].host != nil || len(soft[0].column.values) > 1024 {
		for row := range rows.All() {
			scores[row], _ = p.Score(c, NodeInfo{c.table, int32(row)})
		}
		return
	}
	// One constraint over few domains: its score is worked out once per domain.
	s := &soft[0]
	var byDomain [1024]int64
	for d := range s.column.values {
		byDomain[d] = int64(math.Round(float64(s.n.get(int32(d)))*c.spread.weights[0] + float64(s.maxSkew-1)))
	}
	for wi, w := range rows.words {
		base := (rows.first + wi) * blockRows
		for ; w != 0; w &= w - 1 {
			row := base + bits.TrailingZeros64(w)
			scores[row] = -1
			if d := s.column.ids[row]; d != absent {
				scores[row] = byDomain[d&1023]
			}
		}
	}
}

// NormalizeScore turns the least sum into 100.
func (PodTopologySpread) NormalizeScore(c *Cycle, rows *Rows, scores []int64) *Status {
	least, greatest := int64(math.MaxInt64), int64(0)
	for row := range rows.All() {
		if v := scores[row]; v >= 0 {
			least, greatest = min(least, v), max(greatest, v)
		}
	}
	for row := range rows.All() {
		switch v := scores[row]; {
		case v < 0:
			scores[row] = 0
		case greatest == 0:
			scores[row] = MaxScore
		default:
			scores[row] = MaxScore * (greatest + least - v) / greatest
		}
	}
	return nil
}
