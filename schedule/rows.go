// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"iter"
	"math/bits"
)

// Rows is a set of nodes, given by their rows in the node table. A vectorised
// plugin goes through it with [Rows.All], or by words if it must be faster yet.
type Rows struct {
	first int // word 0 holds the rows from first*64
	words []uint64
}

// All yields the rows in ascending order. Removing the row at hand is allowed.
func (r *Rows) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range r.words {
			for ; w != 0; w &= w - 1 {
				if !yield((r.first+i)*blockRows + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// Has reports whether a row is in the set.
func (r *Rows) Has(row int) bool {
	i := row/blockRows - r.first
	return i >= 0 && i < len(r.words) && r.words[i]>>(row%blockRows)&1 != 0
}

// Remove takes a row out.
func (r *Rows) Remove(row int) {
	if i := row/blockRows - r.first; i >= 0 && i < len(r.words) {
		r.words[i] &^= 1 << (row % blockRows)
	}
}

// Len counts the rows.
func (r *Rows) Len() int { return popcount(r.words) }

// and keeps only the rows that are also in set, which begins at row 0.
func (r *Rows) and(set []uint64) {
	for i := range r.words {
		var w uint64
		if r.first+i < len(set) {
			w = set[r.first+i]
		}
		r.words[i] &= w
	}
}

// andNot removes the rows that are in set.
func (r *Rows) andNot(set []uint64) {
	for i := range r.words {
		if r.first+i < len(set) {
			r.words[i] &^= set[r.first+i]
		}
	}
}
