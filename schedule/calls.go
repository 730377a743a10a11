// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// calls are the goroutines that run code from elsewhere for the scheduler's loop,
// which waits for each, but not for ever. Go can't end a goroutine from outside: one
// that is given up stays on the list until the code returns.
type calls struct {
	running sync.WaitGroup
	mu      sync.Mutex
	stuck   map[*PluginError]bool
}

// giveUp notes that a call is no longer waited for.
func (c *calls) giveUp(e *PluginError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck == nil {
		c.stuck = map[*PluginError]bool{}
	}
	c.stuck[e] = true
}

// returned notes that it has come back after all.
func (c *calls) returned(e *PluginError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stuck, e)
}

// errors returns what is still running.
func (c *calls) errors() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for e := range c.stuck {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// Stuck returns the calls of plugins, binder and Evict that have been given up, each
// as a [*PluginError], and that have not returned since. Each holds a goroutine.
func (s *Scheduler) Stuck() []*PluginError {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	var list []*PluginError
	for e := range s.calls.stuck {
		list = append(list, e)
	}
	return list
}

// join waits for all goroutines, but not for ever.
func (s *Scheduler) join() error {
	done := make(chan struct{})
	go func() {
		s.crew.workers.Wait() // first, for they make calls
		s.calls.running.Wait()
		close(done)
	}()
	timer := time.NewTimer(s.o.BindTimeout)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		s.replaceStuck(context.Background(), time.Now())
		return fmt.Errorf("left behind: %w", s.calls.errors())
	}
}

// overdue is the cause of giving a call up.
type overdue time.Duration

func (o overdue) Error() string {
	return fmt.Sprintf("still running after %v: %v", time.Duration(o), context.DeadlineExceeded)
}

func (o overdue) Unwrap() error { return context.DeadlineExceeded }

// patience is how long a call is waited for: a little longer than its context lasts, so
// that a plugin that heeds it can still say so.
func (s *Scheduler) patience() time.Duration { return s.o.PluginTimeout + s.o.PluginTimeout/16 }

// call asks a plugin outside of the cycle, for PluginTimeout at most. The plugin gets
// a copy of the pod's state, which takes the place of the old one if it comes back in
// time; if it comes back later, late is called with the copy, if not nil.
func (s *Scheduler) call(ctx context.Context, at site, state *State, f func(context.Context, *State) *Status, late func(*State)) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.PluginTimeout)
	mine := state.clone()
	given := at.blame(overdue(s.o.PluginTimeout))
	var waiting atomic.Bool // whoever sets it to false goes first
	waiting.Store(true)
	done := make(chan error, 1)
	s.calls.running.Go(func() {
		defer cancel()
		err := guard(at, func() *Status { return f(ctx, &mine) })
		if waiting.CompareAndSwap(true, false) {
			done <- err
			return
		}
		if late != nil {
			late(&mine)
		}
		s.calls.returned(given)
	})
	timer := time.NewTimer(s.patience())
	defer timer.Stop()
	select {
	case err := <-done:
		*state = mine
		return err
	case <-timer.C:
	}
	s.calls.giveUp(given)
	if waiting.CompareAndSwap(true, false) {
		return given
	}
	s.calls.returned(given) // just in time
	err := <-done
	*state = mine
	return err
}

// inCycle does a part of a cycle. If plugins from elsewhere take part, a goroutine of
// its own does: one that is stuck must not stop the scheduler. Then the cluster is
// left to it, and the scheduler goes on with a fork, so that the plugin, should it wake
// up, reads what nobody changes.
func (s *Scheduler) inCycle(ctx context.Context, q *QueuedPod, f func(*Cluster)) error {
	c := s.cluster
	if !q.profile.foreign {
		c.cycle.ctx = ctx
		f(c)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.PluginTimeout)
	defer cancel()
	w := &watch{}
	c.cycle.watch, c.cycle.ctx = w, ctx
	e := &PluginError{Pod: q.Pod.String(), Err: overdue(s.o.PluginTimeout)}
	done := make(chan struct{})
	s.calls.running.Go(func() {
		defer close(done)
		f(c)
		s.calls.returned(e)
	})
	timer := time.NewTimer(s.patience())
	defer timer.Stop()
	for {
		select {
		case <-done:
			c.cycle.watch = nil
			return nil
		case <-timer.C:
		}
		if at, ok := w.abandon(); ok {
			s.calls.giveUp(e)
			s.abandon(e, at)
			return e
		}
		timer.Reset(time.Millisecond) // it is between two plugins
	}
}

// abandon goes on with a fork, in which the trial that was under way is undone.
func (s *Scheduler) abandon(e *PluginError, at place) {
	c := s.cluster
	e.Plugin, e.Point = at.plugin, at.point
	if at.row != noRow {
		e.Node = c.table.node(at.row).Name
	}
	s.cluster = c.Fork()
	s.cluster.derive()
	c.cycle.undo(s.cluster)
	s.cluster.evicting = c.evicting
}
