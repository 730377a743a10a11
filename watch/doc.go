// SPDX-License-Identifier: Apache-2.0

// Package watch keeps up with the objects of a store: informers with handlers and
// indexed caches, shared by all who need them, and collections derived from them.
//
//	cache := watch.NewCache(st, watch.CacheOptions{})
//	pods := watch.For(cache, podHandle) // the informer of a kind, one for everyone
//	go cache.Run(ctx)                   // until ctx ends
//
//	reg := pods.Handle(watch.Handler[*Pod]{
//		Add:    func(p *Pod, initial bool) { … },
//		Update: func(old, new *Pod) { … },
//		Delete: func(last *Pod) { … },
//	})
//	<-reg.Synced()                      // the handler has had all that there were
//
//	err := pods.WaitFor(ctx, revision)  // of a write of one's own
//	for p, err := range pods.List(store.ListOptions{Fields: byNode.Is("node-1")}) { … }
//
// # Concepts
//
// A [Source] can be listed at a revision and watched from there. A *store.Handle
// is one as it is, whatever engine is behind it.
//
// An [Informer] keeps up with a source: it lists, watches, resumes after a failure,
// and lists anew where it can't resume; then what differs arrives as changes like
// any other. It has a cache to read ([Informer.Get], [Informer.List]) and any
// number of handlers. [New] makes one with selectors, a transform or indexes of
// its own; a [Cache] shares one for each kind.
//
// [Informer.WaitFor] waits until reads see a revision: call it with the revision of
// one's own write, and a stale read can't happen. [Cache.View] reads several kinds
// at one moment.
//
// [Filter], [Map] and [Join] make a [Collection] of sources: kept up to date, and a
// source again.
//
// # Ordering and concurrency
//
// Everything here is safe for concurrent use. Run owns all goroutines and returns
// after the last: one for each informer, and one for each handler while it has
// something to do; an idle handler has none.
//
// A transaction of the source enters a cache as a whole; no read sees a part of
// it. A handler is told of a change no sooner than reads see it. Its functions are
// called one at a time, the changes of each object in order, and those of different
// objects, too, while it keeps up. All handlers read one journal at their own pace:
// one that is slow delays neither the informer nor another handler. Once it is more
// than 1,024 changes behind, what it has not had yet may be coalesced: many changes
// of an object become one, from the state that the handler knows to the latest. An
// object that was replaced by another of its name is deleted and added even then.
//
// What one handler sees, in order, always makes a state that the source was in, or
// is on the way to: an object is added before it is updated, each update begins
// with what came before, and what is deleted was there.
//
// # Errors
//
// A source that fails does not end an informer: it goes on trying, after a pause
// that doubles from 100 ms to 30 s and is spread at random ([Backoff]). Meanwhile
// reads answer from what was there, [Informer.Err] says what is wrong, and
// [Informer.Staleness] grows. A source that breaks its contract is refused with
// [ErrBadSource] and listed anew.
//
// A handler that panics is reported and goes on with the next change: see
// [Handler].
//
// # Memory
//
// Objects are shared with the source and must not be changed. Of a store in this
// process an informer keeps 11 to 15 bytes for each object, a table of pointers;
// reads go to the store and its indexes. Of any other source it keeps a cache:
// 30 to 40 bytes for each object with two indexes, besides the object
// (BenchmarkInformerSync). The journal holds the changes that some handler has not
// had; for one that is stuck, at most 1,024 or four for each object, whichever is
// more. A view costs what changes after it was taken, in pages of 64 objects.
//
// # Testing
//
// Time is the time package's, so that all of this runs in a bubble of
// testing/synctest: write, call synctest.Wait, and every handler has been told.
// Package watchtest has a source that fails as asked.
package watch
