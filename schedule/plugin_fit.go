// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Strategy says how NodeResourcesFit rates nodes.
type Strategy int

// The scoring strategies of Kubernetes.
const (
	// LeastAllocated prefers nodes with more left: pods spread out.
	LeastAllocated Strategy = iota
	// MostAllocated prefers fuller nodes: pods are packed into few.
	MostAllocated
	// RequestedToCapacityRatio rates by a curve of utilisation.
	RequestedToCapacityRatio
)

// NodeResourcesFit keeps pods off nodes that have too little left of what they
// request, and rates the others by how full they would be
// (https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/).
type NodeResourcesFit struct {
	nodeLocal
	Strategy  Strategy
	Resources []ResourceWeight   // that are rated; nil means CPU and memory alike
	Shape     []UtilizationPoint // for RequestedToCapacityRatio; by rising utilisation
}

// ResourceWeight says how much a resource counts in a score; Weight of 0 means 1.
type ResourceWeight struct {
	Name   string
	Weight int64
}

// UtilizationPoint is a point of a curve: at a utilisation of 0 to 100 percent
// the score is 0 to 10. In between it is interpolated.
type UtilizationPoint struct {
	Utilization int64
	Score       int64
}

// BinPacking returns a NodeResourcesFit that fills nodes up one after the other,
// which keeps others free for large pods or for switching off. Use it with
// [With].
func BinPacking() NodeResourcesFit { return NodeResourcesFit{Strategy: MostAllocated} }

// Name returns "NodeResourcesFit".
func (NodeResourcesFit) Name() string { return "NodeResourcesFit" }

func (f NodeResourcesFit) validate() error {
	for _, r := range f.Resources {
		if r.Name == "" || r.Weight < 0 || r.Weight > 100 {
			return fmt.Errorf("resource %q with weight %d: want a name and a weight of 0 to 100", r.Name, r.Weight)
		}
	}
	if f.Strategy < LeastAllocated || f.Strategy > RequestedToCapacityRatio {
		return fmt.Errorf("unknown strategy %d", f.Strategy)
	}
	if (f.Strategy == RequestedToCapacityRatio) != (len(f.Shape) > 0) {
		return errors.New("a shape goes with the strategy RequestedToCapacityRatio, and with no other")
	}
	last := int64(-1)
	for _, p := range f.Shape {
		if p.Utilization <= last || p.Utilization > 100 || p.Score < 0 || p.Score > 10 {
			return fmt.Errorf("shape point %+v: want rising utilisations of 0 to 100, and scores of 0 to 10", p)
		}
		last = p.Utilization
	}
	return nil
}

var statusTooManyPods = Reject("Too many pods")

// Filter refuses a node that has too little of something, and names all of it.
func (NodeResourcesFit) Filter(c *Cycle, n NodeInfo) *Status {
	b, i := c.table.at(n.row)
	pods := b.crowded>>i&1 != 0
	var lacking uint64
	for j := range c.class.requests {
		r := &c.class.requests[j]
		alloc, used := b.column(r.resource)
		if r.amount > alloc[i]-used[i] {
			lacking |= 1 << (j & 63)
		}
	}
	if !pods && lacking == 0 {
		return nil
	}
	return c.class.shortOf(pods, lacking)
}

// lack returns the status for several resources at once: always the same one for
// the same resources.
func (x *class) lack(pods bool, lacking uint64) *Status {
	key := lackKey{pods, lacking}
	if x.lastLack != nil && x.lastLackKey == key { // as it was on the node before
		return x.lastLack
	}
	s := x.lackOf(key)
	x.lastLackKey, x.lastLack = key, s
	return s
}

func (x *class) lackOf(key lackKey) *Status {
	if s, ok := x.lacks[key]; ok {
		return s
	}
	var reasons []string
	if key.pods {
		reasons = append(reasons, statusTooManyPods.Reasons...)
	}
	for j := range x.requests {
		if key.lacking>>(j&63)&1 != 0 {
			reasons = append(reasons, x.requests[j].status.Reasons...)
		}
	}
	if x.lacks == nil {
		x.lacks = map[lackKey]*Status{}
	}
	s := Reject(reasons...)
	x.lacks[key] = s
	return s
}

type lackKey struct {
	pods    bool
	lacking uint64
}

// FilterRows is Filter for all rows.
func (NodeResourcesFit) FilterRows(c *Cycle, rows *Rows) {
	for i, w := range rows.words {
		if w != 0 {
			rows.words[i] = c.class.fitting(c.table.blocks[rows.first+i], w)
		}
	}
}

// fitting returns the rows of w with room for a pod of the class.
func (x *class) fitting(b *block, w uint64) uint64 {
	w &^= b.crowded
	for i := range x.requests {
		r := &x.requests[i]
		alloc, used := b.column(r.resource)
		w = fits(w, alloc, used, r.amount)
	}
	return w
}

// refuseRows is Filter for the rows of a block.
func (NodeResourcesFit) refuseRows(c *Cycle, block int, rows uint64, refuse func(*Status, uint64)) {
	b, x := c.table.blocks[block], c.class
	crowded := rows & b.crowded
	short := crowded
	var lacks [64]uint64 // by request: the rows that have too little of it
	for j := range x.requests {
		r := &x.requests[j]
		alloc, used := b.column(r.resource)
		l := rows &^ fits(rows, alloc, used, r.amount)
		lacks[j&63] |= l
		short |= l
	}
	for short != 0 {
		one, alike, lacking := short&-short, short, uint64(0)
		if crowded&one != 0 {
			alike &= crowded
		} else {
			alike &^= crowded
		}
		for j := range min(len(x.requests), 64) {
			if lacks[j]&one != 0 {
				alike &= lacks[j]
				lacking |= 1 << j
			} else {
				alike &^= lacks[j]
			}
		}
		refuse(x.shortOf(crowded&one != 0, lacking), alike)
		short &^= alike
	}
}

