// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
	PluginTimeout  time.Duration // for all plugins of a cycle together, and for each Reserve and Permit; 0 means 10 s
	BindWorkers    int           // how many pods are bound at once; 0 means 16
	BindTimeout    time.Duration // for PreBind and Bind of one pod or group, and for an eviction; 0 means 100 s
	AssumeTimeout  time.Duration // how long after binding AddPod or UpdatePod must confirm it; 0 means for ever
	InitialBackoff time.Duration // before a second try; 0 means 1 s
	MaxBackoff     time.Duration // between tries at most; 0 means 10 s
	RetryAfter     time.Duration // for pods that no event has moved; 0 means 5 min
	Logger         *slog.Logger  // nil discards
	Events         Events
}

// Events are optional functions that are told what became of pods. They are
// called without locks, from several goroutines, and must not block: the scheduler
// waits for them.
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
	rebinds map[*assumed]bool // members of groups whose binding is to be tried again
	todo    []task            // for Run to do without the lock
	spare   []task            // the slice that todo was before
	tidied  time.Time         // when to call tidy again
	closed  bool

	wake  chan struct{} // capacity 1
	jobs  chan job
	crew  crew
	calls calls
}

// task is something to do without the lock.
type task struct {
	admit *assumed // to be reserved and permitted, then bound
	gang  *gang    // the same for a group
	fail  *assumed // to be taken back, because of err
	err   error
	ask   *QueuedPod // whether pod may be queued
	pod   *Pod
	job   job
	do    func() // anything else
}

// assumed is a pod that counts as placed, from the decision until the caller
// confirms it.
type assumed struct {
	p     *placed
	node  *Node
	q     *QueuedPod
	state State
	gang  *gang // that it is bound with; nil: it is bound alone

	reserved int       // how many Reserve plugins have been called
	expires  time.Time // zero: not bound yet, or never
	rebind   time.Time // when its binding is to be tried again
	rebinds  int
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
		groups:  map[string]*group{},
		assumed: map[string]*assumed{},
		waiting: map[string]*WaitingPod{},
		rebinds: map[*assumed]bool{},
		wake:    make(chan struct{}, 1),
		jobs:    make(chan job, 1024),
	}
	s.queue = newQueue(s.less(c.profiles[0].queueSort), o.InitialBackoff, o.MaxBackoff)
	for _, p := range c.profiles {
		for _, h := range p.hints {
			s.hints[h.Name()] = append(s.hints[h.Name()], s.guardHints(h)...)
		}
	}
	return s, nil
}

// less is a plugin's Less, if need be one that survives a panic: then a does not go
// before b.
func (s *Scheduler) less(p QueueSortPlugin) func(a, b *QueuedPod) bool {
	if !fromElsewhere(p) {
		return p.Less
	}
	return func(a, b *QueuedPod) (less bool) {
		s.guardQuick(site{p.Name(), "Less", a.Pod, nil}, func() { less = p.Less(a, b) })
		return less
	}
}

// guardHints has a plugin's hints survive a panic: then a try is taken to be worth it.
func (s *Scheduler) guardHints(p QueueingHintPlugin) []QueueingHint {
	list := slices.Clone(p.QueueingHints())
	if !fromElsewhere(p) {
		return list
	}
	for i := range list {
		worth := list[i].Worth
		if worth == nil {
			continue
		}
		list[i].Worth = func(pod *Pod, e Event) bool {
			is := true
			s.guardQuick(site{p.Name(), "Worth", pod, nil}, func() { is = worth(pod, e) })
			return is
		}
	}
	return list
}

// guardQuick calls a plugin with the lock held and reports it if it panics.
func (s *Scheduler) guardQuick(at site, f func()) {
	if err := guard(at, func() *Status { f(); return nil }); err != nil {
		s.later(func() { s.report(at.pod, err) })
		s.poke()
	}
}

// Fork returns a copy of the state of nodes and placed pods to ask what-if
// questions of.
func (s *Scheduler) Fork() *Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cluster.Fork()
}

// Run places pods until ctx is done, waits for the bindings that are under way,
// and returns the cause. A plugin or binder that has not returned [Options].BindTimeout
// after that is left behind: the error names it too. A scheduler runs once.
func (s *Scheduler) Run(ctx context.Context) error {
	s.startCrew(ctx)
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
	s.stop(ctx)
	close(s.jobs)
	return errors.Join(context.Cause(ctx), s.join())
}

