// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// convoy and boat are an owner and what it owns.
type convoy struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Boats  int    `json:"boats"`
		Colour string `json:"colour"`
	} `json:"spec"`
	Status struct {
		Boats int `json:"boats"`
		Runs  int `json:"runs"`
	} `json:"status"`
}

func (f *convoy) DeepCopy() *convoy { return store.DeepCopy(f) }

type barge struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Colour string `json:"colour"`
	} `json:"spec"`
}

func (b *barge) DeepCopy() *barge { return store.DeepCopy(b) }

// dock is a manager with the two kinds, in virtual time.
type dock struct {
	t      *testing.T
	store  *memoryEngine
	m      *reconcile.Manager
	fleets *store.Handle[*convoy]
	boats  *store.Handle[*barge]
	stop   context.CancelFunc
	ended  chan error

	mu   sync.Mutex
	done []reconcile.Reconciled
}

type memoryEngine = memory.Store

// inDock calls f in a bubble, in a dock whose manager does not run yet, and stops
// the manager after it.
func inDock(t *testing.T, opts reconcile.ManagerOptions, f func(*dock)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		y := &dock{t: t, store: memory.New(memory.Options{})}
		opts.Hooks.Reconciled = func(r reconcile.Reconciled) {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.done = append(y.done, r)
		}
		y.m = reconcile.NewManager(y.store, opts)
		y.fleets = register(t, y.m, store.Kind[*convoy]{Name: "Fleet", Group: "sea.example", Version: "v1"})
		y.boats = register(t, y.m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		f(y)
		if err := y.end(); err != nil {
			t.Errorf("the manager ended with %v", err)
		}
		if err := y.store.Close(); err != nil {
			t.Error(err)
		}
	})
}

func register[T store.Copier[T]](t *testing.T, m *reconcile.Manager, k store.Kind[T]) *store.Handle[T] {
	t.Helper()
	h, err := store.Register(m.Store(), k)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// run runs the manager and waits until it is quiet.
func (y *dock) run() {
	ctx, cancel := context.WithCancel(context.Background())
	y.stop, y.ended = cancel, make(chan error, 1)
	go func() { y.ended <- y.m.Run(ctx) }()
	synctest.Wait()
}

// end stops the manager, if it runs, and returns what it returns.
func (y *dock) end() error {
	if y.stop == nil {
		return nil
	}
	y.stop()
	y.stop = nil
	return <-y.ended
}

func (y *dock) add(name string, f func(context.Context, store.Key) reconcile.Result, opts reconcile.Options[store.Key], triggers ...reconcile.Trigger[store.Key]) *reconcile.Controller[store.Key] {
	y.t.Helper()
	c, err := reconcile.New(y.m, name, f, opts, triggers...)
	if err != nil {
		y.t.Fatal(err)
	}
	return c
}

func (y *dock) newFleet(name string, boats int) *convoy {
	y.t.Helper()
	f := &convoy{Meta: store.Meta{Namespace: "sea", Name: name}}
	f.Spec.Boats = boats
	f, err := y.fleets.Create(y.t.Context(), f)
	if err != nil {
		y.t.Fatal(err)
	}
	return f
}

func (y *dock) patchFleet(name string, change func(*convoy)) {
	y.t.Helper()
	_, err := y.fleets.Patch(y.t.Context(), sea(name), func(f *convoy) error { change(f); return nil })
	if err != nil {
		y.t.Fatal(err)
	}
}

// runs returns the reconciles of a key that have ended, in order.
func (y *dock) runs(key string) (out []reconcile.Reconciled) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, r := range y.done {
		if r.Key == key {
			out = append(out, r)
		}
	}
	return out
}

// list collects what hooks are told.
type list[T any] struct {
	mu    sync.Mutex
	items []T
}

func (l *list[T]) add(item T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = append(l.items, item)
}

func (l *list[T]) all() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.items)
}

