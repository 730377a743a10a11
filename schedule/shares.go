// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math/bits"
	"slices"
)

// The default scores are about how much of a node's CPU and memory is taken, in
// percent, cut to whole numbers: four divisions per node and pod. The table keeps
// these percentages with the nodes, as whole numbers scaled by 2^54 and rounded up,
// and a pod's own percentages are worked out once per shape of node. What is left
// to do per node is to add, compare and shift: looking at 5,000 nodes for a pod of a new
// kind took 37 ns per node with divisions, and takes 7 to 9 without.
//
// The result is exact. For amounts a and b of n, each rounded up, the sum is less
// than 2 above (a+b)·100/n, while the next whole percentage is at least 2^54/n ≥ 4
// away.

const (
	shareBits = 54
	full      = 100 << shareBits
	maxScaled = int64(1) << 52 // more than that of a resource is not scaled
)

// percent returns amount/of in percent, scaled and rounded up, and at most 200.
func percent(amount, of int64) int64 {
	if amount >= 2*of {
		return 2 * full
	}
	hi, lo := bits.Mul64(uint64(amount), full)
	q, rest := bits.Div64(hi, lo, uint64(of))
	if rest != 0 {
		q++
	}
	return int64(q)
}

// shares are percentages of the CPU and memory of a node.
type shares struct {
	used    [2]int64
	nonzero [2]int64 // as scores count them
}

// shape is what nodes of the same size have in common.
type shape [2]int64

// shapes numbers the sizes of nodes: as a rule there are few. Number 0 is that of no
// node.
type shapes struct {
	index     map[shape]int32
	list      []shape
	shared    bool
	numbering uint64 // changes when the numbers do
}

func (s *shapes) fork() shapes {
	s.shared = true
	return shapes{s.index, s.list, true, s.numbering}
}

func (s *shapes) id(of shape) int32 {
	if id, ok := s.index[of]; ok {
		return id
	}
	if s.shared || s.index == nil {
		s.index, s.list, s.shared = cloneMap(s.index), slices.Clone(s.list), false
	}
	if len(s.list) == 0 {
		s.list = append(s.list, shape{})
	}
	id := int32(len(s.list))
	s.list = append(s.list, of)
	s.index[of] = id
	return id
}

// renumber forgets the shapes that no node has any more.
func (t *table) renumber() {
	t.shapes = shapes{numbering: t.shapes.numbering + 1}
	for row := range int32(t.rows) {
		if n := t.node(row); n != nil {
			b, i := t.block(row)
			b.shape[i] = t.shapes.id(shape{n.Allocatable.CPU, n.Allocatable.Memory})
			b.compareShapes()
		}
	}
}

// mixed marks a block whose nodes are of several shapes.
const mixed = int32(-1)

// compareShapes finds out whether all nodes of the block are of one shape.
func (b *block) compareShapes() {
	b.only = mixed
	for w := b.live; w != 0; w &= w - 1 {
		switch id := b.shape[bits.TrailingZeros64(w)&63]; {
		case b.only == mixed:
			b.only = id
		case b.only != id:
			b.only = mixed
			return
		}
	}
}

// rescale works a row's shares out again.
func (b *block) rescale(i int) {
	cpu, cpuUsed := b.column(resCPU)
	memory, memoryUsed := b.column(resMemory)
	pods, podsUsed := b.column(resPods)
	bit := uint64(1) << i
	b.scaled &^= bit
	b.defaults &^= bit
	b.empty &^= bit
	b.crowded &^= bit
	if podsUsed[i] >= pods[i] {
		b.crowded |= bit
	}
	if min(cpu[i], memory[i]) <= 0 || max(cpu[i], memory[i]) > maxScaled {
		return
	}
	b.scaled |= bit
	c, m := percent(cpuUsed[i], cpu[i]), percent(memoryUsed[i], memory[i])
	b.shareUsed[0][i], b.shareUsed[1][i] = c, m
	b.balance[i] = int8(balanceOfTwo(cpuUsed[i], cpu[i], memoryUsed[i], memory[i]))
	if b.nonzero[0][i] != cpuUsed[i] || b.nonzero[1][i] != memoryUsed[i] {
		b.defaults |= bit
		c, m = percent(b.nonzero[0][i], cpu[i]), percent(b.nonzero[1][i], memory[i])
	}
	b.shareNonzero[0][i], b.shareNonzero[1][i] = c, m
	if c == 0 && m == 0 {
		b.empty |= bit
	}
}

