// SPDX-License-Identifier: Apache-2.0

package store

// EventType says what an [Event] reports.
type EventType uint8

// The types of events.
const (
	// Added: an object came to be, or came to match the watch's selectors.
	Added EventType = iota + 1
	// Modified: an object that matched before and after was changed.
	Modified
	// Deleted: an object went, or no longer matches the watch's selectors.
	Deleted
	// Synced: the initial state has been delivered; Revision is that state's.
	Synced
	// Bookmark: everything up to Revision has been delivered. It carries no
	// object; its revision is a place to resume from.
	Bookmark
)

// String returns the type in Kubernetes' spelling, such as "ADDED".
func (t EventType) String() string {
	switch t {
	case Added:
		return "ADDED"
	case Modified:
		return "MODIFIED"
	case Deleted:
		return "DELETED"
	case Synced:
		return "SYNCED"
	case Bookmark:
		return "BOOKMARK"
	}
	return "UNKNOWN"
}

// Event is a change of one object as a watch reports it. The objects are shared
// and must not be changed.
type Event[T any] struct {
	Type EventType
	// Object is the object after the change. For Deleted it is the last state:
	// of an object that was removed, with the revision of the removal as its
	// resource version; of one that stopped to match, as it last matched.
	Object T
	// Old is the object before the change; nil for Added, except where an object
	// came to match, and nil where a remote engine does not know it.
	Old T
	// Revision is that of the transaction that made the change.
	Revision uint64
	// Last is true on the last event of a transaction that this watch delivers:
	// the boundary at which the events seen make a state of the store, and at
	// which Revision is a place to resume from.
	Last bool
	// More is true where the watch has further events to deliver at once: a
	// consumer that gathers what it writes need not flush yet. An engine that
	// does not know leaves it false.
	More bool
}
