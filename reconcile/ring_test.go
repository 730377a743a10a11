// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// All replicas must get the same numbers, in every version: these are golden.
func TestRingIsStable(t *testing.T) {
	for key, want := range map[string]int{"": 38, "default/web": 130, "kube-system/dns": 195, "名": 31} {
		if got := ShardOf(key, 256); got != want {
			t.Errorf("ShardOf(%q, 256) = %d, want %d", key, got, want)
		}
	}
	members := []uint64{hash64("a"), hash64("b"), hash64("c")}
	var got []int
	for shard := range 16 {
		got = append(got, place(shard, members))
	}
	if want := []int{2, 2, 0, 0, 2, 0, 1, 1, 2, 2, 0, 2, 2, 0, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("place: %v, want %v", got, want)
	}
	if got := place(0, nil); got != -1 {
		t.Errorf("place among nobody: %d, want -1", got)
	}
}

// When a replica comes, shards move to it and nowhere else; when one goes, its
// shards move and no others. What moves is about one share.
func TestRingMovesLittle(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for n := 1; n <= 32; n++ {
		var members []uint64
		for range n {
			members = append(members, random.Uint64())
		}
		more := append(slices.Clone(members), random.Uint64())
		moved := 0
		for shard := range defaultShards {
			before, after := place(shard, members), place(shard, more)
			if before == after {
				continue
			}
			if moved++; after != n {
				t.Errorf("%d replicas and one more: shard %d moves from %d to %d, want to stay or to move to %d", n, shard, before, after, n)
			}
		}
		if share := defaultShards / (n + 1); moved > 2*share+8 {
			t.Errorf("%d replicas and one more: %d shards move, want about %d", n, moved, share)
		}
	}
}

// The names are such as replicas have.
func TestRingBalance(t *testing.T) {
	for _, format := range []string{"replica-%d", "10.0.0.%d", "operator-7d4b9c6f5-x%dz", "%d"} {
		for n := 1; n <= 16; n++ {
			var members []uint64
			for i := range n {
				members = append(members, hash64(fmt.Sprintf(format, i)))
			}
			count := make([]int, n)
			for shard := range defaultShards {
				count[place(shard, members)]++
			}
			if most := slices.Max(count); most > 2*defaultShards/n || slices.Min(count) == 0 {
				t.Errorf("%s: %d replicas have %v of %d shards: want none to have more than twice its share", format, n, count, defaultShards)
			}
		}
	}
	count := make([]int, 16)
	for i := range 16_000 {
		count[ShardOf(fmt.Sprintf("default/pod-%d", i), 16)]++
	}
	if slices.Min(count) < 850 || slices.Max(count) > 1150 {
		t.Errorf("16,000 keys in 16 shards: %v", count)
	}
}
