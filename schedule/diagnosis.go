// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Diagnosis says why no node takes a pod.
type Diagnosis struct {
	Nodes      int            // that were considered: all
	Reasons    map[string]int // how many nodes had each reason; a node may have several
	Plugins    []string       // that refused nodes, or the pod; sorted
	PreFilter  []string       // why the pod was refused before any node was looked at
	PostFilter string         // why no room could be made

	resolvable []uint64 // rows that evicting pods may make feasible
}

// String returns the diagnosis as Kubernetes words it.
func (d *Diagnosis) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "0/%d nodes are available:", d.Nodes)
	if len(d.PreFilter) > 0 {
		fmt.Fprintf(&b, " %s.", strings.Join(d.PreFilter, ", "))
	}
	if len(d.Reasons) > 0 {
		var parts []string
		for reason, n := range d.Reasons {
			parts = append(parts, fmt.Sprintf("%d %s", n, reason))
		}
		slices.Sort(parts)
		fmt.Fprintf(&b, " %s.", strings.Join(parts, ", "))
	}
	if d.Nodes == 0 {
		b.WriteString(" there are no nodes.")
	}
	if d.PostFilter != "" {
		fmt.Fprintf(&b, " %s.", d.PostFilter)
	}
	return b.String()
}

// refusedBy is the diagnosis of a pod that a PreFilter plugin refused.
func (c *Cycle) refusedBy(plugin string, s *Status) Diagnosis {
	return Diagnosis{Nodes: c.table.liveRows, Plugins: []string{plugin}, PreFilter: s.Reasons}
}

// tally counts refusals. Filters return the same *Status for the same cause, so
// most nodes cost a comparison of pointers.
type tally struct {
	seen    []tallied
	reasons map[string]int
}

type tallied struct {
	status *Status
	n      int
}

// tallySize is for plugins that make a new status each time.
const tallySize = 64

func (t *tally) add(s *Status, n int) {
	for i := range t.seen {
		if t.seen[i].status == s {
			t.seen[i].n += n
			return
		}
	}
	if len(t.seen) == tallySize {
		t.flush()
	}
	t.seen = append(t.seen, tallied{s, n})
}

func (t *tally) flush() map[string]int {
	if t.reasons == nil {
		t.reasons = map[string]int{}
	}
	for _, s := range t.seen {
		if len(s.status.Reasons) == 0 {
			t.reasons[s.status.Code.String()] += s.n
		}
		for _, r := range s.status.Reasons {
			t.reasons[r] += s.n
		}
	}
	t.seen = t.seen[:0]
	return t.reasons
}

// refusals is what the filters say about every node: sets of nodes with the same
// answer, and the rest one by one.
type refusals struct {
	alike []alikeRefusals
	each  map[int32]refusal
}

type refusal struct {
	status *Status
	filter int // that refused; -1 for PreFilter
}

type alikeRefusals struct {
	refusal
	rows []uint64
}

// add notes that some rows of a block were refused alike.
func (r *refusals) add(x refusal, block int, rows uint64, blocks int) {
	for i := range r.alike {
		if r.alike[i].refusal == x {
			r.alike[i].rows[block] |= rows
			return
		}
	}
	if len(r.alike) < tallySize {
		set := make([]uint64, blocks)
		set[block] = rows
		r.alike = append(r.alike, alikeRefusals{x, set})
		return
	}
	if r.each == nil {
		r.each = map[int32]refusal{}
	}
	for ; rows != 0; rows &= rows - 1 {
		r.each[int32(block*blockRows+bits.TrailingZeros64(rows))] = x
	}
}

// of returns what was said about a row; a nil status if it is feasible.
func (r *refusals) of(row int) refusal {
	for i := range r.alike {
		if r.alike[i].rows[row/blockRows]>>(row%blockRows)&1 != 0 {
			return r.alike[i].refusal
		}
	}
	return r.each[int32(row)]
}

// bulkFilter is a filter that gives its reasons for many rows at once.
type bulkFilter interface {
	FilterPlugin
	// refuseRows calls refuse for the rows of a block that don't pass, those with the
	// same reason together.
	refuseRows(c *Cycle, block int, rows uint64, refuse func(s *Status, rows uint64))
}

// oneReason is a vectorised filter whose reason is always the same.
type oneReason interface {
	FilterRowsPlugin
	reason() *Status
}

