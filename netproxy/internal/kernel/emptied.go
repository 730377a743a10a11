// SPDX-License-Identifier: Apache-2.0

package kernel

// Emptied returns the map without its elements; a new one in the place of a large
// one, because to clear a map, or to range over it, takes time in proportion to
// the most that it ever held, and the first load of a node holds everything.
// (BenchmarkIncremental/30000x2/nftables: 15 µs instead of 50.)
func Emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) > 1<<10 {
		return map[K]V{}
	}
	clear(m)
	return m
}
