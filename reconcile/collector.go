// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// CollectorOptions configure a [Collector]. The zero value works.
type CollectorOptions struct {
	// Ignore names kinds whose objects neither own nor are owned, and change often,
	// such as events: they are not watched. Whatever calls one of them its owner
	// stays, and one that is deleted in the foreground, or as an orphan maker, is
	// not let go. nil ignores none.
	Ignore func(store.KindName) bool
	// Workers is how many writes are under way at once. 0 means 4.
	Workers int
	// Interval is how often the collector looks for kinds that were registered,
	// tries again what failed, and hears from watches that are quiet. 0 means a
	// second.
	Interval time.Duration
	// Logger gets what is deleted (debug), references to owners that are not where
	// they say (warn), and what fails (error); nil discards it.
	Logger *slog.Logger
}

// Collector is the garbage collector for owner references: it deletes objects
// whose owners have gone. It keeps the rules of Kubernetes' collector
// (https://kubernetes.io/docs/concepts/architecture/garbage-collection/):
//
//   - Background, the default: an object is deleted once none of its owners is
//     there any more. While one is, references to those that are not are
//     removed.
//   - Foreground ([DeleteForeground]): the owner stays, marked, until all its
//     dependents have been deleted, or released where they have another owner, and
//     those that block it (blockOwnerDeletion) have gone, dependents of their own
//     first. Objects that wait for each other in a circle go all the same.
//   - Orphan ([DeleteOrphan]): the owner stays, marked, until no dependent refers
//     to it any more; these live on. Where the store is a [store.Transactor] that
//     holds for dependents that are made meanwhile, too: the last step reads the
//     owner's namespace (for an owner without one, everything) in one transaction.
//
// It is careful where Kubernetes' is not. It never deletes because of what it
// can't know: an owner of a kind that is not registered holds what it owns,
// until the kind is back. And it never deletes because of a mistake in a
// reference: an owner that is there, but under another kind, name or namespace
// than the reference says, holds what it owns, too, and is reported. That no
// owner of a UID is there is believed only after every kind's watch has got
// past the moment of asking.
//
// Each delete demands the UID and the version that were decided about. The
// collector keeps about 400 B for each object (BenchmarkCollector), and nothing that
// a restart would lose: stopped at any moment, another goes on to the same end. Two at once do
// no harm. Kinds without UIDs are left alone.
//
// It reads the store's watches directly: what an informer keeps to survive a gap,
// the graph of owners has to have anyway.
type Collector struct {
	st   store.Store
	opts CollectorOptions
}

// NewCollector returns a collector for all kinds of the store. It starts nothing.
func NewCollector(st store.Store, opts CollectorOptions) *Collector {
	opts.Workers = cmp.Or(max(opts.Workers, 0), 4)
	opts.Interval = cmp.Or(max(opts.Interval, 0), time.Second)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Collector{st, opts}
}

// Run collects until the context ends, and then returns nil, once every goroutine
// that it started has ended. It returns [store.ErrClosed] if the store is closed
// before that. What fails otherwise is tried again.
func (c *Collector) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &collection{
		Collector: c, graph: newGraph(), feeds: map[store.KindName]*gcFeed{}, fail: cancel,
		queue: newGCQueue(), changed: make(chan struct{}),
	}
	var all sync.WaitGroup
	all.Go(func() { r.tick(ctx, &all) })
	all.Go(func() { r.verify(ctx) })
	for range c.opts.Workers {
		all.Go(func() { r.work(ctx) })
	}
	all.Wait()
	if err := context.Cause(ctx); errors.Is(err, store.ErrClosed) {
		return err
	}
	return nil
}

// collection is one run of a collector.
type collection struct {
	*Collector
	fail  context.CancelCauseFunc
	queue *gcQueue

	mu      sync.Mutex
	graph   *gcGraph
	feeds   map[store.KindName]*gcFeed
	changed chan struct{} // closed and replaced when a feed gets on, or the graph has news
}

// update changes the graph, hands what is to be looked at to the workers, and
// wakes those who wait for a change.
func (r *collection) update(f func(g *gcGraph)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.graph)
	r.queue.add(r.graph.take()...)
	close(r.changed)
	r.changed = make(chan struct{})
}

