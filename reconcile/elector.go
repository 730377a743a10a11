// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// Elector makes sure that of several replicas of a program one works, the leader,
// and that another takes its place when it stops, crashes or is cut off. It keeps
// a [Lease] object in a store, any store that both can reach.
//
//	            takes the lease                     lead has returned
//	candidate ------------------> leader ------------------------------> candidate
//	    ^                           |                                        (or the end)
//	    |   lead has returned       | not renewed within Deadline, taken,
//	    +---------- deposed <-------+ deleted, fence lost: lead's context ends
//
// # What is promised
//
// Two leaders' contexts are never alive at once, whatever the replicas' wall
// clocks say, as long as their monotonic clocks run at about the same speed (see
// [LeaseTiming]). A leader that was paused, by a debugger or a swapped-out page,
// learns that it is deposed when it wakes, and may be in the middle of a write
// then; one whose machine was suspended, and the monotonic clock with it, learns it
// at its next renewal. So each term has a fence where the store is a
// [store.Leaser]: the successor revokes it before it begins, and what the deposed
// leader writes with it fails with [store.ErrLeaseLost]. On a store without leases
// nothing stops such a write; what lies outside of the store can compare epochs.
//
// On shutdown the lease is renewed until lead has returned, and only then given
// back; the next leader begins at once, because candidates watch the object.
//
// Whoever deletes the object of a lease that is held deposes the leader, which
// learns of it from its watch or at its next renewal. Candidates that knew the
// lease wait until it would have run out; one that is started in that very moment
// can't know.
type Elector struct {
	objects *leaseObjects
	opts    ElectorOptions
	key     store.Key
	session string // tells this elector from others of its identity
	pace    pace

	running  atomic.Bool
	leading  atomic.Bool
	hint     chan struct{} // the object may have changed in a way that matters
	seen     sighting
	observed string // the holder that hooks were told of
	warned   bool   // of another with this identity
}

// ElectorOptions configure an elector. Namespace, Name and Identity are required.
type ElectorOptions struct {
	// Namespace and Name are the key of the Lease object: the same for all replicas.
	Namespace, Name string
	// Identity names this replica: the pod's name or the host's, say. Replicas that
	// share one by mistake still elect one leader, and log a warning.
	Identity string
	// Timing is the same for all replicas, or nearly.
	Timing LeaseTiming
	// Logger gets what happens; nil discards it.
	Logger *slog.Logger
	// Hooks are called in turn, from the goroutine that keeps the lease: they must
	// return soon.
	Hooks ElectorHooks
}

// ElectorHooks are optional functions for metrics and the like.
type ElectorHooks struct {
	// Elected: this replica leads from now on.
	Elected func(Term)
	// Deposed: this replica no longer leads, and lead has returned. Why is nil if it
	// gave the lease back.
	Deposed func(term Term, why error)
	// Observed: the holder is another than before; "" is none.
	Observed func(holder string)
	// Renewed: an attempt at a renewal took that long, and failed where err is not nil.
	Renewed func(took time.Duration, err error)
}

// Term is the time for which an elector leads.
type Term struct {
	// Epoch grows from term to term, whoever leads: it is the revision at which
	// the term began. Systems other than the store can refuse what comes with a
	// lower epoch than they have seen.
	Epoch uint64
	// Fence is the lease that the leader's writes should demand
	// ([store.WriteOptions], [store.Tx]); 0 where the store has no leases. It ends
	// before another leads.
	Fence store.LeaseID

	tenure *tenure
}

