// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// leaseKey is that of the lease in these tests.
var leaseKey = store.NewKey("default", "leader")

// withLeases runs a test in virtual time, with a store and its Leases.
func withLeases(t *testing.T, f func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		leases, err := store.Register(st, reconcile.LeaseKind())
		if err != nil {
			t.Fatal(err)
		}
		f(t, st, leases)
	})
}

func newElector(t *testing.T, st store.Store, identity string, change ...func(*reconcile.ElectorOptions)) *reconcile.Elector {
	t.Helper()
	opts := reconcile.ElectorOptions{Namespace: leaseKey.Namespace, Name: leaseKey.Name, Identity: identity}
	for _, f := range change {
		f(&opts)
	}
	e, err := reconcile.NewElector(st, opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// reign is a term as lead sees it.
type reign struct {
	reconcile.Term
	ctx   context.Context
	begun time.Time
	yield chan error // what lead returns, if sent before its context ends
}

// candidate is an elector that runs, whose lead waits for its context.
type candidate struct {
	reigns chan reign
	cancel context.CancelFunc
	result chan error
}

func campaign(t *testing.T, e *reconcile.Elector) *candidate {
	ctx, cancel := context.WithCancel(context.Background())
	c := &candidate{make(chan reign, 100), cancel, make(chan error, 1)}
	go func() {
		c.result <- e.Run(ctx, func(ctx context.Context, term reconcile.Term) error {
			r := reign{term, ctx, time.Now(), make(chan error, 1)}
			c.reigns <- r
			select {
			case err := <-r.yield:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(cancel)
	return c
}

func (c *candidate) stop() error {
	c.cancel()
	return <-c.result
}

// leads reports whether the candidate has been elected and not been asked about yet.
func (c *candidate) leads() bool {
	synctest.Wait()
	return len(c.reigns) > 0
}

func ended(t *testing.T, st store.Leaser, fence store.LeaseID) {
	t.Helper()
	if err := st.KeepAlive(context.Background(), fence); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("fence %d: KeepAlive: %v, want it to have ended", fence, err)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func TestElectorHandsOverOnShutdown(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		ctx, cancel := context.WithCancel(t.Context())
		var first reconcile.Term
		done := make(chan error, 1)
		go func() {
			done <- newElector(t, st, "a").Run(ctx, func(ctx context.Context, term reconcile.Term) error {
				first = term
				<-ctx.Done()
				time.Sleep(time.Minute) // much longer than the lease
				return ctx.Err()
			})
		}()
		synctest.Wait()
		b := campaign(t, newElector(t, st, "b"))
		time.Sleep(time.Hour)
		if b.leads() {
			t.Fatal("b leads while a renews the lease")
		}
		began := time.Now()
		cancel()
		second := <-b.reigns
		noError(t, <-done)
		if took := second.begun.Sub(began); took != time.Minute {
			t.Errorf("handed over after %v, want a minute: when lead has returned, and at once then", took)
		}
		ended(t, st, first.Fence)
		if second.Epoch <= first.Epoch || second.Fence == 0 {
			t.Errorf("second term: %+v; the first was %+v", second.Term, first)
		}
		l, err := leases.Get(t.Context(), leaseKey)
		if err != nil {
			t.Fatal(err)
		}
		if got := *l.Spec.HolderIdentity; got != "b" || *l.Spec.LeaseTransitions != 1 || *l.Spec.LeaseDurationSeconds != 15 {
			t.Errorf("holder %q, transitions %d, duration %d", got, *l.Spec.LeaseTransitions, *l.Spec.LeaseDurationSeconds)
		}
		noError(t, b.stop())
		ended(t, st, second.Fence)
		if l, err = leases.Get(t.Context(), leaseKey); err != nil || *l.Spec.HolderIdentity != "" || len(l.Annotations) != 0 {
			t.Errorf("after release: holder %q, annotations %v, %v", *l.Spec.HolderIdentity, l.Annotations, err)
		}
	})
}

// The lease of a process that is gone, whatever is in it: nobody compares the
// times in it with a clock.
func TestElectorWaitsForDeadHolder(t *testing.T) {
	at := func(years int) *reconcile.MicroTime {
		return &reconcile.MicroTime{Time: time.Now().AddDate(years, 0, 0)}
	}
	for name, c := range map[string]struct {
		spec        reconcile.LeaseSpec
		annotations map[string]string
		want        time.Duration
	}{
		"renewed now":           {reconcile.LeaseSpec{LeaseDurationSeconds: new(int32(15)), RenewTime: at(0)}, nil, 15 * time.Second},
		"renewed in the past":   {reconcile.LeaseSpec{LeaseDurationSeconds: new(int32(15)), RenewTime: at(-30)}, nil, 15 * time.Second},
		"renewed in the future": {reconcile.LeaseSpec{LeaseDurationSeconds: new(int32(15)), RenewTime: at(30)}, nil, 15 * time.Second},
		"longer than ours":      {reconcile.LeaseSpec{LeaseDurationSeconds: new(int32(60)), RenewTime: at(0)}, nil, 60 * time.Second},
		"shorter than ours":     {reconcile.LeaseSpec{LeaseDurationSeconds: new(int32(1)), RenewTime: at(0)}, nil, 15 * time.Second},
		"holder only":           {reconcile.LeaseSpec{}, nil, 15 * time.Second},
		"garbage": {reconcile.LeaseSpec{LeaseDurationSeconds: new(int32(-7)), LeaseTransitions: new(int32(math.MaxInt32)), AcquireTime: &reconcile.MicroTime{}},
			map[string]string{"slipway.dev/fence": "none", "slipway.dev/session": "\x00"}, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := memory.New(memory.Options{})
				defer st.Close()
				kind := reconcile.LeaseKind()
				kind.Validate = nil // another program's kind lets everything through
				leases, err := store.Register(st, kind)
				if err != nil {
					t.Fatal(err)
				}
				l := &reconcile.Lease{Meta: store.Meta{Namespace: leaseKey.Namespace, Name: leaseKey.Name, Annotations: c.annotations}, Spec: c.spec}
				l.Spec.HolderIdentity = new("ghost")
				if _, err := leases.Create(t.Context(), l); err != nil {
					t.Fatal(err)
				}
				a := campaign(t, newElector(t, st, "a"))
				began := time.Now()
				r := <-a.reigns
				if took := r.begun.Sub(began); took < c.want || took > c.want+3*time.Second {
					t.Errorf("elected after %v, want %v and a retry", took, c.want)
				}
				if l, err = leases.Get(t.Context(), leaseKey); err != nil || *l.Spec.LeaseTransitions < 0 || *l.Spec.LeaseDurationSeconds != 15 {
					t.Errorf("spec %+v, %v", l.Spec, err)
				}
				noError(t, a.stop())
			})
		})
	}
}

// A leader that is cut off stops Deadline after it sent the last renewal that
// succeeded; the next begins when the lease has run out. Both take the link's
// slowness into account.
func TestElectorStepsDownInTime(t *testing.T) {
	for _, mode := range []linkMode{linkDown, linkHung} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
				link := newLink(st, 1)
				link.ttl = time.Hour // so that it is the successor that ends the fence
				var renewed time.Time
				var took time.Duration
				a := campaign(t, newElector(t, link, "a", func(o *reconcile.ElectorOptions) {
					o.Hooks.Renewed = func(d time.Duration, err error) {
						if err == nil {
							renewed, took = time.Now(), d
						}
					}
				}))
				first := <-a.reigns
				b := campaign(t, newElector(t, st, "b"))
				link.set(func() { link.slow = 500 * time.Millisecond })
				time.Sleep(time.Minute)
				link.turn(mode)
				<-first.ctx.Done()
				if why := context.Cause(first.ctx); !errors.Is(why, reconcile.ErrLeadershipLost) {
					t.Errorf("cause: %v", why)
				}
				if got := time.Since(renewed.Add(-took)); got != 10*time.Second {
					t.Errorf("stepped down %v after the last renewal was sent, want 10s", got)
				}
				if b.leads() {
					t.Fatal("b leads when a has only just stopped")
				}
				second := <-b.reigns
				if got := time.Since(renewed); got < 14*time.Second || got > 20*time.Second {
					t.Errorf("b leads %v after the last renewal, want 15s and a retry", got)
				}
				ended(t, st, first.Fence)
				_, err := st.Write(t.Context(), leaseSchema(st), store.Write{Op: store.Create,
					Object:  &reconcile.Lease{Meta: store.Meta{Namespace: "default", Name: "x"}},
					Options: store.WriteOptions{Fence: first.Fence}})
				if !errors.Is(err, store.ErrLeaseLost) {
					t.Errorf("a write of the deposed leader's: %v, want ErrLeaseLost", err)
				}
				link.mend()
				time.Sleep(time.Minute)
				if a.leads() || second.ctx.Err() != nil {
					t.Error("a takes the lease from b, which renews it")
				}
				noError(t, a.stop())
				noError(t, b.stop())
			})
		})
	}
}

