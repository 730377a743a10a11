// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

// Options configure a controller. The zero value works.
type Options[K comparable] struct {
	// Workers is how many keys are worked on at once; 0 means 1. One key is never
	// worked on twice at once, whatever their number.
	Workers int
	// Timeout is how long one reconcile may take: then its context ends. 0 means 1
	// minute; negative, as long as it likes.
	Timeout time.Duration
	// Patience is how long a reconcile may go on after Timeout before it is reported,
	// with its stack, and another worker takes its worker's place. 0 means 10 seconds.
	Patience time.Duration
	// Backoff is the wait after failures.
	Backoff Backoff
	// MaxAttempts parks a key that has failed so often in a row, until something
	// that it depends on changes or [Controller.Add] is called for it. A conflict
	// counts, but parks no key. 0 means never.
	MaxAttempts int
	// Tenant tells on whose behalf a key is worked on: tenants with keys that are
	// ready take turns. nil means that all keys are of one.
	Tenant func(K) string
	// Resync is how often every trigger shows every object again, with low
	// priority; 0 means never.
	Resync time.Duration
	// Start runs before the first reconcile, when the controller's sources have been
	// read and this replica may work (again each time that it becomes the leader).
	// Where it fails it is tried again with back-off. It has no deadline, and must
	// return when its context ends: the manager waits for it.
	Start func(context.Context) error
	// After names controllers of the same manager that must have worked on
	// everything that they found before this one begins, for the first time. With
	// Sharding that is what was theirs by then.
	After []Waiter
	// EveryReplica runs the controller on every replica, whoever leads.
	EveryReplica bool
	// LoopAfter is how many reconciles of a key in a row, caused by nothing but the
	// controller's own writes, are reported as a loop; 0 means 10, negative never.
	LoopAfter int
	// Remember is for how many keys [Controller.Explain] knows the last reconcile;
	// 0 means 1,024.
	Remember int
}

func (o Options[K]) withDefaults() Options[K] {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	set(&o.Timeout, time.Minute)
	set(&o.Patience, 10*time.Second)
	if o.LoopAfter == 0 {
		o.LoopAfter = 10
	}
	if o.Remember == 0 {
		o.Remember = 1024
	}
	return o
}

func (o *Options[K]) check() error {
	switch {
	case o.Workers < 0:
		return fmt.Errorf("%d workers: want 1 or more, or 0 for 1", o.Workers)
	case o.Patience < 0:
		return fmt.Errorf("patience %v: want a positive duration, or 0 for 10 s", o.Patience)
	case o.MaxAttempts < 0:
		return fmt.Errorf("at most %d attempts: want 1 or more, or 0 for any number", o.MaxAttempts)
	case o.Resync < 0:
		return fmt.Errorf("resync every %v: want a positive duration, or 0 for never", o.Resync)
	case o.Remember < 0:
		return fmt.Errorf("remember %d keys: want 1 or more, or 0 for 1,024", o.Remember)
	case slices.Contains(o.After, nil):
		return errors.New("a nil controller in After")
	}
	return new(o.Backoff).complete()
}

// Controller calls a function for each key that may need it: see [New].
type Controller[K comparable] struct {
	m     *Manager
	name  string
	f     func(context.Context, K) Result
	opts  Options[K]
	queue *Queue[K]

	tooLong error         // the cause of the end of a context after Options.Timeout
	settled chan struct{} // closed once everything found at the start has been worked on

	mu       sync.Mutex
	triggers []*attached[K]
	blocked  error // what the controller waits for before it works; nil when it works
	written  watch.Versions
	own      ownWrites[K]
	lasting  map[K]bool // the keys whose last run the history window overtook
	last     lastRuns[K]
	running  map[K]*activity
	found    map[K]bool // what was found at the start and has not been worked on; nil before
}

// New adds a controller to a manager: f is called for each key that one of the
// triggers adds, and again as its [Result] says, in one of Options.Workers
// goroutines and never for one key twice at once. It may be called while the
// manager runs.
//
// In f, the handles of [Manager.Store] read one state of all kinds, which is no
// older than the change that caused the call nor than anything that the
// controller wrote before; after a write in f, they read a state that has it. A
// panic in f is a failure like any other. f must return soon after its context
// has ended.
func New[K comparable](m *Manager, name string, f func(context.Context, K) Result, opts Options[K], triggers ...Trigger[K]) (*Controller[K], error) {
	fail := func(err error) (*Controller[K], error) {
		return nil, fmt.Errorf("reconcile: new controller %q: %w", name, err)
	}
	if name == "" {
		return fail(errors.New("the name is empty"))
	}
	if f == nil {
		return fail(errors.New("the function is nil"))
	}
	if err := opts.check(); err != nil {
		return fail(err)
	}
	opts = opts.withDefaults()
	c := &Controller[K]{
		m: m, name: name, f: f, opts: opts,
		tooLong: fmt.Errorf("reconcile: controller %s: longer than %v: %w", name, opts.Timeout, context.DeadlineExceeded),
		settled: make(chan struct{}),
		blocked: errNotRunning,
		written: watch.Versions{},
		own:     newOwnWrites[K](),
		lasting: map[K]bool{},
		last:    newLastRuns[K](opts.Remember),
		running: map[K]*activity{},
	}
	c.queue = NewQueue(c.queueOptions())
	for _, t := range triggers {
		if _, err := c.AddTrigger(t); err != nil {
			c.detach()
			return fail(err)
		}
	}
	if err := m.add(c); err != nil {
		c.detach()
		return fail(err)
	}
	return c, nil
}

