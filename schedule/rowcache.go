// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math/bits"
	"slices"
)

// rowCache keeps what the node-local plugins said about each row to the pods of
// one class, or of several (see localCaches). The next such pod needs new answers only for the rows in
// the change log. Measured over 5,000 nodes, that makes the cycle of a pod whose
// class is known 10 to 20 times cheaper than a full look.
type rowCache struct {
	seq   uint64 // of the change log
	nodes uint64 // of the table, for scores that depend on the number of nodes
	valid bool
	skips []bool // which local plugins were left out
	used  uint64 // when, for eviction

	wants  []shares // of the class, by shape
	shapes uint64   // their numbering

	mask []uint64  // rows that pass the local filters
	sum  []int32   // of the weighted local scores, where mask has the row
	top  []int32   // by block: the greatest sum
	tied []uint64  // rows that have the greatest sum of their block
	raw  [][]int64 // local scores that are normalised over the feasible nodes
	tops domainTops
}

// cacheBudget bounds the memory of all caches, in bytes. One takes about 5 bytes
// per node, and 8 more for each score that is normalised.
const cacheBudget = 64 << 20

// updateCache makes c.cache right for all rows.
func (c *Cycle) updateCache() error {
	c.cache = c.cacheOf(c.class)
	t, k := c.table, c.cache
	clear(c.scratch)
	c.changed = Rows{words: c.scratch}
	rows := &c.changed
	k.valid = k.valid && k.shapes == t.shapes.numbering
	whole := false
	same := c.sameSkips(k) // which also notes them, so it comes first
	if k.valid && same && (len(c.class.images) == 0 || k.nodes == t.version) && t.log.since(k.seq, t.rows/2, rows.words) {
		trim(rows)
		k.mask = grow(k.mask, len(t.blocks))
		k.top, k.tied = grow(k.top, len(t.blocks)), grow(k.tied, len(t.blocks))
		k.sum = grow(k.sum, len(t.blocks)*blockRows)
		for i := range k.raw {
			if k.raw[i] != nil {
				k.raw[i] = grow(k.raw[i], t.rows)
			}
		}
	} else {
		whole = true
		k.reset(t, c.profile.columns())
		for i, b := range t.blocks {
			rows.words[i] = b.live
		}
	}
	k.valid = false // until it succeeds
	k.wants = t.wants(c.class, k.wants)
	c.wants = k.wants
	if err := c.judge(k, rows, whole); err != nil {
		return err
	}
	k.seq, k.nodes, k.valid = t.log.next, t.version, true
	return nil
}

// sameSkips reports whether the local plugins left out are those of last time,
// and notes them.
func (c *Cycle) sameSkips(k *rowCache) bool {
	same, n := len(k.skips) == len(c.skipFilter)+len(c.skipScore), 0
	if !same {
		k.skips = make([]bool, len(c.skipFilter)+len(c.skipScore))
	}
	note := func(skip bool) {
		same = same && k.skips[n] == skip
		k.skips[n] = skip
		n++
	}
	for i, skip := range c.skipFilter {
		note(skip && c.profile.filters[i].local)
	}
	for i, skip := range c.skipScore {
		note(skip && c.profile.scores[i].local)
	}
	return same
}

// judge asks the local plugins about some rows; whole says that they are all.
func (c *Cycle) judge(k *rowCache, rows *Rows, whole bool) error {
	if len(rows.words) == 0 {
		return nil
	}
	touched := append(c.touched[:0], rows.words...)
	c.touched = touched
	for i, w := range touched {
		k.forget(rows.first+i, w)
		rows.words[i] = w & c.table.blocks[rows.first+i].live
	}
	fused := noKernel
	if whole {
		fused = c.profile.fused
	}
	for i := range c.profile.filters {
		if f := &c.profile.filters[i]; f.local && !c.skipFilter[i] && i != fused.filter {
			if err := c.filterRows(f, rows); err != nil {
				return err
			}
		}
	}
	if fused.filter >= 0 {
		fused.run(c, rows, k)
	} else {
		k.clear(rows, whole)
	}
	for i, w := range rows.words {
		k.mask[rows.first+i] |= w
	}
	for i := range c.profile.scores {
		if s := &c.profile.scores[i]; s.local && !c.skipScore[i] && i != fused.fit && i != fused.balanced {
			if err := c.judgeScore(k, s, rows, whole); err != nil {
				return err
			}
		}
	}
	for i, w := range touched {
		if settled := whole && k.tied[rows.first+i] != 0; w != 0 && !settled {
			k.settle(rows.first+i, rows.words[i])
		}
	}
	return nil
}

// sums returns the sums of a block.
func (k *rowCache) sums(block int) *[blockRows]int32 {
	return (*[blockRows]int32)(k.sum[block*blockRows:])
}

// clear sets the sums of rows to 0.
func (k *rowCache) clear(rows *Rows, whole bool) {
	if whole {
		clear(k.sum)
		return
	}
	for row := range rows.All() {
		k.sum[row] = 0
	}
}

// forget takes rows out of a block.
func (k *rowCache) forget(block int, rows uint64) {
	k.tied[block] &^= rows
	k.mask[block] &^= rows
	if rows != 0 {
		k.tops.forget(block)
	}
}