// NewElector returns an elector that does nothing until it is run. It registers
// [LeaseKind] with the store, unless a kind of that name is there.
func NewElector(st store.Store, opts ElectorOptions) (*Elector, error) {
	fail := func(err error) (*Elector, error) {
		return nil, fmt.Errorf("reconcile: elector %s/%s: %w", opts.Namespace, opts.Name, err)
	}
	if err := checkReplica(opts.Namespace, opts.Identity); err != nil {
		return fail(err)
	}
	if err := store.DNSSubdomain(opts.Name); err != nil {
		return fail(err)
	}
	var err error
	if opts.Timing, err = opts.Timing.complete(); err != nil {
		return fail(err)
	}
	objects, err := openLeases(st)
	if err != nil {
		return fail(err)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Elector{
		objects: objects,
		opts:    opts,
		key:     store.NewKey(opts.Namespace, opts.Name),
		session: newSession(),
		pace:    newPace(opts.Identity),
		hint:    make(chan struct{}, 1),
	}, nil
}

// checkReplica checks what electors and sharders have in common.
func checkReplica(namespace, identity string) error {
	if err := store.ValidateName("namespace", namespace); err != nil {
		return err
	}
	if identity == "" {
		return store.Invalidf("Identity is empty: want a name that no other replica has, such as the pod's")
	}
	return nil
}

// newSession returns a name that nobody else has; it can be part of an object's.
func newSession() string { return strings.ToLower(rand.Text()) }

// Run campaigns, and calls lead each time that this replica is elected, until the
// context ends or lead returns while it leads.
//
// Lead's context ends with ctx, and as soon as leadership is lost or can no longer
// be proved; its cause is [ErrLeadershipLost] then. Lead should return soon after
// that: only then does the elector campaign again, and only then is the lease
// given back. An error that is [store.ErrLeaseLost] is taken as a loss too, once
// the store confirms it.
//
// Run returns nil when ctx has ended, and what lead returned where that came to an
// end by itself; or an error that no retry would mend, such as [store.ErrClosed].
// Other errors of the store are logged, and tried again. It owns all goroutines
// that it starts and has ended them when it returns. A second Run at the same time
// is an error.
func (e *Elector) Run(ctx context.Context, lead func(ctx context.Context, term Term) error) error {
	if lead == nil {
		return fmt.Errorf("reconcile: elector %s: %w", e.key, store.Invalidf("lead is nil"))
	}
	if !e.running.CompareAndSwap(false, true) {
		return fmt.Errorf("reconcile: elector %s: it runs already", e.key)
	}
	defer e.running.Store(false)
	following, stop := context.WithCancel(ctx)
	var follower sync.WaitGroup
	defer follower.Wait()
	defer stop()
	follower.Go(func() {
		opts := store.WatchOptions{Namespace: e.key.Namespace, Name: e.key.Name}
		e.objects.follow(following, opts, e.opts.Timing.Retry, e.opts.Logger, e.look)
	})
	for {
		t, err := e.campaign(ctx)
		if err != nil {
			return fmt.Errorf("reconcile: elector %s: %w", e.key, err)
		}
		if t == nil { // ctx has ended
			return nil
		}
		if again, err := e.serve(ctx, t, lead); !again {
			return err
		}
	}
}

// look wakes the elector where a change concerns it: to a candidate, that the
// lease is free; to the leader, that it is another's.
func (e *Elector) look(change store.EventType, l *Lease) {
	if change == store.Deleted || value(l.Spec.HolderIdentity) == "" || e.leading.Load() && !e.ours(markOf(l)) {
		select {
		case e.hint <- struct{}{}:
		default:
		}
	}
}

// ours reports whether this elector is the holder. The session alone does not
// say so: a holder that does not know it leaves it as it is.
func (e *Elector) ours(m mark) bool { return m.holder == e.opts.Identity && m.session == e.session }

// campaign returns once this replica holds the lease; nil when ctx has ended.
func (e *Elector) campaign(ctx context.Context) (*tenure, error) {
	for {
		t, wait, err := e.attempt(ctx)
		switch {
		case t != nil && ctx.Err() != nil: // too late
			return nil, t.end(ctx)
		case t != nil:
			return t, nil
		case ctx.Err() != nil:
			return nil, nil
		case hopeless(err):
			return nil, err
		case err != nil:
			e.opts.Logger.Warn("reconcile: no attempt at leadership", "lease", e.key, "identity", e.opts.Identity, "error", err)
		}
		e.pause(ctx, wait)
	}
}

// pause waits for that long, or less if there is news.
func (e *Elector) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-e.hint:
	}
}