// stop refuses the pods that wait for permission.
func (s *Scheduler) stop(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	for _, w := range s.waiting {
		w.finish(ErrClosed)
	}
	s.mu.Unlock()
	for s.drain(ctx) {
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
	if !now.Before(s.tidied) {
		s.tidied = now.Add(s.tidy(now))
	}
	q := s.queue.pop(now)
	if q != nil {
		s.try(ctx, q, now)
	} else {
		wait = s.tidied.Sub(now)
		if t, ok := s.queue.next(); ok {
			wait = min(wait, t.Sub(now))
		}
	}
	s.mu.Unlock()
	return wait, s.drain(ctx) || q != nil
}

// drain does what is to be done without the lock, and reports whether there was
// anything. Only Run's goroutine calls it.
func (s *Scheduler) drain(ctx context.Context) bool {
	s.mu.Lock()
	todo := s.todo
	s.todo, s.spare = s.spare[:0], nil
	s.mu.Unlock()
	for _, t := range todo {
		switch {
		case t.admit != nil:
			s.admit(ctx, t.admit)
		case t.gang != nil:
			s.admitGang(ctx, t.gang)
		case t.fail != nil && t.fail.gang != nil:
			s.failGang(ctx, t.fail.gang, t.fail, t.err)
		case t.fail != nil:
			s.fail(ctx, t.fail, t.err)
		case t.ask != nil:
			s.ask(ctx, t.ask, t.pod)
		case t.do != nil:
			t.do()
		default:
			s.jobs <- t.job
		}
	}
	n := len(todo)
	clear(todo)
	s.mu.Lock()
	s.spare = todo
	s.mu.Unlock()
	return n > 0
}

// later has something done without the lock, which is held now.
func (s *Scheduler) later(f func()) { s.todo = append(s.todo, task{do: f}) }

// tidy does what is due at a time but for the queue, which knows itself, and returns
// how long until the next such.
func (s *Scheduler) tidy(now time.Time) time.Duration {
	s.queue.flush(now, s.o.RetryAfter)
	next := now.Add(maxIdle)
	soonest := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
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
		w.finish(fmt.Errorf("plugin %s: not permitted within its time", w.plugin))
	}
	for a := range s.rebinds {
		if a.rebind.After(now) {
			soonest(a.rebind)
			continue
		}
		delete(s.rebinds, a)
		s.todo = append(s.todo, task{job: job{bind: a}})
	}
	return next.Sub(now)
}

// try runs the cycle of one pod.
func (s *Scheduler) try(ctx context.Context, q *QueuedPod, now time.Time) {
	if q.members != nil {
		s.tryGroup(ctx, q, now)
		return
	}
	row, err := s.decide(ctx, q)
	if err != nil {
		s.refused(ctx, q, err, now)
		return
	}
	s.todo = append(s.todo, task{admit: s.assume(q, row)})
}

// decide runs the cycle of a pod up to the choice of a node.
func (s *Scheduler) decide(ctx context.Context, q *QueuedPod) (int32, error) {
	if !q.profile.foreign {
		s.cluster.cycle.ctx = ctx
		return s.cluster.decide(q.Pod, q.t, q.profile)
	}
	var row int32
	var err error
	stuck := s.inCycle(ctx, q, func(c *Cluster) { row, err = c.decide(q.Pod, q.t, q.profile) })
	if stuck != nil {
		return noRow, stuck
	}
	return row, err
}

// assume counts the pod as placed.
func (s *Scheduler) assume(q *QueuedPod, row int32) *assumed {
	c := s.cluster
	a := &assumed{p: newPlaced(q.Pod, q.t, row), node: c.table.node(row), q: q, state: c.cycle.state}
	q.t.ref(c)
	c.placed.put(q.key, a.p)
	c.put(a.p)
	c.nominated.remove(q.key)
	delete(s.queue.pods, q.key)
	s.assumed[q.key] = a
	return a
}

// refused deals with a pod that no node takes, or whose cycle failed.
func (s *Scheduler) refused(ctx context.Context, q *QueuedPod, err error, now time.Time) {
	fit, ok := errors.AsType[*FitError](err)
	if !ok {
		s.queue.delay(q, time.Now()) // the cycle may have taken long
		s.later(func() { s.report(q.Pod, err) })
		return
	}
	if s.o.Evict != nil && len(fit.Diagnosis.PreFilter) == 0 {
		s.makeRoom(ctx, q, fit)
	}
	s.queue.park(q, fit.Diagnosis.Plugins, now)
	if f := s.o.Events.Unschedulable; f != nil {
		s.later(func() { f(q.Pod, fit) })
	}
}

func (s *Scheduler) postFilter(ctx context.Context, q *QueuedPod, fit *FitError) (*PostFilterResult, error) {
	if !q.profile.foreign {
		return s.cluster.cycle.postFilter(fit)
	}
	var r *PostFilterResult
	var err error
	if stuck := s.inCycle(ctx, q, func(c *Cluster) { r, err = c.cycle.postFilter(fit) }); stuck != nil {
		return nil, stuck
	}
	return r, err
}

// makeRoom runs the PostFilter plugins and has their victims evicted.
func (s *Scheduler) makeRoom(ctx context.Context, q *QueuedPod, fit *FitError) {
	r, err := s.postFilter(ctx, q, fit)
	if err != nil {
		if !errors.Is(err, ErrUnschedulable) {
			s.later(func() { s.report(q.Pod, err) })
		}
		return
	}
	if r.NominatedNode != "" {
		s.cluster.nominate(q.Pod, q.t, r.NominatedNode)
	}
	for _, v := range r.Victims {
		if key := v.key(); !s.cluster.evicting[key] {
			s.cluster.evicting[key] = true
			s.todo = append(s.todo, task{job: job{evict: &eviction{v, q, r.NominatedNode}}})
		}
	}
}

func (s *Scheduler) report(pod *Pod, err error) {
	s.o.Logger.Error("a pod could not be placed", "pod", pod, "err", err)
	if f := s.o.Events.Failed; f != nil {
		f(pod, err)
	}
}

// happened tells the queue. The lock is held.
func (s *Scheduler) happened(e Event) {
	s.queue.happened(s.hints, e, time.Now())
	s.poke()
}
