// SPDX-License-Identifier: Apache-2.0

package reconcile

// Which replica a shard belongs to is found by rendezvous hashing (Thaler and
// Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): each
// member has a score for each shard, and the highest wins. When a member comes,
// it takes shards from each of the others, and nothing moves between those; when
// it goes, its shards are spread over the rest, and nothing else moves.
//
// The functions of this file are part of the protocol: all replicas must get the
// same numbers, in every version and on every machine.

// ShardOf returns the shard, of so many, that a key belongs to.
func ShardOf(key string, shards int) int { return int(hash64(key) % uint64(shards)) }

// place returns the index of the member that the shard belongs to; -1 where there
// are none.
func place(shard int, members []uint64) int {
	best, highest := -1, uint64(0)
	for i, m := range members {
		if score := mix(m ^ mix(uint64(shard)+1)); best < 0 || score > highest {
			best, highest = i, score
		}
	}
	return best
}

// hash64 is FNV-1a, and a finaliser because its high bits are weak.
func hash64(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of MurmurHash3: every bit of x changes half of the result's.
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