func leaseSchema(st store.Store) *store.Schema { return st.Kind(reconcile.LeaseKind().KindName()) }

// A paused process may find its timers late: what it asks is answered by the clock.
func TestTermLooksAtTheClock(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		link := newLink(st, 1)
		a := campaign(t, newElector(t, link, "a"))
		r := <-a.reigns
		own := r.Ownership()
		gains := 0
		defer own.OnGain(func(mine func(string) bool) {
			if mine("any") {
				gains++
			}
		})()
		run, ok := own.Begin(t.Context(), "key")
		if !ok || gains != 1 || run.Epoch != r.Epoch || run.Fence != r.Fence {
			t.Fatalf("Begin: %+v, %v; %d gains", run, ok, gains)
		}
		link.pause()
		reconcile.DelayTimers(r.Term)
		time.Sleep(10*time.Second - time.Nanosecond)
		if run, ok := own.Begin(t.Context(), "key"); !ok {
			t.Error("no key is the leader's before the deadline")
		} else {
			run.End()
		}
		time.Sleep(time.Nanosecond)
		if _, ok := own.Begin(t.Context(), "key"); ok {
			t.Error("a key is the leader's after the deadline")
		}
		link.resume() // the renewal succeeds now, and counts for nothing
		<-run.Context.Done()
		if why := context.Cause(run.Context); !errors.Is(why, reconcile.ErrLeadershipLost) {
			t.Errorf("cause: %v", why)
		}
		run.End()
		noError(t, a.stop())
	})
	if _, ok := (reconcile.Term{}).Ownership().Begin(t.Context(), "key"); ok {
		t.Error("the zero Term owns a key")
	}
}

