// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// The benchmarks compare, in one run, the store with its floors: a raw go-memdb
// with the same indexes and nothing else (no versions, no history, no hooks),
// and a map under a mutex. All of them take the objects over; none copies. The
// objects are pods of about 1 KB with two indexes: namespace, as part of the
// key, and node.

// benchPod is shaped like a small Kubernetes pod.
type benchPod struct {
	store.Meta `json:"metadata"`
	Spec       benchSpec   `json:"spec"`
	Status     benchStatus `json:"status"`
}

type benchSpec struct {
	NodeName, ServiceAccount, Scheduler string
	Containers                          []benchContainer
	NodeSelector                        map[string]string
}

type benchContainer struct {
	Name, Image string
	Args        []string
}

type benchStatus struct {
	Phase, HostIP, PodIP string
	Conditions           []benchCondition
}

type benchCondition struct {
	Type, Status string
	Since        time.Time
}

func (p *benchPod) DeepCopy() *benchPod { return store.DeepCopy(p) }

const (
	perNamespace = 100 // objects in a namespace
	perNode      = 100 // and on a node
)

func newBenchPod(i, total int) *benchPod {
	p := &benchPod{Meta: store.Meta{
		Namespace:   fmt.Sprintf("namespace-%04d", i/perNamespace),
		Name:        fmt.Sprintf("web-%07d-x7k2p", i),
		UID:         fmt.Sprintf("%036d", i), // of the size of the one that a store sets
		Labels:      map[string]string{"app": "web", "tier": "front", "track": "stable"},
		Annotations: map[string]string{"example.com/checksum": fmt.Sprintf("%064d", i)},
	}}
	p.Spec = benchSpec{
		NodeName:       fmt.Sprintf("node-%04d", i%max(total/perNode, 1)),
		ServiceAccount: "default", Scheduler: "default-scheduler",
		Containers: []benchContainer{{Name: "web", Image: fmt.Sprintf("registry.example/web:v1.%d", i%50), Args: []string{"--port", "8080"}}},
	}
	p.Status = newBenchStatus("Pending")
	return p
}

func newBenchStatus(phase string) benchStatus {
	return benchStatus{Phase: phase, HostIP: "10.0.0.1", PodIP: "10.1.2.3", Conditions: []benchCondition{
		{Type: "Ready", Status: "True"}, {Type: "Initialized", Status: "True"},
	}}
}

// newBenchPods returns the objects in a fixed random order.
func newBenchPods(n int) []*benchPod {
	pods := make([]*benchPod, n)
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		pods[j] = newBenchPod(i, n)
	}
	return pods
}

// newBenchUpdates returns a new version of each object, with another status.
func newBenchUpdates(pods []*benchPod) []*benchPod {
	next := make([]*benchPod, len(pods))
	for i, j := range rand.New(rand.NewPCG(3, 4)).Perm(len(pods)) {
		p := *pods[i]
		p.ResourceVersion, p.UID = "", ""
		p.Status = newBenchStatus("Running")
		next[j] = &p
	}
	return next
}

// subject is what the benchmarks ask of the store and of its floors.
type subject interface {
	// write creates or updates the objects in one transaction.
	write(update bool, pods []*benchPod)
	get(store.Key) *benchPod
	listNamespace(namespace string) int
	listNode(node string) int
	close()
}

var subjects = []struct {
	name string
	open func() subject
}{
	{"slipway", openSlipway},
	{"memdb", openMemdb},
	{"map", openMap},
}

// meter adds up what the measured parts of a benchmark cost.
type meter struct {
	b      *testing.B
	n      int // objects
	cpu    time.Duration
	wall   time.Duration
	allocs uint64
}

// measure runs f over n objects, with the collection of its garbage. The
// benchmark's timer is stopped before and after.
func (m *meter) measure(n int, f func()) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, wall := cpuTime(), time.Now()
	m.b.StartTimer()
	f()
	m.wall += time.Since(wall)
	m.b.StopTimer()
	runtime.GC()
	m.cpu += cpuTime() - cpu
	runtime.ReadMemStats(&after)
	m.allocs += after.Mallocs - before.Mallocs
	m.n += n
}

func (m *meter) report() {
	m.b.ReportMetric(float64(m.cpu.Nanoseconds())/float64(m.n), "cpu-ns/object")
	m.b.ReportMetric(float64(m.allocs)/float64(m.n), "allocs/object")
	m.b.ReportMetric(float64(m.n)/m.wall.Seconds(), "objects/s")
}

// cpuTime returns the processor time that the process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// each runs a benchmark for every size and subject.
func each(b *testing.B, sizes []int, f func(b *testing.B, size int, open func() subject)) {
	for _, size := range sizes {
		for _, s := range subjects {
			b.Run(fmt.Sprintf("objects=%d/%s", size, s.name), func(b *testing.B) { f(b, size, s.open) })
		}
	}
}

func BenchmarkCreate(b *testing.B) { benchmarkWrite(b, false) }
func BenchmarkUpdate(b *testing.B) { benchmarkWrite(b, true) }

