// SPDX-License-Identifier: Apache-2.0

package reconcile

// An entry is all that a queue knows of a key. Entries are many, so they are
// small: what only some have is behind a pointer.
type entry[K comparable] struct {
	key      K
	tenant   *tenant[K]
	detail   *detail // nil: no causes, no error
	since    int64   // when it became what it is: ready, waiting, running, parked or idle
	hash     uint32
	slot     int32  // in deadlines, while pending is delayed
	attempts uint32 // failures since the last success
	pending  pending
	priority Priority // of what is pending, or of the run
	flags    flags

	// In readyList, while it is ready.
	older, newer   *entry[K] // among all
	before, behind *entry[K] // among those of its tenant and priority
}

// pending says when the next run is to be, if one is.
type pending uint8

const (
	nothing pending = iota
	delayed         // at its deadline
	due             // now, or when the run in progress ends
)

// flags say more of an entry.
type flags uint8

const (
	running    flags = 1 << iota // a worker has it
	parked                       // nothing is pending, and it is not running
	failed                       // its failure has been counted: of this run, or of what is pending
	news                         // what is pending was added without KeepBackoff
	backingOff                   // it waits for its backoff
	retried                      // what is pending comes from Retry
	repeated                     // what is pending comes from Again
)

func (e *entry[K]) is(f flags) bool { return e.flags&f != 0 }

func (e *entry[K]) set(f flags, on bool) {
	e.flags &^= f
	if on {
		e.flags |= f
	}
}
