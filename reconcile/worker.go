// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// ErrStopped is the cause of the end of a reconcile's context when the manager
// stops and its grace period is over.
var ErrStopped = errors.New("reconcile: the manager has stopped")

// ErrStuck is the error of [Manager.Run] when it gave up waiting for a reconcile
// that goes on after the end of its context. What that does with [Manager.Store]
// from then on fails.
var ErrStuck = errors.New("reconcile: goes on after the end of its context")

// work runs the controller until ctx ends, and returns when its workers have.
// When ctx ends, reconciles in progress have the manager's grace period to
// finish before their own contexts end.
func (c *Controller[K]) work(ctx context.Context, own Ownership) error {
	if err := c.sources(ctx); err != nil {
		return nil // ctx has ended
	}
	stopGain := own.OnGain(c.gained) // before begin takes stock: a standby has forgotten most
	defer stopGain()
	if err := c.begin(ctx); err != nil {
		return nil
	}

	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(ErrStopped)
	w := &workers[K]{c: c, own: own, take: ctx, base: base}
	for range c.opts.Workers {
		w.start()
	}
	ended := make(chan struct{})
	go func() { // ends with the last worker: see ErrStuck for when that is not
		w.group.Wait()
		close(ended)
	}()
	<-ctx.Done()
	c.setBlocked(errors.New("the manager stops, or this replica no longer leads"))
	if within(ended, c.m.opts.GracePeriod) {
		return nil
	}
	cancel(ErrStopped)
	if within(ended, c.opts.Patience) {
		return nil
	}
	return fmt.Errorf("controller %s: %s: %w", c.name, c.abandon(), ErrStuck)
}

