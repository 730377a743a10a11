// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// member is a session of a replica as its own Lease object shows it.
//
//	alive --> leaving --> sealed --> gone
//	  |                     ^
//	  +---------------------+   by itself when its work has ended, or by another
//	                            that saw no renewal for as long as its lease lasts
//
// A sealed session never comes back: the object is changed at a demanded version,
// so the renewal of one that was only slow fails. A replica begins a new session
// instead. That is what makes it safe to act on old knowledge of a session's end.
type member struct {
	*Lease
	session string
}

// leavingAnnotation tells the others not to count on a session any more.
const leavingAnnotation = "slipway.dev/leaving"

func (m member) sealed() bool  { return value(m.Spec.HolderIdentity) == "" }
func (m member) leaving() bool { return m.Annotations[leavingAnnotation] != "" }

// view is what a sharder sees at one revision.
type view struct {
	lease   *Lease // that holds the table
	table   shardTable
	members map[string]member // by session
}

// readView sorts the Leases of a sharder. The lease is nil where there is no table.
func readView(name string, leases []*Lease) (view, error) {
	v := view{members: map[string]member{}}
	for _, l := range leases {
		if l.Name == name {
			v.lease = l
		} else if session, ok := strings.CutPrefix(l.Name, name+"-"); ok {
			v.members[session] = member{l, session}
		}
	}
	var err error
	if v.lease != nil {
		v.table, err = readShardTable(v.lease)
	}
	return v, err
}

// witness remembers what one replica saw of the others' leases.
type witness struct {
	own     time.Duration // how long leases last that do not say so
	members map[string]*sighting
	absent  map[string]time.Time // sessions that own shards and have no Lease: since when
}

func newWitness(own time.Duration) *witness {
	return &witness{own, map[string]*sighting{}, map[string]time.Time{}}
}

// see takes in a view that was read before now.
func (w *witness) see(v view, now time.Time) {
	for session, m := range v.members {
		if w.members[session] == nil {
			w.members[session] = new(sighting)
		}
		w.members[session].see(m.Lease, w.own, now)
		delete(w.absent, session)
	}
	for session := range w.members {
		if _, there := v.members[session]; !there {
			delete(w.members, session)
		}
	}
	for session := range v.table.sessions {
		if _, there := v.members[session]; there {
			continue
		}
		if _, known := w.absent[session]; !known {
			w.absent[session] = now
		}
	}
	for session := range w.absent {
		if _, there := v.table.sessions[session]; !there {
			delete(w.absent, session)
		}
	}
}

// expired reports whether the session's lease has run out.
func (w *witness) expired(session string, now time.Time) bool {
	s := w.members[session]
	return s != nil && s.left(now) <= 0
}

// vanished reports whether a session that owns shards has been without a Lease
// for as long as that would have lasted. Its replica may not know at once that
// somebody has deleted it.
func (w *witness) vanished(session string, lasts shardSession, now time.Time) bool {
	since, ok := w.absent[session]
	return ok && now.Sub(since) >= max(w.own, time.Duration(lasts.seconds)*time.Second)
}

// candidates returns the sessions that shards are to be spread over: those alive,
// one for each identity. Of two replicas that share one by mistake, the one that
// came first counts, by the store's clock: everybody sees the same.
func (w *witness) candidates(v view, now time.Time) []member {
	byIdentity := map[string]member{}
	for session, m := range v.members {
		if m.sealed() || m.leaving() || w.expired(session, now) {
			continue
		}
		id := value(m.Spec.HolderIdentity)
		if first, ok := byIdentity[id]; !ok || older(m, first) {
			byIdentity[id] = m
		}
	}
	all := make([]member, 0, len(byIdentity))
	for _, m := range byIdentity {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.session, b.session) })
	return all
}

func older(a, b member) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.session, b.session)) < 0
}

// wanted returns the shards that are to be the session's, given all candidates.
func wanted(session string, candidates []member, shards int) []bool {
	hashes := make([]uint64, len(candidates))
	mine := -1
	for i, m := range candidates {
		hashes[i] = hash64(value(m.Spec.HolderIdentity))
		if m.session == session {
			mine = i
		}
	}
	want := make([]bool, shards)
	for shard := range want {
		want[shard] = mine >= 0 && place(shard, hashes) == mine
	}
	return want
}

// unreferenced returns the sealed Leases whose sessions own nothing: nobody needs
// them any more.
func (v view) unreferenced() []*Lease {
	var gone []*Lease
	for session, m := range v.members {
		if _, owns := v.table.sessions[session]; m.sealed() && !owns {
			gone = append(gone, m.Lease)
		}
	}
	return gone
}

// claim returns the owners as the session would have them: it takes those shards
// that it wants and that are free or whose owner is dead, and gives back those
// that it does not want and no longer works on.
func (v view) claim(session string, want, idle []bool, dead func(session string) bool) (owners []string, changed bool) {
	owners = slices.Clone(v.table.owners)
	for shard, owner := range owners {
		switch {
		case owner == session && !want[shard] && idle[shard]:
			owners[shard] = ""
		case owner != session && want[shard] && (owner == "" || dead(owner)):
			owners[shard] = session
		}
	}
	return owners, !slices.Equal(owners, v.table.owners)
}

// seal is what the end of a session makes of its Lease, by whomever.
func seal(l *Lease) {
	free(l)
	setFence(l, 0)
}
