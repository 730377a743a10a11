// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Proxy carries changes from a Tracker to back ends until its context ends: at
// once when it is quiet, in batches when it is not; again, later and later,
// after a failure; and with a comparison of everything now and then.
//
// Start it when the first lists of services and endpoints are in the Tracker, so
// that half-known services are not put into effect.
type Proxy struct {
	Tracker *Tracker

	// Backends get every change, in this order. A conntrack.Cleaner comes after
	// the rules, a healthcheck.Server last.
	Backends []Backend

	// MinInterval is the least time between two syncs. Zero means 100 ms.
	MinInterval time.Duration
	// ResyncInterval is the time between comparisons. Zero means 10 minutes,
	// less than zero never.
	ResyncInterval time.Duration
	// RetryInterval is the time from the first failure to the next try; it
	// doubles with each failure up to a minute. Zero means one second.
	RetryInterval time.Duration

	// Hooks are told what happens.
	Hooks Hooks
}

// Hooks are for metrics, logs and health. They are called from Run's goroutine,
// one at a time; nil ones are skipped.
type Hooks struct {
	// Queued is called when changes have been found and are about to be applied.
	Queued func(changes int)
	// Synced is called after every attempt of a back end.
	Synced func(Sync)
}

// Sync is one attempt of one back end.
type Sync struct {
	Backend  Backend
	Changes  int  // routes; 0 for a retry or a resync
	Resync   bool // everything was compared
	Repaired int  // by a resync; see Backend.Resync
	Duration time.Duration
	// Err is nil if all is in effect. It may consist of *ServiceErrors alone;
	// see OnlyServices.
	Err error
}

// Run works until ctx ends, and returns its cause. What it put into effect stays
// in effect.
func (p *Proxy) Run(ctx context.Context) error {
	if p.Tracker == nil {
		return errors.New("netproxy: Proxy without a Tracker")
	}
	r := &run{Proxy: p, failed: make([]bool, len(p.Backends))}
	resync := newTimer(interval(p.ResyncInterval, 10*time.Minute))
	defer resync.Stop()
	retry := newTimer(-1)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.Tracker.Fresh():
			r.sync(ctx)
		case <-retry.C:
			r.retry(ctx)
		case <-resync.C:
			r.resync(ctx)
			resync.Reset(interval(p.ResyncInterval, 10*time.Minute)) // it fired, so it is not negative
		}
		retry.Stop()
		if wait, ok := r.wait(); ok {
			retry.Reset(wait)
		}
		if !pause(ctx, interval(p.MinInterval, 100*time.Millisecond)) {
			return context.Cause(ctx)
		}
	}
}

// run is the state of one Run.
type run struct {
	*Proxy
	failed   []bool // by back end: its last attempt failed
	failures int    // in a row
}

func (r *run) sync(ctx context.Context) {
	changes := r.Tracker.Changes()
	if len(changes) == 0 {
		return
	}
	if r.Hooks.Queued != nil {
		r.Hooks.Queued(len(changes))
	}
	for i := range r.Backends {
		r.attempt(ctx, i, changes)
	}
	r.count()
}

func (r *run) retry(ctx context.Context) {
	for i, failed := range r.failed {
		if failed {
			r.attempt(ctx, i, nil)
		}
	}
	r.count()
}

func (r *run) attempt(ctx context.Context, i int, changes []Change) {
	start := time.Now()
	err := r.Backends[i].Sync(ctx, changes)
	r.done(i, Sync{Changes: len(changes), Duration: time.Since(start), Err: err})
}

func (r *run) resync(ctx context.Context) {
	for i, b := range r.Backends {
		start := time.Now()
		repaired, err := b.Resync(ctx)
		r.done(i, Sync{Resync: true, Repaired: repaired, Duration: time.Since(start), Err: err})
	}
	r.count()
}

// done notes an attempt. Services that were left out are no reason to try again:
// only a change to them helps.
func (r *run) done(i int, s Sync) {
	s.Backend = r.Backends[i]
	r.failed[i] = s.Err != nil && !OnlyServices(s.Err)
	if r.Hooks.Synced != nil {
		r.Hooks.Synced(s)
	}
}

func (r *run) count() {
	for _, failed := range r.failed {
		if failed {
			r.failures++
			return
		}
	}
	r.failures = 0
}

// wait returns how long to wait before trying again, if there is anything to.
func (r *run) wait() (time.Duration, bool) {
	if r.failures == 0 {
		return 0, false
	}
	return min(interval(r.RetryInterval, time.Second)<<min(r.failures-1, 10), time.Minute), true
}

func interval(d, zero time.Duration) time.Duration {
	if d == 0 {
		return zero
	}
	return d
}

// newTimer returns a timer that does not fire if d is negative.
func newTimer(d time.Duration) *time.Timer {
	t := time.NewTimer(max(d, 0))
	if d < 0 {
		t.Stop()
	}
	return t
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// String says in one line what happened, for logs.
func (s Sync) String() string {
	what := fmt.Sprintf("%d changes", s.Changes)
	if s.Resync {
		what = fmt.Sprintf("resync, %d repaired", s.Repaired)
	}
	if s.Err != nil {
		return fmt.Sprintf("%T: %s in %v: %v", s.Backend, what, s.Duration, s.Err)
	}
	return fmt.Sprintf("%T: %s in %v", s.Backend, what, s.Duration)
}
