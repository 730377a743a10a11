// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"hash/maphash"
	"maps"
)

// cowMap is a map from strings that can be forked in constant time: it is cut
// into shards, and a shard that is shared is copied before it is written to, as
// is the list of shards. The first write to a shard after a fork copies 1/128 of the
// entries.
type cowMap[V any] struct {
	seed   maphash.Seed
	shards *[cowShards]cowShard[V]
	shared bool // the list
	n      int
}

const cowShards = 128

type cowShard[V any] struct {
	m      map[string]V
	shared bool
}

func newCowMap[V any]() cowMap[V] {
	return cowMap[V]{seed: maphash.MakeSeed(), shards: new([cowShards]cowShard[V])}
}

func (c *cowMap[V]) fork() cowMap[V] {
	c.shared = true
	return cowMap[V]{seed: c.seed, shards: c.shards, shared: true, n: c.n}
}

// own makes the list of shards its own.
func (c *cowMap[V]) own() {
	if !c.shared {
		return
	}
	shards := *c.shards
	for i := range shards {
		shards[i].shared = true
	}
	c.shards, c.shared = &shards, false
}

func (c *cowMap[V]) shard(key string) *cowShard[V] {
	return &c.shards[maphash.String(c.seed, key)%cowShards]
}

func (c *cowMap[V]) get(key string) (V, bool) {
	v, ok := c.shard(key).m[key]
	return v, ok
}

func (c *cowMap[V]) put(key string, v V) {
	c.own()
	s := c.shard(key)
	s.own()
	if _, ok := s.m[key]; !ok {
		c.n++
	}
	s.m[key] = v
}

func (c *cowMap[V]) remove(key string) {
	if _, ok := c.get(key); !ok {
		return
	}
	c.own()
	s := c.shard(key)
	s.own()
	delete(s.m, key)
	c.n--
}

func (s *cowShard[V]) own() {
	if s.shared || s.m == nil {
		s.m = cloneMap(s.m)
		s.shared = false
	}
}

// cloneMap returns a copy that can be written to, also of a nil map.
func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}
