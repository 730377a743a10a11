// SPDX-License-Identifier: Apache-2.0

// Package feed hands container events to any number of readers. A reader that
// is slow costs itself, never the publisher: when it has fallen too far behind
// its sequence ends with runtime.ErrLagged.
package feed

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/slipway-dev/slipway/runtime"
)

// Limit is how many events a reader may be behind.
const Limit = 1 << 18

// Feed is ready to use as its zero value.
type Feed struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

type subscription struct {
	mu    sync.Mutex
	queue []runtime.ContainerEvent
	end   error         // set once; yielded after the queue is empty, nil ends silently
	ended bool          // no more events will be queued
	wake  chan struct{} // holds one token when queue or ended changed
}

// Publish hands an event to all readers and never blocks.
func (f *Feed) Publish(e runtime.ContainerEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		if !s.push(e) {
			delete(f.subs, s)
		}
	}
}

// Close ends all sequences with err, after what was published before.
func (f *Feed) Close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		s.finish(err)
	}
	f.subs = nil
}

// Subscribe returns the events from now on, until ctx ends.
func (f *Feed) Subscribe(ctx context.Context) iter.Seq2[runtime.ContainerEvent, error] {
	s := &subscription{wake: make(chan struct{}, 1)}
	f.mu.Lock()
	if f.subs == nil {
		f.subs = map[*subscription]struct{}{}
	}
	f.subs[s] = struct{}{}
	f.mu.Unlock()
	leave := func() {
		f.mu.Lock()
		delete(f.subs, s)
		f.mu.Unlock()
	}
	// Frees the queue also when the sequence is never read.
	unwatch := context.AfterFunc(ctx, leave)
	return func(yield func(runtime.ContainerEvent, error) bool) {
		defer leave()
		defer unwatch()
		for {
			events, ended, err := s.take()
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
			if ended && len(events) == 0 {
				if err != nil {
					yield(runtime.ContainerEvent{}, err)
				}
				return
			}
			if len(events) > 0 {
				continue
			}
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s *subscription) push(e runtime.ContainerEvent) (ok bool) {
	s.mu.Lock()
	full := len(s.queue) >= Limit
	if !full {
		s.queue = append(s.queue, e)
	}
	s.mu.Unlock()
	if full {
		s.finish(fmt.Errorf("%w by %d events: list again, then subscribe again", runtime.ErrLagged, Limit))
		return false
	}
	s.signal()
	return true
}

func (s *subscription) finish(err error) {
	s.mu.Lock()
	s.ended, s.end = true, err
	s.mu.Unlock()
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) take() (events []runtime.ContainerEvent, ended bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, s.queue = s.queue, nil
	return events, s.ended, s.end
}
