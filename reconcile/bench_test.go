// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// BenchmarkReconcile measures a controller in the process of its store: from one
// write to the end of the reconcile that it causes, which reads the object
// (latency), and reconciles per second when 10,000 keys change as fast as 8
// workers follow (throughput), each of which reads its object and writes its
// status.
func BenchmarkReconcile(b *testing.B) {
	b.Run("latency/slipway", benchLatency)
	b.Run("throughput/keys=10000/workers=8/slipway", benchThroughput)
}

// benchController runs a controller over n fleets and returns their handle.
func benchController(b *testing.B, n int, workers int, f func(context.Context, *store.Handle[*convoy], store.Key) reconcile.Result) *store.Handle[*convoy] {
	b.Helper()
	st := memory.New(memory.Options{Mutations: store.DetectNever})
	m := reconcile.NewManager(st, reconcile.ManagerOptions{})
	fleets, err := store.Register(m.Store(), store.Kind[*convoy]{Name: "Fleet"})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if _, err := fleets.Create(b.Context(), &convoy{Meta: store.Meta{Namespace: "sea", Name: fmt.Sprintf("f-%05d", i)}}); err != nil {
			b.Fatal(err)
		}
	}
	c, err := reconcile.New(m, "fleet", func(ctx context.Context, key store.Key) reconcile.Result { return f(ctx, fleets, key) },
		reconcile.Options[store.Key]{Workers: workers}, reconcile.For(fleets))
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := st.Close(); err != nil {
			b.Error(err)
		}
	})
	<-c.Settled()
	return fleets
}

func benchLatency(b *testing.B) {
	reconciled := make(chan time.Time, 1)
	var armed atomic.Bool
	fleets := benchController(b, 1000, 1, func(ctx context.Context, fleets *store.Handle[*convoy], key store.Key) reconcile.Result {
		_, err := fleets.Get(ctx, key)
		if armed.CompareAndSwap(true, false) {
			reconciled <- time.Now()
		}
		return reconcile.OK(err)
	})
	key := store.NewKey("sea", "f-00500")
	var took []time.Duration
	cpu := cpuTime()
	for b.Loop() {
		armed.Store(true)
		begun := time.Now()
		if _, err := fleets.Patch(context.Background(), key, func(f *convoy) error { f.Spec.Boats++; return nil }); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-reconciled).Sub(begun))
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(len(took)), "cpu-ns/reconcile")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}

func benchThroughput(b *testing.B) {
	const keys = 10_000
	var done atomic.Int64
	fleets := benchController(b, keys, 8, func(ctx context.Context, fleets *store.Handle[*convoy], key store.Key) reconcile.Result {
		f, err := fleets.Get(ctx, key)
		if err != nil {
			return reconcile.Retry(err)
		}
		if f.Status.Boats == f.Spec.Boats {
			return reconcile.Done()
		}
		_, err = fleets.Patch(ctx, key, func(f *convoy) error { f.Status.Boats = f.Spec.Boats; return nil })
		if err == nil {
			done.Add(1)
		}
		return reconcile.OK(err)
	})
	b.ReportAllocs()
	cpu, begun := cpuTime(), time.Now()
	n := 0
	for b.Loop() {
		done.Store(0)
		for i := range keys {
			key := store.NewKey("sea", fmt.Sprintf("f-%05d", i))
			if _, err := fleets.Patch(context.Background(), key, func(f *convoy) error { f.Spec.Boats++; return nil }); err != nil {
				b.Fatal(err)
			}
		}
		for done.Load() < keys {
			time.Sleep(time.Millisecond)
		}
		n += keys
	}
	b.ReportMetric(float64(n)/time.Since(begun).Seconds(), "reconciles/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(n), "cpu-ns/reconcile")
}

// cpuTime returns the processor time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