// attempt takes the lease if it is free; else it returns when to look again. What
// it has begun to take it takes even if ctx ends meanwhile, to give it back then:
// else others would wait for somebody who is gone.
func (e *Elector) attempt(ctx context.Context) (*tenure, time.Duration, error) {
	taking := context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timing.attempt())
	defer cancel()
	found, err := e.objects.get(ctx, e.key)
	now := time.Now()
	retry := e.pace.next(e.opts.Timing.Retry)
	if errors.Is(err, store.ErrNotFound) {
		if left := e.seen.left(now); left > 0 && e.seen.mark.holder != "" && !e.ours(e.seen.mark) {
			return nil, min(retry, left), nil // its holder may not know yet
		}
		found = &Lease{Meta: store.Meta{Namespace: e.key.Namespace, Name: e.key.Name}}
	} else if err != nil {
		return nil, retry, err
	} else if left := e.observe(found, now); left > 0 {
		return nil, min(retry, left), nil
	}
	taking, stop := context.WithTimeout(taking, e.opts.Timing.attempt())
	defer stop()
	t, err := e.take(taking, found)
	return t, retry, err
}

// observe takes in the object, and returns how long it is until it is free.
func (e *Elector) observe(found *Lease, now time.Time) time.Duration {
	holder := value(found.Spec.HolderIdentity)
	known := !e.seen.since.IsZero()
	changed := e.seen.see(found, e.opts.Timing.Duration, now)
	e.tell(holder)
	switch {
	case holder == "":
		return 0
	case e.ours(e.seen.mark): // of an earlier term, or of an answer that was lost: nothing of ours runs now
		return 0
	case holder == e.opts.Identity && known && changed && !e.warned:
		e.warned = true
		e.opts.Logger.Warn("reconcile: another live replica has the same identity", "lease", e.key, "identity", holder)
	}
	return e.seen.left(now)
}

func (e *Elector) tell(holder string) {
	if holder == e.observed {
		return
	}
	e.observed = holder
	e.opts.Logger.Info("reconcile: the leader is", "lease", e.key, "holder", holder)
	if f := e.opts.Hooks.Observed; f != nil {
		f(holder)
	}
}

// take takes over a lease that is free, or whose time is up. The order matters:
//
//  1. The fence of the last holder is revoked: from here on what it writes fails.
//     Should the next steps not come about, because it renews the lease in this
//     very moment or because we crash, it finds its fence gone at the next
//     renewal, and steps down.
//  2. A fence of our own is granted.
//  3. The object is written at the version that was read. Only this decides.
//
// Whoever is slow between the steps revokes a fence that is gone, and fails to write.
func (e *Elector) take(ctx context.Context, found *Lease) (*tenure, error) {
	if text := found.Annotations[fenceAnnotation]; text != "" && fenceOf(found) == 0 {
		e.opts.Logger.Warn("reconcile: the lease's fence is none", "lease", e.key, "annotation", text)
	}
	if err := e.objects.revoke(ctx, fenceOf(found)); err != nil {
		return nil, fmt.Errorf("revoke the last holder's fence: %w", err)
	}
	fence, err := e.objects.grant(ctx, e.opts.Timing.Duration)
	if err != nil {
		return nil, fmt.Errorf("grant a fence: %w", err)
	}
	sent := time.Now()
	next := found.DeepCopy()
	e.claim(next, fence)
	write := e.objects.update
	if found.ResourceVersion == "" {
		write = e.objects.create
	}
	written, err := write(ctx, next)
	if err != nil {
		_ = e.objects.revoke(ctx, fence) // nobody uses it: should this fail, it ends by itself
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrAlreadyExists) || errors.Is(err, store.ErrNotFound) {
			return nil, nil // another was faster
		}
		return nil, err
	}
	return newTenure(ctx, e.objects, e.opts.Timing, written, fence, sent)
}

// claim makes the Lease ours.
func (e *Elector) claim(l *Lease, fence store.LeaseID) {
	transitions := value(l.Spec.LeaseTransitions)
	if l.ResourceVersion != "" && value(l.Spec.HolderIdentity) != e.opts.Identity {
		transitions++
	}
	l.Spec.LeaseTransitions = new(max(transitions, 0)) // it may have overflowed
	l.Spec.HolderIdentity = new(e.opts.Identity)
	l.Spec.LeaseDurationSeconds = new(e.opts.Timing.seconds())
	l.Spec.RenewTime = after(l.Spec.RenewTime)
	l.Spec.AcquireTime = clone(l.Spec.RenewTime)
	setAnnotation(l, sessionAnnotation, e.session)
	setFence(l, fence)
}

