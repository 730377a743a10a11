// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// A queueSubject is a work queue under measurement. The key of number n has
// priority n mod 3 where the subject has priorities.
type queueSubject interface {
	add(n int, key store.Key)
	addRateLimited(n int, key store.Key)
	get() (key store.Key, ok bool)
	done(key store.Key, limited bool)
	shutDown()
}

var queueSubjects = []struct {
	name string
	open func() queueSubject
}{
	{"slipway", func() queueSubject {
		return &slipwayQueue{reconcile.NewQueue(reconcile.QueueOptions[store.Key]{
			Backoff: reconcile.Backoff{Initial: 1, Max: time.Second}, Rate: -1,
			Tenant: func(k store.Key) string { return k.Namespace },
		}), context.Background()}
	}},
	{"client-go", func() queueSubject {
		return &clientGoQueue{workqueue.NewTypedRateLimitingQueue(queueLimiter())}
	}},
	{"controller-runtime", func() queueSubject {
		return &controllerRuntimeQueue{priorityqueue.New("", func(o *priorityqueue.Opts[store.Key]) { o.RateLimiter = queueLimiter() })}
	}},
}

func queueLimiter() workqueue.TypedRateLimiter[store.Key] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[store.Key](1, time.Second)
}

type slipwayQueue struct {
	q   *reconcile.Queue[store.Key]
	ctx context.Context
}

func (s *slipwayQueue) add(n int, key store.Key) {
	s.q.Add(key, reconcile.AddOptions{Priority: reconcile.Priority(n%3 - 1)})
}

func (s *slipwayQueue) addRateLimited(n int, key store.Key) {
	s.q.AddRateLimited(key, reconcile.AddOptions{Priority: reconcile.Priority(n%3 - 1)})
}

func (s *slipwayQueue) get() (store.Key, bool) {
	item, err := s.q.Get(s.ctx)
	return item.Key, err == nil
}

func (s *slipwayQueue) done(key store.Key, _ bool) { s.q.Done(key) }
func (s *slipwayQueue) shutDown()                  { s.q.ShutDown() }

type clientGoQueue struct {
	q workqueue.TypedRateLimitingInterface[store.Key]
}

func (s *clientGoQueue) add(_ int, key store.Key)            { s.q.Add(key) }
func (s *clientGoQueue) addRateLimited(_ int, key store.Key) { s.q.AddRateLimited(key) }
func (s *clientGoQueue) shutDown()                           { s.q.ShutDown() }

func (s *clientGoQueue) get() (store.Key, bool) {
	key, down := s.q.Get()
	return key, !down
}

func (s *clientGoQueue) done(key store.Key, limited bool) {
	if limited {
		s.q.Forget(key)
	}
	s.q.Done(key)
}

type controllerRuntimeQueue struct {
	q priorityqueue.PriorityQueue[store.Key]
}

var queuePriorities = [3]*int{new(-1), new(0), new(1)}

func (s *controllerRuntimeQueue) add(n int, key store.Key) {
	s.q.AddWithOpts(priorityqueue.AddOpts{Priority: queuePriorities[n%3]}, key)
}

func (s *controllerRuntimeQueue) addRateLimited(n int, key store.Key) {
	s.q.AddWithOpts(priorityqueue.AddOpts{Priority: queuePriorities[n%3], RateLimited: true}, key)
}

func (s *controllerRuntimeQueue) get() (store.Key, bool) {
	key, _, down := s.q.GetWithPriority()
	return key, !down
}

func (s *controllerRuntimeQueue) done(key store.Key, limited bool) {
	if limited {
		s.q.Forget(key)
	}
	s.q.Done(key)
}

func (s *controllerRuntimeQueue) shutDown() { s.q.ShutDown() }

// queueKeys returns the keys of so many objects, 100 to a namespace, in a fixed
// random order.
func queueKeys(n int) []store.Key {
	keys := make([]store.Key, n)
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		keys[j] = store.NewKey(fmt.Sprintf("namespace-%04d", i/100), fmt.Sprintf("web-%07d-x7k2p", i))
	}
	return keys
}

