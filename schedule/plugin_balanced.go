// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math"
	"math/bits"
)

// NodeResourcesBalancedAllocation prefers nodes whose resources the pod would
// bring closer to being used in equal proportion. As of Kubernetes v1.36 the
// score is the improvement: 75 if the pod changes nothing, towards 100 if it
// evens the node out, towards 50 if it does the contrary.
type NodeResourcesBalancedAllocation struct {
	nodeLocal
	Resources []string // that are balanced; nil means CPU and memory
}

// Name returns "NodeResourcesBalancedAllocation".
func (NodeResourcesBalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// PreScore leaves the score out for pods that request none of the resources.
func (b NodeResourcesBalancedAllocation) PreScore(c *Cycle) *Status {
	if b.Resources == nil {
		if c.class.t.request(CPU) != 0 || c.class.t.request(Memory) != 0 {
			return nil
		}
		return statusSkip
	}
	for _, r := range b.Resources {
		if c.class.t.request(r) != 0 {
			return nil
		}
	}
	return statusSkip
}

// Score rates how the pod changes the balance of a node.
func (p NodeResourcesBalancedAllocation) Score(c *Cycle, n NodeInfo) (int64, *Status) {
	b, i := c.table.at(n.row)
	names := p.Resources
	if names == nil {
		names = defaultBalanced
	}
	var buf [2][8]float64
	with, without := buf[0][:0], buf[1][:0]
	for _, name := range names {
		alloc, want := c.resource(b, i, name, false)
		if alloc == 0 {
			continue
		}
		with = append(with, fraction(want, alloc))
		without = append(without, fraction(want-c.class.t.request(name), alloc))
	}
	return improvement(balance(with), balance(without)), nil
}

var defaultBalanced = []string{CPU, Memory}

func fraction(used, alloc int64) float64 { return capped(float64(used) / float64(alloc)) }

// capped is min(1, f) without min's care for NaN, which costs a third of the score.
func capped(f float64) float64 {
	if f > 1 {
		return 1
	}
	return f
}

// balance is 100 for equal fractions, and less by their standard deviation.
func balance(fractions []float64) int64 {
	var deviation float64
	switch n := float64(len(fractions)); {
	case n == 2:
		deviation = math.Abs((fractions[0] - fractions[1]) / 2)
	case n > 2:
		var mean, sum float64
		for _, f := range fractions {
			mean += f
		}
		mean /= n
		for _, f := range fractions {
			sum += (f - mean) * (f - mean)
		}
		deviation = math.Sqrt(sum / n)
	}
	return int64((1 - deviation) * float64(MaxScore))
}

func improvement(with, without int64) int64 {
	return MaxScore/2 + (MaxScore/2+with-without)/2
}

// balanceOfTwo is balance for a node's CPU and memory.
func balanceOfTwo(cpuUsed, cpu, memoryUsed, memory int64) int64 {
	return int64((1 - math.Abs((fraction(cpuUsed, cpu)-fraction(memoryUsed, memory))/2)) * float64(MaxScore))
}

// byShares reports whether the score goes by shares of CPU and memory.
func (p NodeResourcesBalancedAllocation) byShares() bool { return p.Resources == nil }

// ScoreRows is Score for all rows.
func (p NodeResourcesBalancedAllocation) ScoreRows(c *Cycle, rows *Rows, scores []int64) {
	c.scoreRated(p, rows, scores)
}

// rateBlock is Score by shares.
func (p NodeResourcesBalancedAllocation) rateBlock(c *Cycle, b *block, rows uint64, weight int32, sum *[blockRows]int32) {
	wants := c.wants
	cpu, memory := &b.shareUsed[0], &b.shareUsed[1]
	if rows == ^uint64(0) {
		for i := range blockRows {
			want := &wants[b.shape[i]]
			with, sure := balanceOfShares(cpu[i]+want.used[0], memory[i]+want.used[1])
			if !sure {
				with = p.with(c, b, i)
			}
			sum[i] += weight * int32(improvement(with, int64(b.balance[i])))
		}
		return
	}
	for ; rows != 0; rows &= rows - 1 {
		i := bits.TrailingZeros64(rows) & 63
		want := &wants[b.shape[i]]
		with, sure := balanceOfShares(cpu[i]+want.used[0], memory[i]+want.used[1])
		if !sure {
			with = p.with(c, b, i)
		}
		sum[i] += weight * int32(improvement(with, int64(b.balance[i])))
	}
}

// balanceOfShares is balanceOfTwo for shares.
func balanceOfShares(cpu, memory int64) (balance int64, sure bool) {
	return balanceOfDifference(min(cpu, full) - min(memory, full))
}

// balanceOfDifference returns 100 less half the difference. Kubernetes' formula is
// one of floating point: where the result is so near to a whole number that its
// rounding errors decide, it is not sure.
func balanceOfDifference(d int64) (balance int64, sure bool) {
	const near = 1 << 14    // 2^-40 of a percent; the errors are below 2^-44
	d = (d ^ d>>63) - d>>63 // the absolute value
	v := full + near - d>>1
	return v >> shareBits, v&(1<<shareBits-1) >= 2*near
}

// with returns the balance of a node with the pod.
func (NodeResourcesBalancedAllocation) with(c *Cycle, b *block, i int) int64 {
	cpu, cpuUsed := b.column(resCPU)
	memory, memoryUsed := b.column(resMemory)
	if cpu[i] == 0 || memory[i] == 0 {
		return MaxScore // of a row without a node
	}
	t := c.class.t
	return balanceOfTwo(cpuUsed[i]+t.request(CPU), cpu[i], memoryUsed[i]+t.request(Memory), memory[i])
}
