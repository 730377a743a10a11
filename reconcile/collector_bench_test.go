// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// BenchmarkCollector starts a collector on a store of 100 owners with 100
// dependents each, and deletes the owners: one iteration is all of it. The
// memory is that of the collector's graph.
func BenchmarkCollector(b *testing.B) {
	const owners, each = 100, 100
	b.Run(fmt.Sprintf("objects=%d/slipway", owners*(each+1)), func(b *testing.B) {
		b.ReportAllocs()
		var cpu time.Duration
		var heap int64
		for b.Loop() {
			b.StopTimer()
			st, hulls, planks := ownedPlanks(b, owners, each)
			before, start := heapInUse(), processorTime(b)
			b.StartTimer()
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error)
			go func() {
				done <- reconcile.NewCollector(st, reconcile.CollectorOptions{Interval: time.Millisecond}).Run(ctx)
			}()
			probe(b, planks) // it has caught up
			b.StopTimer()
			heap += heapInUse() - before
			b.StartTimer()
			for i := range owners {
				if _, err := hulls.Delete(ctx, store.NewKey("sea", fmt.Sprint("h-", i))); err != nil {
					b.Fatal(err)
				}
			}
			awaitNone(b, planks)
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			runtime.GC()
			cpu += processorTime(b) - start
			if err := st.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N*owners*each), "cpu-ns/delete")
		b.ReportMetric(float64(heap)/float64(b.N*owners*(each+1)), "heap-B/object")
	})
}

func ownedPlanks(b *testing.B, owners, each int) (*memory.Store, *store.Handle[*hull], *store.Handle[*plank]) {
	st := memory.New(memory.Options{Mutations: store.DetectNever})
	hulls, err := store.Register(st, store.Kind[*hull]{Name: "Hull"})
	if err != nil {
		b.Fatal(err)
	}
	planks, err := store.Register(st, store.Kind[*plank]{Name: "Plank"})
	if err != nil {
		b.Fatal(err)
	}
	for i := range owners {
		h, err := hulls.Create(b.Context(), newHull(fmt.Sprint("h-", i)))
		if err != nil {
			b.Fatal(err)
		}
		for j := range each {
			p := newPlank(fmt.Sprint("p-", i, "-", j))
			if err := reconcile.SetController(planks, p, hulls, h); err != nil {
				b.Fatal(err)
			}
			if _, err := planks.Create(b.Context(), p); err != nil {
				b.Fatal(err)
			}
		}
	}
	return st, hulls, planks
}

// probe waits until an object that nobody owns, and that orphans nobody, is let
// go: then the collector has seen all that was there before.
func probe(b *testing.B, planks *store.Handle[*plank]) {
	key := store.NewKey("sea", "probe")
	if _, err := planks.Create(b.Context(), newPlank(key.Name)); err != nil {
		b.Fatal(err)
	}
	if _, err := reconcile.DeleteOrphan(b.Context(), planks, key); err != nil {
		b.Fatal(err)
	}
	for {
		if _, err := planks.Get(b.Context(), key); err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func awaitNone(b *testing.B, planks *store.Handle[*plank]) {
	for {
		p, err := planks.Page(b.Context(), store.ListOptions{Limit: 1})
		if err != nil {
			b.Fatal(err)
		}
		if len(p.Items) == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// processorTime returns what the process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
