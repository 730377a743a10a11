// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"io"
	"iter"
	"time"
)

// Store is the contract that every engine keeps, over objects of any type.
// Programs use it through typed handles ([Register]); the methods that take a
// [*Schema] are for engines, and for programs that learn their kinds at run
// time.
//
// # Terms
//
// A store has a revision, which grows with each committed transaction. An
// object's resource version is the revision that last changed it. Revisions
// compare within a kind; over all kinds they compare where the store is a
// [Snapshotter]. A kind is known to the store from Register to Unregister; its
// objects stay in the store without it, out of reach until it is registered
// again.
//
// # What every engine promises
//
//   - A write is acknowledged once it is committed (and durable, on a durable
//     engine); a read of the latest that begins after that sees it. Writes and
//     reads of the latest are strictly serialisable.
//   - A list is of one revision; so are the pages of one list.
//   - A write that would change nothing keeps the version and wakes no one. Nil
//     and empty slices and maps are the same, unless the kind compares otherwise.
//   - A watch is ordered by revision, unique, reliable (nothing is skipped),
//     atomic (a transaction is never split), resumable from any revision inside
//     the history window and says [ErrTooOld] outside of it, and bookmarked. A
//     slow watcher never slows a writer: it falls out of the window and is told.
//   - What is written is copied, unless it is taken over; what is read is shared
//     and must not be changed.
//   - A write whose answer was lost is [ErrUnknownOutcome].
//   - After Close every call returns [ErrClosed], and watches end with it.
//
// # What only some engines can do
//
// [Transactor], [Snapshotter], [Leaser] and [Compactor] are interfaces of their
// own. Reads at an exact past revision and fences are options, which an engine
// that can't honour them refuses with [ErrUnsupported].
type Store interface {
	// Register makes a kind known. A kind of that name, whatever its schema, is
	// ErrKindExists. Objects of that kind that the store holds already are
	// indexed, and converted where they are of another Go type.
	Register(*Schema) error
	// Unregister forgets a kind. Its objects stay; its watches end with
	// ErrUnknownKind.
	Unregister(*Schema) error
	// Kind returns the registered kind of that name, or nil.
	Kind(KindName) *Schema
	// Kinds returns the registered kinds, by name.
	Kinds() []*Schema
	// Revision returns the latest revision.
	Revision(context.Context) (uint64, error)
	// Get returns one object.
	Get(context.Context, *Schema, Key, ReadOptions) (Object, error)
	// List calls yield with each object until it returns false.
	List(ctx context.Context, s *Schema, opts ListOptions, yield func(Object) bool) (ListMeta, error)
	// Watch delivers events until the consumer stops, the context ends, or it
	// can't go on; then its last pair carries the reason.
	Watch(context.Context, *Schema, WatchOptions) iter.Seq2[Event[Object], error]
	// Write carries out one write and returns the object as of its revision: for
	// Delete, the marked object, or the removed one's last state (whose resource
	// version is empty where the engine can't learn the revision of a removal).
	Write(context.Context, *Schema, Write) (Object, error)
	// Close ends watches and releases what the store holds, once every goroutine
	// that it owns has ended. A second Close does nothing.
	Close() error
}

// Op is the kind of a [Write].
type Op uint8

// The operations of a write.
const (
	Create Op = iota + 1
	Update
	Patch
	Delete
)

// String returns the operation in lower case, as errors name it.
func (o Op) String() string {
	switch o {
	case Create:
		return "create"
	case Update:
		return "update"
	case Patch:
		return "patch"
	case Delete:
		return "delete"
	}
	return "unknown operation"
}

// Write is one write. Which fields count depends on Op.
type Write struct {
	Op      Op
	Object  Object             // Create, Update
	Key     Key                // Patch, Delete
	Patch   func(Object) error // Patch: changes a copy of the present object; may run again
	Options WriteOptions
}

// Reader is what transactions and snapshots have in common: reads of one state.
type Reader interface {
	Get(*Schema, Key) (Object, error)
	// List ignores ReadOptions: the reader has its revision.
	List(s *Schema, opts ListOptions, yield func(Object) bool) (ListMeta, error)
}

// Tx is a transaction in progress. It is used by the function that received it,
// until that returns, in one goroutine.
type Tx interface {
	Reader
	// Write records a write; reads of this transaction see it. The object
	// returned gets its resource version at the commit. A write that fails leaves
	// the transaction as it was.
	Write(*Schema, Write) (Object, error)
	// Fence demands that the lease is still held at the commit.
	Fence(LeaseID)
}

// Transactor is a store with transactions over any objects of any kinds.
type Transactor interface {
	Store
	// Txn calls f with a transaction that reads one state of the store, and
	// commits what f wrote, all of it at one revision, if f returns nil and
	// nothing that f read or listed has changed meanwhile. Otherwise f runs
	// again on a newer state: it must have no side effects. Where f returns an
	// error, nothing is written and Txn returns it. Txn returns the revision of
	// the commit, or of the state read where f changed nothing.
	//
	// An engine whose transactions have a limit fails what is beyond it with
	// ErrTooLarge. One that can't see that a list has changed fails the list with
	// ErrUnsupported; one that sees it only roughly runs f more often than needed.
	Txn(ctx context.Context, f func(Tx) error) (uint64, error)
}

// Snapshot is the state of every kind at one revision. It stays readable, and
// keeps its objects in memory, as long as it is referred to.
type Snapshot interface {
	Reader
	Revision() uint64
}

// Snapshotter is a store with joint snapshots over all kinds.
type Snapshotter interface {
	Store
	Snapshot(context.Context, ReadOptions) (Snapshot, error)
}

// Leaser is a store with leases. A lease that is not kept alive ends after its
// time to live; the objects attached to it are then deleted, all at one
// revision (those with finalizers are marked).
type Leaser interface {
	Store
	// Grant makes a lease. The time to live must be positive; an engine may make it
	// longer, to a whole number of seconds, say: the lease returned has what was
	// granted. A lease may end late, and never ends early by the engine's clock.
	Grant(ctx context.Context, ttl time.Duration) (Lease, error)
	// KeepAlive starts the lease's time to live anew; ErrLeaseLost if it ended.
	KeepAlive(context.Context, LeaseID) error
	// Revoke ends a lease now; ErrLeaseLost if it ended already.
	Revoke(context.Context, LeaseID) error
}

// Engine is a store that can do everything, as those that keep their objects in
// this process can.
type Engine interface {
	Transactor
	Snapshotter
	Leaser
	Compactor
	// Dump writes what the store holds as text for a person: the revision, the
	// window, and for each kind its size, its watchers and its keys with their
	// versions.
	Dump(io.Writer) error
}

// Compactor is a store whose history the caller can bound.
type Compactor interface {
	Store
	// Compact forgets the history before the revision: reads and watches from
	// before it are ErrTooOld from then on. Compacting what is forgotten already
	// does nothing; a revision from the future is ErrFuture.
	Compact(ctx context.Context, revision uint64) error
	// Window returns the oldest and the latest revision that can be read.
	Window(context.Context) (oldest, latest uint64, err error)
}