// While lead goes on after a loss, the elector neither campaigns nor frees the lease.
func TestElectorWaitsForLead(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		link := newLink(st, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var running, terms atomic.Int64
		done := make(chan error, 1)
		go func() {
			done <- newElector(t, link, "a").Run(ctx, func(ctx context.Context, _ reconcile.Term) error {
				if running.Add(1) > 1 {
					t.Error("lead runs twice")
				}
				terms.Add(1)
				<-ctx.Done()
				time.Sleep(time.Hour)
				running.Add(-1)
				return errors.New("something went wrong late")
			})
		}()
		time.Sleep(time.Minute)
		link.turn(linkHung)
		time.Sleep(time.Minute)
		link.mend()
		time.Sleep(30 * time.Minute)
		if l, err := leases.Get(ctx, leaseKey); err != nil || *l.Spec.HolderIdentity != "a" {
			t.Errorf("the lease is %q's while a works: %v", *l.Spec.HolderIdentity, err)
		}
		time.Sleep(time.Hour)
		if n := terms.Load(); n != 2 {
			t.Errorf("%d terms, want a second after lead has returned", n)
		}
		cancel()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "went wrong late") {
			t.Errorf("Run: %v, want lead's error", err)
		}
	})
}

// Two replicas with one identity are two, and the log says so.
func TestElectorsOfOneIdentity(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		var log logText
		one := campaign(t, newElector(t, st, "a"))
		first := <-one.reigns
		two := campaign(t, newElector(t, st, "a", func(o *reconcile.ElectorOptions) { o.Logger = log.logger() }))
		time.Sleep(time.Hour)
		if two.leads() || first.ctx.Err() != nil {
			t.Error("two leaders of one identity")
		}
		if n := log.count("another live replica has the same identity"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, &log)
		}
		noError(t, one.stop())
		<-two.reigns
		noError(t, two.stop())
	})
}