// Name returns the controller's name.
func (c *Controller[K]) Name() string { return c.name }

// Add adds a key to the queue, to be worked on now; a parked key too.
func (c *Controller[K]) Add(key K) {
	c.queue.Add(key, AddOptions{Priority: PriorityHigh, Cause: Cause{Reason: "asked"}})
}

// AddTrigger adds a trigger, also while the controller runs, and returns the
// function that removes it again and waits for what it is doing: its mapping
// function must not call that. Removing twice does no harm. Once the manager has
// stopped, a trigger adds nothing.
func (c *Controller[K]) AddTrigger(t Trigger[K]) (remove func(), err error) {
	if t.attach == nil {
		return nil, errors.New("the trigger is the zero value: make one with For, Owns, Watches or From")
	}
	a, err := t.attach(c)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.triggers = append(c.triggers, a)
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		c.triggers = slices.DeleteFunc(c.triggers, func(x *attached[K]) bool { return x == a })
		c.mu.Unlock()
		a.remove()
	}, nil
}

// detach removes every trigger.
func (c *Controller[K]) detach() {
	c.mu.Lock()
	triggers := c.triggers
	c.triggers = nil
	c.mu.Unlock()
	for _, a := range triggers {
		a.remove()
	}
}

// gained adds the keys that have come to this replica.
func (c *Controller[K]) gained(mine func(string) bool) {
	c.again("gained", func(key K) bool { return mine(keyString(key)) })
}

// forget drops the keys that have waited for longer than that. It is called while
// nothing works on the queue, and nothing can begin to.
func (c *Controller[K]) forget(age time.Duration) {
	var young []Item[K]
	for range c.queue.Len() {
		item, err := c.queue.Get(context.Background()) // there is one, so this does not wait
		if err != nil {
			break
		}
		c.queue.Done(item.Key)
		if item.Waited < age {
			young = append(young, item)
		}
	}
	for _, item := range young {
		for _, cause := range item.Causes {
			c.queue.Add(item.Key, AddOptions{Priority: item.Priority, Cause: cause})
		}
		c.queue.Add(item.Key, AddOptions{Priority: item.Priority})
	}
}

// resync adds every key that the triggers know.
func (c *Controller[K]) resync() { c.again("resync", func(K) bool { return true }) }

func (c *Controller[K]) again(reason string, want func(K) bool) {
	c.mu.Lock()
	triggers := slices.Clone(c.triggers)
	c.mu.Unlock()
	for _, t := range triggers {
		t.again(reason, want)
	}
}

func (c *Controller[K]) everyReplica() bool { return c.opts.EveryReplica }

// Settled returns a channel that is closed once the controller has worked on
// everything that its triggers found at the start.
func (c *Controller[K]) Settled() <-chan struct{} { return c.settled }

// setBlocked says what the controller waits for; nil says that it works.
func (c *Controller[K]) setBlocked(why error) {
	c.mu.Lock()
	c.blocked = why
	c.mu.Unlock()
}

// ready reports why the controller does not work; nil while it does and its
// sources are well. A standby may wait to lead, for nothing else.
func (c *Controller[K]) ready(standby bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var problems []error
	if c.blocked != nil && !(standby && errors.Is(c.blocked, errNotLeading)) {
		problems = append(problems, c.blocked)
	}
	for _, t := range c.triggers {
		if err := t.err(); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", t.name, err))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("controller %s: %w", c.name, errors.Join(problems...))
}

func (c *Controller[K]) stats() Stats {
	n := c.queue.Counts()
	return Stats{Controller: c.name, Ready: n.Ready, Waiting: n.Waiting, Running: n.Running, Parked: n.Parked, Blocked: c.ready(false)}
}

// sources waits until each trigger has added what was there.
func (c *Controller[K]) sources(ctx context.Context) error {
	for {
		c.mu.Lock()
		i := slices.IndexFunc(c.triggers, func(t *attached[K]) bool {
			select {
			case <-t.synced:
				return false
			default:
				return true
			}
		})
		var t *attached[K]
		if i >= 0 {
			t = c.triggers[i]
			c.blocked = fmt.Errorf("waiting for the source of the trigger %q to be read", t.name)
		}
		c.mu.Unlock()
		if t == nil {
			return nil
		}
		select {
		case <-t.synced:
		case <-t.done:
			if c.has(t) { // its informer has ended, and the trigger is still wanted
				<-ctx.Done()
				return context.Cause(ctx)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// has reports whether the trigger has not been removed.
func (c *Controller[K]) has(t *attached[K]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.triggers, t)
}

// report logs an error that no caller can be told.
func (c *Controller[K]) report(msg string, err error, args ...any) {
	c.m.log.Error(msg, append([]any{"controller", c.name, "error", err}, args...)...)
}

func (c *Controller[K]) queueOptions() QueueOptions[K] {
	return QueueOptions[K]{Backoff: c.opts.Backoff, MaxAttempts: c.opts.MaxAttempts, Tenant: c.opts.Tenant, Echo: c.isEcho}
}

// needs returns how new a cache must be for what this controller has written.
func (c *Controller[K]) needs() watch.Versions {
	if _, joint := c.m.base.(store.Snapshotter); joint {
		return nil // every read sees every write there
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(watch.Versions, len(c.written))
	maps.Copy(out, c.written)
	return out
}
