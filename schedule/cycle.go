// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
)

// Cycle is the attempt to find a node for one pod: what plugins get to see. It
// is valid only while a plugin's method runs.
type Cycle struct {
	Pod *Pod

	cluster *Cluster
	table   *table
	class   *class
	profile *profile
	state   State

	skipFilter []bool // by filter
	skipScore  []bool // by score
	full       bool   // compute every score, also those that are the same for all nodes
	narrowed   bool
	narrow     []uint64
	at         place                  // what is running, for errors
	watch      *atomic.Pointer[place] // the same for a watchdog; nil: there is none

	words      []uint64 // the rows that are left
	feasible   Rows
	scratch    []uint64
	touched    []uint64  // scratch: of judge, then of InterPodAffinity
	changed    Rows      // to be judged; here because what plugins get would escape from a stack
	raw        [][]int64 // by score: of scores that are not in the cached sum
	total      []int64
	tmp        []int64
	active     []int // scores to add to the cached sum
	byTopology []domainScore
	bonuses    []bonus // the same, normalised
	tables     []*[scaleTable]int64
	columns    [][]int64
	flats      [][]int64
	tied       []uint64 // rows with the best total
	once       rowCache
	cache      *rowCache
	spread     spreadState
	rating     []weightedCounter // of InterPodAffinity, that have pods
	byDomain   []int64           // its scores
	sparse     []uint64          // by block: 0 where its scores are all 0; nil if not known
	allowed    []uint64          // scratch of PodTopologySpread
	lower      []*placed         // scratch of DefaultPreemption
	found      candidate
	seen       []bool // scratch of PodTopologySpread, by domain
}

// place says which plugin runs, where, and on which node.
type place struct {
	plugin string
	point  string
	row    int32
}

// State returns what the plugins remember about this pod, up to PostBind.
func (c *Cycle) State() *State { return &c.state }

// Node returns the node of a row.
func (c *Cycle) Node(row int) NodeInfo { return NodeInfo{c.table, int32(row)} }

// Nodes counts the nodes there are.
func (c *Cycle) Nodes() int { return c.table.liveRows }

// Feasible returns the nodes that passed the filters; from PreScore on.
func (c *Cycle) Feasible() *Rows { return &c.feasible }

// Narrow leaves only the named nodes to consider; from PreFilter. Calls add up:
// a node must be named in each.
func (c *Cycle) Narrow(names ...string) {
	set := make([]uint64, len(c.table.blocks))
	for _, name := range names {
		if row, ok := c.table.names.get(name); ok && (!c.narrowed || c.narrow[row/blockRows]>>(row%blockRows)&1 != 0) {
			set[row/blockRows] |= 1 << (row % blockRows)
		}
	}
	c.narrow, c.narrowed = set, true
}

