// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"
)

// sighting is what an observer last saw of a Lease object, and when. It is how a
// lease is found to have run out without comparing clocks: no renewal was seen
// for as long as the lease lasts.
type sighting struct {
	mark  mark
	since time.Time     // when this mark was first seen: after the renewal it shows
	lasts time.Duration // how long its holder was promised
}

// mark is what changes with each renewal and with each holder. The resource
// version would change with an annotation of somebody else's, too.
type mark struct {
	uid, holder, session string
	acquired, renewed    int64
	transitions          int32
}

func markOf(l *Lease) mark {
	m := mark{uid: l.UID, holder: value(l.Spec.HolderIdentity), session: l.Annotations[sessionAnnotation],
		transitions: value(l.Spec.LeaseTransitions)}
	if t := l.Spec.AcquireTime; t != nil {
		m.acquired = t.UnixMicro()
	}
	if t := l.Spec.RenewTime; t != nil {
		m.renewed = t.UnixMicro()
	}
	return m
}

// see takes in a Lease that was read before now. Own is the duration that the
// observer has, for leases that say less or nothing.
func (s *sighting) see(l *Lease, own time.Duration, now time.Time) (changed bool) {
	m := markOf(l)
	if !s.since.IsZero() && s.mark == m {
		return false
	}
	*s = sighting{m, now, max(own, time.Duration(value(l.Spec.LeaseDurationSeconds))*time.Second)}
	return true
}

// left returns how long it is until the lease has run out; 0 or less: it has.
// What was never seen has nothing left.
func (s *sighting) left(now time.Time) time.Duration { return s.lasts - now.Sub(s.since) }
