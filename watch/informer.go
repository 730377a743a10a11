// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/slipway-dev/slipway/store"
)

// Informer keeps up with a source: it lists, watches, and after a failure goes on
// where it was; it tells handlers what changed, and answers reads.
//
// Of a store in this process it keeps only a table of pointers, to tell what
// changed if it ever falls out of the history window; reads go to the store, which
// is never behind what handlers are told. Of every other source, and with a
// Transform, it keeps an indexed cache of its own.
//
// It is safe for concurrent use.
type Informer[T store.Object] struct {
	src    Source[T]
	opts   Options[T]
	uid    func(T) string // nil: nobody knows
	schema *store.Schema  // nil: the source is of no kind
	direct store.Store    // where reads go, nil: to the contents
	// sink is told of every step, in the goroutine of Run and without a lock: the
	// first time with all objects as added; nil: nobody.
	sink func(changes []change[T], revision uint64)

	synced  chan struct{}
	stopped chan struct{}
	base    time.Time    // heard counts from here
	heard   atomic.Int64 // when the source last said anything

	// handlers are the goroutines of handlers, and the timers of resyncs.
	handlers sync.WaitGroup

	// mu is for all below. What the user gave never runs under it.
	mu          sync.Mutex
	started     bool
	isSynced    bool
	ending      bool
	err         error
	revision    uint64 // everything up to it is in contents
	waiters     []waiter
	journal     journal[T]
	present     weak.Pointer[present[T]]
	subscribers map[*subscriber[T]]struct{}
	idle        map[*subscriber[T]]struct{} // those that have had everything

	// read is held, besides mu, by who changes contents, and alone by who reads
	// them.
	read     sync.RWMutex
	contents *contents[T]
}

// New returns an informer of the source. It starts nothing: Run does.
func New[T store.Object](src Source[T], opts Options[T]) *Informer[T] {
	i := &Informer[T]{
		src: src, opts: opts.complete(), uid: opts.UID,
		synced: make(chan struct{}), stopped: make(chan struct{}), base: time.Now(),
		subscribers: map[*subscriber[T]]struct{}{}, idle: map[*subscriber[T]]struct{}{},
	}
	i.schema = schemaOf(src)
	if h, ok := src.(stored); ok && opts.Transform == nil {
		if st, ok := h.Store().(store.Snapshotter); ok {
			i.direct = st
		}
	}
	if i.uid == nil {
		i.uid = uidOf[T](i.schema)
	}
	i.contents = i.newContents()
	return i
}

// uidOf returns how to learn the UID of an object of the kind.
func uidOf[T store.Object](s *store.Schema) func(T) string {
	if s != nil {
		if uid := s.Accessors.UID; uid != nil {
			return func(o T) string { return uid(o) }
		}
		return nil
	}
	return func(o T) string {
		if m, ok := any(o).(interface{ GetUID() string }); ok {
			return m.GetUID()
		}
		return ""
	}
}

// newContents returns the informer's empty contents: a table alone where reads go
// to the store.
func (i *Informer[T]) newContents() *contents[T] {
	switch {
	case i.direct != nil:
		return newContents[T](nil, true)
	case i.schema == nil:
		return newContents[T](i.opts.Indexes, false)
	}
	return newContents[T](slices.Concat(i.schema.Indexes, i.opts.Indexes), i.schema.Scope == store.Cluster)
}

// Run keeps up with the source until the context ends. It returns nil once every
// goroutine of the informer's has ended, handlers included: what they have not
// had by then is dropped. Errors of the source do not end it: see Err. A second
// Run is [ErrStarted].
func (i *Informer[T]) Run(ctx context.Context) error {
	i.mu.Lock()
	if i.started {
		i.mu.Unlock()
		return ErrStarted
	}
	i.started = true
	i.mu.Unlock()
	i.follow(ctx)
	i.end()
	return nil
}

// end has the handlers end, and waits for them. An informer that was never run
// may be ended, too; a second end does nothing.
func (i *Informer[T]) end() {
	i.mu.Lock()
	if i.ending {
		i.mu.Unlock()
		return
	}
	i.started, i.ending = true, true
	for s := range i.subscribers {
		s.ended.Store(true)
		s.stopTimer()
		if !s.busy {
			close(s.reg.done)
		}
	}
	clear(i.subscribers)
	clear(i.idle)
	i.mu.Unlock()
	i.handlers.Wait()
	close(i.stopped)
}

// Synced is closed once the informer has listed the source for the first time:
// from then on reads see all objects. Handlers have a Synced of their own.
func (i *Informer[T]) Synced() <-chan struct{} { return i.synced }

// Stopped is closed when Run returns.
func (i *Informer[T]) Stopped() <-chan struct{} { return i.stopped }

// Err returns why the source fails at present, and nil while it works. The
// informer goes on trying; what it has, it keeps.
func (i *Informer[T]) Err() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}

// Staleness returns how long ago the source last said anything, if only that
// nothing happened. While the source is a store in this process and works, it is
// 0: reads go there. Before the first list it is the time since New.
func (i *Informer[T]) Staleness() time.Duration {
	if i.direct != nil {
		i.mu.Lock()
		works := i.isSynced && i.err == nil
		i.mu.Unlock()
		if works {
			return 0
		}
	}
	return time.Since(i.base) - time.Duration(i.heard.Load())
}

func (i *Informer[T]) hear() { i.heard.Store(int64(time.Since(i.base))) }

// Revision returns the revision that reads see: the source's, as far as the
// informer has got; 0 before it has synced.
func (i *Informer[T]) Revision() uint64 {
	i.mu.Lock()
	synced, revision := i.isSynced, i.revision
	i.mu.Unlock()
	if i.direct != nil && synced {
		if r, err := i.direct.Revision(context.Background()); err == nil {
			return r
		}
	}
	return revision
}
