// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"math"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// defaultRevisions is how many revisions are kept where the user does not say.
const defaultRevisions = 1 << 16

// history is the window's state, under the commit mutex; its result, the oldest
// revision that can be read, is Store.floor.
type history struct {
	limits store.History
	bytes  int64  // retained by all logs, if bounded
	marks  []mark // when revisions were new, for Age, oldest first
	swept  uint64 // the revision at which all logs were cut last
}

// mark says that the revision was the latest at that time.
type mark struct {
	revision uint64
	at       time.Time
}

// versionOverhead is what a retained version takes beside its object: an entry
// and an event, in bytes.
const versionOverhead = 80

// record appends an event to the table's log.
func (s *Store) record(t *table, ev event) {
	seg := t.log.append(ev)
	if s.history.limits.Bytes > 0 && ev.old != nil {
		n := int64(t.schema.Size(ev.old.Object)) + versionOverhead
		seg.bytes += n
		s.history.bytes += n
	}
}

// trim moves the window up after a commit of that revision.
func (s *Store) trim(revision uint64) {
	h := &s.history
	floor := s.floor.Load()
	if n := h.limits.Revisions; n > 0 && revision > uint64(n) {
		floor = max(floor, revision-uint64(n))
	}
	if h.limits.Age > 0 {
		floor = max(floor, h.aged(revision))
	}
	for h.limits.Bytes > 0 && h.bytes > h.limits.Bytes {
		last, ok := s.cutOldest()
		if !ok {
			break
		}
		floor = max(floor, last)
	}
	tables := s.touched
	if revision-h.swept >= sweepEvery {
		h.swept, tables = revision, s.tables
	}
	s.forget(floor, tables)
}

// sweepEvery is how many revisions may pass before logs that nobody writes to
// give back what has left the window.
const sweepEvery = 1024

// forget makes floor the oldest revision that can be read, and frees what came
// before in the logs of the tables.
func (s *Store) forget(floor uint64, tables []*table) {
	s.floor.Store(floor)
	for _, t := range tables {
		s.history.bytes -= t.log.cut(floor)
		// A view that nobody can ask for any more would keep all that it shows.
		if p := t.recent.Load(); p != nil && p.taken < floor && p.from != t.changed.Load() {
			t.recent.Store(nil)
		}
	}
}

// aged returns the latest revision that was replaced longer ago than the age.
func (h *history) aged(revision uint64) uint64 {
	now := time.Now()
	if n := len(h.marks); n >= 2 && now.Sub(h.marks[n-2].at) < h.limits.Age/64 {
		h.marks[n-1] = mark{revision, now} // one stands for revisions that are close together
	} else {
		h.marks = append(h.marks, mark{revision, now})
	}
	n := 0 // the marks that have aged
	for n < len(h.marks) && now.Sub(h.marks[n].at) > h.limits.Age {
		n++
	}
	if n == 0 {
		return 0
	}
	floor := h.marks[n-1].revision
	h.marks = append(h.marks[:0], h.marks[n-1:]...) // the last stays: it is the oldest readable
	return floor
}

// cutOldest drops the full block of events that ends first among all kinds, and
// returns its last revision. The block that begins first may be one of a kind
// that is seldom written to, and end a moment ago: all history would go with it.
func (s *Store) cutOldest() (uint64, bool) {
	var oldest *table
	end := uint64(math.MaxUint64)
	for _, t := range s.tables {
		if rev, ok := t.log.oldest(); ok && rev < end {
			oldest, end = t, rev
		}
	}
	if oldest == nil {
		return 0, false
	}
	last, freed := oldest.log.cutOldest()
	s.history.bytes -= freed
	return last, true
}

// Compact implements [store.Compactor].
func (s *Store) Compact(ctx context.Context, revision uint64) error {
	fail := func(err error) error { return &store.Error{Op: "compact", Err: err} }
	if err := s.usable(ctx); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := s.revision.Load()
	if revision > latest {
		return fail(future(revision, latest))
	}
	s.forget(max(revision, s.floor.Load()), s.tables)
	return nil
}

// Window implements [store.Compactor].
func (s *Store) Window(ctx context.Context) (oldest, latest uint64, err error) {
	if err := s.usable(ctx); err != nil {
		return 0, 0, &store.Error{Op: "read the window", Err: err}
	}
	oldest = s.floor.Load() // first: the latest is never before it
	return oldest, s.revision.Load(), nil
}
