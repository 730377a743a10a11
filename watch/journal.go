// SPDX-License-Identifier: Apache-2.0

package watch

import "github.com/slipway-dev/slipway/store"

// change is one difference between two states: what a handler is called with.
type change[T store.Object] struct {
	op  store.EventType // Added, Modified, Deleted
	old T               // Modified: the state before; Deleted: the last known state
	new T               // Added, Modified
}

func (c *change[T]) object() T {
	if c.op == store.Deleted {
		return c.old
	}
	return c.new
}

// journal holds the changes that some handler has not had yet. All handlers share
// it, each with a place of its own, so that a change costs the same however many
// there are; it is a list of segments, and what every handler has had is garbage.
//
// A handler that does not move would make it grow without bound. So once it has
// grown by as much as it held before, and by as many changes as there are objects,
// and by 1,024 at least, it is compacted (sooner would cost more than the update
// itself where a handler is a little behind all the time): between two places that handlers stand at, the changes of one key become one
// (or two, where an object was replaced by another of its name).
type journal[T store.Object] struct {
	tail  *segment[T] // nil: every handler has had everything
	grown int         // changes since the last compaction
	kept  int         // changes that the last compaction left
}

// segment is a run of changes. Only the tail grows; what is in it never changes,
// so that a handler reads the part that it took without a lock.
type segment[T store.Object] struct {
	first   uint64 // position of the first change: only their order means anything
	changes []change[T]
	next    *segment[T]
}

const (
	segmentSize = 1024
	compactFrom = 1024
)

// place is where a handler stands in the journal.
type place[T store.Object] struct {
	seg *segment[T]
	n   int // changes of seg that the handler has had
}

func (p place[T]) position() uint64 { return p.seg.first + uint64(p.n) }

// end returns the place after the last change.
func (j *journal[T]) end() place[T] {
	if j.tail == nil {
		j.tail = &segment[T]{}
	}
	return place[T]{j.tail, len(j.tail.changes)}
}

// append adds changes and returns the place before them.
func (j *journal[T]) append(changes []change[T]) place[T] {
	before := j.end()
	if n := len(j.tail.changes); n > 0 && n+len(changes) > segmentSize {
		next := &segment[T]{first: j.tail.first + uint64(n)}
		j.tail.next, j.tail = next, next
		before = place[T]{next, 0}
	}
	j.tail.changes = append(j.tail.changes, changes...)
	j.grown += len(changes)
	return before
}

// reset forgets everything: no handler is behind.
func (j *journal[T]) reset() { j.tail, j.grown, j.kept = nil, 0, 0 }

// full reports whether it is time to compact, with so many objects in the cache.
func (j *journal[T]) full(objects int) bool { return j.grown >= max(compactFrom, j.kept, objects) }

// take returns the changes after the place, as many as lie together, and moves
// the place behind them; none at the end.
func (p *place[T]) take() []change[T] {
	for p.n == len(p.seg.changes) && p.seg.next != nil {
		p.seg, p.n = p.seg.next, 0
	}
	batch := p.seg.changes[p.n:]
	p.n = len(p.seg.changes)
	return batch
}

// compact coalesces the changes between the places, which are in order, and
// moves each place to where it belongs in what is left.
func (j *journal[T]) compact(places []*place[T], uid func(T) string) {
	j.grown, j.kept = 0, 0
	var head, last *segment[T]
	for i := 0; i < len(places); {
		from := *places[i]
		first := from.position()
		k := i // places i to k are the same
		for k < len(places) && places[k].position() == first {
			k++
		}
		var to *place[T]
		if k < len(places) {
			to = places[k]
		}
		seg := &segment[T]{first: first, changes: coalesce(from, to, uid)}
		if last == nil {
			head = seg
		} else {
			last.next = seg
		}
		last = seg
		j.kept += len(seg.changes)
		for ; i < k; i++ {
			*places[i] = place[T]{seg, 0}
		}
	}
	if head != nil {
		j.tail = last
	}
}

// coalesce returns what the changes between two places amount to, for one who
// stood at the first; nil is the end.
func coalesce[T store.Object](from place[T], to *place[T], uid func(T) string) []change[T] {
	var end uint64
	if to != nil {
		end = to.position()
	}
	c := coalescer[T]{uid: uid, at: map[store.Key]int{}}
	for seg, n := from.seg, from.n; seg != nil; seg, n = seg.next, 0 {
		for ; n < len(seg.changes); n++ {
			if to != nil && seg.first+uint64(n) >= end {
				return c.result()
			}
			c.add(seg.changes[n])
		}
	}
	return c.result()
}

// coalescer makes one change of all changes of a key, in the order in which the
// keys first changed.
type coalescer[T store.Object] struct {
	uid  func(T) string
	at   map[store.Key]int
	sums []sum[T]
}

// sum is what the changes of one key amount to.
type sum[T store.Object] struct {
	was, is  bool // the object was there before, and is there after
	replaced bool // and it is another one
	before   T
	last     T // the last state of the one that was there, if that is gone
	after    T
}

func (c *coalescer[T]) add(ch change[T]) {
	key := store.KeyOf(ch.object())
	i, seen := c.at[key]
	if !seen {
		i = len(c.sums)
		c.at[key] = i
		c.sums = append(c.sums, sum[T]{was: ch.op != store.Added, before: ch.old})
	}
	s := &c.sums[i]
	switch ch.op {
	case store.Added:
		s.is, s.after = true, ch.new
		if s.was && !(s.replaced || sameObject(c.uid, s.last, ch.new)) {
			s.replaced = true
		}
	case store.Modified:
		s.is, s.after = true, ch.new
	case store.Deleted:
		s.is = false
		if s.was && !s.replaced {
			s.last = ch.old
		}
		var zero T
		s.after = zero
	}
}

func (c *coalescer[T]) result() []change[T] {
	n := 0
	for i := range c.sums {
		n += c.sums[i].count()
	}
	out := make([]change[T], 0, n)
	for i := range c.sums {
		out = c.sums[i].appendTo(out)
	}
	return out
}

func (s *sum[T]) count() int {
	switch {
	case s.was && s.is && s.replaced:
		return 2
	case s.was || s.is:
		return 1
	}
	return 0
}

func (s *sum[T]) appendTo(out []change[T]) []change[T] {
	switch {
	case s.was && s.is && !s.replaced:
		return append(out, change[T]{store.Modified, s.before, s.after})
	case s.was && s.is:
		out = append(out, change[T]{op: store.Deleted, old: s.last})
		return append(out, change[T]{op: store.Added, new: s.after})
	case s.was:
		return append(out, change[T]{op: store.Deleted, old: s.last})
	case s.is:
		return append(out, change[T]{op: store.Added, new: s.after})
	}
	return out
}

// sameObject reports whether two objects of one key are one and the same, which
// only a UID can tell.
func sameObject[T store.Object](uid func(T) string, a, b T) bool {
	if uid == nil {
		return false
	}
	x := uid(a)
	return x != "" && x == uid(b)
}
