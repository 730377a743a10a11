// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

// ManagerOptions configure a manager. The zero value works: one replica, which
// works on everything.
type ManagerOptions struct {
	// Election makes the controllers of this replica work only while it is the
	// leader. nil: they always work. At most one of Election and Sharding is set.
	Election *ElectorOptions
	// Sharding divides the keys of all controllers among the live replicas. nil:
	// they are not divided.
	Sharding *SharderOptions
	// GracePeriod is how long reconciles in progress may go on when the manager
	// stops, before their contexts end. 0 means 30 seconds; negative, not at all.
	GracePeriod time.Duration
	// Logger gets what happens: failures as warnings and errors, each reconcile at
	// the debug level. nil discards it.
	Logger *slog.Logger
	// Hooks are called as things happen, for metrics and tests.
	Hooks Hooks
}

// Manager runs controllers over one store: their informers, which they share,
// then the controllers, once what they depend on has been read and this replica
// may work. See [NewManager].
type Manager struct {
	opts  ManagerOptions
	log   *slog.Logger
	base  store.Store // the store itself
	store store.Store // as reconciles see it
	cache *watch.Cache

	mu          sync.Mutex
	controllers []controller
	begin       func(controller) // starts a controller that is added while the manager runs
	state       managerState
}

type managerState int

const (
	idle managerState = iota
	runs
	ended
)

// controller is a [Controller] of any key.
type controller interface {
	Waiter
	work(context.Context, Ownership) error
	everyReplica() bool
	ready(standby bool) error
	healthy() error
	stats() Stats
	resync()
	forget(time.Duration)
	detach()
	setBlocked(error)
}

// Waiter is a [Controller] of any key, as Options.After names it.
type Waiter interface {
	Name() string
	// Settled is closed once everything found at the start has been worked on.
	Settled() <-chan struct{}
}

// NewManager returns a manager for the store, which stays the caller's to close,
// after Run has returned. It starts nothing.
func NewManager(st store.Store, opts ManagerOptions) *Manager {
	if opts.GracePeriod == 0 {
		opts.GracePeriod = 30 * time.Second
	}
	m := &Manager{opts: opts, log: opts.Logger, base: st, cache: watch.NewCache(st, watch.CacheOptions{Logger: opts.Logger})}
	m.store = manage(st, m)
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m
}

// Store returns the store as controllers use it. In a reconcile, with the context
// that the reconcile was given, reads see one state of all kinds, which has all
// that the controller wrote; writes are refused once this replica is no longer
// the one to make them, where the store is a [store.Leaser]. With other contexts
// it is the plain store.
func (m *Manager) Store() store.Store { return m.store }

// Cache returns the informers that the controllers share.
func (m *Manager) Cache() *watch.Cache { return m.cache }

// Ready returns nil if every controller works or, on a replica that does not
// lead, waits for nothing but to lead; otherwise it says which do not and why.
func (m *Manager) Ready() error {
	m.mu.Lock()
	controllers := slices.Clone(m.controllers)
	state := m.state
	m.mu.Unlock()
	if state != runs {
		return errors.New("reconcile: the manager does not run")
	}
	var problems []error
	for _, c := range controllers {
		if err := c.ready(true); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// Healthy returns nil unless a reconcile goes on long after the end of its context
// ([ErrStuck]): only a restart of the process ends it. What waits or fails and may
// mend by itself is not unhealthy, but see [Manager.Ready].
func (m *Manager) Healthy() error {
	m.mu.Lock()
	controllers := slices.Clone(m.controllers)
	m.mu.Unlock()
	var problems []error
	for _, c := range controllers {
		problems = append(problems, c.healthy())
	}
	return errors.Join(problems...)
}

// Controllers returns the names of the controllers, in the order in which they
// were added.
func (m *Manager) Controllers() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, c := range m.controllers {
		names = append(names, c.Name())
	}
	return names
}

func (m *Manager) add(c controller) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.ContainsFunc(m.controllers, func(x controller) bool { return x.Name() == c.Name() }) {
		return errors.New("the manager has a controller of that name")
	}
	if m.state == ended {
		return errors.New("the manager has stopped")
	}
	m.controllers = append(m.controllers, c)
	if m.begin != nil {
		m.begin(c)
	}
	return nil
}

// Run runs the informers and the controllers until ctx ends, then stops taking
// work, waits for the reconciles in progress (see ManagerOptions.GracePeriod),
// gives up the lead, and returns when everything that it started has ended. It
// returns nil then, or an error if it could not begin, or had to give up waiting
// for a reconcile ([ErrStuck]). It stops by itself, with an error, where the
// election or the sharding fails for good: see [Elector.Run] and [Sharder.Run]. A
// manager runs once.
func (m *Manager) Run(ctx context.Context) error {
	r, err := m.prepare()
	if err != nil {
		return fmt.Errorf("reconcile: run: %w", err)
	}
	return r.run(ctx)
}

// Resync shows every object to every trigger again, with low priority.
func (m *Manager) Resync() {
	m.mu.Lock()
	controllers := slices.Clone(m.controllers)
	m.mu.Unlock()
	for _, c := range controllers {
		c.resync()
	}
}