// settle puts judged rows into the top of their block. Only if the old top is
// gone is the whole block looked at.
func (k *rowCache) settle(block int, rows uint64) {
	if k.tied[block] == 0 {
		k.top[block], k.tied[block] = blockTop(k.sum, block, k.mask[block])
		return
	}
	base := block * blockRows
	for ; rows != 0; rows &= rows - 1 {
		i := bits.TrailingZeros64(rows)
		switch v := k.sum[base+i]; {
		case v > k.top[block]:
			k.top[block], k.tied[block] = v, 1<<i
		case v == k.top[block]:
			k.tied[block] |= 1 << i
		}
	}
}

func (c *Cycle) judgeScore(k *rowCache, s *scoreSlot, rows *Rows, whole bool) error {
	if s.rater != nil {
		c.enter(s.name, "Score")
		for i, w := range rows.words {
			if w != 0 {
				block := rows.first + i
				c.rate(s.rater, block, w, whole, int32(s.weight), k.sums(block))
			}
		}
		return nil
	}
	if s.column >= 0 {
		if k.raw[s.column] == nil {
			k.raw[s.column] = make([]int64, c.table.rows)
		}
		return c.scoreRows(s, rows, k.raw[s.column])
	}
	if err := c.scoreRows(s, rows, c.tmp); err != nil {
		return err
	}
	for i, w := range rows.words {
		base := (rows.first + i) * blockRows
		var wrong int64
		for ; w != 0; w &= w - 1 {
			row := base + bits.TrailingZeros64(w)
			v := c.tmp[row]
			wrong |= v | (MaxScore - v) // negative if v is out of range
			k.sum[row] += int32(v * s.weight)
		}
		if wrong < 0 {
			return c.firstWrong(s, rows)
		}
	}
	return nil
}

// firstWrong blames a plugin for the first score out of range.
func (c *Cycle) firstWrong(s *scoreSlot, rows *Rows) error {
	for row := range rows.All() {
		if err := c.inRange(s, int32(row), c.tmp[row]); err != nil {
			return err
		}
	}
	return nil
}

// trim cuts off the words without rows at both ends, so that a change to one
// node costs one word.
func trim(rows *Rows) {
	for len(rows.words) > 0 && rows.words[0] == 0 {
		rows.words = rows.words[1:]
		rows.first++
	}
	for n := len(rows.words); n > 0 && rows.words[n-1] == 0; n-- {
		rows.words = rows.words[:n-1]
	}
}

func grow[T any](s []T, n int) []T {
	if len(s) >= n {
		return s
	}
	return append(s, make([]T, n-len(s))...)
}

func (k *rowCache) reset(t *table, columns int) {
	k.mask = resize(k.mask, len(t.blocks))
	clear(k.mask)
	k.sum = resize(k.sum, len(t.blocks)*blockRows)
	k.wants, k.shapes = k.wants[:0], t.shapes.numbering
	k.top, k.tied = resize(k.top, len(t.blocks)), resize(k.tied, len(t.blocks))
	clear(k.tied)
	k.tops.column = nil
	for len(k.raw) < columns {
		k.raw = append(k.raw, nil)
	}
	clear(k.raw) // made when a score is asked for
}

// localCaches are what the node-local plugins said to the pods of one class, and of
// all others that are the same to them: a deployment's labels and its affinity to
// other pods make no difference to how full a node is.
type localCaches struct {
	classes int         // that share them
	seen    int         // cycles so far, to tell a one-off from a stream of equals
	list    []*rowCache // by profile
}

// joinCaches gives a new class its caches.
func (c *Cluster) joinCaches(x *class) {
	x.local = c.locals[x.t.local]
	if x.local == nil {
		x.local = &x.own
		c.locals[x.t.local] = x.local
	}
	x.local.classes++
}

// leaveCaches forgets a class, and its caches if nobody else has them.
func (c *Cluster) leaveCaches(x *class) {
	if x.local.classes--; x.local.classes > 0 {
		return
	}
	c.dropCaches(x.local)
	delete(c.locals, x.t.local)
}

func (c *Cluster) dropCaches(l *localCaches) {
	for _, k := range l.list {
		c.caches = slices.DeleteFunc(c.caches, func(s cacheSlot) bool { return s.cache == k })
	}
	l.list = nil
}

// cacheOf returns the cache of a class: its own if it has been seen before, one
// that all share for a pod that may be the only one of its kind.
func (c *Cycle) cacheOf(x *class) *rowCache {
	i, l := c.profile.index, x.local
	if i < len(l.list) && l.list[i] != nil && !c.full {
		k := l.list[i]
		c.cluster.clock++
		k.used = c.cluster.clock
		return k
	}
	l.seen++
	if l.seen < 2 || c.full {
		c.once.valid = false
		return &c.once
	}
	for len(l.list) <= i {
		l.list = append(l.list, nil)
	}
	l.list[i] = c.cluster.newCache(l, i)
	return l.list[i]
}

// cacheSlot remembers whose a cache is, to take it away.
type cacheSlot struct {
	owner   *localCaches
	profile int
	cache   *rowCache
}

// newCache returns an empty cache, if need be the one that has not been used for
// the longest time.
func (c *Cluster) newCache(l *localCaches, profile int) *rowCache {
	c.clock++
	if len(c.caches) < max(8, cacheBudget/(8*(1+c.table.rows))) {
		k := &rowCache{used: c.clock}
		c.caches = append(c.caches, cacheSlot{l, profile, k})
		return k
	}
	oldest := 0
	for i := range c.caches {
		if c.caches[i].cache.used < c.caches[oldest].cache.used {
			oldest = i
		}
	}
	slot := &c.caches[oldest]
	slot.owner.list[slot.profile] = nil
	slot.owner, slot.profile = l, profile
	slot.cache.used, slot.cache.valid = c.clock, false
	return slot.cache
}
