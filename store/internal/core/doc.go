// SPDX-License-Identifier: Apache-2.0

// Package core is what the engines of the store that keep their objects in this
// process have in common: transactions, hooks, history, watch and leases, over
// a small interface, [Table], that each of them implements.
//
// # Data flow
//
// A write is prepared without any lock: the present object is read, the new one
// is copied, stamped, defaulted and validated. The commit, under one mutex,
// checks that what the write is based on is still so, else the write is
// prepared again; it gives the new entries their revision, puts them into their
// tables, appends one event for each to the logs of their kinds, and publishes
// the new revision with one atomic store. A get takes no lock; a list takes the
// mutex only to have a [View] made of what was written since the last.
//
// # Invariants
//
//   - An [Entry] never changes once it is published, nor does the object in it.
//   - The order in a commit is: table.changed, tables, logs, revision, wake. So a
//     reader that has loaded a revision finds all up to it in the tables and
//     the logs; and an event is delivered only once reads can see its revision.
//   - Nothing that belongs to the caller runs under the mutex but index functions,
//     which were tried on the object before, Kind.Size, and DeepCopy: of an object
//     that was written while its lease ended, and for the mutation detector. While
//     a kind is registered, Convert runs under it, too.
package core
