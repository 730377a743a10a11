// SPDX-License-Identifier: Apache-2.0

package reconciletest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// World is a store and a manager in virtual time. Its methods are for the
// goroutine of the test.
type World struct {
	// T is the test; a problem that the world finds fails it.
	T *testing.T

	store store.Engine
	plan  func(Call) Fault

	build   func(*reconcile.Manager) error
	opts    reconcile.ManagerOptions
	manager *reconcile.Manager
	process *process
	stop    context.CancelFunc
	ended   chan error

	gone []<-chan error // of crashed managers: they may take their time

	wake chan struct{} // a crash has happened

	mu      sync.Mutex
	instant time.Time // of the latest call, in virtual time
	busy    int       // calls at that instant
	crashed bool      // and no other manager has been started since
	calls   []Call
	open    map[string][]Call // of reconciles that have not ended, by controller and key
	records []Record
}

// Record is a reconcile that has ended, with what it read and tried to write.
type Record struct {
	reconcile.Reconciled
	At    time.Time // when it ended, in virtual time
	Calls []Call
}

// Run calls f with a world in a testing/synctest bubble, and ends the world after
// it.
func Run(t *testing.T, f func(*World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { newWorld(t, nil).do(f) })
}

func newWorld(t *testing.T, plan func(Call) Fault) *World {
	if plan == nil {
		plan = func(Call) Fault { return None }
	}
	return &World{
		T:     t,
		store: memory.New(memory.Options{}),
		plan:  plan,
		wake:  make(chan struct{}, 1),
		open:  map[string][]Call{},
	}
}

// do calls f and ends the world.
func (w *World) do(f func(*World)) {
	defer w.close()
	f(w)
}

func (w *World) close() {
	w.Stop()
	for _, ended := range w.gone {
		<-ended // whatever it says: it has crashed
	}
	if err := w.store.Close(); err != nil {
		w.T.Errorf("reconciletest: close the store: %v", err)
	}
}

// Store returns the store itself, for the test to act as users do: it meets no
// faults. Controllers use Manager.Store.
func (w *World) Store() store.Engine { return w.store }

// Manager returns the manager that runs at present.
func (w *World) Manager() *reconcile.Manager { return w.manager }

// Start makes a manager, has build add controllers to it, and runs it until the
// end of the test. build is called again after a crash or [World.Restart], so it
// must keep nothing in memory that a process would lose; kinds that are registered
// already it looks up: see [Kind].
func (w *World) Start(build func(*reconcile.Manager) error, opts ...reconcile.ManagerOptions) {
	w.T.Helper()
	if w.build != nil {
		w.T.Fatal("reconciletest: Start called twice: add all controllers in one build function")
	}
	w.build = build
	if len(opts) > 0 {
		w.opts = opts[0]
	}
	w.start()
	w.settle()
}

