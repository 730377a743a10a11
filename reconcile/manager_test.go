// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
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

func TestManagerRunsOnce(t *testing.T) {
	inDock(t, reconcile.ManagerOptions{}, func(y *dock) {
		if err := y.m.Ready(); err == nil {
			t.Error("ready before it runs")
		}
		y.add("fleet", y.build, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		y.run()
		if err := y.m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "has run already") {
			t.Errorf("a second Run: %v, want an error that says so", err)
		}
		if err := y.end(); err != nil {
			t.Error(err)
		}
		if err := y.m.Ready(); err == nil {
			t.Error("ready after it has stopped")
		}
		_, err := reconcile.New(y.m, "late", y.build, reconcile.Options[store.Key]{}, reconcile.For(y.fleets))
		if err == nil || !strings.Contains(err.Error(), "has stopped") {
			t.Errorf("a controller for a manager that has stopped: %v, want an error", err)
		}
	})
}

func TestManagerRefusesBadOptions(t *testing.T) {
	st := memory.New(memory.Options{})
	defer st.Close()
	for want, opts := range map[string]reconcile.ManagerOptions{
		"both Election and Sharding": {Election: &reconcile.ElectorOptions{}, Sharding: &reconcile.SharderOptions{}},
		"elector":                    {Election: &reconcile.ElectorOptions{}},
		"sharder":                    {Sharding: &reconcile.SharderOptions{}},
	} {
		if err := reconcile.NewManager(st, opts).Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run returned %v, want %q", err, want)
		}
	}
}

// deaf is a store in which one kind can't be read.
type deaf struct {
	store.Engine
	kind store.KindName
	fail *atomic.Bool
}

var errDeaf = errors.New("no permission to list")

func (d deaf) List(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	if s.KindName == d.kind && d.fail.Load() {
		return store.ListMeta{}, errDeaf
	}
	return d.Engine.List(ctx, s, opts, yield)
}

func (d deaf) Watch(ctx context.Context, s *store.Schema, opts store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	if s.KindName == d.kind && d.fail.Load() {
		return func(yield func(store.Event[store.Object], error) bool) { yield(store.Event[store.Object]{}, errDeaf) }
	}
	return d.Engine.Watch(ctx, s, opts)
}

func TestAFailedSourceBlocksOnlyItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		var fail atomic.Bool
		fail.Store(true)
		m := reconcile.NewManager(deaf{st, store.KindName{Name: "Boat"}, &fail}, reconcile.ManagerOptions{})
		fleets := register(t, m, store.Kind[*convoy]{Name: "Fleet", Version: "v1"})
		boats := register(t, m, store.Kind[*barge]{Name: "Boat", Version: "v1"})
		var fleetRuns, boatRuns atomic.Int64
		count := func(n *atomic.Int64) func(context.Context, store.Key) reconcile.Result {
			return func(context.Context, store.Key) reconcile.Result { n.Add(1); return reconcile.Done() }
		}
		if _, err := reconcile.New(m, "fleet", count(&fleetRuns), reconcile.Options[store.Key]{}, reconcile.For(fleets)); err != nil {
			t.Fatal(err)
		}
		c, err := reconcile.New(m, "boat", count(&boatRuns), reconcile.Options[store.Key]{}, reconcile.For(boats), reconcile.Owns(boats, fleets))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()
		if _, err := fleets.Create(ctx, &convoy{Meta: store.Meta{Namespace: "sea", Name: "a"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := boats.Create(ctx, &barge{Meta: store.Meta{Namespace: "sea", Name: "a"}}); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Minute)
		if fleetRuns.Load() != 1 || boatRuns.Load() != 0 {
			t.Errorf("fleets ran %d times, boats %d; want 1 and 0", fleetRuns.Load(), boatRuns.Load())
		}
		err = m.Ready()
		if err == nil || !strings.Contains(err.Error(), "no permission to list") || !strings.Contains(err.Error(), "controller boat") || strings.Contains(err.Error(), "controller fleet") {
			t.Errorf("Ready says %v, want that the controller boat waits, and why", err)
		}
		if e := c.Explain(sea("a")); e.Blocked == nil || !strings.Contains(e.String(), "no permission") {
			t.Errorf("Explain says %s, want why nothing runs", e)
		}
		fail.Store(false)
		after(10 * time.Minute)
		if boatRuns.Load() == 0 {
			t.Error("boats do not run when their source is well")
		}
		if err := m.Ready(); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// replicas are managers with one controller over one store.
type replicas struct {
	t     *testing.T
	store *memory.Store
	mu    sync.Mutex
	busy  map[string]string // key -> replica that works on it
	runs  map[string]int    // by replica
	stops map[string]func() error
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{t: t, store: memory.New(memory.Options{}), busy: map[string]string{}, runs: map[string]int{}, stops: map[string]func() error{}}
	if _, err := store.Register(r.store, store.Kind[*convoy]{Name: "Fleet", Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replicas) start(name string, opts reconcile.ManagerOptions, work time.Duration) *reconcile.Manager {
	r.t.Helper()
	m := reconcile.NewManager(r.store, opts)
	fleets, err := store.Lookup[*convoy](m.Store(), store.KindName{Name: "Fleet"})
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result {
		r.mu.Lock()
		if other := r.busy[key.Name]; other != "" {
			r.t.Errorf("%s works on %s, and so does %s", name, key.Name, other)
		}
		r.busy[key.Name] = name
		r.runs[name]++
		r.mu.Unlock()
		time.Sleep(work)
		_, err := fleets.Patch(ctx, key, func(f *convoy) error { f.Status.Boats = f.Spec.Boats; return nil })
		r.mu.Lock()
		delete(r.busy, key.Name)
		r.mu.Unlock()
		return reconcile.OK(err)
	}, reconcile.Options[store.Key]{Workers: 4}, reconcile.For(fleets, reconcile.GenerationChanged))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	r.stops[name] = func() error {
		cancel()
		delete(r.stops, name)
		return <-ended
	}
	return m
}

func (r *replicas) create(n int) {
	r.t.Helper()
	fleets, err := store.Lookup[*convoy](r.store, store.KindName{Name: "Fleet"})
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range n {
		f := &convoy{Meta: store.Meta{Namespace: "sea", GenerateName: fmt.Sprintf("f-%d-", i)}}
		f.Spec.Boats = 1
		if _, err := fleets.Create(r.t.Context(), f); err != nil {
			r.t.Fatal(err)
		}
	}
}

// left returns how many fleets have not been worked on.
func (r *replicas) left() (n int) {
	r.t.Helper()
	fleets, err := store.Lookup[*convoy](r.store, store.KindName{Name: "Fleet"})
	if err != nil {
		r.t.Fatal(err)
	}
	for f, err := range fleets.List(r.t.Context()) {
		if err != nil {
			r.t.Fatal(err)
		}
		if f.Status.Boats != f.Spec.Boats {
			n++
		}
	}
	return n
}

func (r *replicas) end() {
	for _, stop := range r.stops {
		if err := stop(); err != nil {
			r.t.Error(err)
		}
	}
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
}

func TestOnlyTheLeaderWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(t)
		defer r.end()
		election := func(name string) reconcile.ManagerOptions {
			return reconcile.ManagerOptions{Election: &reconcile.ElectorOptions{Namespace: "sea", Name: "fleet", Identity: name}}
		}
		a := r.start("a", election("a"), time.Second)
		synctest.Wait()
		b := r.start("b", election("b"), time.Second)
		r.create(10)
		after(10 * time.Second)
		if r.left() != 0 || r.runs["a"] != 10 || r.runs["b"] != 0 {
			t.Fatalf("runs %v, %d left; want all 10 by a", r.runs, r.left())
		}
		if err := errors.Join(a.Ready(), b.Ready()); err != nil {
			t.Errorf("a replica that only waits to lead is ready: %v", err)
		}
		r.create(4)
		time.Sleep(500 * time.Millisecond) // a is in the middle of it
		if err := r.stops["a"](); err != nil {
			t.Error(err)
		}
		r.create(4)
		after(10 * time.Second)
		if r.left() != 0 || r.runs["a"] != 14 {
			t.Errorf("runs %v, %d left; want a to have finished 14, and b the rest", r.runs, r.left())
		}
	})
}

func TestShardsDivideTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(t)
		defer r.end()
		shards := func(name string) reconcile.ManagerOptions {
			return reconcile.ManagerOptions{Sharding: &reconcile.SharderOptions{Namespace: "sea", Name: "fleet", Identity: name}}
		}
		r.start("a", shards("a"), 100*time.Millisecond)
		r.start("b", shards("b"), 100*time.Millisecond)
		after(time.Minute)
		r.create(100)
		after(time.Minute)
		if r.left() != 0 || r.runs["a"] < 20 || r.runs["b"] < 20 {
			t.Fatalf("runs %v, %d left; want a fair share for each", r.runs, r.left())
		}
		r.start("c", shards("c"), 100*time.Millisecond)
		r.create(100)
		after(2 * time.Minute)
		r.create(100)
		after(time.Minute)
		if err := r.stops["a"](); err != nil {
			t.Error(err)
		}
		r.create(100)
		after(2 * time.Minute)
		if r.left() != 0 || r.runs["c"] < 20 {
			t.Errorf("runs %v, %d left after one came and one went", r.runs, r.left())
		}
	})
}
