// SPDX-License-Identifier: Apache-2.0

package core

import "github.com/slipway-dev/slipway/store"

// A revision is a number; what a table held at it is found when it is asked
// for. A view is O(1) to take, but the writes after it must copy what it shares
// with them, so none is taken that nobody reads: a get needs none, nor does a
// watch (BenchmarkCreate/objects=100000/txn=1: 4 to 6 allocations in place of
// 40, a third of the processor time). A reader that finds no view of its revision takes the
// commit mutex for as long as that takes, which is why a large commit leaves
// one behind before it starts.

// past is a view and the revisions whose content it is.
type past struct {
	View
	from  uint64 // the last change before the view was taken
	taken uint64 // the latest revision when it was taken
}

// largeCommit is the number of changes from which on readers are not made to
// wait for a commit: about 10 ms of it.
const largeCommit = 2000

// at returns the table's content at the revision, if there is a view of it.
// The revision was loaded from Store.revision, or is of the past.
func (t *table) at(revision uint64) View {
	p := t.recent.Load()
	if p == nil || revision < p.from {
		return nil
	}
	if revision <= p.taken || t.changed.Load() == p.from {
		return p.View
	}
	return nil
}

// refresh makes the table's most recent view one of the latest revision. The
// commit mutex is held, and no commit has begun to change the table.
func (s *Store) refresh(t *table) *past {
	p := t.recent.Load()
	changed, latest := t.changed.Load(), s.revision.Load()
	if p == nil || p.from != changed {
		p = &past{t.rows.View(), changed, latest}
		t.recent.Store(p)
	}
	return p
}

// present returns the table's content at the latest revision, and that.
func (s *Store) present(t *table) (View, uint64) {
	revision := s.revision.Load()
	if v := t.at(revision); v != nil {
		return v, revision
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refresh(t).View, s.revision.Load()
}

// view returns the table's content at the revision, which has been reached. It
// is ErrTooOld for one that has left the history window, unless there is a view
// of it.
func (s *Store) view(t *table, revision uint64) (View, error) {
	if v := t.at(revision); v != nil {
		return v, nil
	}
	s.mu.Lock()
	p := s.refresh(t)
	latest := s.revision.Load()
	s.mu.Unlock()
	if revision >= p.from {
		return p.View, nil
	}
	return s.undo(t, p.View, latest, revision)
}

// get returns the table's entry of the key at the revision, or nil. The
// revision has been reached.
func (s *Store) get(t *table, key store.Key, revision uint64) (*Entry, error) {
	// The table's own way may be ahead of the revision. An entry of that revision
	// or before is the right one, since all up to there is in the table; and that
	// there is none is right if no later commit had begun when it was asked.
	if e, ok := t.rows.Latest(key); ok {
		if e != nil && e.Revision <= revision {
			return e, nil
		}
		if e == nil && t.changed.Load() <= revision {
			return nil, nil
		}
	}
	v, err := s.view(t, revision)
	if err != nil {
		return nil, err
	}
	return v.Get(key), nil
}

// latest returns the table's entry of the key at the latest revision, or nil.
func (s *Store) latest(t *table, key store.Key) *Entry {
	revision := s.revision.Load()
	e, ok := t.rows.Latest(key)
	switch {
	case !ok:
		v, _ := s.present(t)
		return v.Get(key)
	case e != nil && e.Revision <= revision, e == nil && t.changed.Load() <= revision: // as in get
		return e
	}
	s.mu.Lock() // a commit is changing the table: once it is over, what is there counts
	defer s.mu.Unlock()
	return t.rows.Current(key)
}