func (w *World) start() {
	w.T.Helper()
	w.process = &process{Engine: w.store, world: w, crashed: make(chan struct{})}
	opts := w.opts
	hook := opts.Hooks.Reconciled
	p := w.process
	opts.Hooks.Reconciled = func(r reconcile.Reconciled) {
		w.record(p, r)
		if hook != nil {
			hook(r)
		}
	}
	w.manager = reconcile.NewManager(p, opts)
	if err := w.build(w.manager); err != nil {
		w.T.Fatalf("reconciletest: build: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.ended = cancel, make(chan error, 1)
	m, ended := w.manager, w.ended
	go func() { ended <- m.Run(ctx) }()
}

// Stop ends the manager as a signal would: what is in progress may finish.
func (w *World) Stop() {
	w.T.Helper()
	if w.stop == nil {
		return
	}
	w.stop()
	w.stop = nil
	if err := <-w.ended; err != nil {
		w.T.Errorf("reconciletest: the manager ended with: %v", err)
	}
}

// Restart ends the manager as a kill would, and starts another.
func (w *World) Restart() {
	w.T.Helper()
	w.mustRun("Restart")
	w.crash(w.process)
	w.settle()
}

// mustRun ends the test if there is no manager: what is called then would do
// nothing, and pass.
func (w *World) mustRun(call string) {
	w.T.Helper()
	if w.stop == nil {
		w.T.Fatalf("reconciletest: %s: no manager runs: it was not started, or has been stopped", call)
	}
}

// crash ends what is left of a process, from whatever goroutine.
func (w *World) crash(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead() {
		return
	}
	close(p.crashed)
	w.crashed = true
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// settle waits until nothing happens any more without time passing, and starts
// another manager for each that has crashed.
func (w *World) settle() {
	w.T.Helper()
	for {
		synctest.Wait()
		if !w.recover() {
			return
		}
	}
}

// recover replaces a manager that has crashed, and reports whether there was one.
func (w *World) recover() bool {
	w.mu.Lock()
	crashed := w.crashed
	w.crashed = false
	if crashed {
		clear(w.open) // of reconciles that never end
	}
	w.mu.Unlock()
	if !crashed || w.stop == nil {
		return false
	}
	w.stop()
	w.gone = append(w.gone, w.ended)
	w.start()
	return true
}

// Advance lets the time d pass, and what happens in it happen. A manager that
// crashes meanwhile is started again at once.
func (w *World) Advance(d time.Duration) {
	w.T.Helper()
	w.settle()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			w.settle()
			return
		case <-w.wake:
			w.settle()
		}
	}
}

// Settle lets happen what can without time passing: retries that wait for their
// back-off still wait after it.
func (w *World) Settle() {
	w.T.Helper()
	w.settle()
}

// meet counts a call, records it, and returns its fault.
func (w *World) meet(p *process, c *Call) Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead() {
		return None
	}
	if !w.progress(p, c) {
		return None
	}
	c.N = len(w.calls) + 1
	w.calls = append(w.calls, *c)
	at := c.Controller + " " + c.Running.Key
	w.open[at] = append(w.open[at], *c)
	return w.plan(*c)
}

// mostAtOnce bounds the calls without time passing: what has more never ends.
const mostAtOnce = 200_000

// progress fails the test, and ends the process for good, if its controllers keep
// themselves busy without time passing. The caller holds w.mu.
func (w *World) progress(p *process, c *Call) bool {
	if now := time.Now(); !now.Equal(w.instant) {
		w.instant, w.busy = now, 0
	}
	if w.busy++; w.busy <= mostAtOnce {
		return true
	}
	w.T.Errorf("reconciletest: %d calls to the store without time passing, the last by controller %s for %s: it keeps itself busy", mostAtOnce, c.Controller, c.Running.Key)
	close(p.crashed)
	return false
}

// record notes a reconcile that has ended.
func (w *World) record(p *process, r reconcile.Reconciled) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead() {
		return
	}
	at := r.Controller + " " + r.Key
	w.records = append(w.records, Record{Reconciled: r, At: time.Now(), Calls: w.open[at]})
	delete(w.open, at)
}

// Records returns the reconciles that have ended so far, in that order.
func (w *World) Records() []Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.records)
}

// Calls returns the calls that reconciles have made to the store so far.
func (w *World) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// Faults decides from here on which fault meets each call; nil: none.
func (w *World) Faults(plan func(Call) Fault) {
	if plan == nil {
		plan = func(Call) Fault { return None }
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan = plan
}

// Idempotent checks that controllers that have converged change nothing when
// every object is shown to them again.
func (w *World) Idempotent() {
	w.T.Helper()
	w.mustRun("Idempotent")
	w.settle()
	before, records := w.revision(), len(w.Records())
	w.manager.Resync()
	w.settle()
	if after := w.revision(); after != before {
		w.T.Errorf("reconciletest: not idempotent: shown everything again, the controllers made %d transactions:", after-before)
		for _, r := range w.Records()[records:] {
			for _, wrote := range r.Wrote {
				if wrote.Revision > before {
					w.T.Errorf("  %s %s: %s", r.Controller, r.Key, wrote)
				}
			}
		}
	}
}

func (w *World) revision() uint64 {
	w.T.Helper()
	rev, err := w.store.Revision(w.T.Context())
	if err != nil {
		w.T.Fatalf("reconciletest: revision: %v", err)
	}
	return rev
}

// Kind registers a kind with a manager's store, or looks it up if an earlier
// incarnation of the manager has registered it: for build functions.
func Kind[T store.Copier[T]](m *reconcile.Manager, k store.Kind[T]) (*store.Handle[T], error) {
	if m.Store().Kind(k.KindName()) != nil {
		return store.Lookup[T](m.Store(), k.KindName())
	}
	return store.Register(m.Store(), k)
}
