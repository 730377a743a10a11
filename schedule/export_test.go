// SPDX-License-Identifier: Apache-2.0

package schedule

// ForgetClass makes the next cycle of a pod like this one look at all nodes
// again, as for a pod of a new kind.
func (c *Cluster) ForgetClass(pod *Pod) {
	if t, err := c.template(pod); err == nil && c.classes[t] != nil {
		c.dropCaches(c.classes[t].local)
		c.classes[t].local.seen = 0
	}
}

// Tied returns the names of the nodes among which the last cycle drew lots.
func (c *Cluster) Tied() (names []string) {
	rows := Rows{words: c.cycle.tied}
	for row := range rows.All() {
		names = append(names, c.table.node(int32(row)).Name)
	}
	return names
}

// LeftByShares is the score of NodeResourcesFit worked out from shares, for CPU and
// memory.
func LeftByShares(alloc, used, want [2]int64, most bool) int64 {
	return int64(left(percent(used[0], alloc[0])+percent(want[0], alloc[0]), percent(used[1], alloc[1])+percent(want[1], alloc[1]), most))
}

// FitsByShares reports whether there is room, by shares.
func FitsByShares(alloc, used, want int64) bool {
	return percent(used, alloc)+percent(want, alloc) <= full+1
}

// BalanceByShares is the balance of CPU and memory worked out from shares, and whether
// it is sure.
func BalanceByShares(alloc, used, want [2]int64) (int64, bool) {
	return balanceOfShares(percent(used[0], alloc[0])+percent(want[0], alloc[0]), percent(used[1], alloc[1])+percent(want[1], alloc[1]))
}

// ForgetUnused drops what is kept for templates that no pod has any more, as happens
// when their number has doubled.
func (c *Cluster) ForgetUnused() { c.forgetUnused() }