// begin makes the cycle ready for a pod.
func (c *Cycle) begin(pod *Pod, x *class, p *profile) {
	t := c.table
	c.Pod, c.class, c.profile = pod, x, p
	c.state = State{}
	c.full, c.narrowed = false, false
	c.at = place{row: noRow}
	c.skipFilter = resize(c.skipFilter, len(p.filters))
	clear(c.skipFilter)
	c.skipScore = resize(c.skipScore, len(p.scores))
	clear(c.skipScore)
	c.words = resize(c.words, len(t.blocks))
	c.scratch = resize(c.scratch, len(t.blocks))
	c.tmp = resize(c.tmp, t.rows)
	c.total = resize(c.total, t.rows)
	for len(c.raw) < len(p.scores) {
		c.raw = append(c.raw, nil)
	}
	c.feasible = Rows{}
	c.active = c.active[:0]
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// run does the work of a cycle up to the choice of a node. A panic of a plugin
// becomes a [*PluginError].
func (c *Cycle) run() (row int32, err error) {
	defer c.catch(&err)
	if err := c.preFilter(); err != nil {
		return noRow, err
	}
	if err := c.filter(); err != nil {
		return noRow, err
	}
	if err := c.score(); err != nil {
		return noRow, err
	}
	return c.pick(), nil
}

func (c *Cycle) catch(err *error) {
	if c.at.plugin == "" {
		return
	}
	if v := recover(); v != nil {
		cause, ok := v.(error)
		if !ok {
			cause = fmt.Errorf("%v", v)
		}
		*err = c.failure(fmt.Errorf("panic: %w", cause))
	}
}

// failure blames the plugin that is running.
func (c *Cycle) failure(err error) error {
	e := &PluginError{Plugin: c.at.plugin, Point: c.at.point, Pod: c.Pod.String(), Err: err}
	if c.at.row != noRow {
		e.Node = c.table.node(c.at.row).Name
	}
	return e
}

func (c *Cycle) failed(s *Status) error {
	if s.Err != nil {
		return c.failure(s.Err)
	}
	return c.failure(errors.New(s.String()))
}

// enter notes which plugin is about to run.
func (c *Cycle) enter(plugin, point string) { c.enterRow(plugin, point, noRow) }

func (c *Cycle) enterRow(plugin, point string, row int32) {
	c.at = place{plugin, point, row}
	if c.watch != nil {
		c.watch.Store(&place{plugin, point, row})
	}
}

// onRow notes the node that the plugin is asked about.
func (c *Cycle) onRow(row int32) {
	c.at.row = row
	if c.watch != nil {
		c.watch.Store(&place{c.at.plugin, c.at.point, row})
	}
}

// preFilter runs the PreFilter plugins. A refusal is a [*FitError].
func (c *Cycle) preFilter() error {
	for i := range c.profile.preFilters {
		p := &c.profile.preFilters[i]
		c.enter(p.Name(), "PreFilter")
		s := p.PreFilter(c)
		switch {
		case s == nil || s.Code == Success:
		case s.Code == Skip:
			if p.filter >= 0 {
				c.skipFilter[p.filter] = true
			}
		case s.Rejected():
			return &FitError{c.Pod, c.refusedBy(p.Name(), s)}
		default:
			return c.failed(s)
		}
	}
	return nil
}

// filter finds the feasible nodes. If there are none it says nothing about why:
// [Cycle.diagnose] does.
func (c *Cycle) filter() error {
	if err := c.preScore(true); err != nil {
		return err
	}
	if err := c.updateCache(); err != nil {
		return err
	}
	copy(c.words, c.cache.mask)
	c.feasible = Rows{words: c.words}
	rows := &c.feasible
	if c.narrowed {
		rows.and(c.narrow)
	}
	for i := range c.profile.filters {
		if f := &c.profile.filters[i]; !f.local && !c.skipFilter[i] {
			if err := c.filterRows(f, rows); err != nil {
				return err
			}
		}
	}
	if err := c.filterNominated(rows); err != nil {
		return err
	}
	for _, w := range c.words {
		if w != 0 {
			return nil
		}
	}
	d, err := c.diagnose(nil)
	if err != nil {
		return err
	}
	return &FitError{c.Pod, d}
}

// filterRows applies one filter to all rows that are left.
func (c *Cycle) filterRows(f *filterSlot, rows *Rows) error {
	c.enter(f.name, "Filter")
	if f.rows != nil {
		f.rows.FilterRows(c, rows)
		return nil
	}
	for row := range rows.All() {
		c.onRow(int32(row))
		s := f.Filter(c, NodeInfo{c.table, int32(row)})
		if s == nil || s.Code == Success {
			continue
		}
		if !s.Rejected() {
			return c.failed(s)
		}
		rows.Remove(row)
	}
	c.at.row = noRow
	return nil
}

// filterRow asks all filters about one row and returns the first refusal, with
// the number of the filter.
func (c *Cycle) filterRow(row int32) (int, *Status, error) {
	for i := range c.profile.filters {
		if c.skipFilter[i] {
			continue
		}
		f := &c.profile.filters[i]
		c.enterRow(f.name, "Filter", row)
		if s := f.Filter(c, NodeInfo{c.table, row}); s.Rejected() {
			return i, s, nil
		} else if s.code() != Success {
			return i, s, c.failed(s)
		}
	}
	return -1, nil, nil
}

// filterNominated looks again at the nodes where room is being made for other
// pods of at least the same priority: the pod must fit with these in place too.
func (c *Cycle) filterNominated(rows *Rows) error {
	for _, row := range c.cluster.nominated.rows {
		if !rows.Has(int(row)) {
			continue
		}
		fits := true
		err := c.withNominated(row, func() error {
			_, s, err := c.filterRow(row)
			fits = s == nil
			return err
		})
		if err != nil {
			return err
		}
		if !fits {
			rows.Remove(int(row))
		}
	}
	return nil
}

// preScore runs the PreScore plugins of the local scores, or of the others.
func (c *Cycle) preScore(local bool) error {
	for i := range c.profile.scores {
		s := &c.profile.scores[i]
		if s.local != local || s.preScore == nil {
			continue
		}
		c.enter(s.name, "PreScore")
		st := s.preScore.PreScore(c)
		switch {
		case st == nil || st.Code == Success:
		case st.Code == Skip:
			c.skipScore[i] = true
		default:
			return c.failed(st)
		}
	}
	return nil
}

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
		d.raw[i] = d.slot.weight * d.slot.scale.NormalizeRange(min(max(v, least), greatest), least, greatest)
		most = max(most, d.raw[i])
	}
	c.bonuses = append(c.bonuses, bonus{raw: d.raw, ids: d.column.ids, most: most})
	return nil
}

