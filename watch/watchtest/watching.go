// SPDX-License-Identifier: Apache-2.0

package watchtest

import (
	"context"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// watching is one watch of a source with faults.
type watching[T store.Copier[T]] struct {
	*Source[T]
	ctx   context.Context
	yield func(store.Event[T], error) bool
	held  *store.Event[T] // comes after the next
}

// choice is what is to happen to an event.
type choice struct {
	disconnect, quietly, compact, duplicate, reorder, garbage, drop bool
	delay                                                           time.Duration
	sort                                                            int // of garbage
}

func (s *Source[T]) choose() choice {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.faults
	c := choice{
		disconnect: s.hits(f.Disconnect), compact: s.hits(f.Compact), duplicate: s.hits(f.Duplicate),
		reorder: s.hits(f.Reorder), garbage: s.hits(f.Garbage), drop: s.hits(f.Drop),
		quietly: s.random.IntN(2) == 0, sort: s.random.IntN(garbageSorts),
	}
	if s.hits(f.Delay) {
		limit := f.MaxDelay
		if limit <= 0 {
			limit = time.Second
		}
		c.delay = time.Duration(s.random.Int64N(int64(limit))) + 1
	}
	return c
}

// event passes on an event, or what becomes of it. It reports whether the watch
// goes on.
func (w *watching[T]) event(ev store.Event[T]) bool {
	c := w.choose()
	if c.delay > 0 && !w.sleep(c.delay) {
		return false
	}
	switch {
	case c.disconnect && c.quietly:
		return false
	case c.disconnect:
		w.yield(store.Event[T]{}, ErrInjected)
		return false
	case c.compact:
		w.yield(store.Event[T]{}, store.ErrTooOld)
		return false
	case c.drop:
		return true
	case c.garbage:
		ev = garbage(ev, c.sort)
	case c.reorder && w.held == nil:
		w.held = &ev
		return true
	}
	if !w.yield(ev, nil) || c.duplicate && !w.yield(ev, nil) {
		return false
	}
	if w.held != nil {
		held := *w.held
		w.held = nil
		return w.yield(held, nil)
	}
	return true
}

// sleep reports false if the watch was ended meanwhile.
func (w *watching[T]) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.ctx.Done():
		w.yield(store.Event[T]{}, context.Cause(w.ctx))
		return false
	}
}

const garbageSorts = 5

// garbage returns an event that no source may deliver.
func garbage[T store.Copier[T]](ev store.Event[T], sort int) store.Event[T] {
	var none T
	switch sort {
	case 0:
		ev.Object = none
	case 1:
		ev.Type = 99
	case 2:
		ev.Revision = 1
	case 3:
		ev.Revision = 0
	default:
		if ev.Type == store.Bookmark || ev.Type == store.Synced {
			ev.Revision = 0
			break
		}
		ev.Object = ev.Object.DeepCopy()
		ev.Object.SetResourceVersion("garbage")
	}
	return ev
}