func sea(name string) store.Key { return store.NewKey("sea", name) }

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// build makes a convoy have the boats that it asks for.
func (y *dock) build(ctx context.Context, key store.Key) reconcile.Result {
	f, err := y.fleets.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	}
	if err != nil {
		return reconcile.Retry(err)
	}
	have := 0
	for b, err := range y.boats.List(ctx, store.ListOptions{Namespace: key.Namespace}) {
		if err != nil {
			return reconcile.Retry(err)
		}
		if strings.HasPrefix(b.Name, key.Name+"-") {
			have++
		}
	}
	for ; have < f.Spec.Boats; have++ {
		b := &barge{Meta: store.Meta{Namespace: key.Namespace, Name: fmt.Sprintf("%s-%d", key.Name, have)}}
		b.OwnerReferences = []store.OwnerReference{{APIVersion: "sea.example/v1", Kind: "Fleet", Name: f.Name, UID: f.UID, Controller: new(true)}}
		if _, err := y.boats.Create(ctx, b); err != nil {
			return reconcile.Retry(err)
		}
	}
	_, err = y.fleets.Patch(ctx, key, func(f *convoy) error { f.Status.Boats = have; return nil })
	return reconcile.OK(err)
}

func TestControllerMakesItSo(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		c := y.add("fleet", y.build, reconcile.Options[store.Key]{}, reconcile.For(y.fleets), reconcile.Owns(y.boats, y.fleets))
		y.newFleet("before", 2)
		y.run()
		y.newFleet("after", 3)
		synctest.Wait()
		for name, want := range map[string]int{"before": 2, "after": 3} {
			f, err := y.fleets.Get(t.Context(), sea(name))
			if err != nil || f.Status.Boats != want {
				t.Errorf("convoy %s: %d boats, %v; want %d", name, f.Status.Boats, err, want)
			}
		}
		// An owned object that goes brings its owner back.
		if _, err := y.boats.Delete(t.Context(), sea("after-2")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := y.boats.Get(t.Context(), sea("after-2")); err != nil {
			t.Errorf("the boat that was sunk has not been built again: %v", err)
		}
		select {
		case <-c.Settled():
		default:
			t.Error("the controller has worked on all that it found, and has not settled")
		}
		if err := y.m.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

func TestResults(t *testing.T) {
	broken := errors.New("broken")
	results := map[string]reconcile.Result{
		"done":     reconcile.Done(),
		"again":    reconcile.Again(time.Minute),
		"retry":    reconcile.Retry(broken),
		"parked":   reconcile.Park(broken),
		"zero":     {},
		"nil":      reconcile.Retry(nil),
		"ok":       reconcile.OK(nil),
		"conflict": reconcile.Retry(fmt.Errorf("a reason: %w", store.ErrConflict)),
	}
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		c := y.add("fleet", func(_ context.Context, key store.Key) reconcile.Result { return results[key.Name] },
			reconcile.Options[store.Key]{Backoff: reconcile.Backoff{Initial: time.Second, Max: time.Second}}, reconcile.For(y.fleets))
		y.run()
		for name := range results {
			y.newFleet(name, 0)
		}
		after(10 * time.Minute)
		tests := map[string]struct {
			outcome  reconcile.Outcome
			from, to int // how often it ran
		}{
			"done":     {reconcile.OutcomeDone, 1, 1},
			"ok":       {reconcile.OutcomeDone, 1, 1},
			"again":    {reconcile.OutcomeAgain, 11, 11},
			"retry":    {reconcile.OutcomeRetry, 300, 1200},
			"zero":     {reconcile.OutcomeRetry, 300, 1200},
			"nil":      {reconcile.OutcomeRetry, 300, 1200},
			"parked":   {reconcile.OutcomeParked, 1, 1},
			"conflict": {reconcile.OutcomeConflict, 300, 1_000_000},
		}
		for name, tt := range tests {
			runs := y.runs("sea/" + name)
			if n := len(runs); n < tt.from || n > tt.to {
				t.Errorf("%s: ran %d times, want %d to %d", name, n, tt.from, tt.to)
				continue
			}
			if got := runs[0].Outcome; got != tt.outcome {
				t.Errorf("%s: outcome %q, want %q", name, got, tt.outcome)
			}
		}
		// A change, and nothing else, brings back what ended for good.
		y.patchFleet("parked", func(f *convoy) { f.Spec.Boats = 1 })
		synctest.Wait()
		if n := len(y.runs("sea/parked")); n != 2 {
			t.Errorf("parked: ran %d times after a change, want 2", n)
		}
		c.Add(sea("parked"))
		synctest.Wait()
		if n := len(y.runs("sea/parked")); n != 3 {
			t.Errorf("parked: ran %d times after Add, want 3", n)
		}
	})
}

