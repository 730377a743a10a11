// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/slipway-dev/slipway/store"
)

// Collection is a source that is made from others and kept up to date: what
// [Filter], [Map] and [Join] return. It can be listed and watched by any number of
// readers, informers and further collections among them, while its Run runs;
// until it has heard from all its sources, it has its readers wait.
//
// A step of its source (a transaction) is one step of the collection, with the
// same revision; a Join counts its own. It remembers the last 4,096 events for
// watches to resume from.
//
// The functions that make it are called one at a time. They must be pure, as an
// index function must. Where one panics, what it made of the object before stays,
// and Err says so until it succeeds.
type Collection[T store.Object] struct {
	runs   []func(context.Context) error // of the informers of its sources
	errs   []func() error
	schema *store.Schema // nil: of no kind

	synced  chan struct{}
	stopped chan struct{}

	work sync.Mutex // serialises steps; only who holds it writes what follows

	mu       sync.Mutex
	started  bool
	isSynced bool
	contents *contents[T]
	paged    *contents[T] // what the list that is being paged through is of
	failures map[store.Key]error
	log      []store.Event[T] // of the revisions after floor
	dropped  uint64           // events that were in the log before those in it
	floor    uint64
	changed  chan struct{} // closed at the next step
}

// logged is how many events a collection remembers at least.
const logged = 4096

func newCollection[T store.Object](schema *store.Schema) *Collection[T] {
	c := &Collection[T]{
		schema: schema, synced: make(chan struct{}), stopped: make(chan struct{}), changed: make(chan struct{}),
		failures: map[store.Key]error{},
	}
	if schema != nil {
		c.contents = newContents[T](schema.Indexes, schema.Scope == store.Cluster)
	} else {
		c.contents = newContents[T](nil, false)
	}
	return c
}

// feed makes src a source of the collection: an informer of it calls step.
func feed[A, T store.Object](c *Collection[T], src Source[A], step func(changes []change[A], revision uint64)) *Informer[A] {
	i := New(src, Options[A]{})
	i.sink = step
	c.runs = append(c.runs, i.Run)
	c.errs = append(c.errs, i.Err)
	return i
}

// Run keeps the collection up to date until the context ends, and returns nil
// once its goroutines have ended; its readers get [ErrStopped]. A second Run is
// [ErrStarted].
func (c *Collection[T]) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.started {
		c.mu.Unlock()
		return ErrStarted
	}
	c.started = true
	c.mu.Unlock()
	var wg sync.WaitGroup
	for _, run := range c.runs {
		wg.Go(func() { run(ctx) }) // it was not started before: no error
	}
	wg.Wait()
	close(c.stopped)
	return nil
}

// Synced is closed once the collection has heard from all its sources.
func (c *Collection[T]) Synced() <-chan struct{} { return c.synced }

// Err returns why its sources or its functions fail at present, or nil.
func (c *Collection[T]) Err() error {
	var errs []error
	for _, err := range c.errs {
		errs = append(errs, err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]store.Key, 0, len(c.failures))
	for key := range c.failures {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, store.Key.Compare)
	for _, key := range keys {
		errs = append(errs, c.failures[key])
	}
	return errors.Join(errs...)
}

// Schema returns the kind of the collection's objects, if it has one: Filter's is
// that of its source.
func (c *Collection[T]) Schema() *store.Schema { return c.schema }

// result is what a collection is to have for a key.
type result[T store.Object] struct {
	key    store.Key
	object T
	there  bool
}

// step makes the results the collection's, in order, as one step. A revision of 0
// is the next; work is held.
func (c *Collection[T]) step(results []result[T], revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision == 0 {
		revision = c.contents.revision
		if len(results) > 0 || revision == 0 {
			revision++
		}
	}
	before := len(c.log)
	for _, r := range results {
		c.put(r, revision)
	}
	if n := len(c.log); n > before {
		c.log[n-1].Last = true
	}
	// Nobody can resume from before the first step; nor, in order, over a step that
	// does not move on, as when a source lists anew after it lost an event: those who
	// watch are told to list.
	if !c.isSynced || revision <= c.contents.revision && len(c.log) > before {
		c.forget(len(c.log), revision)
	}
	c.contents.revision = max(revision, c.contents.revision)
	if len(c.log) > 2*logged {
		c.trim()
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// put makes one result the collection's.
func (c *Collection[T]) put(r result[T], revision uint64) {
	if !r.there {
		if old, had := c.contents.remove(r.key); had {
			c.log = append(c.log, store.Event[T]{Type: store.Deleted, Object: old, Old: old, Revision: revision})
		}
		return
	}
	old, had := c.contents.get(r.key)
	if had && store.Object(old) == store.Object(r.object) {
		return
	}
	c.contents.put(r.object)
	ev := store.Event[T]{Type: store.Added, Object: r.object, Revision: revision}
	if had {
		ev.Type, ev.Old = store.Modified, old
	}
	c.log = append(c.log, ev)
}

// trim forgets the oldest events, transactions whole.
func (c *Collection[T]) trim() {
	n := len(c.log) - logged
	for !c.log[n-1].Last {
		n++
	}
	c.forget(n, c.log[n-1].Revision)
}

// forget drops the first n events, the last of them of that revision.
func (c *Collection[T]) forget(n int, revision uint64) {
	c.log = append([]store.Event[T](nil), c.log[n:]...) // a copy, which refers to nothing that was dropped
	c.dropped += uint64(n)
	c.floor = max(c.floor, revision)
}

// sync lets the readers in, after the first step.
func (c *Collection[T]) sync() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isSynced {
		c.isSynced = true
		close(c.synced)
	}
}

// made calls a function that makes an object, and returns its result for the key;
// ok is false where it failed, and everything is to stay as it is.
func (c *Collection[T]) made(key store.Key, make func() T) (r result[T], ok bool) {
	err := func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("watch: the function of a collection panicked on %s: %v", key, v)
			}
		}()
		r = result[T]{key: key, object: make()}
		if r.there = !isNil(r.object); !r.there {
			return nil
		}
		if got := store.KeyOf(r.object); got != key {
			return fmt.Errorf("watch: the function of a collection made %s of %s: the key must be the same", got, key)
		}
		return nil
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failures[key] = err
		return r, false
	}
	delete(c.failures, key)
	return r, true
}

// window returns the events after the position, and where the next ones will be.
func (c *Collection[T]) window(from uint64) (events []store.Event[T], lost bool) {
	if from < c.dropped {
		return nil, true
	}
	return c.log[from-c.dropped:], false
}

// after returns the position of the first event after the revision.
func (c *Collection[T]) after(revision uint64) uint64 {
	n, _ := slices.BinarySearchFunc(c.log, revision+1, func(ev store.Event[T], r uint64) int { return cmp.Compare(ev.Revision, r) })
	return c.dropped + uint64(n)
}
