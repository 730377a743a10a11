// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// Cache is the informers of one store, shared by all who ask for the same kind,
// with one Run for all, and with views of all kinds at one moment.
//
//	cache := watch.NewCache(st, watch.CacheOptions{})
//	pods, nodes := watch.For(cache, podHandle), watch.For(cache, nodeHandle)
//	go cache.Run(ctx)
//
// It is safe for concurrent use.
type Cache struct {
	st   store.Store
	opts CacheOptions

	running sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context // of Run, while informers can be started
	phase   phase
	members map[memberKey]*member
}

// memberKey names an informer of a cache.
type memberKey struct {
	schema  *store.Schema
	untyped bool
}

// member is an informer of a cache.
type member struct {
	shared
	cancel context.CancelFunc // ends its Run; nil: it was not started
}

// phase is how far a cache's Run has got.
type phase int

const (
	fresh phase = iota
	running
	over
)

// CacheOptions configure a [Cache], as [Options] do its informers. The zero value
// works.
type CacheOptions struct {
	PageSize  int
	Bookmarks time.Duration
	Stalled   time.Duration
	Backoff   Backoff
	Logger    *slog.Logger
	Hooks     Hooks
}

// shared is an informer of any type.
type shared interface {
	Run(context.Context) error
	WaitFor(context.Context, uint64) error
	Stopped() <-chan struct{}
	reader() (r reader, synced bool)
	end()
}

// NewCache returns a cache of the store's kinds. It starts nothing: Run does.
func NewCache(st store.Store, opts CacheOptions) *Cache {
	return &Cache{
		st: st, opts: opts, members: map[memberKey]*member{},
	}
}

// For returns the cache's informer of the handle's kind, the same for everyone.
// It is made when it is first asked for, and started with the cache's Run, or at
// once if that runs already. An informer with selectors, a transform or other
// options of its own is made by [New].
func For[T store.Copier[T]](c *Cache, h *store.Handle[T]) *Informer[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.st.Kind(h.Schema().KindName); own != nil && own != h.Schema() || h.Store() != c.st {
		// A handle of a store that wraps the cache's: what counts is the kind.
		if mine, err := store.Lookup[T](c.st, h.Schema().KindName); err == nil {
			h = mine
		}
	}
	return informerOf(c, memberKey{h.Schema(), false}, func() *Informer[T] { return New(h, options[T](c.opts)) })
}

// UntypedFor returns the cache's informer of a kind that is known at run time
// only. It is another than For's of the same kind.
func UntypedFor(c *Cache, s *store.Schema) *Informer[store.Object] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return informerOf(c, memberKey{s, true}, func() *Informer[store.Object] {
		return New(Untyped(c.st, s), options[store.Object](c.opts))
	})
}

// informerOf returns the cache's informer of that key, made and started if it is the
// first time that it is asked for. The mutex is held.
func informerOf[T store.Object](c *Cache, key memberKey, make func() *Informer[T]) *Informer[T] {
	if m := c.members[key]; m != nil {
		return m.shared.(*Informer[T])
	}
	i := make()
	m := &member{shared: i}
	c.members[key] = m
	c.start(m)
	return i
}

// Drop ends the cache's informers of a kind and forgets them, once what they do at
// the moment is over: for a kind that is no longer registered, or needed. Handlers
// get no more calls. Whoever asks for the kind afterwards gets a new informer. It
// must not be called from within a handler of theirs.
func (c *Cache) Drop(s *store.Schema) {
	c.mu.Lock()
	var dropped []*member
	for _, key := range []memberKey{{s, false}, {s, true}} {
		if m := c.members[key]; m != nil {
			dropped = append(dropped, m)
			delete(c.members, key)
		}
	}
	c.mu.Unlock()
	for _, m := range dropped {
		if m.cancel == nil {
			m.end()
			continue
		}
		m.cancel()
		<-m.Stopped()
	}
}

func options[T store.Object](o CacheOptions) Options[T] {
	return Options[T]{
		PageSize: o.PageSize, Bookmarks: o.Bookmarks, Stalled: o.Stalled,
		Backoff: o.Backoff, Logger: o.Logger, Hooks: o.Hooks,
	}
}

// Run runs the informers, those that are asked for later included, until the
// context ends; it returns nil once all of them have ended. A second Run is
// [ErrStarted].
func (c *Cache) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.phase != fresh {
		c.mu.Unlock()
		return ErrStarted
	}
	c.phase, c.ctx = running, ctx
	for _, m := range c.members {
		c.start(m)
	}
	c.mu.Unlock()

	<-ctx.Done()
	c.mu.Lock()
	c.phase, c.ctx = over, nil
	c.mu.Unlock()
	c.running.Wait()
	return nil
}

// start runs the informer if the cache runs; the mutex is held.
func (c *Cache) start(m *member) {
	switch c.phase {
	case running:
		var ctx context.Context
		ctx, m.cancel = context.WithCancel(c.ctx)
		c.running.Go(func() {
			defer m.cancel()
			m.Run(ctx) // it was not started before: no error
		})
	case over:
		m.end()
	}
}

// WaitForSync returns once every informer that was asked for so far has synced.
// The error is the context's cause, or [ErrStopped].
func (c *Cache) WaitForSync(ctx context.Context) error {
	c.mu.Lock()
	var all []shared
	for _, m := range c.members {
		all = append(all, m.shared)
	}
	c.mu.Unlock()
	for _, i := range all {
		if err := i.WaitFor(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}