func TestAReconcileSeesItsOwnWritesAndOneState(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		var runs atomic.Int64
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			if runs.Load() == 3 {
				return reconcile.Done()
			}
			f, err := y.fleets.Get(ctx, key)
			if err != nil {
				return reconcile.Retry(err)
			}
			// Somebody else writes both kinds meanwhile: not to be seen.
			outside := context.Background()
			if _, err := y.fleets.Patch(outside, key, func(f *convoy) error { f.Spec.Colour += "x"; return nil }); err != nil {
				return reconcile.Retry(err)
			}
			if _, err := y.boats.Create(outside, &barge{Meta: store.Meta{Namespace: "sea", Name: fmt.Sprintf("stray-%d", runs.Load())}}); err != nil {
				return reconcile.Retry(err)
			}
			again, err := y.fleets.Get(ctx, key)
			if err != nil || again != f {
				t.Errorf("two reads of one object without a write in between differ: %v, %v", again, err)
			}
			n := 0
			for range y.boats.List(ctx) {
				n++
			}
			if want := 2 * int(runs.Load()); n != want {
				t.Errorf("run %d: a list sees %d boats, want %d: of one revision with the object", runs.Load(), n, want)
			}
			// What it writes itself it sees at once, with all that came before.
			own := fmt.Sprintf("own-%d", runs.Load())
			if _, err := y.boats.Create(ctx, &barge{Meta: store.Meta{Namespace: "sea", Name: own}}); err != nil {
				return reconcile.Retry(err)
			}
			if _, err := y.boats.Get(ctx, sea(own)); err != nil {
				t.Errorf("its own write: %v", err)
			}
			if now, err := y.fleets.Get(ctx, key); err != nil || now == f {
				t.Errorf("after a write the view has not moved on: %v", err)
			}
			runs.Add(1)
			return reconcile.Again(0)
		}, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.newFleet("one", 0)
		y.run()
		if n := runs.Load(); n != 3 {
			t.Errorf("ran %d times, want 3", n)
		}
	})
}

func TestPanicIsAFailure(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		c := y.add("fleet", func(context.Context, store.Key) reconcile.Result { panic("leak") },
			reconcile.Options[store.Key]{MaxAttempts: 3}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("one", 0)
		after(time.Hour)
		runs := y.runs("sea/one")
		if len(runs) != 3 {
			t.Fatalf("ran %d times, want 3 attempts", len(runs))
		}
		for i, r := range runs {
			p, ok := errors.AsType[*reconcile.PanicError](r.Err)
			if !ok || p.Value != "leak" || !strings.Contains(p.Stack, "TestPanicIsAFailure") {
				t.Errorf("attempt %d: %v, want the panic with its stack", i, r.Err)
			}
			want := reconcile.OutcomePanic
			if i == 2 {
				want = reconcile.OutcomeParked
			}
			if r.Outcome != want {
				t.Errorf("attempt %d: %s, want %s", i, r.Outcome, want)
			}
		}
		if text := c.Explain(sea("one")).String(); !strings.Contains(text, "parked") || !strings.Contains(text, "leak") {
			t.Errorf("Explain says %q, want that it is parked and why", text)
		}
	})
}

func TestMappingFunctions(t *testing.T) {
	var panics list[reconcile.Panicked]
	opts := reconcile.ManagerOptions{Hooks: reconcile.Hooks{Panicked: panics.add}}
	inDock(t, opts, func(y *dock) {
		var seen list[string]
		byColour := reconcile.Watches(y.fleets, func(f *convoy) []string {
			if f.Spec.Colour == "" {
				panic("no colour")
			}
			return []string{f.Spec.Colour, f.Spec.Colour} // a duplicate counts once
		})
		_, err := reconcile.New(y.m, "colour", func(_ context.Context, colour string) reconcile.Result {
			seen.add(colour)
			return reconcile.Done()
		}, reconcile.Options[string]{}, byColour)
		if err != nil {
			t.Fatal(err)
		}
		y.run()
		y.newFleet("pale", 0)
		synctest.Wait()
		y.newFleet("dark", 0)
		synctest.Wait()
		if panicked := panics.all(); len(panicked) != 2 || panicked[0].Object != "Fleet.sea.example sea/pale" || panicked[0].Trigger != "watches Fleet.sea.example" {
			t.Fatalf("panics: %+v, want one for each convoy, with its name", panicked)
		}
		create := &convoy{Meta: store.Meta{Namespace: "sea", Name: "red"}}
		create.Spec.Colour = "red"
		if _, err := y.fleets.Create(t.Context(), create); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := seen.all(); !slices.Equal(got, []string{"red"}) {
			t.Errorf("%v ran, want red once", got)
		}
		y.patchFleet("red", func(f *convoy) { f.Spec.Colour = "blue" })
		synctest.Wait()
		got := seen.all()
		slices.Sort(got)
		if !slices.Equal(got, []string{"blue", "red", "red"}) {
			t.Errorf("after a change from red to blue %v ran, want both once more", got)
		}
	})
}