// shortOf returns the status of a node that lacks some resources.
func (x *class) shortOf(pods bool, lacking uint64) *Status {
	switch {
	case lacking == 0:
		return statusTooManyPods
	case !pods && lacking&(lacking-1) == 0:
		return x.requests[bits.TrailingZeros64(lacking)].status
	}
	return x.lack(pods, lacking)
}

// fits returns the rows of w with room for an amount. For many rows it works out
// all 64 without branches, which is four times as fast per row.
func fits(w uint64, alloc, used *[blockRows]int64, amount int64) uint64 {
	if bits.OnesCount64(w) > sparseRows {
		var short uint64
		for i := range blockRows {
			short |= uint64(alloc[i]-used[i]-amount) >> 63 << i
		}
		return w &^ short
	}
	for m := w; m != 0; m &= m - 1 {
		if i := bits.TrailingZeros64(m) & 63; amount > alloc[i]-used[i] {
			w &^= 1 << i
		}
	}
	return w
}

// sparseRows is up to how many rows of a block are gone through one by one.
const sparseRows = 12

// Score rates a node by how full it would be.
func (f NodeResourcesFit) Score(c *Cycle, n NodeInfo) (int64, *Status) {
	b, i := c.table.at(n.row)
	var sum, weights int64
	for _, r := range f.rated() {
		alloc, want := c.resource(b, i, r.Name, true)
		if alloc == 0 {
			continue
		}
		score := f.rate(want, alloc)
		if f.Strategy == RequestedToCapacityRatio && score == 0 {
			continue
		}
		sum += score * r.Weight
		weights += r.Weight
	}
	switch {
	case weights == 0:
		return 0, nil
	case f.Strategy == RequestedToCapacityRatio:
		return int64(math.Round(float64(sum) / float64(weights))), nil
	}
	return sum / weights, nil
}

// rated returns the resources with their weights.
func (f *NodeResourcesFit) rated() []ResourceWeight {
	if f.Resources == nil {
		return defaultResources
	}
	rated := make([]ResourceWeight, len(f.Resources))
	for i, r := range f.Resources {
		rated[i] = ResourceWeight{r.Name, max(1, r.Weight)}
	}
	return rated
}

var defaultResources = []ResourceWeight{{CPU, 1}, {Memory, 1}}

// resource returns what a node offers of a resource and what would be requested
// with the pod; 0 and 0 if it is not to be rated: the node has none, or it is an
// extended resource that the pod doesn't request.
func (c *Cycle) resource(b *block, i int, name string, nonzero bool) (alloc, want int64) {
	r := c.table.resources.find(name)
	request := c.class.t.request(name)
	if r >= firstExtended && request == 0 {
		return 0, 0
	}
	a, u := b.column(r)
	used := u[i]
	if nonzero && r <= resMemory {
		used, request = b.nonzero[r][i], c.class.t.nonzero[r]
	}
	if a[i] == 0 {
		return 0, 0
	}
	return a[i], used + request
}

// rate rates one resource from 0 to 100.
func (f *NodeResourcesFit) rate(want, alloc int64) int64 {
	switch f.Strategy {
	case LeastAllocated:
		if want > alloc {
			return 0
		}
		return (alloc - want) * MaxScore / alloc
	case MostAllocated:
		return min(want, alloc) * MaxScore / alloc
	}
	if want > alloc {
		return curve(f.Shape, 100)
	}
	return curve(f.Shape, want*100/alloc)
}

// curve interpolates; scores of points go to 10, the result to 100.
func curve(shape []UtilizationPoint, at int64) int64 {
	for i, p := range shape {
		if at > p.Utilization {
			continue
		}
		if i == 0 {
			return p.Score * 10
		}
		q := shape[i-1]
		return q.Score*10 + (p.Score-q.Score)*10*(at-q.Utilization)/(p.Utilization-q.Utilization)
	}
	return shape[len(shape)-1].Score * 10
}

// byShares reports whether the score goes by shares of CPU and memory.
func (f NodeResourcesFit) byShares() bool {
	return f.Resources == nil && f.Strategy != RequestedToCapacityRatio
}

// ScoreRows is Score for all rows.
func (f NodeResourcesFit) ScoreRows(c *Cycle, rows *Rows, scores []int64) {
	c.scoreRated(f, rows, scores)
}

// rateBlock is Score by shares.
func (f NodeResourcesFit) rateBlock(c *Cycle, b *block, rows uint64, weight int32, sum *[blockRows]int32) {
	wants, most := c.wants, f.Strategy == MostAllocated
	cpu, memory := &b.shareNonzero[0], &b.shareNonzero[1]
	if rows == ^uint64(0) {
		for i := range blockRows {
			want := &wants[b.shape[i]]
			sum[i] += weight * left(cpu[i]+want.nonzero[0], memory[i]+want.nonzero[1], most)
		}
		return
	}
	for ; rows != 0; rows &= rows - 1 {
		i := bits.TrailingZeros64(rows) & 63
		want := &wants[b.shape[i]]
		sum[i] += weight * left(cpu[i]+want.nonzero[0], memory[i]+want.nonzero[1], most)
	}
}

// left returns how much of the CPU and memory is left, or taken if most is true, in
// percent: the mean of the two.
func left(cpu, memory int64, most bool) int32 {
	if most {
		cpu, memory = min(cpu, full), min(memory, full)
	} else {
		cpu, memory = max(full+2-cpu, 0), max(full+2-memory, 0)
	}
	return int32((cpu>>shareBits + memory>>shareBits) >> 1)
}