// scoreRows has one plugin rate the rows.
func (c *Cycle) scoreRows(s *scoreSlot, rows *Rows, out []int64) error {
	c.enter(s.name, "Score")
	if s.rows != nil {
		s.rows.ScoreRows(c, rows, out)
		return nil
	}
	for row := range rows.All() {
		c.onRow(int32(row))
		v, st := s.Score(c, NodeInfo{c.table, int32(row)})
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
	ids     []int32            // of a topology: raw is by domain, from absent on
}

// varied marks a block whose rows get different bonuses.
const varied = int64(-1)

// of returns the contribution to a row.
func (b *bonus) of(row int) int64 {
	if b.ids != nil {
		return b.raw[b.ids[row]+1]
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
		return c.normalized(s, raw, func(row int) int64 { return s.scale.NormalizeRange(raw[row], least, greatest) })
	}
	if s.normalize != nil {
		c.enter(s.name, "NormalizeScore")
		if s.local { // the column is cached: leave it as it is
			copy(c.tmp, raw)
			raw = c.tmp
		}
		if st := s.normalize.NormalizeScore(c, &c.feasible, raw); st.code() != Success {
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
		v := s.scale.NormalizeRange(least+i, least, greatest)
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
		if c.sparse != nil && c.sparse[i] == 0 {
			w = 0 // all are 0
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
// a block where no plugin makes a difference costs a few operations, and one that
// can't win is passed over.
func (c *Cycle) pick() int32 {
	k := c.cache
	c.tied = resize(c.tied, len(c.words))
	best := int64(-1)
	for i, w := range c.words {
		c.tied[i] = 0
		if w == 0 {
			continue
		}
		flat, most := c.blockBonus(i)
		if int64(k.top[i])+most < best {
			continue
		}
		var top int64
		var tied uint64
		if !flat {
			c.totals(i, w)
			top, tied = blockTop(c.total, i, w)
		} else if tied = k.tied[i] & w; tied != 0 {
			top = int64(k.top[i]) + most
		} else { // a filter took the best ones away
			var t int32
			t, tied = blockTop(k.sum, i, w)
			top = int64(t) + most
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
// have it.
func blockTop[T int32 | int64](total []T, block int, w uint64) (best T, tied uint64) {
	base := block * blockRows
	best = -1
	if w == ^uint64(0) {
		for i, v := range total[base:][:blockRows] {
			if v > best {
				best, tied = v, 0
			}
			if v == best {
				tied |= 1 << i
			}
		}
		return best, tied
	}
	for ; w != 0; w &= w - 1 {
		i := bits.TrailingZeros64(w)
		v := total[base+i]
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

// withNominated calls f while the pods that are nominated for the row, and come
// before this one, are on it.
func (c *Cycle) withNominated(row int32, f func() error) error {
	var guests []*placed
	for _, p := range c.cluster.nominated.on(row) {
		if p.pod.Priority >= c.Pod.Priority && p.pod.key() != c.Pod.key() {
			guests = append(guests, p)
		}
	}
	if len(guests) == 0 {
		return f()
	}
	for _, p := range guests {
		c.cluster.put(p)
	}
	defer func() {
		for _, p := range slices.Backward(guests) {
			c.cluster.take(p)
		}
	}()
	if err := c.extend(row, guests, true); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, c.extend(row, guests, false))
}

// extend tells the plugins that keep counts of their own about pods that come
// to a row or leave it, for the time of a trial.
func (c *Cycle) extend(row int32, pods []*placed, add bool) error {
	for _, x := range c.profile.extensions {
		for _, p := range pods {
			var s *Status
			c.at = place{x.name, "AddPod", row}
			if add {
				s = x.AddPod(c, p.pod, NodeInfo{c.table, row})
			} else {
				c.at.point = "RemovePod"
				s = x.RemovePod(c, p.pod, NodeInfo{c.table, row})
			}
			if s.code() != Success {
				return c.failed(s)
			}
		}
	}
	return nil
}

// runReserve calls the Reserve plugins, and takes back what they did if one
// refuses.
func (p *profile) runReserve(ctx context.Context, s *State, pod *Pod, node *Node) error {
	for i, r := range p.reserve {
		err := guard(r.Name(), "Reserve", pod, node, func() *Status { return r.Reserve(ctx, s, pod, node) })
		if err != nil {
			return errors.Join(err, unreserve(ctx, p.reserve[:i+1], s, pod, node))
		}
	}
	return nil
}

// runUnreserve takes back what the Reserve plugins did, in reverse.
func (p *profile) runUnreserve(ctx context.Context, s *State, pod *Pod, node *Node) error {
	return unreserve(ctx, p.reserve, s, pod, node)
}

func unreserve(ctx context.Context, list []ReservePlugin, s *State, pod *Pod, node *Node) error {
	var errs []error
	for _, r := range slices.Backward(list) {
		errs = append(errs, guard(r.Name(), "Unreserve", pod, node, func() *Status {
			r.Unreserve(ctx, s, pod, node)
			return nil
		}))
	}
	return errors.Join(errs...)
}

// guard calls a plugin and turns its failure or panic into an error that says
// whose it is.
func guard(plugin, point string, pod *Pod, node *Node, call func() *Status) (err error) {
	blame := func(cause error) error {
		e := &PluginError{Plugin: plugin, Point: point, Pod: pod.String(), Err: cause}
		if node != nil {
			e.Node = node.Name
		}
		return e
	}
	defer func() {
		if v := recover(); v != nil {
			cause, ok := v.(error)
			if !ok {
				cause = fmt.Errorf("%v", v)
			}
			err = blame(fmt.Errorf("panic: %w", cause))
		}
	}()
	switch s := call(); {
	case s.code() == Success:
		return nil
	case s.Err != nil:
		return blame(s.Err)
	default:
		return blame(&statusError{s})
	}
}

// statusError is a status other than success as an error.
type statusError struct{ *Status }

func (e *statusError) Error() string { return e.Status.String() }