func TestPredicates(t *testing.T) {
	old := &convoy{Meta: store.Meta{Generation: 1, Labels: map[string]string{"a": "1"}, Annotations: map[string]string{"a": "1"}, Finalizers: []string{"a"}}}
	change := func(f func(*convoy)) reconcile.Change[*convoy] {
		c := reconcile.Change[*convoy]{Type: store.Modified, Old: old, New: old.DeepCopy()}
		f(c.New)
		return c
	}
	status := change(func(f *convoy) { f.Status.Boats = 1 })
	generation := change(func(f *convoy) { f.Generation = 2 })
	label := change(func(f *convoy) { f.Labels["a"] = "2" })
	annotation := change(func(f *convoy) { f.Annotations["a"] = "2" })
	finalizer := change(func(f *convoy) { f.Finalizers = nil })
	resync := status
	resync.Resync = true
	added := reconcile.Change[*convoy]{Type: store.Added, New: old}
	deleted := reconcile.Change[*convoy]{Type: store.Deleted, Old: old}
	tests := []struct {
		name string
		p    reconcile.Predicate[*convoy]
		pass reconcile.Change[*convoy]
	}{
		{"GenerationChanged", reconcile.GenerationChanged[*convoy], generation},
		{"LabelsChanged", reconcile.LabelsChanged[*convoy], label},
		{"AnnotationsChanged", reconcile.AnnotationsChanged[*convoy], annotation},
		{"FinalizersChanged", reconcile.FinalizersChanged[*convoy], finalizer},
	}
	for _, tt := range tests {
		for i, c := range []reconcile.Change[*convoy]{tt.pass, resync, added, deleted} {
			if !tt.p(c) {
				t.Errorf("%s refuses change %d", tt.name, i)
			}
			if reconcile.Not(tt.p)(c) {
				t.Errorf("Not(%s) passes change %d", tt.name, i)
			}
		}
		if tt.p(status) {
			t.Errorf("%s passes a status change", tt.name)
		}
		for _, other := range tests {
			if other.name != tt.name && tt.p(other.pass) {
				t.Errorf("%s passes what %s is for", tt.name, other.name)
			}
			if !reconcile.Any(tt.p, other.p)(other.pass) {
				t.Errorf("Any(%s, %s) refuses what the second passes", tt.name, other.name)
			}
		}
	}
}

func TestWorkersShareKeysButNeverOne(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		var mu sync.Mutex
		busy, most := map[store.Key]bool{}, 0
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			mu.Lock()
			if busy[key] {
				t.Errorf("%s runs twice at once", key)
			}
			busy[key] = true
			most = max(most, len(busy))
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			delete(busy, key)
			mu.Unlock()
			return reconcile.Done()
		}, reconcile.Options[store.Key]{Workers: 4}, reconcile.For(y.fleets))
		y.run()
		for i := range 10 {
			y.newFleet(fmt.Sprint(i), 0)
		}
		for range 20 {
			after(300 * time.Millisecond)
			y.patchFleet("3", func(f *convoy) { f.Spec.Boats++ })
		}
		after(time.Minute)
		if most != 4 {
			t.Errorf("at most %d keys were worked on at once, want 4", most)
		}
	})
}

