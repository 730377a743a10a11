// SPDX-License-Identifier: Apache-2.0

// Package store keeps Go objects with versions, and tells you what changes: a
// database in the form that Kubernetes gave to its API, as a library.
//
//	type Pod struct {
//		store.Meta `json:"metadata"`
//		Spec       struct{ Node string } `json:"spec"`
//	}
//
//	func (p *Pod) DeepCopy() *Pod { return store.DeepCopy(p) }
//
//	func main() {
//		st := memory.New(memory.Options{})
//		defer st.Close()
//		pods, err := store.Register(st, store.Kind[*Pod]{Name: "Pod"})
//		…
//		pod, err := pods.Create(ctx, &Pod{Meta: store.Meta{Namespace: "default", Name: "web"}})
//		pod, err = pods.Patch(ctx, store.KeyOf(pod), func(p *Pod) error { p.Spec.Node = "node-1"; return nil })
//		for ev, err := range pods.Watch(ctx, store.WatchOptions{Initial: true}) { … }
//	}
//
// # Concepts
//
// An object is a pointer to a struct with the usual metadata: [Object] says
// which. Kubernetes' own types are objects as they are ([InferAccessors]); a
// type of one's own embeds [Meta].
//
// A [Kind] describes the objects of one sort: its name, whether they live in
// namespaces, the indexes, and hooks that default and validate. Registering it
// in a [Store] returns a [Handle], which reads, writes and watches with that
// type and no other.
//
// The store has a revision, a number that grows with each committed
// transaction. An object's resource version is the revision that last changed
// it. Write with the version that was read, and the write fails with
// [ErrConflict] if somebody else was faster; or use [Handle.Patch], which
// tries again.
//
// A transaction ([Transactor]) changes any number of objects of any kinds and
// takes one revision. A [Snapshot] reads all kinds at one revision. History is
// kept within a window: a read can ask for an exact past revision, and a watch
// can begin there.
//
// An engine is where a store keeps its objects. Package memory has the default
// one, package memdb a plain one on go-memdb; a program is the same on either,
// but for the line that opens it. Engines keep one contract, which stands at
// [Store] and which package storetest tests; what only some of them can do is
// an interface of its own.
//
// # Ordering and concurrency
//
// Everything in this package is safe for concurrent use but a transaction,
// which belongs to its function. Writes and reads of the latest state are
// strictly serialisable: what was acknowledged is seen by every read that
// begins later.
//
// A watch delivers every change once, in the order of revisions, a transaction
// as a whole. It runs in the goroutine that ranges over it and starts no other.
// A consumer that is slow costs nobody but himself: once what he has not seen
// leaves the history window his watch ends with [ErrTooOld], and he begins anew
// with WatchOptions.Initial. Two watchers see the same order; neither is ahead
// of what a read would find.
//
// # Errors
//
// Every error matches one of the sentinels in this package by [errors.Is], or
// is the context's cause, or what a function of the caller's returned. Most are
// an [*Error], which names the operation, the kind and the key.
//
// # Memory
//
// What is read is shared by all readers and must not be changed: copy first, or
// patch. What is written is copied, unless WriteOptions.TakeOver hands it over.
// In tests a detector finds callers who change what is shared, and panics; the
// engines' options switch it on and off.
//
// Objects, past versions inside the history window, and snapshots that are
// referred to take memory; watchers do not, but for about a kilobyte each.
package store
