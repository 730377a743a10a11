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

	stopped chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context // of Run, while informers can be started
	phase   phase
	typed   map[*store.Schema]shared
	untyped map[*store.Schema]*Informer[store.Object]
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
	reader() (r reader, synced bool)
	end()
}

// NewCache returns a cache of the store's kinds. It starts nothing: Run does.
func NewCache(st store.Store, opts CacheOptions) *Cache {
	return &Cache{
		st: st, opts: opts, stopped: make(chan struct{}),
		typed: map[*store.Schema]shared{}, untyped: map[*store.Schema]*Informer[store.Object]{},
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
	if i, ok := c.typed[h.Schema()].(*Informer[T]); ok {
		return i
	}
	i := New(h, options[T](c.opts))
	c.typed[h.Schema()] = i
	c.start(i)
	return i
}

// UntypedFor returns the cache's informer of a kind that is known at run time
// only. It is another than For's of the same kind.
func UntypedFor(c *Cache, s *store.Schema) *Informer[store.Object] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.untyped[s]; i != nil {
		return i
	}
	i := New(Untyped(c.st, s), options[store.Object](c.opts))
	c.untyped[s] = i
	c.start(i)
	return i
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
	for _, i := range c.typed {
		c.start(i)
	}
	for _, i := range c.untyped {
		c.start(i)
	}
	c.mu.Unlock()

	<-ctx.Done()
	c.mu.Lock()
	c.phase, c.ctx = over, nil
	c.mu.Unlock()
	c.running.Wait()
	close(c.stopped)
	return nil
}

// start runs the informer as far as the cache does; the mutex is held.
func (c *Cache) start(i shared) {
	switch c.phase {
	case running:
		ctx := c.ctx
		c.running.Go(func() { i.Run(ctx) }) // it was not started before: no error
	case over:
		i.end()
	}
}

// WaitForSync returns once every informer that was asked for so far has synced.
// The error is the context's cause, or [ErrStopped].
func (c *Cache) WaitForSync(ctx context.Context) error {
	c.mu.Lock()
	var all []shared
	for _, i := range c.typed {
		all = append(all, i)
	}
	for _, i := range c.untyped {
		all = append(all, i)
	}
	c.mu.Unlock()
	for _, i := range all {
		if err := i.WaitFor(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}
