// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/slipway-dev/slipway/schedule"
)

// TestSharesAreExact compares the scores that are worked out without divisions with
// Kubernetes' formulas, above all where these are about to jump: at whole percentages,
// one piece beside them, and when a node is just full.
func TestSharesAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	quantity := func(below int64) int64 {
		switch r.IntN(4) {
		case 0:
			return r.Int64N(below + 1)
		case 1:
			return below * int64(r.IntN(101)) / 100
		case 2:
			return max(0, min(below, below*int64(r.IntN(101))/100+int64(r.IntN(3))-1))
		}
		return min(below, int64(r.IntN(1000)))
	}
	sizes := []int64{1, 2, 3, 7, 100, 1000, 4000, 3999, 96000, 1 << 30, 32 << 30, 32<<30 - 1, 1 << 40, 1<<52 - 1, 1 << 52}
	unsure := 0
	const tries = 500_000
	for range tries {
		var alloc, used, want [2]int64
		for i := range alloc {
			alloc[i] = sizes[r.IntN(len(sizes))]
			if r.IntN(2) == 0 {
				alloc[i] = 1 + r.Int64N(1<<uint(1+r.IntN(52)))
			}
			used[i] = quantity(alloc[i])
			want[i] = quantity(alloc[i] - used[i])
			if r.IntN(10) == 0 {
				want[i] = alloc[i] - used[i] + int64(r.IntN(3)) // just fits, or just not
			}
			if r.IntN(50) == 0 {
				used[i] = alloc[i] * int64(1+r.IntN(3)) // more than there is
			}
		}
		for i := range alloc {
			if got, fits := schedule.FitsByShares(alloc[i], used[i], want[i]), used[i]+want[i] <= alloc[i]; got != fits {
				t.Fatalf("%d of %d used, %d wanted: fits is %v, want %v", used[i], alloc[i], want[i], got, fits)
			}
		}
		for _, most := range []bool{false, true} {
			var sum int64
			for i := range alloc {
				all := used[i] + want[i]
				switch {
				case most:
					sum += bigShare(min(all, alloc[i]), alloc[i])
				case all < alloc[i]:
					sum += bigShare(alloc[i]-all, alloc[i])
				}
			}
			if got := schedule.LeftByShares(alloc, used, want, most); got != sum/2 {
				t.Fatalf("%v of %v used, %v wanted (most %v): score %d, want %d", used, alloc, want, most, got, sum/2)
			}
		}
		part := func(i int) float64 { return math.Min(1, float64(used[i]+want[i])/float64(alloc[i])) }
		exact := int64((1 - math.Abs((part(0)-part(1))/2)) * 100)
		if got, sure := schedule.BalanceByShares(alloc, used, want); sure && got != exact {
			t.Fatalf("%v of %v used, %v wanted: balance %d, want %d", used, alloc, want, got, exact)
		} else if !sure {
			unsure++
		}
	}
	if unsure == 0 || unsure > tries/2 {
		t.Errorf("%d of %d balances are not sure", unsure, tries)
	}
}

// bigShare is part*100/whole for any whole.
func bigShare(part, whole int64) int64 {
	if part < math.MaxInt64/100 {
		return part * 100 / whole
	}
	panic("out of the range of the test")
}
