// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Binder makes a placement real, for instance by writing it to a store. Many
// pods are bound at once.
type Binder interface {
	Bind(ctx context.Context, pod *Pod, node *Node) error
}

// BinderFunc is a function as a [Binder].
type BinderFunc func(ctx context.Context, pod *Pod, node *Node) error

// Bind calls the function.
func (f BinderFunc) Bind(ctx context.Context, pod *Pod, node *Node) error { return f(ctx, pod, node) }

// Options says how a [Scheduler] works. Binder is the only field that must be
// set.
type Options struct {
	Profiles []Profile // nil means one with the default plugins
	Binder   Binder    // binds the pods that no Bind plugin has bound

	// Evict asks for a pod to be ended because another needs its place; the
	// caller reports with RemovePod when it is gone. Nil means that nobody is
	// evicted: PostFilter plugins are not called.
	Evict func(ctx context.Context, victim, preemptor *Pod) error

	Seed           uint64        // decides ties; 0 means a random one
	PluginTimeout  time.Duration // for all plugins of a cycle together; 0 means 10 s
	BindWorkers    int           // how many pods are bound at once; 0 means 16
	BindTimeout    time.Duration // for PreBind and Bind of one pod; 0 means 100 s
	AssumeTimeout  time.Duration // how long after binding AddPod or UpdatePod must confirm it; 0 means for ever
	InitialBackoff time.Duration // before a second try; 0 means 1 s
	MaxBackoff     time.Duration // between tries at most; 0 means 10 s
	RetryAfter     time.Duration // for pods that no event has moved; 0 means 5 min
	Logger         *slog.Logger  // nil discards
	Events         Events
}

// Events are optional functions that are told what became of pods. They are
// called without locks, from several goroutines.
type Events struct {
	Bound         func(pod *Pod, node *Node)
	Unschedulable func(pod *Pod, err *FitError)                  // no node takes it; it is tried again when that may have changed
	Failed        func(pod *Pod, err error)                      // a plugin, the binder or an eviction failed; it is tried again
	Preempted     func(victim, preemptor *Pod, nominated string) // Evict succeeded
}

// Scheduler places pods as they come, on nodes as they come. Tell it about every
// node and pod with its Add, Update and Remove methods, which may be called from
// anywhere, and have one goroutine in Run.
type Scheduler struct {
	o     Options
	hints map[string][]QueueingHint

	mu      sync.Mutex // guards what follows; held during a cycle
	cluster *Cluster
	queue   *queue
	groups  map[string]*group
	assumed map[string]*assumed
	waiting map[string]*WaitingPod
	ready   []func() // for Run to do without the lock
	closed  bool

	wake chan struct{} // capacity 1
	jobs chan func(context.Context)
}

// assumed is a pod that counts as placed, from the decision until the caller
// confirms it.
type assumed struct {
	p       *placed
	node    *Node
	q       *QueuedPod
	state   State
	expires time.Time // zero: not bound yet, or never
}

// New returns a scheduler that knows nothing yet. It starts no goroutine.
func New(o Options) (*Scheduler, error) {
	if o.Binder == nil {
		return nil, fmt.Errorf("%w: Options.Binder is nil", ErrInvalid)
	}
	if o.BindWorkers < 0 || min(o.BindTimeout, o.AssumeTimeout, o.InitialBackoff, o.MaxBackoff, o.RetryAfter, o.PluginTimeout) < 0 {
		return nil, fmt.Errorf("%w: a number or duration in Options is negative", ErrInvalid)
	}
	o.BindWorkers = cmp.Or(o.BindWorkers, 16)
	o.PluginTimeout = cmp.Or(o.PluginTimeout, 10*time.Second)
	o.BindTimeout = cmp.Or(o.BindTimeout, 100*time.Second)
	o.InitialBackoff = cmp.Or(o.InitialBackoff, time.Second)
	o.MaxBackoff = max(cmp.Or(o.MaxBackoff, 10*time.Second), o.InitialBackoff)
	o.RetryAfter = cmp.Or(o.RetryAfter, 5*time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := NewCluster(o.Seed, o.Profiles...)
	if err != nil {
		return nil, err
	}
	c.evicting = map[string]bool{}
	s := &Scheduler{
		o:       o,
		hints:   map[string][]QueueingHint{},
		cluster: c,
		queue:   newQueue(c.profiles[0].queueSort.Less, o.InitialBackoff, o.MaxBackoff),
		groups:  map[string]*group{},
		assumed: map[string]*assumed{},
		waiting: map[string]*WaitingPod{},
		wake:    make(chan struct{}, 1),
		jobs:    make(chan func(context.Context), 1024),
	}
	for _, p := range c.profiles {
		for _, h := range p.hints {
			s.hints[h.Name()] = append(s.hints[h.Name()], h.QueueingHints()...)
		}
	}
	return s, nil
}

// Fork returns a copy of the state of nodes and placed pods to ask what-if
// questions of.
func (s *Scheduler) Fork() *Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cluster.Fork()
}

