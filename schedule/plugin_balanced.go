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

// ScoreRows is Score for all rows.
func (p NodeResourcesBalancedAllocation) ScoreRows(c *Cycle, rows *Rows, scores []int64) {
	if p.Resources != nil {
		for row := range rows.All() {
			scores[row], _ = p.Score(c, NodeInfo{c.table, int32(row)})
		}
		return
	}
	cpuRequest, memoryRequest := c.class.t.request(CPU), c.class.t.request(Memory)
	for wi, w := range rows.words {
		if w == 0 {
			continue
		}
		b := c.table.blocks[rows.first+wi]
		base := (rows.first + wi) * blockRows
		cpu, cpuUsed := b.column(resCPU)
		memory, memoryUsed := b.column(resMemory)
		for ; w != 0; w &= w - 1 {
			i := bits.TrailingZeros64(w) & 63
			if cpu[i] == 0 || memory[i] == 0 {
				scores[base+i] = improvement(100, 100)
				continue
			}
			// Fewer than two fractions are always balanced; here there are two.
			a, m := float64(cpu[i]), float64(memory[i])
			with := capped(float64(cpuUsed[i]+cpuRequest)/a) - capped(float64(memoryUsed[i]+memoryRequest)/m)
			without := capped(float64(cpuUsed[i])/a) - capped(float64(memoryUsed[i])/m)
			scores[base+i] = improvement(int64((1-math.Abs(with/2))*100), int64((1-math.Abs(without/2))*100))
		}
	}
}