// errGoexit is what lead is taken to have returned if it ended its goroutine.
var errGoexit = errors.New("reconcile: lead called runtime.Goexit")

// serve runs lead for a term, and keeps the lease until it has returned.
func (e *Elector) serve(ctx context.Context, t *tenure, lead func(context.Context, Term) error) (again bool, err error) {
	e.leading.Store(true)
	term := Term{Epoch: t.epoch, Fence: t.fence, tenure: t}
	e.tell(e.opts.Identity)
	e.opts.Logger.Info("reconcile: elected", "lease", e.key, "identity", e.opts.Identity, "epoch", t.epoch, "fence", t.fence)
	if f := e.opts.Hooks.Elected; f != nil {
		f(term)
	}
	leading, stop := bind(ctx, t.ctx)
	done := make(chan error, 1)
	go func() { // hold waits for it
		err := errGoexit
		defer func() { done <- err }()
		err = lead(leading, term)
	}()
	err = e.hold(ctx, t, done)
	stop()
	if errors.Is(err, store.ErrLeaseLost) { // lead may know before we do that the fence is gone
		if failed := e.renew(ctx, t); failed != nil {
			t.lose(failed)
		}
	}
	e.leading.Store(false)
	lost := context.Cause(t.ctx)
	if failed := t.end(ctx); failed != nil {
		e.opts.Logger.Warn("reconcile: the lease could not be given back", "lease", e.key, "error", failed)
	}
	e.opts.Logger.Info("reconcile: leadership ended", "lease", e.key, "identity", e.opts.Identity, "epoch", t.epoch, "why", lost)
	if f := e.opts.Hooks.Deposed; f != nil {
		f(term, lost)
	}
	stopped := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, ErrLeadershipLost) || lost != nil && errors.Is(err, store.ErrLeaseLost)
	switch {
	case ctx.Err() != nil && stopped:
		return false, nil
	case lost == nil || ctx.Err() != nil:
		return false, err
	}
	if err != nil && !stopped {
		e.opts.Logger.Warn("reconcile: lead failed after leadership was lost", "lease", e.key, "error", err)
	}
	return true, nil
}

// hold renews the lease until lead has returned, or the lease is lost, and then
// waits for lead.
func (e *Elector) hold(ctx context.Context, t *tenure, done <-chan error) error {
	timer := time.NewTimer(e.opts.Timing.Retry)
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-t.ctx.Done():
			return e.await(done)
		case <-timer.C:
		case <-e.hint:
		}
		if err := e.renew(ctx, t); err != nil {
			e.opts.Logger.Warn("reconcile: the lease is not renewed", "lease", e.key, "identity", e.opts.Identity, "error", err)
		}
		timer.Reset(e.opts.Timing.Retry)
	}
}

func (e *Elector) renew(ctx context.Context, t *tenure) error {
	began := time.Now()
	ctx = context.WithoutCancel(ctx) // on shutdown too, until lead has returned
	err := t.renew(ctx, func(*Lease) {}, func(context.Context) error { return nil })
	if f := e.opts.Hooks.Renewed; f != nil {
		f(time.Since(began), err)
	}
	return err
}

// await waits for a lead whose context has ended, and says when it takes long.
func (e *Elector) await(done <-chan error) error {
	ticker := time.NewTicker(e.opts.Timing.Duration)
	defer ticker.Stop()
	for since := time.Now(); ; {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			e.opts.Logger.Warn("reconcile: lead goes on after leadership was lost", "lease", e.key, "for", time.Since(since))
		}
	}
}

// bind returns a context that ends with ctx, and with the cause of life when that
// ends.
func bind(ctx, life context.Context) (context.Context, context.CancelFunc) {
	both, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return both, func() {
		stop()
		cancel(nil)
	}
}