func TestOverdueReconcileIsReportedAndReplaced(t *testing.T) {
	var reports list[reconcile.Overdue]
	opts := reconcile.ManagerOptions{Hooks: reconcile.Hooks{Overdue: reports.add}}
	inDock(t, opts, func(y *dock) {
		free := make(chan struct{})
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			if key.Name == "stuck" {
				stuckHere(free)
			}
			return reconcile.Done()
		}, reconcile.Options[store.Key]{Timeout: time.Minute, Patience: 10 * time.Second}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("stuck", 0)
		synctest.Wait()
		y.newFleet("other", 0)
		after(69 * time.Second)
		if overdue := reports.all(); len(overdue) != 0 || len(y.runs("sea/other")) != 0 {
			t.Fatalf("after 69 s: %d reports, the other ran %d times; want none yet", len(overdue), len(y.runs("sea/other")))
		}
		after(2 * time.Second)
		if overdue := reports.all(); len(overdue) != 1 || overdue[0].Key != "sea/stuck" || !strings.Contains(overdue[0].Stack, "stuckHere") {
			t.Fatalf("after 71 s: %+v, want one report with the stack", overdue)
		}
		if err := y.m.Healthy(); !errors.Is(err, reconcile.ErrStuck) || !strings.Contains(err.Error(), "sea/stuck") {
			t.Errorf("Healthy says %v, want the stuck key", err)
		}
		if len(y.runs("sea/other")) != 1 {
			t.Error("no other worker has taken the place of the stuck one")
		}
		y.patchFleet("stuck", func(f *convoy) { f.Spec.Boats++ })
		after(time.Minute)
		if len(y.runs("sea/stuck")) != 0 {
			t.Error("the stuck key runs a second time beside the first")
		}
		close(free)
		after(time.Minute)
		if err := y.m.Healthy(); err != nil {
			t.Errorf("Healthy says %v when the key is free again", err)
		}
		if n := len(y.runs("sea/stuck")); n != 2 {
			t.Errorf("the stuck key ran %d times after it was freed, want 2", n)
		}
	})
}

func stuckHere(free chan struct{}) { <-free }

func TestStopIsGraceful(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{GracePeriod: 30 * time.Second}, func(y *dock) {
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			if key.Name == "quick" {
				time.Sleep(20 * time.Second)
				return reconcile.OK(ctx.Err())
			}
			<-ctx.Done()
			return reconcile.Retry(context.Cause(ctx))
		}, reconcile.Options[store.Key]{Workers: 2}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("quick", 0)
		y.newFleet("slow", 0)
		synctest.Wait()
		begun := time.Now()
		if err := y.end(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("stopping took %v, want the grace period of 30 s", took)
		}
		if r := y.runs("sea/quick"); len(r) != 1 || r[0].Outcome != reconcile.OutcomeDone {
			t.Errorf("the quick one: %+v, want done", r)
		}
		if r := y.runs("sea/slow"); len(r) != 1 || !errors.Is(r[0].Err, reconcile.ErrStopped) {
			t.Errorf("the slow one: %+v, want to be told that the manager stopped", r)
		}
	})
}

func TestStopGivesUpOnAStuckReconcile(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{GracePeriod: time.Second}, func(y *dock) {
		free := make(chan struct{})
		y.add("fleet", func(context.Context, store.Key) reconcile.Result { <-free; return reconcile.Done() },
			reconcile.Options[store.Key]{Patience: time.Second}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("stuck", 0)
		synctest.Wait()
		err := y.end()
		if !errors.Is(err, reconcile.ErrStuck) || !strings.Contains(err.Error(), "sea/stuck") {
			t.Errorf("Run returned %v, want ErrStuck with the key", err)
		}
		close(free)
	})
}

