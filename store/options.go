// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// ReadOptions say which state a read sees. The zero value reads the latest.
type ReadOptions struct {
	// AtLeast demands a state of this revision or later; 0 demands none. Every
	// read of an engine in this process sees the latest state, so there it only
	// refuses a revision from the future ([ErrFuture]); an engine with a cache
	// waits for it.
	AtLeast uint64
	// Exact reads the state as of this revision; 0 reads the latest. A revision
	// that has left the history window is [ErrTooOld].
	Exact uint64
}

// ListOptions say what a list returns. The zero value lists every object of the
// kind at the latest revision, by namespace and name.
type ListOptions struct {
	ReadOptions
	Namespace string        // "": all namespaces
	Labels    Selector      // zero: any labels
	Fields    FieldSelector // zero: any fields
	// Limit bounds the number of objects in a page; 0 means no bound.
	Limit int
	// Continue is the token of the page before, with the same options otherwise;
	// the page comes from the same revision as the first. "" begins.
	Continue string
}

// Page is part of a list.
type Page[T any] struct {
	Items []T
	ListMeta
}

// ListMeta says where a list comes from and how it goes on.
type ListMeta struct {
	// Revision is that of the state listed: watch from here to miss nothing.
	Revision uint64
	// Continue asks for the next page; "" says that this was the last.
	Continue string
	// Remaining is the number of objects after this page, where the engine knows
	// it without a scan (no selectors), else -1.
	Remaining int
}

// WriteOptions refine a write. The zero value is a plain write.
type WriteOptions struct {
	// TakeOver hands the object to the store instead of having it copied: it is
	// stamped in place and shared from then on, so the caller must not change it
	// again, even if the write fails. It saves the copy.
	TakeOver bool
	// ResourceVersion demands that the object is at this version, else
	// [ErrConflict]; "" demands none. Update demands the version in the object it
	// is given, if there is one, besides.
	ResourceVersion string
	// UID demands that the object is of this UID, else [ErrConflict]; "" demands
	// none. Update demands the UID in the object it is given, if there is one,
	// besides.
	UID string
	// Lease attaches the object to a lease: when the lease ends, the object is
	// deleted. 0 leaves the attachment as it is.
	Lease LeaseID
	// Fence demands that this lease is still held when the write commits, else
	// [ErrLeaseLost]: what a deposed leader writes fails. 0 demands none.
	Fence LeaseID
}

// WatchOptions say which events a watch delivers. The zero value delivers every
// event of the kind from now on.
type WatchOptions struct {
	Namespace string        // "": all namespaces
	Name      string        // "": all names
	Labels    Selector      // zero: any labels
	Fields    FieldSelector // zero: any fields
	// From delivers the events after this revision, which must be inside the
	// history window ([ErrTooOld]) and reached ([ErrFuture]). 0 delivers the
	// events after the present, whatever it is when the iteration begins.
	From uint64
	// Initial delivers the present state first: an Added event for each object,
	// then Synced with the revision of that state, then what comes after. With
	// From, the state is of that revision or later.
	Initial bool
	// Bookmarks is how often a quiet watch reports progress with a Bookmark
	// event; 0 means never.
	Bookmarks time.Duration
}

// LeaseID names a lease. 0 is none.
type LeaseID uint64

// Lease is a promise that ends unless it is kept alive: see [Leaser].
type Lease struct {
	ID  LeaseID
	TTL time.Duration
}