// diagnosing goes from filter to filter as a cycle does, and asks about the nodes
// that fall out.
type diagnosing struct {
	*Cycle
	Diagnosis
	tally
	rows    Rows      // that are left
	ask     []uint64  // rows to ask a filter about
	refused []bool    // by filter: whether it refused a node
	keep    *refusals // may be nil
}

// diagnose finds out which filter refuses each node, and why; keep, if not nil,
// gets it node by node.
func (c *Cycle) diagnose(keep *refusals) (Diagnosis, error) {
	t := c.table
	words := make([]uint64, 3*len(t.blocks))
	n := len(t.blocks)
	d := diagnosing{
		Cycle:     c,
		Diagnosis: Diagnosis{Nodes: t.liveRows, resolvable: words[:n:n]},
		rows:      Rows{words: words[n : 2*n : 2*n]},
		ask:       words[2*n:],
		refused:   make([]bool, len(c.profile.filters)),
		keep:      keep,
	}
	for i, b := range t.blocks {
		d.rows.words[i] = b.live
	}
	err := d.all()
	d.Reasons = d.flush()
	for i, refused := range d.refused {
		if refused {
			d.Plugins = append(d.Plugins, c.profile.filters[i].name)
		}
	}
	slices.Sort(d.Plugins)
	return d.Diagnosis, err
}

func (d *diagnosing) all() error {
	if d.narrowed {
		copy(d.ask, d.rows.words)
		d.rows.and(d.narrow)
		for i, w := range d.ask {
			d.refuse(refusal{statusNarrowed, -1}, i, w&^d.rows.words[i])
		}
	}
	for i := range d.profile.filters {
		if !d.skipFilter[i] {
			if err := d.filter(i); err != nil {
				return err
			}
		}
	}
	return d.nominated()
}

// filter applies one filter.
func (d *diagnosing) filter(i int) error {
	f := &d.profile.filters[i]
	d.enter(f.name, "Filter")
	if b, ok := f.FilterPlugin.(bulkFilter); ok {
		block := 0
		refuse := func(s *Status, rows uint64) {
			d.rows.words[block] &^= rows
			d.refuse(refusal{s, i}, block, rows)
		}
		for ; block < len(d.rows.words); block++ {
			if w := d.rows.words[block]; w != 0 {
				b.refuseRows(d.Cycle, block, w, refuse)
			}
		}
		return nil
	}
	copy(d.ask, d.rows.words)
	if f.rows != nil {
		f.askRows(d.Cycle, &d.rows)
		for w := range d.ask {
			d.ask[w] &^= d.rows.words[w]
		}
	}
	if p, ok := f.FilterPlugin.(oneReason); ok {
		for block, w := range d.ask {
			d.refuse(refusal{p.reason(), i}, block, w)
		}
		return nil
	}
	return d.askEach(i, f)
}

// askEach asks a filter about the rows that it has refused, or about all.
func (d *diagnosing) askEach(i int, f *filterSlot) error {
	for block, w := range d.ask {
		for ; w != 0; w &= w - 1 {
			row := int32(block*blockRows + bits.TrailingZeros64(w))
			d.at.row = row
			s := f.ask(d.Cycle, row)
			switch {
			case s.Rejected():
				d.rows.Remove(int(row))
				d.refuse(refusal{s, i}, block, w&-w)
			case s.code() != Success:
				return d.failed(s)
			case f.rows != nil:
				return d.failure(errors.New("FilterRows refuses a node that Filter accepts"))
			}
		}
	}
	return nil
}

// nominated looks again at the nodes where room is being made for others.
func (d *diagnosing) nominated() error {
	for _, row := range d.cluster.nominated.rows {
		if !d.rows.Has(int(row)) {
			continue
		}
		err := d.withNominated(row, func() error {
			filter, s, err := d.filterRow(row)
			if s.Rejected() {
				d.refuse(refusal{s, filter}, int(row)/blockRows, 1<<(row%blockRows))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// refuse notes that some rows of a block were refused.
func (d *diagnosing) refuse(x refusal, block int, rows uint64) {
	if rows == 0 {
		return
	}
	d.add(x.status, bits.OnesCount64(rows))
	if x.status.code() == Unschedulable {
		d.resolvable[block] |= rows
	}
	if x.filter >= 0 {
		d.refused[x.filter] = true
	}
	if d.keep != nil {
		d.keep.add(x, block, rows, len(d.ask))
	}
}

var statusNarrowed = NewStatus(UnschedulableAndUnresolvable, "node(s) didn't satisfy plugin(s) that narrow the choice in PreFilter")