func TestLoopOfOwnWritesIsReported(t *testing.T) {
	var reports list[reconcile.Loop]
	opts := reconcile.ManagerOptions{Hooks: reconcile.Hooks{Loop: reports.add}}
	inDock(t, opts, func(y *dock) {
		limit := 0
		c := y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			if key.Name == "calm" {
				return reconcile.Done()
			}
			time.Sleep(time.Second)
			_, err := y.fleets.Patch(ctx, key, func(f *convoy) error { f.Status.Runs++; return nil })
			if limit++; limit == 25 { // a change from outside begins the count anew
				y.patchFleet("busy", func(f *convoy) { f.Spec.Boats++ })
			}
			return reconcile.OK(err)
		}, reconcile.Options[store.Key]{LoopAfter: 10}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("calm", 0)
		y.newFleet("busy", 0)
		after(24 * time.Second)
		if loops := reports.all(); len(loops) != 2 || loops[0].Runs != 10 || loops[1].Runs != 20 || loops[0].Key != "sea/busy" {
			t.Fatalf("reports: %+v, want two, after 10 and 20 runs", loops)
		}
		if e := c.Explain(sea("busy")); e.Loop < 20 || !strings.Contains(e.String(), "keeps itself busy") {
			t.Errorf("Explain says %s", e)
		}
		if e := c.Explain(sea("calm")); e.Loop != 0 {
			t.Errorf("the calm one: %s", e)
		}
		after(10 * time.Second)
		if n := len(reports.all()); n != 2 {
			t.Errorf("%d reports after a change from outside, want the count to begin anew", n)
		}
	})
}

func TestTriggersComeAndGo(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		c := y.add("fleet", func(context.Context, store.Key) reconcile.Result { return reconcile.Done() }, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.run()
		remove, err := c.AddTrigger(reconcile.Watches(y.boats, func(b *barge) []store.Key { return []store.Key{sea("of-" + b.Name)} }))
		if err != nil {
			t.Fatal(err)
		}
		boat1 := &barge{Meta: store.Meta{Namespace: "sea", Name: "1"}}
		if _, err := y.boats.Create(t.Context(), boat1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(y.runs("sea/of-1")); n != 1 {
			t.Errorf("ran %d times, want once", n)
		}
		remove()
		if _, err := y.boats.Delete(t.Context(), sea("1")); err != nil {
			t.Fatal(err)
		}
		y.newFleet("still", 0)
		synctest.Wait()
		if n := len(y.runs("sea/of-1")); n != 1 {
			t.Errorf("ran %d times after the trigger was removed, want still once", n)
		}
		if n := len(y.runs("sea/still")); n != 1 {
			t.Errorf("the other trigger ran %d times, want once", n)
		}
		// A controller can come while the manager runs.
		var found []string
		y.add("late", func(_ context.Context, key store.Key) reconcile.Result {
			found = append(found, key.Name)
			return reconcile.Done()
		},
			reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		synctest.Wait()
		if !slices.Equal(found, []string{"still"}) {
			t.Errorf("a controller added late found %v, want still", found)
		}
	})
}

func TestStartAndAfter(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		var order []string
		tries := 0
		step := func(name string) func(context.Context, store.Key) reconcile.Result {
			return func(context.Context, store.Key) reconcile.Result {
				time.Sleep(time.Second)
				order = append(order, name)
				return reconcile.Done()
			}
		}
		first := y.add("first", step("first"), reconcile.Options[store.Key]{Start: func(context.Context) error {
			if tries++; tries < 3 {
				return errors.New("not yet")
			}
			order = append(order, "start")
			return nil
		}}, reconcile.For(y.fleets))
		y.add("second", step("second"), reconcile.Options[store.Key]{After: []reconcile.Waiter{first}}, reconcile.For(y.fleets))
		y.newFleet("a", 0)
		y.newFleet("b", 0)
		y.run()
		if err := y.m.Ready(); err == nil || !strings.Contains(err.Error(), "not yet") || !strings.Contains(err.Error(), "waiting for controller first") {
			t.Errorf("Ready says %v, want why both wait", err)
		}
		after(time.Minute)
		if want := []string{"start", "first", "first", "second", "second"}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
	})
}

