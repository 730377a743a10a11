// SPDX-License-Identifier: Apache-2.0

package watchtest

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

// ErrInjected is the error of faults that have none of their own.
var ErrInjected = errors.New("watchtest: injected failure")

// Options configure a [Source]. The zero value works and has no faults.
type Options struct {
	Seed   uint64 // of the random faults: the same seed, the same choices
	Faults Faults
}

// Faults are the random faults of a source: each is a probability from 0 to 1.
type Faults struct {
	// List: a list fails.
	List float64
	// Disconnect: before an event, the watch ends, with an error or without; the
	// rest of a transaction is cut off.
	Disconnect float64
	// Compact: before an event, the watch ends with store.ErrTooOld.
	Compact float64
	// Delay: before an event, a pause of up to MaxDelay.
	Delay    float64
	MaxDelay time.Duration // 0: 1 s
	// Duplicate: an event is delivered twice.
	Duplicate float64
	// Reorder: an event is delivered after the next one.
	Reorder float64
	// Garbage: in the place of the event comes one that no source may deliver: with
	// a version that is no number, of a revision long past, without an object, of
	// no known type. The right one never comes.
	Garbage float64
	// Drop: an event is lost. Nobody can know, if nothing else happens to its
	// object: only an informer that lists anew (watch.Options.Relist) is proof
	// against it.
	Drop float64
}

// Source is a source with faults before another one. It is safe for concurrent
// use.
type Source[T store.Copier[T]] struct {
	src watch.Source[T]

	mu      sync.Mutex
	random  *rand.Rand
	faults  Faults
	failure error // of every call, while it is set
	compact bool  // the next watch is too old
	watches map[*context.CancelCauseFunc]struct{}
}

// New returns a source with faults before src.
func New[T store.Copier[T]](src watch.Source[T], opts Options) *Source[T] {
	return &Source[T]{
		src: src, faults: opts.Faults, random: rand.New(rand.NewPCG(opts.Seed, 0)),
		watches: map[*context.CancelCauseFunc]struct{}{},
	}
}

// Schema returns the kind of the source behind this one, if it has one, so that an
// informer finds its indexes.
func (s *Source[T]) Schema() *store.Schema {
	if k, ok := s.src.(interface{ Schema() *store.Schema }); ok {
		return k.Schema()
	}
	return nil
}

// SetFaults changes the random faults.
func (s *Source[T]) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Fail ends all watches with the error, and fails every call with it until Heal.
func (s *Source[T]) Fail(err error) {
	s.mu.Lock()
	s.failure = err
	s.mu.Unlock()
	s.Disconnect(err)
}

// Heal ends all faults: from now on the source is as good as the one behind it.
func (s *Source[T]) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure, s.compact, s.faults = nil, false, Faults{}
}

// Disconnect ends the watches that there are with the error.
func (s *Source[T]) Disconnect(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cancel := range s.watches {
		(*cancel)(err)
	}
}

// Compact ends the watches that there are, and makes the next one too old.
func (s *Source[T]) Compact() {
	s.mu.Lock()
	s.compact = true
	s.mu.Unlock()
	s.Disconnect(ErrInjected)
}

// Watches returns how many watches there are at present.
func (s *Source[T]) Watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watches)
}

// Page implements watch.Source.
func (s *Source[T]) Page(ctx context.Context, opts ...store.ListOptions) (store.Page[T], error) {
	s.mu.Lock()
	err := s.failure
	if err == nil && s.hits(s.faults.List) {
		err = ErrInjected
	}
	s.mu.Unlock()
	if err != nil {
		return store.Page[T]{}, err
	}
	return s.src.Page(ctx, opts...)
}

// Watch implements watch.Source.
func (s *Source[T]) Watch(ctx context.Context, opts ...store.WatchOptions) iter.Seq2[store.Event[T], error] {
	return func(yield func(store.Event[T], error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		if err := s.enter(&cancel); err != nil {
			yield(store.Event[T]{}, err)
			return
		}
		defer s.leave(&cancel)
		w := watching[T]{Source: s, ctx: ctx, yield: yield}
		for ev, err := range s.src.Watch(ctx, opts...) {
			if err != nil {
				yield(store.Event[T]{}, err)
				return
			}
			if !w.event(ev) {
				return
			}
		}
	}
}

func (s *Source[T]) enter(cancel *context.CancelCauseFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	if s.compact {
		s.compact = false
		return store.ErrTooOld
	}
	s.watches[cancel] = struct{}{}
	return nil
}

func (s *Source[T]) leave(cancel *context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watches, cancel)
}

// hits draws a fault of that probability; the mutex is held.
func (s *Source[T]) hits(p float64) bool { return p > 0 && s.random.Float64() < p }
