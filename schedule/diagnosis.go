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

func (t *tally) add(s *Status) {
	for i := range t.seen {
		if t.seen[i].status == s {
			t.seen[i].n++
			return
		}
	}
	if len(t.seen) == tallySize {
		t.flush()
	}
	t.seen = append(t.seen, tallied{s, 1})
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

// refusals is what the filters say about every node.
type refusals struct {
	byRow  []*Status // nil: feasible, or no node
	filter []int16   // by row: which filter refused it; -1 for PreFilter
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
		each(d.ask, d.rows.words, func(row int32) { d.refuse(row, -1, statusNarrowed) })
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
	copy(d.ask, d.rows.words)
	d.enter(f.name, "Filter")
	if f.rows != nil {
		f.askRows(d.Cycle, &d.rows)
		for w := range d.ask {
			d.ask[w] &^= d.rows.words[w]
		}
	}
	for w, word := range d.ask {
		for ; word != 0; word &= word - 1 {
			row := int32(w*blockRows + bits.TrailingZeros64(word))
			d.at.row = row
			s := f.ask(d.Cycle, row)
			switch {
			case s.Rejected():
				d.rows.Remove(int(row))
				d.refuse(row, i, s)
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
				d.refuse(row, filter, s)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *diagnosing) refuse(row int32, filter int, s *Status) {
	d.add(s)
	if s.code() == Unschedulable {
		d.resolvable[row/blockRows] |= 1 << (row % blockRows)
	}
	if filter >= 0 {
		d.refused[filter] = true
	}
	if d.keep != nil {
		d.keep.byRow[row], d.keep.filter[row] = s, int16(filter)
	}
}

var statusNarrowed = NewStatus(UnschedulableAndUnresolvable, "node(s) didn't satisfy plugin(s) that narrow the choice in PreFilter")

// each calls f for the rows that are in a and not in b.
func each(a, b []uint64, f func(row int32)) {
	for i, w := range a {
		for w &^= b[i]; w != 0; w &= w - 1 {
			f(int32(i*blockRows + bits.TrailingZeros64(w)))
		}
	}
}