func TestBadControllers(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		f := func(context.Context, store.Key) reconcile.Result { return reconcile.Done() }
		y.add("taken", f, reconcile.Options[store.Key]{})
		raw, err := store.Lookup[*convoy](y.store, store.KindName{Group: "sea.example", Name: "Fleet"})
		if err != nil {
			t.Fatal(err)
		}
		type options = reconcile.Options[store.Key]
		tests := []struct {
			name     string
			f        func(context.Context, store.Key) reconcile.Result
			opts     options
			triggers []reconcile.Trigger[store.Key]
			want     string
		}{
			{"", f, options{}, nil, "name is empty"},
			{"taken", f, options{}, nil, "has a controller of that name"},
			{"x", nil, options{}, nil, "function is nil"},
			{"x", f, options{Workers: -1}, nil, "-1 workers: want 1 or more"},
			{"x", f, options{Patience: -1}, nil, "patience"},
			{"x", f, options{MaxAttempts: -1}, nil, "attempts"},
			{"x", f, options{Resync: -1}, nil, "resync"},
			{"x", f, options{Remember: -1}, nil, "remember"},
			{"x", f, options{Backoff: reconcile.Backoff{Initial: -1}}, nil, "Backoff.Initial"},
			{"x", f, options{After: []reconcile.Waiter{nil}}, nil, "nil controller in After"},
			{"x", f, options{}, []reconcile.Trigger[store.Key]{{}}, "zero value"},
			{"x", f, options{}, []reconcile.Trigger[store.Key]{reconcile.For(raw)}, "not bound to this manager's store"},
		}
		for _, tt := range tests {
			_, err := reconcile.New(y.m, tt.name, tt.f, tt.opts, tt.triggers...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New(%q, %+v): %v, want %q", tt.name, tt.opts, err, tt.want)
			}
		}
	})
}

// TestAFailureThatWritesBacksOff: the echo of what a failed run wrote, its status
// say, is no news, and does not cut the back-off short; a change from outside is.
func TestAFailureThatWritesBacksOff(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			_, err := y.fleets.Patch(ctx, key, func(f *convoy) error { f.Status.Runs++; return nil })
			if key.Name == "slow" {
				time.Sleep(time.Second) // the echo comes during the run
			}
			return reconcile.Retry(errors.Join(errors.New("storm"), err))
		}, reconcile.Options[store.Key]{Workers: 2, Backoff: reconcile.Backoff{Initial: time.Minute, Max: time.Minute}}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("quick", 0)
		y.newFleet("slow", 0)
		after(time.Hour)
		for _, name := range []string{"quick", "slow"} {
			if n := len(y.runs("sea/" + name)); n < 55 || n > 76 {
				t.Errorf("%s: ran %d times in an hour with a back-off of a minute", name, n)
			}
		}
		before := len(y.runs("sea/quick"))
		y.patchFleet("quick", func(f *convoy) { f.Spec.Boats++ })
		synctest.Wait()
		if n := len(y.runs("sea/quick")); n != before+1 {
			t.Errorf("ran %d times after a change from outside, want once, at once", n-before)
		}
	})
}

// TestAParkedKeyThatWritesStaysParked: nor does the echo unpark; a change from
// outside that comes during the run does.
func TestAParkedKeyThatWritesStaysParked(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		y.add("fleet", func(ctx context.Context, key store.Key) reconcile.Result {
			_, err := y.fleets.Patch(ctx, key, func(f *convoy) error { f.Status.Runs++; return nil })
			time.Sleep(time.Second) // the echo comes during the run
			return reconcile.Park(errors.Join(errors.New("sunk"), err))
		}, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("one", 0)
		after(time.Hour)
		if n := len(y.runs("sea/one")); n != 1 {
			t.Fatalf("ran %d times in an hour, want once", n)
		}
		y.patchFleet("one", func(f *convoy) { f.Spec.Boats = 1 })
		after(500 * time.Millisecond) // a second change, in the middle of the run
		y.patchFleet("one", func(f *convoy) { f.Spec.Boats = 2 })
		after(time.Hour)
		if n := len(y.runs("sea/one")); n != 3 {
			t.Errorf("ran %d times, want once more for each of two changes", n)
		}
	})
}

// TestGoexitIsAFailure: a function that ends its goroutine, as t.Fatal does, takes
// neither its key nor its worker with it.
func TestGoexitIsAFailure(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		var calls atomic.Int64
		y.add("fleet", func(context.Context, store.Key) reconcile.Result {
			if calls.Add(1) <= 3 {
				runtime.Goexit()
			}
			return reconcile.Done()
		}, reconcile.Options[store.Key]{Timeout: -1}, reconcile.For(y.fleets))
		y.run()
		y.newFleet("one", 0)
		after(time.Hour)
		runs := y.runs("sea/one")
		if len(runs) != 4 || runs[3].Outcome != reconcile.OutcomeDone || !strings.Contains(runs[0].Err.Error(), "Goexit") {
			t.Errorf("runs %+v, want three failures that say Goexit, then done", runs)
		}
	})
}