// wants returns the shares that a class takes of each shape, given those that are
// known already.
func (t *table) wants(x *class, known []shares) []shares {
	cpu, memory := x.t.request(CPU), x.t.request(Memory)
	for i := len(known); i < max(1, len(t.shapes.list)); i++ {
		w := shares{[2]int64{2 * full, 2 * full}, [2]int64{2 * full, 2 * full}}
		if i > 0 && max(t.shapes.list[i][0], t.shapes.list[i][1]) <= maxScaled {
			of := t.shapes.list[i]
			w = shares{
				[2]int64{percent(cpu, of[0]), percent(memory, of[1])},
				[2]int64{percent(x.t.nonzero[0], of[0]), percent(x.t.nonzero[1], of[1])},
			}
		}
		known = append(known, w)
	}
	return known
}

// rater is a score that goes by shares. It does not fail.
type rater interface {
	ScorePlugin
	byShares() bool
	// rateBlock adds the weighted scores of some rows to their sums. If rows are
	// all, it may add anything to those of rows without a node.
	rateBlock(c *Cycle, b *block, rows uint64, weight int32, sum *[blockRows]int32)
}

// rate adds the scores of some rows of a block to their sums. Dense says that the
// sums of the other rows don't matter: then it is quicker to rate them all.
func (c *Cycle) rate(r rater, block int, rows uint64, dense bool, weight int32, sum *[blockRows]int32) {
	b := c.table.blocks[block]
	odd := rows &^ b.scaled
	if dense && odd == 0 && bits.OnesCount64(rows) > sparseRows {
		r.rateBlock(c, b, ^uint64(0), weight, sum)
		return
	}
	r.rateBlock(c, b, rows&b.scaled, weight, sum)
	for ; odd != 0; odd &= odd - 1 {
		i := bits.TrailingZeros64(odd)
		v, _ := r.Score(c, NodeInfo{c.table, int32(block*blockRows + i)})
		sum[i] += weight * int32(v)
	}
}

// scoreRated is ScoreRows for a rater.
func (c *Cycle) scoreRated(r rater, rows *Rows, scores []int64) {
	for wi, w := range rows.words {
		if w == 0 {
			continue
		}
		block := rows.first + wi
		base := block * blockRows
		if !r.byShares() {
			for ; w != 0; w &= w - 1 {
				row := base + bits.TrailingZeros64(w)
				scores[row], _ = r.Score(c, NodeInfo{c.table, int32(row)})
			}
			continue
		}
		clear(c.rates[:])
		c.rate(r, block, w, true, 1, &c.rates)
		for ; w != 0; w &= w - 1 {
			i := bits.TrailingZeros64(w)
			scores[base+i] = int64(c.rates[i])
		}
	}
}

// kernel is what NodeResourcesFit and NodeResourcesBalancedAllocation do to nodes, in
// one go. A pod of a new kind spends most of its cycle here; one loop in place of
// three, for the usual case, halves that.
type kernel struct {
	filter        int // of NodeResourcesFit; -1: there is no kernel
	fit, balanced int // scores, or -1
	most          bool
}

var noKernel = kernel{filter: -1, fit: -1, balanced: -1}

// kernel returns the profile's kernel, if it has these plugins by shares.
func (f *profile) kernel() kernel {
	k := noKernel
	for i := range f.filters {
		if p, ok := f.filters[i].FilterPlugin.(NodeResourcesFit); ok && p.byShares() {
			k.filter, k.most = i, p.Strategy == MostAllocated
		}
	}
	if k.filter < 0 {
		return k
	}
	for i := range f.scores {
		switch f.scores[i].rater.(type) {
		case NodeResourcesFit:
			k.fit = i
		case NodeResourcesBalancedAllocation:
			k.balanced = i
		}
	}
	return k
}

// run filters rows, all of the table's, and sets their sums.
func (k kernel) run(c *Cycle, rows *Rows, cache *rowCache) {
	if k.balanced >= 0 && c.skipScore[k.balanced] {
		k.balanced = -1
	}
	requestsBoth := c.class.t.request(CPU) > 0 && c.class.t.request(Memory) > 0
	only := k.only(c)
	for wi, w := range rows.words {
		block := rows.first + wi
		b := c.table.blocks[block]
		w &^= b.crowded
		if w == 0 {
			rows.words[wi] = 0
			continue
		}
		if requestsBoth && b.only != mixed && w&(^b.scaled|b.defaults) == 0 && bits.OnesCount64(w) > sparseRows {
			rows.words[wi] = k.runBlock(c, block, w, cache, only)
			continue
		}
		w = c.class.fitting(b, w)
		clear(cache.sums(block)[:])
		for _, i := range [2]int{k.fit, k.balanced} {
			if i >= 0 {
				s := &c.profile.scores[i]
				c.rate(s.rater, block, w, true, int32(s.weight), cache.sums(block))
			}
		}
		rows.words[wi] = w
	}
}