// Another program, which knows no annotations and leaves them as they are, holds
// the lease: client-go does that.
func TestElectorRespectsForeignHolder(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a := campaign(t, newElector(t, st, "a"))
		first := <-a.reigns
		time.Sleep(time.Minute)
		hold := func() {
			if _, err := leases.Patch(t.Context(), leaseKey, func(l *reconcile.Lease) error {
				l.Spec.HolderIdentity, l.Spec.RenewTime = new("client-go"), &reconcile.MicroTime{Time: time.Now()}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		stolen := time.Now()
		hold()
		<-first.ctx.Done()
		if took := time.Since(stolen); took > 0 {
			t.Errorf("noticed after %v, want at once", took)
		}
		for range 100 {
			time.Sleep(5 * time.Second)
			hold()
		}
		if a.leads() {
			t.Error("a leads while another renews the lease")
		}
		<-a.reigns
		noError(t, a.stop())
	})
}

func TestElectorLeaseDeleted(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		link := newLink(st, 1)
		a := campaign(t, newElector(t, link, "a"))
		first := <-a.reigns
		b := campaign(t, newElector(t, st, "b"))
		time.Sleep(time.Minute)

		// The holder hears of it, and begins again: nobody knows better that it is free.
		if _, err := leases.Delete(t.Context(), leaseKey); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if first.ctx.Err() == nil {
			t.Fatal("the leader goes on without a lease")
		}
		second := <-a.reigns
		if second.Epoch <= first.Epoch {
			t.Errorf("epoch %d after %d: a new object must not begin anew", second.Epoch, first.Epoch)
		}

		// A holder that is cut off does not: the others wait as long as it may take.
		time.Sleep(time.Minute)
		link.turn(linkHung)
		cut := time.Now()
		if _, err := leases.Delete(t.Context(), leaseKey); err != nil {
			t.Fatal(err)
		}
		third := <-b.reigns
		if second.ctx.Err() == nil {
			t.Error("two leaders")
		}
		if took := third.begun.Sub(cut); took < 10*time.Second || took > 18*time.Second {
			t.Errorf("b leads after %v, want when a's lease would have run out", took)
		}
		link.mend()
		noError(t, a.stop())
		noError(t, b.stop())
	})
}

// The answers to the first calls are lost: what they did is found out.
func TestElectorUnknownOutcome(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		link := newLink(st, 1)
		lost := 0
		link.delay = func(w store.Write) time.Duration {
			if w.Op == store.Create && lost == 0 || w.Op == store.Update && lost < 3 {
				lost++
				return time.Nanosecond
			}
			return 0
		}
		a := campaign(t, newElector(t, link, "a"))
		began := time.Now()
		r := <-a.reigns
		if took := r.begun.Sub(began); took > 15*time.Second || lost != 3 {
			t.Errorf("elected after %v and %d lost answers", took, lost)
		}
		time.Sleep(time.Hour)
		l, err := leases.Get(t.Context(), leaseKey)
		if err != nil || *l.Spec.LeaseTransitions != 0 || l.Annotations["slipway.dev/fence"] != fmt.Sprint(r.Fence) {
			t.Errorf("%+v %v %v; fence %d", l.Spec, l.Annotations, err, r.Fence)
		}
		if r.ctx.Err() != nil || a.leads() {
			t.Error("the term did not last")
		}
		noError(t, a.stop())
		link.late.Wait()
	})
}

// A fence that ends before its time ends the term, and the next has another.
func TestElectorFenceLost(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		a := campaign(t, newElector(t, st, "a"))
		first := <-a.reigns
		noError(t, st.Revoke(t.Context(), first.Fence))
		second := <-a.reigns
		if took := second.begun.Sub(first.begun); took > 2*time.Second || second.Fence == first.Fence || first.ctx.Err() == nil {
			t.Errorf("second term after %v: %+v, first %+v", took, second.Term, first.Term)
		}

		// Lead may notice first.
		noError(t, st.Revoke(t.Context(), second.Fence))
		second.yield <- fmt.Errorf("write: %w", store.ErrLeaseLost)
		third := <-a.reigns
		if took := third.begun.Sub(second.begun); took != 0 {
			t.Errorf("third term after %v, want at once", took)
		}

		// Or be wrong: then it is an error like any other.
		third.yield <- fmt.Errorf("of another lease: %w", store.ErrLeaseLost)
		if err := <-a.result; !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("Run: %v", err)
		}
		ended(t, st, third.Fence)
	})
}

func TestElectorLeadReturns(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		lead func() error
		want string
	}{
		"nil":    {func() error { return nil }, "<nil>"},
		"error":  {func() error { return broken }, "broken"},
		"goexit": {func() error { runtime.Goexit(); return nil }, "reconcile: lead called runtime.Goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
				err := newElector(t, st, "a").Run(t.Context(), func(context.Context, reconcile.Term) error { return c.lead() })
				if fmt.Sprint(err) != c.want {
					t.Errorf("Run: %v, want %s", err, c.want)
				}
				l, err := leases.Get(t.Context(), leaseKey)
				if err != nil || *l.Spec.HolderIdentity != "" {
					t.Fatalf("the lease is held by %q: %v", *l.Spec.HolderIdentity, err)
				}
				if !l.Spec.RenewTime.After(l.Spec.AcquireTime.Time) {
					t.Error("a write in the same instant can't be told from the one before")
				}
			})
		})
	}
}

