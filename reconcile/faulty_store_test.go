// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// link is one replica's way to the store, which can be cut, be slow, lose answers
// and stand still. It is a store with leases; hide them with withoutLeases.
type link struct {
	store.Engine

	mu     sync.Mutex
	random *rand.Rand
	mode   linkMode
	turned chan struct{} // closed when the mode changes: calls that hang fail then
	paused chan struct{} // closed when the pause ends; nil: no pause
	lossy  float64       // how often the answer to a call that took place is lost
	slow   time.Duration // how long a call takes at most, each way
	skew   time.Duration // how far the replica's wall clock is off

	ttl time.Duration // the least time to live of a lease: an engine may make it longer

	// delay says of a write that it fails now, and arrives that much later; nil: none does.
	delay func(w store.Write) time.Duration

	refused int // calls that came late, and demanded a lease that had ended

	late sync.WaitGroup // calls that are still under way while nobody waits for them
}

type linkMode int

const (
	linkUp   linkMode = iota
	linkDown          // calls fail
	linkHung          // calls stand until their context ends
	linkLate          // calls arrive, after up to a minute, while the caller has given up
	linkDead          // the process was killed: nothing leaves it any more
)

var errLink = errors.New("connection refused")

func newLink(st store.Engine, seed uint64) *link {
	return &link{Engine: st, random: rand.New(rand.NewPCG(seed, seed)), turned: make(chan struct{})}
}

func (l *link) turn(mode linkMode) {
	l.set(func() {
		l.mode = mode
		close(l.turned)
		l.turned = make(chan struct{})
	})
}

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// pause stops the replica, until resume; it does nothing to one that stands.
func (l *link) pause() {
	l.set(func() {
		if l.paused == nil {
			l.paused = make(chan struct{})
		}
	})
}

func (l *link) resume() {
	l.set(func() {
		if l.paused != nil {
			close(l.paused)
			l.paused = nil
		}
	})
}

// mend ends everything that is wrong, but for the clock.
func (l *link) mend() {
	l.turn(linkUp)
	l.set(func() { l.lossy, l.slow = 0, 0 })
	l.resume()
}

// gate returns once the replica is not paused. A paused process does not notice
// that a context has ended.
func (l *link) gate() {
	for {
		l.mu.Lock()
		paused := l.paused
		l.mu.Unlock()
		if paused == nil {
			return
		}
		<-paused
	}
}

func (l *link) chance(p float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random.Float64() < p
}

func (l *link) upTo(d time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d <= 0 {
		return 0
	}
	return time.Duration(l.random.Int64N(int64(d)))
}

// call carries out one call of the replica's, with whatever is wrong.
func call[T any](l *link, ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	var zero T
	l.gate()
	defer l.gate()
	l.mu.Lock()
	mode, turned, slow, lossy := l.mode, l.turned, l.slow, l.lossy
	l.mu.Unlock()
	switch mode {
	case linkDown, linkDead:
		return zero, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, errLink)
	case linkHung:
		return zero, hang(ctx, turned)
	case linkLate:
		l.late.Go(func() {
			time.Sleep(l.upTo(time.Minute))
			if _, err := f(context.WithoutCancel(ctx)); errors.Is(err, store.ErrLeaseLost) {
				l.set(func() { l.refused++ })
			}
		})
		return zero, hang(ctx, turned)
	}
	if err := wait(ctx, l.upTo(slow)); err != nil {
		return zero, err
	}
	result, err := f(ctx)
	if waited := wait(ctx, l.upTo(slow)); waited != nil {
		return zero, waited
	}
	if l.chance(lossy) {
		return zero, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, errLink)
	}
	return result, err
}

func hang(ctx context.Context, turned <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-turned:
		return fmt.Errorf("%w: %w", store.ErrUnknownOutcome, errLink)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (l *link) Get(ctx context.Context, s *store.Schema, k store.Key, o store.ReadOptions) (store.Object, error) {
	return call(l, ctx, func(ctx context.Context) (store.Object, error) { return l.Engine.Get(ctx, s, k, o) })
}

func (l *link) List(ctx context.Context, s *store.Schema, o store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	var objects []store.Object // a list that arrives late must not reach the caller
	meta, err := call(l, ctx, func(ctx context.Context) (store.ListMeta, error) {
		var all []store.Object
		meta, err := l.Engine.List(ctx, s, o, func(x store.Object) bool { all = append(all, x); return true })
		if ctx.Err() == nil {
			l.set(func() { objects = all })
		}
		return meta, err
	})
	if err != nil {
		return meta, err
	}
	for _, x := range objects {
		if !yield(x) {
			break
		}
	}
	return meta, nil
}

func (l *link) Write(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
	if lease, ok := w.Object.(*reconcile.Lease); ok && w.Op != store.Delete {
		w.Object = l.skewed(lease)
	}
	var delay func(store.Write) time.Duration
	l.set(func() { delay = l.delay })
	if delay != nil {
		if d := delay(w); d > 0 {
			l.late.Go(func() {
				time.Sleep(d)
				_, _ = l.Engine.Write(context.WithoutCancel(ctx), s, w)
			})
			return nil, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, errLink)
		}
	}
	return call(l, ctx, func(ctx context.Context) (store.Object, error) { return l.Engine.Write(ctx, s, w) })
}

// skewed is the Lease as a replica writes it whose wall clock is off.
func (l *link) skewed(lease *reconcile.Lease) *reconcile.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.skew == 0 {
		return lease
	}
	lease = lease.DeepCopy()
	for _, t := range []*reconcile.MicroTime{lease.Spec.AcquireTime, lease.Spec.RenewTime} {
		if t != nil {
			t.Time = t.Add(l.skew + time.Duration(l.random.Int64N(1e6))*time.Microsecond)
		}
	}
	return lease
}

func (l *link) Watch(ctx context.Context, s *store.Schema, o store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return func(yield func(store.Event[store.Object], error) bool) {
		for ev, err := range l.Engine.Watch(ctx, s, o) {
			l.gate()
			l.mu.Lock()
			mode := l.mode
			l.mu.Unlock()
			switch mode {
			case linkDown, linkDead:
				yield(store.Event[store.Object]{}, errLink)
				return
			case linkHung, linkLate: // the event is lost on its way, and the stream stands
				for mode == linkHung || mode == linkLate {
					if wait(ctx, time.Second) != nil {
						return
					}
					l.set(func() { mode = l.mode })
				}
			}
			if !yield(ev, err) {
				return
			}
		}
	}
}

func (l *link) Grant(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	return call(l, ctx, func(ctx context.Context) (store.Lease, error) { return l.Engine.Grant(ctx, max(ttl, l.ttl)) })
}

func (l *link) KeepAlive(ctx context.Context, id store.LeaseID) error {
	_, err := call(l, ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.Engine.KeepAlive(ctx, id) })
	return err
}

func (l *link) Revoke(ctx context.Context, id store.LeaseID) error {
	_, err := call(l, ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.Engine.Revoke(ctx, id) })
	return err
}

// plain hides everything but the contract that every store keeps.
type plain struct{ store.Store }