// BenchmarkQueue measures P goroutines that add and P that work, at the same time.
// An iteration is the whole job, from an empty queue to an empty queue: unique: a
// million keys, each added once; dedupe: 1,000 keys, a million adds; ratelimited:
// 200,000 keys, each added once.
// Of ours, priorities and fairness between namespaces are switched on; client-go's
// has neither. Figures are for one add.
func BenchmarkQueue(b *testing.B) {
	for _, c := range []struct {
		name       string
		keys, adds int
	}{{"unique", 1_000_000, 1_000_000}, {"dedupe", 1000, 1_000_000}, {"ratelimited", 200_000, 200_000}} {
		keys := queueKeys(c.keys)
		for _, p := range []int{1, 8, 64} {
			for _, s := range queueSubjects {
				b.Run(fmt.Sprintf("case=%s/P=%d/%s", c.name, p, s.name), func(b *testing.B) {
					b.ReportAllocs()
					use := startQueueUse(b)
					for b.Loop() {
						runQueue(b, s.open(), keys, c.adds, p, c.name == "ratelimited", c.name != "dedupe")
					}
					use.report(c.adds)
				})
			}
		}
	}
}

// runQueue adds and works off; if exact, each add must have been worked on.
func runQueue(b *testing.B, s queueSubject, keys []store.Key, adds, p int, limited, exact bool) {
	var producers, workers sync.WaitGroup
	worked := make([]struct {
		n atomic.Int64
		_ [56]byte // a cache line for each worker
	}, p)
	total := func() (n int64) {
		for i := range worked {
			n += worked[i].n.Load()
		}
		return n
	}
	for i := range p {
		workers.Go(func() {
			for {
				key, ok := s.get()
				if !ok {
					return
				}
				s.done(key, limited)
				worked[i].n.Add(1)
			}
		})
	}
	for i := range p {
		producers.Go(func() {
			for n := i; n < adds; n += p {
				if limited {
					s.addRateLimited(n, keys[n%len(keys)])
				} else {
					s.add(n, keys[n%len(keys)])
				}
			}
		})
	}
	producers.Wait()
	// A shutdown would lose delayed adds, and what controller-runtime has in a buffer.
	for exact && total() < int64(adds) {
		time.Sleep(time.Millisecond)
	}
	s.shutDown()
	workers.Wait()
	if n := total(); exact && n != int64(adds) {
		b.Fatalf("%d of %d keys were worked on", n, adds)
	}
}

// queueUse is what a benchmark used.
type queueUse struct {
	b      *testing.B
	cpu    time.Duration
	memory runtime.MemStats
}

func startQueueUse(b *testing.B) queueUse {
	runtime.GC()
	u := queueUse{b: b, cpu: queueCPU(b)}
	runtime.ReadMemStats(&u.memory)
	return u
}

// report reports figures for one of the parts of an iteration.
func (u queueUse) report(parts int) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	runtime.GC()
	n := float64(u.b.N) * float64(parts)
	u.b.ReportMetric(float64(queueCPU(u.b)-u.cpu)/n, "cpu-ns/item")
	u.b.ReportMetric(float64(u.b.Elapsed())/n, "ns/item")
	u.b.ReportMetric(float64(memory.Mallocs-u.memory.Mallocs)/n, "allocs/item")
	u.b.ReportMetric(float64(memory.TotalAlloc-u.memory.TotalAlloc)/n, "B/item")
}

func queueCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkQueueUnderAdds measures what a worker gets while another goroutine adds
// 1,000 keys over and over without a pause, for half a second an iteration.
func BenchmarkQueueUnderAdds(b *testing.B) {
	keys := queueKeys(1000)
	for _, s := range queueSubjects {
		b.Run(s.name, func(b *testing.B) {
			var worked int64
			var first time.Duration
			for b.Loop() {
				n, wait := runUnderAdds(s.open(), keys)
				worked += n
				first = max(first, wait)
			}
			b.ReportMetric(float64(worked)/float64(b.N), "keys/iteration")
			b.ReportMetric(float64(first.Microseconds()), "first-us")
		})
	}
}

func runUnderAdds(s queueSubject, keys []store.Key) (worked int64, first time.Duration) {
	var wg sync.WaitGroup
	start := time.Now()
	var over atomic.Bool
	wg.Go(func() {
		for {
			key, ok := s.get()
			if !ok || over.Load() {
				return
			}
			if worked++; worked == 1 {
				first = time.Since(start)
			}
			s.done(key, false)
		}
	})
	for n := 0; n%1000 != 0 || time.Since(start) < time.Second/2; n++ {
		s.add(n, keys[n%len(keys)])
	}
	over.Store(true)
	s.add(0, keys[0])
	s.shutDown()
	wg.Wait()
	return worked, first
}