// tick starts a feed for each kind, and puts back what is to be tried again.
func (r *collection) tick(ctx context.Context, all *sync.WaitGroup) {
	ticker := time.NewTicker(r.opts.Interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		r.startFeeds(ctx, all)
		r.queue.addDue(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (r *collection) startFeeds(ctx context.Context, all *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.st.Kinds() {
		if !r.collects(s) || r.feeds[s.KindName] != nil { // a feed of the schema before is about to end
			continue
		}
		f := &gcFeed{run: r, schema: s}
		r.feeds[s.KindName] = f
		all.Go(func() { f.follow(ctx) })
	}
}

// work carries out decisions until the context ends.
func (r *collection) work(ctx context.Context) {
	for {
		uid, ok := r.queue.next(ctx)
		if !ok {
			return
		}
		a := r.decide(uid)
		if a.verb != gcNothing && a.needsAll && !r.locked(r.knowsAll) {
			r.queue.postpone(uid, time.Now(), r.opts.Interval)
			continue
		}
		err := r.carryOut(ctx, a)
		if err == nil || ctx.Err() != nil {
			r.queue.done(uid)
			continue
		}
		r.opts.Logger.Error("garbage collection failed; it is tried again", "kind", a.object.kind.String(), "key", a.object.key.String(), "error", err)
		r.queue.retry(uid, time.Now(), r.opts.Interval)
	}
}

func (r *collection) decide(uid string) gcAction {
	r.mu.Lock()
	a := r.graph.decide(uid)
	r.mu.Unlock()
	for _, o := range a.misplaced {
		r.opts.Logger.Warn("an owner reference is wrong: its owner is not of that kind and name in that namespace; the object is kept",
			"kind", a.object.kind.String(), "key", a.object.key.String(), "owner kind", o.kind.String(), "owner", o.name, "owner UID", o.uid)
	}
	return a
}

// locked asks under the mutex.
func (r *collection) locked(ask func() bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ask()
}

// knowsAll reports whether the graph has the objects of every kind: before that
// nothing is done because an object has no dependents. It is asked under the
// mutex.
func (r *collection) knowsAll() bool {
	for _, s := range r.st.Kinds() {
		if f := r.feeds[s.KindName]; r.collects(s) && (f == nil || !f.synced) {
			return false
		}
	}
	return true
}

// collects reports whether the collector looks after the kind.
func (c *Collector) collects(s *store.Schema) bool {
	return s.Accessors.UID != nil && (c.opts.Ignore == nil || !c.opts.Ignore(s.KindName))
}

// verify has the graph catch up with the store, now and then, when there are
// objects about which nothing can be said before.
func (r *collection) verify(ctx context.Context) {
	ticker := time.NewTicker(r.opts.Interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		r.mu.Lock()
		unsure := r.graph.unsure()
		r.mu.Unlock()
		if len(unsure) > 0 && r.catchUp(ctx) {
			r.update(func(g *gcGraph) { g.settle(unsure) })
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// catchUp waits until the graph holds what the store held when it was called. It
// returns false where that can't be said: ask again later.
func (r *collection) catchUp(ctx context.Context) bool {
	if !r.wait(ctx, r.knowsAll) {
		return false
	}
	r.mu.Lock()
	feeds := make([]*gcFeed, 0, len(r.feeds))
	for _, f := range r.feeds {
		feeds = append(feeds, f)
	}
	r.mu.Unlock()
	for _, f := range feeds {
		want, err := r.revisionOf(ctx, f.schema)
		if errors.Is(err, store.ErrUnknownKind) {
			continue // its feed is about to end
		}
		if err != nil || !r.wait(ctx, func() bool { return f.ended || f.synced && f.revision >= want }) {
			return false
		}
	}
	return true
}

// revisionOf returns the present revision of the kind's objects.
func (r *collection) revisionOf(ctx context.Context, s *store.Schema) (uint64, error) {
	if _, joint := r.st.(store.Snapshotter); joint {
		return r.st.Revision(ctx)
	}
	meta, err := r.st.List(ctx, s, store.ListOptions{Limit: 1}, func(store.Object) bool { return false })
	return meta.Revision, err
}

// wait waits until the condition holds, which is asked under the mutex.
func (r *collection) wait(ctx context.Context, holds func() bool) bool {
	for {
		r.mu.Lock()
		ok, changed := holds(), r.changed
		r.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