func benchmarkWrite(b *testing.B, update bool) {
	for _, size := range []int{1000, 100_000} {
		for _, batch := range []int{1, 100, 1000} {
			for _, s := range subjects {
				b.Run(fmt.Sprintf("objects=%d/txn=%d/%s", size, batch, s.name), func(b *testing.B) {
					b.ReportAllocs()
					m := meter{b: b}
					for b.Loop() {
						b.StopTimer()
						st, pods := s.open(), newBenchPods(size)
						if update {
							st.write(false, pods)
							pods = newBenchUpdates(pods)
						}
						m.measure(size, func() {
							for at := 0; at < size; at += batch {
								st.write(update, pods[at:at+batch])
							}
						})
						st.close()
						b.StartTimer()
					}
					m.report()
				})
			}
		}
	}
}

// BenchmarkParallelUpdate has 64 goroutines that update one object a call.
func BenchmarkParallelUpdate(b *testing.B) {
	const writers = 64
	each(b, []int{1000, 100_000}, func(b *testing.B, size int, open func() subject) {
		b.ReportAllocs()
		m := meter{b: b}
		for b.Loop() {
			b.StopTimer()
			st, pods := open(), newBenchPods(size)
			st.write(false, pods)
			pods = newBenchUpdates(pods)
			m.measure(size, func() {
				var wg sync.WaitGroup
				for w := range writers {
					wg.Go(func() {
						for i := w; i < size; i += writers {
							st.write(true, pods[i:i+1])
						}
					})
				}
				wg.Wait()
			})
			st.close()
			b.StartTimer()
		}
		m.report()
	})
}

// benchmarkRead measures one kind of read of a full store.
func benchmarkRead(b *testing.B, read func(st subject, p *benchPod) int, want int) {
	each(b, []int{1000, 100_000}, func(b *testing.B, size int, open func() subject) {
		st, pods := open(), newBenchPods(size)
		st.write(false, pods)
		defer st.close()
		runtime.GC()
		b.ReportAllocs()
		cpu, n := cpuTime(), 0
		for b.Loop() {
			if got := read(st, pods[n%size]); got != want {
				b.Fatalf("read %d objects, want %d", got, want)
			}
			n++
		}
		b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(n), "cpu-ns/op")
	})
}

func BenchmarkGet(b *testing.B) {
	benchmarkRead(b, func(st subject, p *benchPod) int {
		if st.get(store.Key{Namespace: p.Namespace, Name: p.Name}) == nil {
			return 0
		}
		return 1
	}, 1)
}

func BenchmarkListNamespace(b *testing.B) {
	benchmarkRead(b, func(st subject, p *benchPod) int { return st.listNamespace(p.Namespace) }, perNamespace)
}

func BenchmarkListIndex(b *testing.B) {
	benchmarkRead(b, func(st subject, p *benchPod) int { return st.listNode(p.Spec.NodeName) }, perNode)
}

// BenchmarkUpdateList has a list of one namespace after each update: what a
// write costs when somebody lists between any two.
func BenchmarkUpdateList(b *testing.B) {
	each(b, []int{1000, 100_000}, func(b *testing.B, size int, open func() subject) {
		b.ReportAllocs()
		m := meter{b: b}
		for b.Loop() {
			b.StopTimer()
			st, pods := open(), newBenchPods(size)
			st.write(false, pods)
			pods = newBenchUpdates(pods)
			m.measure(size, func() {
				for i := range pods {
					st.write(true, pods[i:i+1])
					if n := st.listNamespace(pods[i].Namespace); n != perNamespace {
						b.Fatalf("listed %d objects, want %d", n, perNamespace)
					}
				}
			})
			st.close()
			b.StartTimer()
		}
		m.report()
	})
}

// BenchmarkMemory reports what the store takes beside the objects themselves,
// after the creates, and for each version that the history window keeps.
func BenchmarkMemory(b *testing.B) {
	each(b, []int{1000, 100_000}, func(b *testing.B, size int, open func() subject) {
		var perObject, perVersion float64
		for b.Loop() {
			pods := newBenchPods(size)
			next := newBenchUpdates(pods)
			empty := heap()
			st := open()
			for i := range pods {
				st.write(false, pods[i:i+1])
			}
			full := heap()
			perObject = float64(full-empty) / float64(size)
			kept := min(size, 50_000) // all of them inside the window
			for i := range kept {
				st.write(true, next[i:i+1])
			}
			perVersion = float64(heap()-full) / float64(kept)
			st.close()
			runtime.KeepAlive(pods)
			runtime.KeepAlive(next)
		}
		b.ReportMetric(perObject, "B/object")
		if _, ok := open().(*slipway); ok { // the floors keep no history
			b.ReportMetric(perVersion, "B/retained-version")
		}
	})
}

// heap returns the live heap, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func must[T any](t T, err error) T {
	if err != nil {
		panic(err)
	}
	return t
}

var background = context.Background()
