// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	at         place           // what is running, for errors
	watch      *watch          // nil: no plugin can get stuck
	ctx        context.Context // for plugins; nil means the background's

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
	wants      []shares // of the class, by shape
	rates      [blockRows]int32
	once       rowCache
	cache      *rowCache
	spread     spreadState
	rating     []weightedCounter // of InterPodAffinity, that have pods
	byDomain   []int64           // its scores
	sparse     []uint64          // rows where its score is not 0; nil if not known
	allowed    []uint64          // scratch of PodTopologySpread
	lower      []*placed         // scratch of DefaultPreemption
	off        []*placed         // off their node for a trial
	guests     []*placed         // on a node for a trial
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
	v := recover()
	if v == nil {
		return
	}
	if c.watch != nil && !c.watch.back() || v == errAbandoned {
		*err = errAbandoned
		return
	}
	c.undo(c.cluster) // a trial was cut short
	c.off, c.guests = c.off[:0], c.guests[:0]
	cause, ok := v.(error)
	if !ok {
		cause = fmt.Errorf("%v", v)
	}
	*err = c.failure(fmt.Errorf("panic: %w", cause))
}

// undo takes back what a trial has changed in a cluster.
func (c *Cycle) undo(cluster *Cluster) {
	for _, p := range slices.Backward(c.guests) {
		cluster.take(p)
	}
	for _, p := range c.off {
		cluster.put(p)
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
func (c *Cycle) enter(plugin, point string) { c.at = place{plugin, point, noRow} }

// preFilter runs the PreFilter plugins. A refusal is a [*FitError].
func (c *Cycle) preFilter() error {
	for i := range c.profile.preFilters {
		p := &c.profile.preFilters[i]
		c.enter(p.Name(), "PreFilter")
		s := p.ask(c)
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
		f.askRows(c, rows)
		return nil
	}
	for row := range rows.All() {
		c.at.row = int32(row)
		s := f.ask(c, int32(row))
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
		c.at = place{f.name, "Filter", row}
		if s := f.ask(c, row); s.Rejected() {
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
	if len(c.cluster.nominated.rows) == 0 {
		return nil
	}
	var row int32
	fits := true
	ask := func() error {
		_, s, err := c.filterRow(row)
		fits = s == nil
		return err
	}
	for _, row = range c.cluster.nominated.rows {
		if !rows.Has(int(row)) {
			continue
		}
		fits = true
		if err := c.withNominated(row, ask); err != nil {
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
		st := s.askPreScore(c)
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