// within reports whether the channel is closed before d is over.
func within(ended <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// begin waits for the controllers that this one depends on, then runs
// Options.Start until it succeeds.
func (c *Controller[K]) begin(ctx context.Context) error {
	for _, other := range c.opts.After {
		c.setBlocked(fmt.Errorf("waiting for controller %s to settle", other.Name()))
		select {
		case <-other.Settled():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := c.started(ctx); err != nil {
		return err
	}
	found := map[K]bool{}
	for s := range c.queue.All() {
		found[s.Key] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = nil
	if c.found == nil { // the first time
		c.found = found
		c.settleIfEmpty()
	}
	return nil
}

// started runs Options.Start until it succeeds or ctx ends.
func (c *Controller[K]) started(ctx context.Context) error {
	if c.opts.Start == nil {
		return nil
	}
	wait := Backoff{Initial: time.Second, Max: time.Minute}
	for failures := 1; ; failures++ {
		c.setBlocked(errors.New("Options.Start has not returned"))
		err := c.guard(func() error { return c.opts.Start(ctx) })
		if err == nil {
			return nil
		}
		c.setBlocked(fmt.Errorf("Options.Start failed: %w", err))
		c.report("Options.Start failed and will be tried again", err)
		select {
		case <-time.After(wait.after(failures)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// guard calls f with its panic as an error.
func (c *Controller[K]) guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: string(debug.Stack())}
		}
	}()
	return f()
}

// PanicError is the failure of a function that panicked.
type PanicError struct {
	Value any
	Stack string
}

// Error returns "panic: " and the value.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// keyString is the key as logs, Explain and shards know it.
func keyString[K comparable](key K) string {
	if s, ok := any(key).(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprint(key)
}

// workers are the goroutines of one controller.
type workers[K comparable] struct {
	c     *Controller[K]
	own   Ownership
	take  context.Context // until when keys are taken from the queue
	base  context.Context // until when they are worked on
	group sync.WaitGroup
}

func (w *workers[K]) start() { w.group.Go(w.run) }

func (w *workers[K]) run() {
	dog := w.watchdog()
	var replaced, returned bool
	defer func() {
		if !returned && !replaced { // the function ended the goroutine: runtime.Goexit
			w.start()
		}
	}()
	for !replaced {
		item, err := w.c.queue.Get(w.take)
		if err != nil {
			break
		}
		w.process(dog, item, &replaced)
	}
	returned = true
}

// process works on one key, and says whether another worker has taken this one's
// place meanwhile. What follows the call is deferred, for the function may end
// the goroutine.
func (w *workers[K]) process(dog *watchdog, item Item[K], replaced *bool) {
	c := w.c
	name := keyString(item.Key)
	right, ok := w.own.Begin(w.base, name)
	if !ok { // another replica's
		c.drop(item.Key)
		return
	}
	defer right.End()

	a := &activity{
		release: right.End,
		in:      c.m,
		base:    c.m.base,
		cache:   c.m.cache,
		fence:   right.Fence,
		running: Running{Controller: c.name, Key: name, Causes: item.Causes, Attempts: item.Attempts},
		needs:   c.needs(),
		begun:   time.Now(),
	}
	c.enter(item.Key, a)
	ctx, cancel := c.deadline(context.WithValue(right.Context, activityKey{}, a))
	dog.watch(a.running)

	result := Retry(errNoReturn)
	defer func() {
		took := time.Since(a.begun)
		lost := right.Context.Err() != nil && w.base.Err() == nil
		*replaced = dog.leave()
		cancel()
		wrote, blind := a.end()
		r := Reconciled{Running: a.running, Err: result.err, Waited: item.Waited, Duration: took, Wrote: wrote}
		run := c.note(item.Key, r, blind)
		r.Outcome = c.finish(item, result, lost)
		c.leave(item.Key, a, run, r.Outcome)
		c.tell(r, run.loop)
	}()
	result = c.call(ctx, item.Key)
}

// errNoReturn is the failure of a function that ended its goroutine.
var errNoReturn = errors.New("reconcile: the function called runtime.Goexit, as testing.T's FailNow does: return a Result")

// deadline gives the context the controller's timeout.
func (c *Controller[K]) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.opts.Timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, c.opts.Timeout, c.tooLong)
}

// call calls the function; a panic is a failure.
func (c *Controller[K]) call(ctx context.Context, key K) (result Result) {
	err := c.guard(func() error {
		result = c.f(ctx, key).checked()
		return nil
	})
	if err != nil {
		return Retry(err)
	}
	return result
}

// finish hands the key back to the queue as the result says.
func (c *Controller[K]) finish(item Item[K], result Result, lost bool) Outcome {
	key, priority := item.Key, item.Priority
	if lost && result.err != nil { // whoever has the key now works on it
		c.drop(key)
		return OutcomeLost
	}
	switch result.verdict {
	case isDone:
		c.queue.Done(key)
		return OutcomeDone
	case isAgain:
		c.queue.Again(key, result.after)
		return OutcomeAgain
	case isPark:
		c.queue.Park(key, result.err)
		return OutcomeParked
	}
	if errors.Is(result.err, store.ErrConflict) {
		c.queue.AddRateLimited(key, AddOptions{Priority: priority, Cause: Cause{Reason: "conflict"}})
		c.queue.Done(key)
		return OutcomeConflict
	}
	if errors.Is(result.err, store.ErrTooOld) {
		c.mu.Lock()
		c.lasting[key] = true
		c.mu.Unlock()
	}
	switch parked := c.queue.Retry(key, result.err); {
	case parked:
		return OutcomeParked
	case isPanic(result.err):
		return OutcomePanic
	}
	return OutcomeRetry
}

// drop ends the work on a key without a result.
func (c *Controller[K]) drop(key K) {
	c.queue.Done(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lasting, key)
	c.settle(key)
}

func isPanic(err error) bool {
	_, ok := errors.AsType[*PanicError](err)
	return ok
}

// tell logs how a reconcile ended and calls the hooks.
func (c *Controller[K]) tell(r Reconciled, loop int) {
	c.log(r)
	h := &c.m.opts.Hooks
	if h.Reconciled != nil {
		h.Reconciled(r)
	}
	if loop == 0 || loop%c.opts.LoopAfter != 0 {
		return
	}
	c.m.log.Warn("a controller keeps itself busy: nothing but its own writes has caused the last reconciles of a key",
		"controller", c.name, "key", r.Key, "runs", loop, "wrote", fmt.Sprint(r.Wrote))
	if h.Loop != nil {
		h.Loop(Loop{Running: r.Running, Runs: loop, Wrote: r.Wrote})
	}
}

func (c *Controller[K]) log(r Reconciled) {
	level := slog.LevelDebug
	switch r.Outcome {
	case OutcomeRetry:
		level = slog.LevelWarn
	case OutcomeParked, OutcomePanic:
		level = slog.LevelError
	}
	if !c.m.log.Enabled(context.Background(), level) {
		return
	}
	args := []any{"controller", c.name, "key", r.Key, "outcome", string(r.Outcome), "took", r.Duration}
	if r.Err != nil {
		args = append(args, "error", r.Err, "attempts", r.Attempts+1)
	}
	if p, ok := errors.AsType[*PanicError](r.Err); ok {
		args = append(args, "stack", p.Stack)
	}
	c.m.log.Log(context.Background(), level, "reconciled", args...)
}
