// SPDX-License-Identifier: Apache-2.0

package reconcile

// A readyList holds the entries that are ready, in two orders at once: all of them
// by age, and those of each priority in rings of tenants that take turns.
type readyList[K comparable] struct {
	n              int
	oldest, newest *entry[K]
	turns          [priorities]*share[K] // whose turn it is; nil: none of that priority
	chosen         uint
}

// agedTurn is the turn that goes by age: every fourth.
const agedTurn = 4

// A share is what a tenant has ready at one priority, in the order in which it
// became so, linked into the ring of the tenants that have something there.
type share[K comparable] struct {
	first, last    *entry[K]
	before, behind *share[K]
}

func (e *entry[K]) share() *share[K] { return &e.tenant.shares[e.priority-PriorityLow] }

// choose returns the entry whose turn it is, or nil. It must be removed then.
func (r *readyList[K]) choose(now, maxWait int64) *entry[K] {
	if r.n == 0 {
		return nil
	}
	r.chosen++
	if r.chosen%agedTurn == 0 && now-r.oldest.since >= maxWait {
		return r.oldest
	}
	for i := priorities - 1; ; i-- {
		if s := r.turns[i]; s != nil {
			r.turns[i] = s.behind
			return s.first
		}
	}
}

func (r *readyList[K]) push(e *entry[K]) {
	e.older = r.newest
	if r.newest == nil {
		r.oldest = e
	} else {
		r.newest.newer = e
	}
	r.newest = e
	r.n++
	r.join(e)
}

func (r *readyList[K]) remove(e *entry[K]) {
	if e.older == nil {
		r.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
	if e.newer == nil {
		r.newest = e.older
	} else {
		e.newer.older = e.older
	}
	e.older, e.newer = nil, nil
	r.n--
	r.leave(e)
}

// raise gives the entry another priority; its age stays.
func (r *readyList[K]) raise(e *entry[K], p Priority) {
	r.leave(e)
	e.priority = p
	r.join(e)
}

// join puts the entry at the end of its tenant's share, and a tenant that had
// nothing there at the end of the round.
func (r *readyList[K]) join(e *entry[K]) {
	s := e.share()
	e.before = s.last
	if s.last != nil {
		s.last.behind = e
		s.last = e
		return
	}
	s.first, s.last = e, e
	turn := &r.turns[e.priority-PriorityLow]
	if *turn == nil {
		*turn = s
		s.before, s.behind = s, s
		return
	}
	s.before, s.behind = (*turn).before, *turn
	s.before.behind, s.behind.before = s, s
}

// leave takes the entry out of its share, and a tenant that has nothing left
// there out of the round.
func (r *readyList[K]) leave(e *entry[K]) {
	s, turn := e.share(), &r.turns[e.priority-PriorityLow]
	if e.before == nil {
		s.first = e.behind
	} else {
		e.before.behind = e.behind
	}
	if e.behind == nil {
		s.last = e.before
	} else {
		e.behind.before = e.before
	}
	e.before, e.behind = nil, nil
	if s.first != nil {
		return
	}
	if s.behind == s {
		*turn = nil
	} else {
		s.before.behind, s.behind.before = s.behind, s.before
		if *turn == s {
			*turn = s.behind
		}
	}
	s.before, s.behind = nil, nil
}

// tenants holds those who have entries.
type tenants[K comparable] struct {
	everyone tenant[K] // where keys have no tenants of their own
	byName   map[string]*tenant[K]
	most     int          // names since the map was made
	free     []*tenant[K] // a few, for tenants that come and go
}

type tenant[K comparable] struct {
	name    string
	entries int
	shares  [priorities]share[K]
}

// join returns the tenant of that name and counts one entry more.
func (t *tenants[K]) join(name string) *tenant[K] {
	if name == "" {
		return &t.everyone
	}
	n := t.byName[name]
	if n == nil {
		n = t.add(name)
	}
	n.entries++
	return n
}

func (t *tenants[K]) add(name string) *tenant[K] {
	var n *tenant[K]
	if i := len(t.free); i > 0 {
		n, t.free = t.free[i-1], t.free[:i-1]
	} else {
		n = new(tenant[K])
	}
	n.name = name
	if t.byName == nil {
		t.byName = map[string]*tenant[K]{}
	}
	t.byName[name] = n
	t.most = max(t.most, len(t.byName))
	return n
}

// leave counts one entry less; a tenant without any is forgotten.
func (t *tenants[K]) leave(n *tenant[K]) {
	if n == &t.everyone {
		return
	}
	n.entries--
	if n.entries > 0 {
		return
	}
	delete(t.byName, n.name)
	n.name = ""
	if len(t.free) < spareMin {
		t.free = append(t.free, n)
	}
	if len(t.byName) == 0 && t.most > spareMin {
		t.byName, t.most = nil, 0 // a map does not shrink
	}
}