// Run places pods until ctx is done, waits for the bindings that are under way,
// and returns the cause. A scheduler runs once.
func (s *Scheduler) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range s.o.BindWorkers {
		workers.Go(func() {
			for job := range s.jobs {
				job(ctx)
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		next, more := s.step(ctx)
		if more {
			continue
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
	}
	s.stop()
	close(s.jobs)
	workers.Wait()
	return context.Cause(ctx)
}

// stop refuses the pods that wait for permission.
func (s *Scheduler) stop() {
	s.mu.Lock()
	s.closed = true
	waiting := s.waiting
	s.waiting = map[string]*WaitingPod{}
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	for _, f := range ready {
		f()
	}
	for _, w := range waiting {
		s.fail(context.Background(), w.a, ErrClosed)
	}
}

// poke makes Run look again.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// maxIdle bounds how long Run sleeps if it has nothing to wait for.
const maxIdle = 30 * time.Second

// step tries the next pod. Without one it returns how long to wait at most.
func (s *Scheduler) step(ctx context.Context) (wait time.Duration, more bool) {
	now := time.Now()
	s.mu.Lock()
	after := s.ready
	s.ready = nil
	q := s.queue.pop(now)
	switch {
	case q != nil:
		after = append(after, s.try(ctx, q, now)...)
	case len(after) == 0:
		wait = s.tidy(ctx, now)
	}
	s.mu.Unlock()
	for _, f := range after {
		f()
	}
	return wait, q != nil || len(after) > 0
}

// tidy does what is due at a time, and returns how long until the next such.
func (s *Scheduler) tidy(ctx context.Context, now time.Time) time.Duration {
	s.queue.flush(now, s.o.RetryAfter)
	next := now.Add(maxIdle)
	soonest := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if len(s.queue.active.list) > 0 {
		return 0
	}
	if t, ok := s.queue.next(); ok {
		soonest(t)
	}
	for key, a := range s.assumed {
		if a.expires.IsZero() {
			continue
		}
		if a.expires.After(now) {
			soonest(a.expires)
			continue
		}
		s.o.Logger.Warn("a binding was not confirmed in time", "pod", a.q.Pod, "node", a.node.Name)
		delete(s.assumed, key)
		s.cluster.drop(a.p)
		s.happened(Event{Kind: PodRemoved, OldPod: a.q.Pod})
	}
	for _, w := range s.waiting {
		if w.until.After(now) {
			soonest(w.until)
			continue
		}
		w.finish(ctx, fmt.Errorf("plugin %s: not permitted within its time", w.plugin))
		soonest(now)
	}
	return next.Sub(now)
}

// try runs the cycle of one pod. It returns what to do once the lock is free.
func (s *Scheduler) try(ctx context.Context, q *QueuedPod, now time.Time) []func() {
	if q.members != nil {
		return s.tryGroup(ctx, q, now)
	}
	row, err := s.decide(q)
	if err != nil {
		return s.refused(ctx, q, err, now)
	}
	a := s.assume(q, row)
	return s.permit(ctx, a)
}

// decide runs the cycle of a pod up to the choice of a node. If plugins from
// elsewhere take part, a goroutine of its own does: one that is stuck must not
// stop the scheduler.
func (s *Scheduler) decide(q *QueuedPod) (int32, error) {
	c := s.cluster
	if !q.profile.foreign {
		return c.decide(q.Pod, q.t, q.profile)
	}
	var row int32
	var err error
	done := make(chan struct{})
	watch := new(atomic.Pointer[place])
	c.cycle.watch = watch
	go func() {
		defer close(done)
		row, err = c.decide(q.Pod, q.t, q.profile)
	}()
	timer := time.NewTimer(s.o.PluginTimeout)
	defer timer.Stop()
	select {
	case <-done:
		c.cycle.watch = nil
		return row, err
	case <-timer.C:
		return noRow, s.abandon(q, watch.Load())
	}
}

// abandon leaves the cluster to the goroutine that is stuck in a plugin and goes
// on with a fork, so that the plugin, should it wake up, reads what nobody changes.
// The goroutine ends when the plugin returns; until then nobody can end it.
func (s *Scheduler) abandon(q *QueuedPod, at *place) error {
	c := s.cluster
	s.cluster = c.Fork()
	s.cluster.evicting = c.evicting
	e := &PluginError{Pod: q.Pod.String(), Err: fmt.Errorf("still running after %v: %w", s.o.PluginTimeout, context.DeadlineExceeded)}
	if at != nil {
		e.Plugin, e.Point = at.plugin, at.point
		if at.row != noRow {
			e.Node = c.table.node(at.row).Name
		}
	}
	return e
}

// assume counts the pod as placed.
func (s *Scheduler) assume(q *QueuedPod, row int32) *assumed {
	c := s.cluster
	a := &assumed{p: &placed{q.Pod, q.t, row}, node: c.table.node(row), q: q, state: c.cycle.state}
	q.t.ref(c)
	c.placed.put(q.Pod.key(), a.p)
	c.put(a.p)
	c.nominated.remove(q.Pod.key())
	delete(s.queue.pods, q.Pod.key())
	s.assumed[q.Pod.key()] = a
	return a
}

// permit runs Reserve and Permit, and sends the pod on to be bound.
func (s *Scheduler) permit(ctx context.Context, a *assumed) []func() {
	p, pod := a.q.profile, a.q.Pod
	if err := p.runReserve(ctx, &a.state, pod, a.node); err != nil {
		return []func(){func() { s.fail(ctx, a, err) }}
	}
	for _, plugin := range p.permit {
		var wait time.Duration
		var waits bool
		err := guard(plugin.Name(), "Permit", pod, a.node, func() *Status {
			st, d := plugin.Permit(ctx, &a.state, pod, a.node)
			if st.code() == Wait {
				wait, waits = d, true
				return nil
			}
			return st
		})
		if err != nil {
			delete(s.waiting, pod.key())
			return []func(){func() { s.fail(ctx, a, err) }}
		}
		if waits {
			s.wait(a, plugin.Name(), wait)
		}
	}
	if s.waiting[pod.key()] != nil {
		return nil
	}
	return []func(){func() { s.jobs <- func(ctx context.Context) { s.bind(ctx, a) } }}
}

// bind makes the placement real. It runs in a worker.
func (s *Scheduler) bind(ctx context.Context, a *assumed) {
	bounded, cancel := context.WithTimeout(ctx, s.o.BindTimeout)
	defer cancel()
	if err := s.bindNow(bounded, a); err != nil {
		s.fail(ctx, a, err)
		return
	}
	s.mu.Lock()
	if s.o.AssumeTimeout > 0 && s.assumed[a.q.Pod.key()] == a {
		a.expires = time.Now().Add(s.o.AssumeTimeout)
	}
	a.q.t.unref(s.cluster) // the queue's; the placed pod keeps its own
	s.mu.Unlock()
	for _, plugin := range a.q.profile.postBind {
		err := guard(plugin.Name(), "PostBind", a.q.Pod, a.node, func() *Status {
			plugin.PostBind(ctx, &a.state, a.q.Pod, a.node)
			return nil
		})
		if err != nil {
			s.o.Logger.Error("after binding", "err", err)
		}
	}
	if f := s.o.Events.Bound; f != nil {
		f(a.q.Pod, a.node)
	}
}

func (s *Scheduler) bindNow(ctx context.Context, a *assumed) error {
	pod, node := a.q.Pod, a.node
	for _, p := range a.q.profile.preBind {
		err := guard(p.Name(), "PreBind", pod, node, func() *Status { return p.PreBind(ctx, &a.state, pod, node) })
		if err != nil {
			return err
		}
	}
	for _, p := range a.q.profile.bind {
		skipped := false
		err := guard(p.Name(), "Bind", pod, node, func() *Status {
			st := p.Bind(ctx, &a.state, pod, node)
			if st.code() == Skip {
				skipped = true
				return nil
			}
			return st
		})
		if err != nil || !skipped {
			return err
		}
	}
	return guard("DefaultBinder", "Bind", pod, node, func() *Status {
		if err := s.o.Binder.Bind(ctx, pod, node); err != nil {
			return Fail(err)
		}
		return nil
	})
}

// fail takes an assumed pod back and has it tried again after its backoff. No
// event can be lost that way, whatever happened meanwhile.
func (s *Scheduler) fail(ctx context.Context, a *assumed, cause error) {
	// What was reserved is released first: the next cycle must not see it.
	if err := a.q.profile.runUnreserve(ctx, &a.state, a.q.Pod, a.node); err != nil {
		cause = errors.Join(cause, err)
	}
	s.mu.Lock()
	key := a.q.Pod.key()
	if s.assumed[key] == a {
		delete(s.assumed, key)
		s.cluster.drop(a.p)
		s.leftGroup(a.q.Pod)
		s.queue.pods[key] = a.q
		s.queue.delay(a.q, time.Now())
		s.happened(Event{Kind: PodRemoved, OldPod: a.q.Pod})
	} else {
		a.q.t.unref(s.cluster)
	}
	s.mu.Unlock()
	s.poke()
	s.report(a.q.Pod, cause)
}

func (s *Scheduler) report(pod *Pod, err error) {
	s.o.Logger.Error("a pod could not be placed", "pod", pod, "err", err)
	if f := s.o.Events.Failed; f != nil {
		f(pod, err)
	}
}

// refused deals with a pod that no node takes, or whose cycle failed.
func (s *Scheduler) refused(ctx context.Context, q *QueuedPod, err error, now time.Time) []func() {
	fit, ok := errors.AsType[*FitError](err)
	if !ok {
		s.queue.delay(q, time.Now()) // the cycle may have taken long
		return []func(){func() { s.report(q.Pod, err) }}
	}
	var after []func()
	if s.o.Evict != nil && len(fit.Diagnosis.PreFilter) == 0 {
		after = s.makeRoom(ctx, q, fit)
	}
	s.queue.park(q, fit.Diagnosis.Plugins, now)
	if f := s.o.Events.Unschedulable; f != nil {
		after = append(after, func() { f(q.Pod, fit) })
	}
	return after
}

// makeRoom runs the PostFilter plugins and has their victims evicted.
func (s *Scheduler) makeRoom(ctx context.Context, q *QueuedPod, fit *FitError) []func() {
	r, err := s.cluster.cycle.postFilter(fit)
	if err != nil {
		if errors.Is(err, ErrUnschedulable) {
			return nil
		}
		return []func(){func() { s.report(q.Pod, err) }}
	}
	if r.NominatedNode != "" {
		s.cluster.nominate(q.Pod, q.t, r.NominatedNode)
	}
	var after []func()
	for _, v := range r.Victims {
		if s.cluster.evicting[v.key()] {
			continue
		}
		s.cluster.evicting[v.key()] = true
		after = append(after, func() { s.jobs <- func(ctx context.Context) { s.evict(ctx, v, q, r.NominatedNode) } })
	}
	return after
}

// evict runs in a worker.
func (s *Scheduler) evict(ctx context.Context, victim *Pod, q *QueuedPod, node string) {
	err := s.o.Evict(ctx, victim, q.Pod)
	if err == nil {
		if f := s.o.Events.Preempted; f != nil {
			f(victim, q.Pod, node)
		}
		return
	}
	s.mu.Lock()
	delete(s.cluster.evicting, victim.key())
	if q.where == unschedulable {
		s.queue.delay(q, time.Now())
	}
	s.mu.Unlock()
	s.poke()
	s.report(q.Pod, fmt.Errorf("evicting pod %s from node %s: %w", victim, node, err))
}

// happened tells the queue. The lock is held.
func (s *Scheduler) happened(e Event) {
	s.queue.happened(s.hints, e, time.Now())
	s.poke()
}
