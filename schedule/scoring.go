// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"math/bits"
)

// score rates the feasible nodes: afterwards the total of each is the cached sum
// plus the active scores.
func (c *Cycle) score() error {
	if err := c.preScore(false); err != nil {
		return err
	}
	c.active = c.active[:0]
	domains := c.byTopology[:0]
	c.bonuses = c.bonuses[:0]
	for i := range c.profile.scores {
		s := &c.profile.scores[i]
		if c.skipScore[i] || s.plain() {
			continue
		}
		if d, ok := s.ScorePlugin.(domainScorer); ok && !c.full {
			if column, raw := d.scoreDomains(c); column != nil {
				domains = append(domains, domainScore{s, column, raw})
				continue
			}
		}
		if s.column >= 0 {
			c.raw[i] = c.cache.raw[s.column]
		} else {
			c.raw[i] = resize(c.raw[i], c.table.rows)
			c.sparse = nil
			if err := c.scoreRows(s, &c.feasible, c.raw[i]); err != nil {
				return err
			}
			if c.sparse != nil {
				if err := c.addBonus(s, c.raw[i]); err != nil {
					return err
				}
				c.sparse = nil
				continue
			}
		}
		c.active = append(c.active, i)
	}
	c.byTopology = domains
	for _, d := range domains {
		if err := c.addDomains(d); err != nil {
			return err
		}
	}
	for _, i := range c.active {
		if err := c.addBonus(&c.profile.scores[i], c.raw[i]); err != nil {
			return err
		}
	}
	return nil
}

// domainScorer is a scale plugin whose score is often the same for all nodes of a
// domain of one topology with few domains. It then returns that topology, and the
// score by domain, with that of nodes in no domain before the others.
type domainScorer interface {
	RangeNormalizePlugin
	scoreDomains(c *Cycle) (*column, []int64)
}

type domainScore struct {
	slot   *scoreSlot
	column *column
	raw    []int64
}

// addDomains adds a bonus by domain: nothing is done row by row before pick.
func (c *Cycle) addDomains(d domainScore) error {
	c.enter(d.slot.name, "NormalizeScore")
	sets := d.column.rowSets()
	least, greatest, known := int64(0), int64(0), false
	for i, v := range d.raw {
		if i == 0 && !meetsOthers(c.words, sets) || i > 0 && !meets(c.words, sets[i-1]) {
			continue
		}
		if !known {
			least, greatest, known = v, v, true
		}
		least, greatest = min(least, v), max(greatest, v)
	}
	if least == greatest {
		return nil
	}
	var most int64
	for i, v := range d.raw {
		d.raw[i] = d.slot.weight * d.slot.askRange(c, min(max(v, least), greatest), least, greatest)
		most = max(most, d.raw[i])
	}
	c.bonuses = append(c.bonuses, bonus{raw: d.raw, column: d.column, most: most})
	return nil
}

// scoreRows has one plugin rate the rows.
func (c *Cycle) scoreRows(s *scoreSlot, rows *Rows, out []int64) error {
	c.enter(s.name, "Score")
	if s.rows != nil {
		s.askRows(c, rows, out)
		return nil
	}
	for row := range rows.All() {
		c.at.row = int32(row)
		v, st := s.ask(c, int32(row))
		if st.code() != Success {
			return c.failed(st)
		}
		out[row] = v
	}
	c.at.row = noRow
	return nil
}

// bonus is one plugin's contribution to the totals.
type bonus struct {
	raw     []int64            // by row
	least   int64              // of them
	byScore *[scaleTable]int64 // weighted and normalised, by raw score above the least; nil: raw is so already
	most    int64              // that it can be
	flat    []int64            // by block: what all rows get, or varied; nil: not known
	column  *column            // of a topology: raw is by domain, from absent on
}

// varied marks a block whose rows get different bonuses.
const varied = int64(-1)

// of returns the contribution to a row.
func (b *bonus) of(row int) int64 {
	if b.column != nil {
		return b.raw[b.column.ids[row]+1]
	}
	if b.byScore == nil {
		return b.raw[row]
	}
	return b.byScore[(b.raw[row]-b.least)&(scaleTable-1)]
}

// scaleTable bounds the spread of raw scores for which the normalised ones are
// tabulated: one division per distinct score in place of one per node.
const scaleTable = 1024

