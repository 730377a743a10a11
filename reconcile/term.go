// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// errNotLeading is what blocks the controllers of a replica that does not lead.
var errNotLeading = errors.New("another replica leads")

// errNotRunning is what blocks a controller whose manager does not run.
var errNotRunning = errors.New("the manager does not run")

// term is a time in which controllers work: that of the manager, or of one lead.
type term struct {
	m     *Manager
	ctx   context.Context // when it ends, the controllers stop
	own   Ownership
	group sync.WaitGroup
	mu    sync.Mutex
	errs  []error
}

// start works on a controller until the term ends.
func (t *term) start(c controller) {
	t.group.Go(func() {
		if err := c.work(t.ctx, t.own); err != nil {
			t.mu.Lock()
			t.errs = append(t.errs, err)
			t.mu.Unlock()
		}
	})
}

// wait waits for the controllers, once the term has ended.
func (t *term) wait() error {
	t.group.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.errs...)
}

// managerRun is a manager that runs.
type managerRun struct {
	m       *Manager
	elector *Elector
	sharder *Sharder
	ctx     context.Context
	always  *term // for the controllers that need not lead
	lead    *term // for the others; nil while this replica does not lead. m.mu
}

// prepare checks the options and marks the manager as running.
func (m *Manager) prepare() (*managerRun, error) {
	r := &managerRun{m: m}
	var err error
	switch {
	case m.opts.Election != nil && m.opts.Sharding != nil:
		return nil, errors.New("both Election and Sharding are set: shards need no leader")
	case m.opts.Election != nil:
		r.elector, err = NewElector(m.base, *m.opts.Election)
	case m.opts.Sharding != nil:
		r.sharder, err = NewSharder(m.base, *m.opts.Sharding)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != idle {
		return nil, errors.New("the manager has run already: make a new one")
	}
	m.state = runs
	return r, nil
}

func (r *managerRun) run(ctx context.Context) error {
	m := r.m
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	r.ctx = ctx
	r.always = &term{m: m, ctx: ctx, own: everyKey{}}

	// What controllers stand on ends after them, so not with ctx.
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	var below sync.WaitGroup
	var cacheErr, leadErr error
	below.Go(func() { cacheErr = m.cache.Run(base) })

	m.mu.Lock()
	m.begin = r.begin
	for _, c := range m.controllers {
		r.begin(c)
	}
	m.mu.Unlock()

	var right sync.WaitGroup
	claim, stopClaim := context.WithCancel(base)
	defer stopClaim()
	switch {
	case r.elector != nil:
		right.Go(func() { r.standBy(ctx) })
		right.Go(func() {
			defer giveUp() // where it ends by itself, this replica will never work again
			leadErr = r.campaign(claim, stopClaim)
		})
	case r.sharder != nil:
		right.Go(func() {
			defer giveUp()
			leadErr = r.share(claim)
		})
	default:
		r.work(ctx, everyKey{})
	}
	<-ctx.Done()

	m.mu.Lock()
	m.begin, m.state = nil, ended
	if r.lead == nil { // nothing to finish before the claim is given up
		stopClaim()
	}
	m.mu.Unlock()
	err := r.always.wait()
	if r.elector == nil {
		err = errors.Join(err, r.endWork())
	}
	if r.sharder != nil {
		stopClaim()
	}
	right.Wait()
	m.mu.Lock()
	controllers := slices.Clone(m.controllers)
	m.mu.Unlock()
	for _, c := range controllers {
		c.detach()
		c.setBlocked(errNotRunning)
	}
	stopBase()
	below.Wait()
	return errors.Join(err, leadErr, cacheErr)
}

// standbyMemory is for how long, or twice that, a replica that does not lead
// remembers what has changed.
const standbyMemory = 10 * time.Minute

// standBy bounds the memory of a replica that does not lead. Its queues would keep
// every key that ever changed, also of what is gone long since: the term begins
// with all that there is anyway. What has changed lately it keeps, because the
// leader may have died before it saw to a deletion.
func (r *managerRun) standBy(ctx context.Context) {
	ticker := time.NewTicker(standbyMemory)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.m.mu.Lock()
		for _, c := range r.m.controllers {
			if r.lead == nil && !c.everyReplica() {
				c.forget(standbyMemory)
			}
		}
		r.m.mu.Unlock()
	}
}

// begin starts a controller in the term that it belongs to. The caller holds
// m.mu.
func (r *managerRun) begin(c controller) {
	switch {
	case c.everyReplica():
		r.always.start(c)
	case r.lead != nil:
		r.lead.start(c)
	default:
		c.setBlocked(errNotLeading)
	}
}

// work starts the controllers that need the right to work.
func (r *managerRun) work(ctx context.Context, own Ownership) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.lead = &term{m: r.m, ctx: ctx, own: own}
	for _, c := range r.m.controllers {
		if !c.everyReplica() {
			r.lead.start(c)
		}
	}
}

// endWork waits for the controllers that work was called for, whose context has
// ended.
func (r *managerRun) endWork() error {
	r.m.mu.Lock()
	lead := r.lead
	r.lead = nil // none is added from here on
	r.m.mu.Unlock()
	if lead == nil {
		return nil
	}
	return lead.wait()
}

// campaign works whenever this replica leads, until the manager stops.
func (r *managerRun) campaign(claim context.Context, stop func()) error {
	name := r.m.opts.Election.Name
	var stuck error
	err := r.elector.Run(claim, func(leads context.Context, t Term) error {
		ctx, cancel := context.WithCancel(leads)
		defer cancel()
		defer context.AfterFunc(r.ctx, cancel)()
		r.m.leading(name, true)
		defer r.m.leading(name, false)
		r.work(ctx, t.Ownership())
		<-ctx.Done()
		stuck = r.endWork() // those of an earlier lead have ended, or are abandoned
		r.m.mu.Lock()
		for _, c := range r.m.controllers {
			if !c.everyReplica() {
				c.setBlocked(errNotLeading)
			}
		}
		r.m.mu.Unlock()
		if r.ctx.Err() != nil { // the manager stops: do not campaign again
			stop()
		}
		return nil
	})
	return errors.Join(err, stuck)
}

// share works on this replica's share of the keys, until the claim ends.
func (r *managerRun) share(claim context.Context) error {
	name := r.m.opts.Sharding.Name
	r.work(r.ctx, r.sharder)
	r.m.leading(name, true)
	defer r.m.leading(name, false)
	return r.sharder.Run(claim)
}

func (m *Manager) leading(name string, leads bool) {
	m.log.Info("leadership", "name", name, "leads", leads)
	if f := m.opts.Hooks.Leading; f != nil {
		f(name, leads)
	}
}

// everyKey is the ownership of a replica that is alone.
type everyKey struct{}

func (everyKey) Begin(ctx context.Context, _ string) (Run, bool) {
	return Run{Context: ctx, End: func() {}}, true
}

func (everyKey) OnGain(func(func(string) bool)) (stop func()) { return func() {} }
