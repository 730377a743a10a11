// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/slipway-dev/slipway/store"
)

// follower keeps an informer up with its source. It belongs to the goroutine of
// Run.
type follower[T store.Object] struct {
	*Informer[T]
	pause    *backoff.ExponentialBackOff
	list     bool             // the next attempt begins with a list
	listedAt time.Time        // when the last list succeeded
	pending  []store.Event[T] // of a transaction that is not complete
	moved    bool             // the present watch has told something new
	changes  []change[T]      // reused
}

// follow lists and watches until the context ends.
func (i *Informer[T]) follow(ctx context.Context) {
	f := &follower[T]{Informer: i, list: true, pause: newPause(i.opts.Backoff)}
	for ctx.Err() == nil {
		err := f.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		f.failed(ctx, err)
	}
}

// newPause returns the pauses between attempts: see Backoff.
func newPause(b Backoff) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(b.Initial),
		backoff.WithMaxInterval(b.Max),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(0),
	)
}

// attempt lists if need be, and watches until that ends. It returns why.
func (f *follower[T]) attempt(ctx context.Context) error {
	if f.list || f.direct != nil { // a store in this process is listed as cheaply as watched
		if err := f.relist(ctx); err != nil {
			return err
		}
		f.list, f.listedAt = false, time.Now()
	}
	return f.watch(ctx)
}

// errRelist ends a watch because it is time to list again.
var errRelist = errors.New("watch: time to list again")

// errStalled ends a watch that says nothing.
var errStalled = errors.New("watch: the source has said nothing for longer than Stalled")

// errEnded stands for a watch that ended without an error.
var errEnded = errors.New("the watch ended")

// failed takes note of why an attempt ended, and waits before the next.
func (f *follower[T]) failed(ctx context.Context, err error) {
	if errors.Is(err, errRelist) {
		f.list = true
		return
	}
	if errors.Is(err, store.ErrTooOld) || errors.Is(err, ErrBadSource) {
		f.list = true
	}
	if f.moved {
		f.moved = false
		f.pause.Reset()
		if errors.Is(err, store.ErrTooOld) { // it fell behind, which is nobody's fault: list at once
			return
		}
	}
	pause := f.pause.NextBackOff()
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	f.opts.Logger.Warn("watch: the source failed", "error", err, "pause", pause)
	if f.opts.Hooks.Failed != nil {
		f.opts.Hooks.Failed(err, pause)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// watch follows the source from the revision that the informer has, until that
// ends.
func (f *follower[T]) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opts := store.WatchOptions{
		From: f.revision, Namespace: f.opts.Namespace, Labels: f.opts.Labels, Fields: f.opts.Fields,
	}
	if f.direct == nil {
		opts.Bookmarks = max(f.opts.Bookmarks, 0)
		defer f.superviseStall(cancel)()
	}
	if f.opts.Relist > 0 {
		timer := time.AfterFunc(time.Until(f.listedAt.Add(f.opts.Relist)), func() { cancel(errRelist) })
		defer timer.Stop()
	}
	f.pending = f.pending[:0]
	for ev, err := range f.src.Watch(ctx, opts) {
		if err == nil && ctx.Err() == nil {
			err = f.event(ev)
		}
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errEnded
}

// superviseStall has the watch cancelled once the source has said nothing for
// too long.
func (f *follower[T]) superviseStall(cancel context.CancelCauseFunc) (stop func()) {
	limit := f.opts.Stalled
	if limit < 0 {
		return func() {}
	}
	began := time.Since(f.base)
	var timer *time.Timer
	armed := make(chan struct{})
	timer = time.AfterFunc(limit, func() {
		<-armed
		heard := max(time.Duration(f.heard.Load()), began)
		if quiet := time.Since(f.base) - heard; quiet < limit {
			timer.Reset(limit - quiet)
			return
		}
		cancel(errStalled)
	})
	close(armed)
	return func() { timer.Stop() }
}

// event takes in one event.
func (f *follower[T]) event(ev store.Event[T]) error {
	if f.direct == nil {
		f.hear()
	}
	switch ev.Type {
	case store.Added, store.Modified, store.Deleted:
	case store.Bookmark, store.Synced:
		return f.bookmark(ev)
	default:
		return f.bad("an event of the unknown type %d", ev.Type)
	}
	if f.direct == nil {
		known, err := f.check(&ev)
		if known || err != nil {
			return err
		}
	}
	if ev.Last && len(f.pending) == 0 {
		single := [1]store.Event[T]{ev}
		return f.commit(single[:])
	}
	f.pending = append(f.pending, ev)
	if !ev.Last {
		return nil
	}
	err := f.commit(f.pending)
	clear(f.pending)
	f.pending = f.pending[:0]
	return err
}

// bookmark takes note that everything up to a revision was delivered.
func (f *follower[T]) bookmark(ev store.Event[T]) error {
	switch {
	case len(f.pending) > 0:
		return f.bad("a bookmark inside the transaction of revision %d", f.pending[0].Revision)
	case ev.Revision < f.revision:
		return f.bad("a bookmark of revision %d after revision %d", ev.Revision, f.revision)
	}
	f.moved = true
	f.read.Lock()
	f.contents.revision = ev.Revision
	f.read.Unlock()
	f.changes = f.changes[:0]
	f.mu.Lock()
	f.publish(ev.Revision)
	f.mu.Unlock()
	f.drain(ev.Revision)
	return nil
}

// bad returns an error that says how the source broke its contract.
func (f *follower[T]) bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadSource, fmt.Sprintf(format, args...))
}
