// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math"
	"math/bits"
)

// counter counts pods by topology domain, and is kept up to date as pods come
// and go, so that no cycle has to look at the pods of all nodes. There are two
// kinds. One counts the pods that a selector chooses, for the pod that has the
// selector. The other, a carrier, counts the pods that have a term, for the
// pods that the term chooses: anti-affinity is symmetric, and so are preferences.
type counter struct {
	kind     counterKind
	weight   int64 // of the term carried
	column   *column
	all      []podSelector // all must choose the pod
	eligible *eligibility  // rows that count; nil means all
	refs     int           // classes that read it, or carry it

	n     tallies // by domain
	total int64

	required bool     // by a term of a filter
	present  []uint64 // rows whose domain has a pod; kept for filters, while there are many such domains

	min      int64 // least count of a domain with an eligible node
	atMin    int   // how many have it
	minKnown bool
	minAsOf  uint64 // the version of the eligible nodes
}

type counterKind uint8

const (
	countMatching counterKind = iota // pods that the selector chooses
	carryAnti                        // pods with this required anti-affinity term
	carryAffinity                    // pods with this required affinity term
	carryPrefer                      // pods with this preferred affinity term
	carryAvoid                       // pods with this preferred anti-affinity term
)

// tallies is an array by domain of which only what was written to exists: ten
// thousand counters over five thousand hosts would not fit otherwise. Most of them
// have a pod in a few domains only; these need no memory of their own.
type tallies struct {
	few   [4]domainTally // of the used first ones; until pages are needed
	used  int
	pages []*page
}

type domainTally struct{ domain, n int32 }

type page struct {
	n       [64]int32
	nonzero uint64
}

func (p *tallies) get(d int32) int64 {
	if p.pages == nil {
		for i := range p.few[:p.used] {
			if p.few[i].domain == d {
				return int64(p.few[i].n)
			}
		}
		return 0
	}
	if i := int(d >> 6); i < len(p.pages) && p.pages[i] != nil {
		return int64(p.pages[i].n[d&63])
	}
	return 0
}

// add changes the count of a domain and returns it. There are that many domains.
func (p *tallies) add(d, delta int32, domains int) int64 {
	if p.pages != nil {
		return p.addPage(d, delta, domains)
	}
	for i := range p.few[:p.used] {
		f := &p.few[i]
		if f.domain != d {
			continue
		}
		f.n += delta
		n := f.n
		if n == 0 {
			p.used--
			*f = p.few[p.used]
		}
		return int64(n)
	}
	if p.used < len(p.few) {
		p.few[p.used] = domainTally{d, delta}
		p.used++
		return int64(delta)
	}
	for _, f := range p.few {
		p.addPage(f.domain, f.n, domains)
	}
	return p.addPage(d, delta, domains)
}

func (p *tallies) addPage(d, delta int32, domains int) int64 {
	if n := max(domains, int(d)+1)/64 + 1; len(p.pages) < n {
		p.pages = append(p.pages, make([]*page, n-len(p.pages))...)
	}
	g := p.pages[d>>6]
	if g == nil {
		g = new(page)
		p.pages[d>>6] = g
	}
	g.n[d&63] += delta
	if g.n[d&63] != 0 {
		g.nonzero |= 1 << (d & 63)
	} else {
		g.nonzero &^= 1 << (d & 63)
	}
	return int64(g.n[d&63])
}

// all yields the domains with a count.
func (p *tallies) all(yield func(d, n int32) bool) {
	if p.pages == nil {
		for _, f := range p.few[:p.used] {
			if !yield(f.domain, f.n) {
				return
			}
		}
		return
	}
	for i, g := range p.pages {
		if g == nil {
			continue
		}
		for w := g.nonzero; w != 0; w &= w - 1 {
			j := bits.TrailingZeros64(w)
			if !yield(int32(i*64+j), g.n[j]) {
				return
			}
		}
	}
}

// counts reports whether pods on the row count, and in which domain.
func (k *counter) counts(t *table, row int32) (int32, bool) {
	d := k.column.of(row)
	if d == absent || k.eligible != nil && !k.eligible.match(t, row) {
		return d, false
	}
	return d, true
}

// add counts a pod that came to the row (delta 1) or left it (-1).
func (k *counter) add(t *table, row int32, delta int32) {
	d, ok := k.counts(t, row)
	if !ok {
		return
	}
	n := k.n.add(d, delta, len(k.column.values))
	k.total += int64(delta)
	if k.needsPresent(t) && (n == 0 || n == 1 && delta > 0) {
		k.mark(d, n > 0)
	}
	k.moveMin(n-int64(delta), n)
}