// only reports whether no other score goes into the sums.
func (k kernel) only(c *Cycle) bool {
	for i := range c.profile.scores {
		if c.profile.scores[i].plain() && i != k.fit && i != k.balanced && !c.skipScore[i] {
			return false
		}
	}
	return true
}

// runBlock does it for nodes of one shape. Empty ones are alike: one stands for all.
// If settle is true it also finds the top of the block.
func (k kernel) runBlock(c *Cycle, block int, w uint64, cache *rowCache, settle bool) uint64 {
	b, sum := c.table.blocks[block], cache.sums(block)
	r := shapeRating{block: b, want: &c.wants[b.only], most: k.most}
	if k.fit >= 0 {
		r.fit = int32(c.profile.scores[k.fit].weight)
	}
	if k.balanced >= 0 {
		r.balanced = int32(c.profile.scores[k.balanced].weight)
	}
	alike := w & b.empty
	others := w &^ alike
	top, exact := int32(-1), true
	if alike != 0 {
		one := alike & -alike
		var short uint64
		if short, top, exact = r.run(c, one, sum); short != 0 {
			alike = 0
		} else {
			v := sum[bits.TrailingZeros64(one)]
			for i := range sum {
				sum[i] = v
			}
		}
	}
	short, topOthers, exactOthers := r.run(c, others, sum)
	w = alike | others&^short
	for i := range c.class.requests {
		if r := &c.class.requests[i]; r.resource > resMemory {
			alloc, used := b.column(r.resource)
			w, exact = fits(w, alloc, used, r.amount), false
		}
	}
	if settle && exact && exactOthers {
		cache.top[block] = max(top, topOthers)
		cache.tied[block] = equal(sum, cache.top[block]) & w
	}
	return w
}

// equal returns the rows with a sum.
func equal(sum *[blockRows]int32, v int32) (rows uint64) {
	for i, s := range sum {
		var same uint64
		if s == v {
			same = 1
		}
		rows |= same << i
	}
	return rows
}

// shapeRating is for nodes of one shape, and a pod that requests both CPU and memory.
type shapeRating struct {
	*block
	want          *shares
	fit, balanced int32 // weights
	most          bool
}

// run sets the sums of some rows, and returns those that have too little left. Top is
// the greatest sum of the others, if it is exact.
func (r *shapeRating) run(c *Cycle, rows uint64, sum *[blockRows]int32) (short uint64, top int32, exact bool) {
	short, unsure, top := rateShape(r.gauges, rows, r.want, r.fit, r.balanced, r.most, sum)
	if r.balanced == 0 || unsure == 0 {
		return short, top, true
	}
	for m := unsure; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		guess, _ := balanceOfShares(r.shareUsed[0][i]+r.want.used[0], r.shareUsed[1][i]+r.want.used[1])
		exact := NodeResourcesBalancedAllocation{}.with(c, r.block, i)
		without := int64(r.balance[i])
		sum[i] += r.balanced * int32(improvement(exact, without)-improvement(guess, without))
	}
	return short, top, false
}

// rateShape sets the sums of some rows of a block, for a pod that requests both CPU
// and memory. Those of the rows in short, which have too little left, mean nothing.
// For the rows in unsure see balanceOfDifference. Top is the greatest of the sums.
func rateShape(g *gauges, rows uint64, want *shares, fit, balanced int32, most bool, sum *[blockRows]int32) (short, unsure uint64, top int32) {
	top = -1
	// What is left of each is at least 1 if the pod fits, and far below 0 if not.
	allCPU, allMemory := full+2-want.used[0], full+2-want.used[1]
	for ; rows != 0; rows &= rows - 1 {
		i := bits.TrailingZeros64(rows) & 63
		c, m := allCPU-g.shareUsed[0][i], allMemory-g.shareUsed[1][i]
		if c|m < 0 {
			short |= 1 << i
			continue
		}
		with, sure := balanceOfDifference(c - m)
		if !sure {
			unsure |= 1 << i
		}
		if most {
			c, m = full+2-c, full+2-m
		}
		v := fit*int32((c>>shareBits+m>>shareBits)>>1) + balanced*int32(improvement(with, int64(g.balance[i])))
		sum[i] = v
		top = max(top, v)
	}
	return short, unsure, top
}
