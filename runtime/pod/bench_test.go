// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
)

// BenchmarkFakePods takes pods through the life-cycle manager on the fake runtime, from
// Set to a reported Ready, and measures what an idle one costs.
func BenchmarkFakePods(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("pods=%d/slipway", n), func(b *testing.B) {
			b.ReportAllocs()
			var wall, cpu time.Duration
			var bytes, goroutines float64
			for b.Loop() {
				pods := make([]*pod.Pod, n)
				for i := range pods {
					name := fmt.Sprint("pod-", i)
					pods[i] = &pod.Pod{Name: name, UID: name, Spec: pod.Spec{Containers: []pod.Container{{Name: "main", Image: "example.com/app:1"}}}}
				}
				w, c, bs, g := fakePods(b, pods)
				wall, cpu, bytes, goroutines = wall+w, cpu+c, bs, g
			}
			total := float64(b.N) * float64(n)
			b.ReportMetric(total/wall.Seconds(), "pods/s")
			b.ReportMetric(float64(cpu.Nanoseconds())/total, "cpu-ns/pod")
			b.ReportMetric(bytes/float64(n), "bytes/pod")
			b.ReportMetric(goroutines/float64(n), "goroutines/pod")
		})
	}
}

func fakePods(b *testing.B, pods []*pod.Pod) (wall, cpu time.Duration, bytes, goroutines float64) {
	before, standing := heap(), runtime.NumGoroutine()
	var ready atomic.Int64
	done := make(chan struct{})
	m := pod.New(pod.Config{
		Runtime: fake.New(fake.Options{}),
		OnStatus: func(p *pod.Pod, s *pod.Status) {
			if c, _ := s.Condition(pod.PodReady); c.Status && ready.Add(1) == int64(len(pods)) {
				close(done)
			}
		},
	})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- m.Run(ctx) }()
	begin, cpuBegin := time.Now(), usage()
	for _, p := range pods {
		if err := m.Set(p); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	wall, cpu = time.Since(begin), usage()-cpuBegin
	bytes, goroutines = heap()-before, float64(runtime.NumGoroutine()-standing)
	cancel()
	if err := <-stopped; err != nil {
		b.Fatal(err)
	}
	runtime.KeepAlive(m)
	return wall, cpu, bytes, goroutines
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

func usage() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