// moveMin keeps the minimum as one domain goes from one count to another.
func (k *counter) moveMin(from, to int64) {
	switch {
	case !k.minKnown:
	case to < k.min:
		k.min, k.atMin = to, 1
	case to == k.min:
		k.atMin++
	case from == k.min:
		if k.atMin--; k.atMin == 0 {
			k.minKnown = false
		}
	}
}

// needsPresent reports whether present is to be kept, and begins it when there come
// to be more than a few domains.
func (k *counter) needsPresent(t *table) bool {
	if !k.required || k.n.pages == nil {
		return false
	}
	if k.present == nil {
		k.present = make([]uint64, len(t.blocks))
		for d := range k.n.all {
			k.mark(d, true)
		}
	}
	return true
}

// near returns the rows whose domain has a pod, in scratch if need be.
func (k *counter) near(scratch []uint64) []uint64 {
	if k.present != nil {
		return k.present
	}
	clear(scratch)
	sets := k.column.rowSets()
	for d, n := range k.n.all {
		if n <= 0 {
			continue
		}
		if sets != nil {
			for i, w := range sets[d] {
				scratch[i] |= w
			}
			continue
		}
		for _, row := range k.column.members[d] {
			scratch[row/blockRows] |= 1 << (row % blockRows)
		}
	}
	return scratch
}

// mark notes whether the rows of a domain have a pod among them.
func (k *counter) mark(d int32, present bool) {
	for _, row := range k.column.members[d] {
		k.setPresent(row, present)
	}
}

func (k *counter) setPresent(row int32, present bool) {
	for len(k.present) <= int(row)/blockRows {
		k.present = append(k.present, 0)
	}
	if present {
		k.present[row/blockRows] |= 1 << (row % blockRows)
	} else {
		k.present[row/blockRows] &^= 1 << (row % blockRows)
	}
}

// visit counts the pods of a node (sign 1) or forgets them (-1). What the node is
// must not change between the two.
func (k *counter) visit(t *table, row, pods, sign int32) {
	if k.present != nil {
		d := k.column.of(row)
		k.setPresent(row, sign > 0 && d != absent && k.n.get(d)+int64(pods) > 0)
	}
	d, ok := k.counts(t, row)
	if !ok {
		return
	}
	if pods > 0 {
		was := k.n.get(d)
		n := k.n.add(d, sign*pods, len(k.column.values))
		k.total += int64(sign * pods)
		if k.needsPresent(t) && (was > 0) != (n > 0) {
			k.mark(d, n > 0)
		}
		if k.present != nil && sign < 0 {
			k.setPresent(row, false)
		}
		k.minKnown = false
	}
}

// least returns the smallest count of any domain with an eligible node.
func (k *counter) least() int64 {
	if !k.minKnown || k.minAsOf != k.eligible.version {
		k.min, k.atMin, k.minKnown, k.minAsOf = math.MaxInt64, 0, true, k.eligible.version
		for d, nodes := range k.eligible.nodes {
			if nodes == 0 {
				continue
			}
			switch n := k.n.get(int32(d)); {
			case n < k.min:
				k.min, k.atMin = n, 1
			case n == k.min:
				k.atMin++
			}
		}
	}
	if k.atMin == 0 {
		return 0
	}
	return k.min
}

// eligibility says which rows count for a spread constraint: the nodes with all
// its topology keys that the inclusion policies let in (KEP-3094). It counts them by
// domain, once for all constraints that agree in this.
type eligibility struct {
	topology    *column
	columns     []*column
	affinity    *nodeMatcher // nil: any node
	tolerations []Toleration
	honorTaints bool

	text    string
	refs    int     // counters that use it
	nodes   []int32 // by domain
	domains int     // with a node
	version uint64  // counts the changes to nodes
}

// visit counts a node (sign 1) or forgets it (-1).
func (e *eligibility) visit(t *table, row, sign int32) {
	d := e.topology.of(row)
	if d == absent || !e.match(t, row) {
		return
	}
	for len(e.nodes) <= int(d) {
		e.nodes = append(e.nodes, 0)
	}
	e.nodes[d] += sign
	if sign > 0 && e.nodes[d] == 1 {
		e.domains++
	} else if sign < 0 && e.nodes[d] == 0 {
		e.domains--
	}
	e.version++
}

func (e *eligibility) match(t *table, row int32) bool {
	for _, c := range e.columns {
		if c.of(row) == absent {
			return false
		}
	}
	if e.affinity != nil && !e.affinity.match(row) {
		return false
	}
	if e.honorTaints {
		b, i := t.at(row)
		return untolerated(e.tolerations, t.taintSets.of(b.taints[i])) == nil
	}
	return true
}
