// SPDX-License-Identifier: Apache-2.0

package core

import "github.com/slipway-dev/slipway/store"

// Entry is one version of one object. It never changes once it is published.
type Entry struct {
	Object   store.Object
	Key      store.Key
	Revision uint64
	Hash     uint32 // for the table's use
	// Gone marks the last version of an object that was removed: its Object is the
	// last state with the revision of the removal. It is in events only, never in
	// a table.
	Gone bool
}

// Table holds the present entries of one kind, by key and by each of the kind's
// indexes. Latest is called by any goroutine at any time; the other methods
// with the commit mutex held.
type Table interface {
	// Current returns the entry of the key, or nil.
	Current(store.Key) *Entry
	// Replace puts next in the place of old: old is nil for an insert, next for a
	// removal. Both have the same key; old is what Current returns.
	Replace(old, next *Entry)
	// View returns the present content as a value that later calls of Replace do
	// not change. It must cost O(1).
	View() View
	// Latest returns the entry of the key, or nil, as of some moment during the
	// call, a Replace in progress included; ok is false where the table can't do
	// that beside a Replace.
	Latest(store.Key) (e *Entry, ok bool)
}

// View is the content of a table at one moment. It is read by any goroutine at
// any time.
type View interface {
	Get(store.Key) *Entry
	Len() int
	// Ascend calls yield with the entries from the key on, in order of keys, of
	// one namespace or, for "", of all, until yield returns false.
	Ascend(namespace string, from store.Key, yield func(*Entry) bool)
	// AscendIndex does so with the entries that have the value in the kind's
	// index number i, of all namespaces.
	AscendIndex(i int, value string, from store.Key, yield func(*Entry) bool)
}