// addBonus normalises a plugin's scores. Those that are the same for all nodes
// are left out, unless all are wanted.
func (c *Cycle) addBonus(s *scoreSlot, raw []int64) error {
	if s.scale != nil {
		n := len(c.bonuses)
		for len(c.flats) <= n {
			c.flats = append(c.flats, nil)
		}
		c.flats[n] = resize(c.flats[n], len(c.words))
		least, greatest := c.bounds(raw, c.flats[n])
		if least == greatest && !c.full {
			return nil
		}
		if greatest-least < scaleTable && greatest-least >= 0 {
			return c.tabulate(s, raw, c.flats[n], least, greatest)
		}
		c.enter(s.name, "NormalizeScore")
		return c.normalized(s, raw, func(row int) int64 { return s.askRange(c, raw[row], least, greatest) })
	}
	if s.normalize != nil {
		c.enter(s.name, "NormalizeScore")
		if s.local { // the column is cached: leave it as it is
			copy(c.tmp, raw)
			raw = c.tmp
		}
		if st := s.askNormalize(c, raw); st.code() != Success {
			return c.failed(st)
		}
	}
	return c.normalized(s, raw, func(row int) int64 { return raw[row] })
}

func (c *Cycle) inRange(s *scoreSlot, row int32, v int64) error {
	if v >= MinScore && v <= MaxScore {
		return nil
	}
	c.at = place{s.name, "Score", row}
	return c.failure(fmt.Errorf("score %d is not from %d to %d", v, MinScore, MaxScore))
}

// tabulate adds a bonus whose normalised scores are in a table.
func (c *Cycle) tabulate(s *scoreSlot, raw, flat []int64, least, greatest int64) error {
	c.enter(s.name, "NormalizeScore")
	n := len(c.bonuses)
	for len(c.tables) <= n {
		c.tables = append(c.tables, new([scaleTable]int64))
	}
	for i := range greatest - least + 1 {
		v := s.askRange(c, least+i, least, greatest)
		if v < MinScore || v > MaxScore {
			return c.failure(fmt.Errorf("score %d, from %d, is not from %d to %d", v, least+i, MinScore, MaxScore))
		}
		c.tables[n][i] = v * s.weight
	}
	for i, v := range flat {
		if v != varied && c.words[i] != 0 {
			flat[i] = c.tables[n][v-least]
		}
	}
	c.bonuses = append(c.bonuses, bonus{raw: raw, least: least, byScore: c.tables[n], most: MaxScore * s.weight, flat: flat})
	return nil
}

// normalized adds a bonus from scores that f returns.
func (c *Cycle) normalized(s *scoreSlot, raw []int64, f func(row int) int64) error {
	n := len(c.bonuses)
	for len(c.columns) <= n {
		c.columns = append(c.columns, nil)
	}
	c.columns[n] = resize(c.columns[n], c.table.rows)
	for row := range c.feasible.All() {
		v := f(row)
		if err := c.inRange(s, int32(row), v); err != nil {
			return err
		}
		c.columns[n][row] = s.weight * v
	}
	c.bonuses = append(c.bonuses, bonus{raw: c.columns[n], most: MaxScore * s.weight})
	return nil
}

// bounds returns the least and greatest score of a feasible node. For blocks where
// all have the same it leaves that in flat, and else varied.
func (c *Cycle) bounds(raw, flat []int64) (least, greatest int64) {
	first := true
	for i, w := range c.words {
		if w == 0 {
			continue
		}
		base := i * blockRows
		lo := raw[base+bits.TrailingZeros64(w)]
		hi := lo
		if c.sparse != nil {
			if w&^c.sparse[i] != 0 {
				lo, hi = 0, 0
			}
			w &= c.sparse[i]
		}
		for ; w != 0; w &= w - 1 {
			v := raw[base+bits.TrailingZeros64(w)]
			lo, hi = min(lo, v), max(hi, v)
		}
		flat[i] = varied
		if lo == hi && lo >= 0 {
			flat[i] = lo
		}
		if first {
			least, greatest, first = lo, hi, false
		}
		least, greatest = min(least, lo), max(greatest, hi)
	}
	return least, greatest
}