func TestElectorHooks(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		var events []string
		note := func(format string, args ...any) { events = append(events, fmt.Sprintf(format, args...)) }
		b := campaign(t, newElector(t, st, "b"))
		<-b.reigns
		a := campaign(t, newElector(t, st, "a", func(o *reconcile.ElectorOptions) {
			o.Hooks = reconcile.ElectorHooks{
				Elected:  func(reconcile.Term) { note("elected") },
				Deposed:  func(_ reconcile.Term, why error) { note("deposed: %v", why) },
				Observed: func(holder string) { note("observed %q", holder) },
			}
		}))
		time.Sleep(time.Minute)
		noError(t, b.stop())
		<-a.reigns
		noError(t, a.stop())
		want := []string{`observed "b"`, `observed ""`, `observed "a"`, "elected", "deposed: <nil>"}
		if !slices.Equal(events, want) {
			t.Errorf("events %q, want %q", events, want)
		}
	})
}

func TestElectorGivesUp(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		e := newElector(t, st, "a")
		if err := e.Run(t.Context(), nil); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Run without lead: %v", err)
		}
		a := campaign(t, e)
		r := <-a.reigns
		if err := e.Run(t.Context(), func(context.Context, reconcile.Term) error { return nil }); err == nil || !strings.Contains(err.Error(), "runs already") {
			t.Errorf("second Run: %v", err)
		}
		noError(t, st.Close())
		<-r.ctx.Done()
		if err := <-a.result; !errors.Is(err, store.ErrClosed) {
			t.Errorf("Run on a closed store: %v", err)
		}
	})
}

// A shutdown while cut off takes no longer than an attempt at the release.
func TestElectorStopsWhileCutOff(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		link := newLink(st, 1)
		a := campaign(t, newElector(t, link, "a"))
		<-a.reigns
		link.turn(linkHung)
		began := time.Now()
		noError(t, a.stop())
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("stopped after %v", took)
		}
	})
}

// One that is asked to stop in the very moment in which it takes the lease gives
// it back: nobody has to wait for it.
func TestElectorStopsWhileElected(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		for stopAt := range 40 {
			link := newLink(st, uint64(stopAt))
			link.slow = 500 * time.Millisecond
			a := campaign(t, newElector(t, link, "a"))
			time.Sleep(time.Duration(stopAt) * 50 * time.Millisecond)
			noError(t, a.stop())
			l, err := leases.Get(t.Context(), leaseKey)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil || *l.Spec.HolderIdentity != "" {
				t.Errorf("asked to stop after %v: the lease is held by %q: %v", time.Duration(stopAt)*50*time.Millisecond, *l.Spec.HolderIdentity, err)
			}
		}
	})
}

func TestElectorOptions(t *testing.T) {
	st := memory.New(memory.Options{})
	defer st.Close()
	good := reconcile.ElectorOptions{Namespace: "default", Name: "x", Identity: "a"}
	timing := func(duration, deadline, retry time.Duration) func(*reconcile.ElectorOptions) {
		return func(o *reconcile.ElectorOptions) {
			o.Timing = reconcile.LeaseTiming{Duration: duration, Deadline: deadline, Retry: retry}
		}
	}
	const s = time.Second
	for name, c := range map[string]struct {
		change func(*reconcile.ElectorOptions)
		want   string // part of the error; "": none
	}{
		"defaults":         {func(*reconcile.ElectorOptions) {}, ""},
		"tiny":             {timing(time.Millisecond, 0, 0), ""},
		"duration only":    {timing(60*s, 0, 0), ""},
		"no namespace":     {func(o *reconcile.ElectorOptions) { o.Namespace = "" }, "namespace is empty"},
		"no name":          {func(o *reconcile.ElectorOptions) { o.Name = "" }, `name ""`},
		"bad name":         {func(o *reconcile.ElectorOptions) { o.Name = "A b" }, `name "A b"`},
		"no identity":      {func(o *reconcile.ElectorOptions) { o.Identity = "" }, "Identity is empty"},
		"negative":         {timing(-s, 0, 0), "Duration is -1s"},
		"negative retry":   {timing(0, 0, -s), "Retry is -1s"},
		"deadline too big": {timing(15*s, 15*s, s), "want a shorter Deadline"},
		"default deadline": {timing(0, 20*s, 0), "want a shorter Deadline"},
		"retry too big":    {timing(15*s, 10*s, 10*s), "want a shorter Retry"},
		"retry > deadline": {timing(0, 0, 11*s), "want a shorter Retry"},
		"too short":        {timing(time.Microsecond, 0, 0), "at least a millisecond"},
		"too long":         {timing(math.MaxInt64, 0, 0), "want at most 2147483647 seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := good
			c.change(&opts)
			_, err := reconcile.NewElector(st, opts)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := reconcile.NewElector(nil, good); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("nil store: %v", err)
	}
}
