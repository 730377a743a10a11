// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math/bits"
	"slices"
	"strconv"

	"github.com/slipway-dev/slipway/internal/labels"
)

// nodeMatcher decides by numbers whether nodes meet a pod's node selector and
// required node affinity.
type nodeMatcher struct {
	selector []labelTest
	terms    [][]labelTest // any of them; a term without tests holds for none
	anyTerm  bool          // there are terms to meet
}

// labelTest is one requirement on one column.
type labelTest struct {
	column *column
	op     labels.Operator
	ids    []int32 // of the values, for In and NotIn
	bound  int64   // for Gt and Lt
}

func (t *table) nodeMatcher(p *template) *nodeMatcher {
	if len(p.selector) == 0 && len(p.required) == 0 {
		return nil
	}
	m := &nodeMatcher{selector: t.labelTests(p.selector), anyTerm: len(p.required) > 0}
	for i := range p.required {
		m.terms = append(m.terms, t.termTests(&p.required[i]))
	}
	return m
}

func (t *table) termTests(n *nodeTerm) []labelTest {
	tests := t.labelTests(n.labels)
	for _, f := range n.fields {
		c := t.column(nameKey)
		tests = append(tests, labelTest{column: c, op: labels.Operator(f.Operator), ids: []int32{c.id(f.Values[0])}})
	}
	return tests
}

func (t *table) labelTests(s labels.Selector) []labelTest {
	var tests []labelTest
	for _, r := range s {
		test := labelTest{column: t.column(r.Key), op: r.Operator}
		switch r.Operator {
		case labels.In, labels.NotIn:
			for _, v := range r.Values {
				test.ids = append(test.ids, test.column.id(v))
			}
		case labels.Gt, labels.Lt:
			test.bound, _ = strconv.ParseInt(r.Values[0], 10, 64) // was checked
		}
		tests = append(tests, test)
	}
	return tests
}

func (l *labelTest) match(row int32) bool {
	id := l.column.of(row)
	switch l.op {
	case labels.In:
		return slices.Contains(l.ids, id)
	case labels.NotIn:
		return !slices.Contains(l.ids, id)
	case labels.Exists:
		return id != absent
	case labels.DoesNotExist:
		return id == absent
	}
	if id == absent {
		return false
	}
	n, ok := l.column.number(id)
	return ok && (l.op == labels.Gt && n > l.bound || l.op == labels.Lt && n < l.bound)
}

func matchAll(tests []labelTest, row int32) bool {
	for i := range tests {
		if !tests[i].match(row) {
			return false
		}
	}
	return true
}

func matchTerm(tests []labelTest, row int32) bool {
	return len(tests) > 0 && matchAll(tests, row)
}

func (m *nodeMatcher) match(row int32) bool {
	return matchAll(m.selector, row) && (!m.anyTerm || m.matchTerms(row))
}

func (m *nodeMatcher) matchTerms(row int32) bool {
	for _, tests := range m.terms {
		if matchTerm(tests, row) {
			return true
		}
	}
	return false
}

// filter removes the rows that don't match. It is match for many rows: the
// operator is looked at once, and labels with few values go by sets of rows.
func (l *labelTest) filter(rows *Rows) {
	if sets := l.column.rowSets(); sets != nil && l.op != labels.Gt && l.op != labels.Lt {
		l.filterBySets(rows, sets)
		return
	}
	if l.op != labels.In || len(l.ids) != 1 {
		for row := range rows.All() {
			if !l.match(int32(row)) {
				rows.Remove(row)
			}
		}
		return
	}
	ids, want := l.column.ids, l.ids[0]
	for i, w := range rows.words {
		base := (rows.first + i) * blockRows
		for ; w != 0; w &= w - 1 {
			r := bits.TrailingZeros64(w)
			if ids[base+r] != want {
				rows.words[i] &^= 1 << r
			}
		}
	}
}

func (l *labelTest) filterBySets(rows *Rows, sets [][]uint64) {
	any := l.column.labelled()
	for i, w := range rows.words {
		if w == 0 {
			continue
		}
		block := rows.first + i
		var chosen uint64
		switch {
		case l.op == labels.Exists || l.op == labels.DoesNotExist:
			if block < len(any) {
				chosen = any[block]
			}
		default:
			for _, id := range l.ids {
				if block < len(sets[id]) {
					chosen |= sets[id][block]
				}
			}
		}
		if l.op == labels.In || l.op == labels.Exists {
			rows.words[i] = w & chosen
		} else {
			rows.words[i] = w &^ chosen
		}
	}
}