// pick chooses one of the nodes with the greatest total, each with the same
// probability. It goes by blocks: the cache knows the best rows of each, so that
// a block where no plugin makes a difference costs a few operations, one where it is
// the same for a zone a few more, and one that can't win is passed over.
func (c *Cycle) pick() int32 {
	k := c.cache
	c.tied = resize(c.tied, len(c.words))
	best := int64(-1)
	topology := c.topology()
	if topology != nil {
		k.tops.use(topology, len(c.words))
	}
	for i, w := range c.words {
		c.tied[i] = 0
		if w == 0 {
			continue
		}
		flat, most := c.blockBonus(i)
		if int64(k.top[i])+most < best {
			continue
		}
		top, tied := int64(k.top[i])+most, k.tied[i]&w
		switch {
		case flat && tied != 0:
		case topology != nil && c.onlyBy(topology, i):
			top, tied = c.topByDomain(i, w, best)
		case flat: // a filter took the best ones away
			var t int32
			t, tied = blockTop(k.sum, i, w)
			top = int64(t) + most
		default:
			c.totals(i, w)
			top, tied = blockTop(c.total, i, w)
		}
		if top > best {
			best = top
			clear(c.tied[:i])
		}
		if top == best {
			c.tied[i] = tied
		}
	}
	return c.draw()
}

// blockBonus returns the most that the bonuses add to a row of the block, and
// whether all rows get just that.
func (c *Cycle) blockBonus(block int) (flat bool, most int64) {
	flat = true
	for i := range c.bonuses {
		if b := &c.bonuses[i]; b.flat != nil && b.flat[block] != varied {
			most += b.flat[block]
		} else {
			most += b.most
			flat = false
		}
	}
	return flat, most
}

// onlyBy reports whether all bonuses of a block's rows are equal but for those by
// domain of a topology.
func (c *Cycle) onlyBy(topology *column, block int) bool {
	for i := range c.bonuses {
		if b := &c.bonuses[i]; b.column != topology && (b.flat == nil || b.flat[block] == varied) {
			return false
		}
	}
	return true
}

// draw chooses one of the tied rows by lot.
func (c *Cycle) draw() int32 {
	n := popcount(c.tied)
	if n == 0 {
		return noRow
	}
	skip := 0
	if n > 1 {
		skip = c.cluster.rand.IntN(n)
	}
	for i, w := range c.tied {
		if n := bits.OnesCount64(w); skip >= n {
			skip -= n
			continue
		}
		for ; skip > 0; skip-- {
			w &= w - 1
		}
		return int32(i*blockRows + bits.TrailingZeros64(w))
	}
	return noRow
}

// blockTop returns the greatest total of the rows w of a block, and the rows that
// have it. For many rows it goes without branches: which row is the best so far is
// nothing that a processor could guess.
func blockTop[T int32 | int64](total []T, block int, w uint64) (best T, tied uint64) {
	list := total[block*blockRows:]
	best = -1
	if len(list) >= blockRows && bits.OnesCount64(w) > sparseRows {
		all := (*[blockRows]T)(list)
		for i, v := range all {
			best = max(best, v|(T(w>>i&1)-1)) // -1 if the row is not one of w
		}
		for i, v := range all {
			var same uint64
			if v == best {
				same = 1
			}
			tied |= same << i
		}
		return best, tied & w
	}
	for ; w != 0; w &= w - 1 {
		i := bits.TrailingZeros64(w)
		v := list[i]
		if v > best {
			best, tied = v, 0
		}
		if v == best {
			tied |= 1 << i
		}
	}
	return best, tied
}

// totals adds up the scores of the rows w of a block.
func (c *Cycle) totals(block int, w uint64) {
	base := block * blockRows
	if w == ^uint64(0) {
		for row := base; row < base+blockRows; row++ {
			c.total[row] = int64(c.cache.sum[row])
		}
	} else {
		for m := w; m != 0; m &= m - 1 {
			row := base + bits.TrailingZeros64(m)
			c.total[row] = int64(c.cache.sum[row])
		}
	}
	for i := range c.bonuses {
		b := &c.bonuses[i]
		for m := w; m != 0; m &= m - 1 {
			row := base + bits.TrailingZeros64(m)
			c.total[row] += b.of(row)
		}
	}
}
