// SPDX-License-Identifier: Apache-2.0

package core

import "github.com/slipway-dev/slipway/store"

// change is one object's part of a commit.
type change struct {
	table *table
	key   store.Key
	old   *Entry // what the change is based on; nil: there is no such object
	next  *Entry // what comes in its place, Gone for a removal; nil: the object stays as it is
	// before is the removal of old where next is another object of the same key:
	// watchers get both, so that no change of UID is hidden.
	before *Entry
	lease  store.LeaseID // the lease to attach the object to; 0: as it is
}

// binds reports whether the change attaches the object to a lease.
func (c *change) binds() bool { return c.lease != 0 }

// read is an entry, or its absence, that a commit depends on.
type read struct {
	table *table
	key   store.Key
	entry *Entry
}

// listed is a list that a commit depends on.
type listed struct {
	table  *table
	filter filter
}

// commit is what one transaction does, and what must still hold when it does.
type commit struct {
	changes []change
	reads   []read
	lists   []listed
	since   uint64 // the revision at which lists were made
	fences  []store.LeaseID
	ends    *ending // the lease that ends with this commit, if any
}

// commit carries out a transaction, whole or not at all, and returns its
// revision. errStale says that what it depends on has changed.
func (s *Store) commit(c *commit) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ends != nil {
		var err error
		if c.changes, err = s.ends(c.ends); err != nil {
			return 0, err
		}
	}
	if err := s.admit(c); err != nil {
		return 0, err
	}
	latest := s.revision.Load()
	revision := latest + 1
	version := store.FormatRevision(revision)
	if len(c.changes) >= largeCommit {
		for i := range c.changes {
			s.refresh(c.changes[i].table)
		}
	}
	for i := range c.changes {
		s.apply(&c.changes[i], revision, version)
	}
	if c.ends != nil {
		s.leases.remove(c.ends.lease)
	}
	if len(s.touched) == 0 {
		return latest, nil
	}
	for _, t := range s.touched {
		t.log.publish()
	}
	s.revision.Store(revision)
	for _, t := range s.touched {
		t.hub.notify(t) // before the window moves, perhaps past what it looks at
		t.touched = false
	}
	s.trim(revision)
	clear(s.touched)
	s.touched = s.touched[:0]
	return revision, nil
}

// admit checks that the transaction may take place.
func (s *Store) admit(c *commit) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	for _, id := range c.fences {
		if err := s.leases.held(id); err != nil {
			return err
		}
	}
	for i := range c.changes {
		ch := &c.changes[i]
		if ch.table.removed.Load() && c.ends == nil { // a lease ends whether or not the kind is registered
			return store.ErrUnknownKind
		}
		if ch.table.rows.Current(ch.key) != ch.old {
			return errStale
		}
		if ch.binds() {
			if err := s.leases.held(ch.lease); err != nil {
				return err
			}
		}
	}
	for _, r := range c.reads {
		// A table whose kind was unregistered may have a successor, in which the
		// object is another.
		if r.table.removed.Load() || r.table.rows.Current(r.key) != r.entry {
			return errStale
		}
	}
	for i := range c.lists {
		l := &c.lists[i]
		if l.table.removed.Load() || c.since != s.revision.Load() && !l.unchanged(c.since) {
			return errStale
		}
	}
	return nil
}

// unchanged reports whether nothing that the list selects was changed after the
// revision. It looks at the events since then, so it costs what others wrote
// meanwhile.
func (l *listed) unchanged(since uint64) bool {
	h, end := l.table.log.window()
	if since < h.dropped {
		return false // too long ago to tell
	}
	for pos := h.after(since, end); pos < end; pos++ {
		ev := h.at(pos)
		if ev.old != nil && l.filter.matches(ev.old) || !ev.next.Gone && l.filter.matches(ev.next) {
			return false
		}
	}
	return true
}

// apply puts one change into its table and its log.
func (s *Store) apply(c *change, revision uint64, version string) {
	if c.next == nil {
		s.leases.attach(c)
		return
	}
	old := c.old
	if c.before != nil {
		s.replace(c.table, old, c.before, revision, version)
		old = nil
	}
	s.replace(c.table, old, c.next, revision, version)
	if !c.next.Gone {
		s.leases.attach(c)
	}
}

// replace puts next, or its absence if it is Gone, in the place of old.
func (s *Store) replace(t *table, old, next *Entry, revision uint64, version string) {
	if !t.touched {
		t.touched, t.first = true, t.log.fill
		t.changed.Store(revision) // before anything else: readers rely on it
		s.touched = append(s.touched, t)
	}
	next.Revision = revision
	next.Object.SetResourceVersion(version)
	if next.Gone {
		t.rows.Replace(old, nil)
		s.leases.detach(t, next.Key)
	} else {
		t.rows.Replace(old, next)
		s.mutation.record(t.schema, next)
	}
	s.mutation.forget(old)
	s.record(t, event{old, next})
}
