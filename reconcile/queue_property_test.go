// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// TestQueueConcurrent lets many goroutines add, cancel and end runs in all ways at
// once. No key may run twice at the same time, and each add must be followed by a
// run that begins after it.
func TestQueueConcurrent(t *testing.T) {
	for _, mode := range []string{"real time", "virtual time"} {
		t.Run(mode, func(t *testing.T) {
			if mode == "real time" {
				runConcurrent(t)
			} else {
				synctest.Test(t, runConcurrent)
			}
		})
	}
}

func runConcurrent(t *testing.T) {
	const keys, adders, workers, adds = 20, 4, 8, 10_000
	q := reconcile.NewQueue(reconcile.QueueOptions[int]{
		Backoff: reconcile.Backoff{Initial: time.Microsecond, Max: time.Millisecond}, Rate: -1,
		MaxAttempts: 3, MaxWait: time.Microsecond, Tenant: func(k int) string { return fmt.Sprint(k % 3) },
	})
	var running [keys]atomic.Bool
	var added, seen [keys]atomic.Int64 // number of the latest add, and of that which the latest run saw
	var working, adding sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for {
				item, err := q.Get(context.Background())
				if err != nil {
					return
				}
				k := item.Key
				if !running[k].CompareAndSwap(false, true) {
					t.Errorf("key %d runs twice at once", k)
				}
				seen[k].Store(added[k].Load())
				if r.IntN(10) == 0 {
					runtime.Gosched()
				}
				running[k].Store(false)
				switch r.IntN(8) {
				case 0:
					q.Retry(k, errors.New("again"))
				case 1:
					q.Again(k, time.Duration(r.IntN(1000)))
				case 2:
					q.Park(k, errors.New("parked"))
				default:
					q.Done(k)
				}
			}
		})
	}
	for a := range adders {
		adding.Go(func() {
			r := rand.New(rand.NewPCG(uint64(a), 2))
			for range adds {
				k := r.IntN(keys)
				o := reconcile.AddOptions{Priority: reconcile.Priority(r.IntN(3) - 1), Cause: reconcile.Cause{Reason: "added"}}
				added[k].Add(1)
				switch r.IntN(6) {
				case 0:
					q.AddAfter(k, time.Duration(r.IntN(1000)), o)
				case 1:
					q.AddRateLimited(k, o)
				case 2:
					q.AddNotLaterThan(k, time.Now().Add(time.Duration(r.IntN(1000))), o)
				default:
					q.Add(k, o)
				}
				switch r.IntN(50) {
				case 0:
					for range q.All() {
					}
				case 1: // a worker that gives up takes nothing with it
					ctx, cancel := context.WithTimeout(context.Background(), time.Microsecond)
					if item, err := q.Get(ctx); err == nil {
						if !running[item.Key].CompareAndSwap(false, true) {
							t.Errorf("key %d runs twice at once", item.Key)
						}
						seen[item.Key].Store(added[item.Key].Load())
						running[item.Key].Store(false)
						q.Done(item.Key)
					}
					cancel()
				}
			}
		})
	}
	adding.Wait()
	missing := func() (missing []int) {
		for k := range keys {
			if seen[k].Load() < added[k].Load() {
				missing = append(missing, k)
			}
		}
		return missing
	}
	for end := time.Now().Add(10 * time.Second); len(missing()) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	for _, k := range missing() {
		s, _ := q.Explain(k)
		t.Errorf("key %d: the last add was not followed by a run: %+v", k, s)
	}
	q.ShutDown()
	working.Wait()
	if c := q.Counts(); c.Ready+c.Waiting+c.Running > 0 {
		t.Errorf("after the shutdown: %+v", c)
	}
}

// A key that has waited for MaxWait, with n keys older than it, is handed out by
// one of the next 4n+4 calls of Get, whatever else is added.
func TestQueueBoundedWait(t *testing.T) {
	const maxWait = 10 * time.Second
	opts := reconcile.QueueOptions[string]{Tenant: func(k string) string { return k[:1] }, MaxWait: maxWait}
	bubble(t, opts, func(t *testing.T, q *reconcile.Queue[string]) {
		r := rand.New(rand.NewPCG(1, 2))
		type waiting struct {
			since time.Time
			bound int // the number of the Get that must have handed it out; 0 before MaxWait
		}
		keys := map[string]*waiting{}
		gets, bounds := 0, 0
		for n := range 4000 {
			// More is added than is taken, most of it urgent and of one tenant.
			for i := range 2 {
				key := fmt.Sprintf("%c%d.%d", "aaaaabc"[r.IntN(7)], n, i)
				p := reconcile.PriorityHigh
				if r.IntN(5) == 0 {
					p = reconcile.Priority(r.IntN(2) - 1)
				}
				q.Add(key, reconcile.AddOptions{Priority: p})
				keys[key] = &waiting{since: time.Now()}
			}
			time.Sleep(time.Millisecond * time.Duration(1+r.IntN(20)))
			for key, w := range keys {
				if w.bound == 0 && time.Since(w.since) >= maxWait {
					older := 0
					for _, v := range keys {
						if !v.since.After(w.since) {
							older++ // counts itself, and those of the same instant
						}
					}
					w.bound = gets + 4*older
					bounds++
					if s, _ := q.Explain(key); s.Phase != reconcile.PhaseReady {
						t.Fatalf("%+v", s)
					}
				}
			}
			item := get(t, q)
			gets++
			if w := keys[item.Key]; w.bound > 0 && gets > w.bound {
				t.Fatalf("%s, which had waited %v, came with Get %d, at the latest %d was promised", item.Key, item.Waited, gets, w.bound)
			}
			delete(keys, item.Key)
			q.Done(item.Key)
		}
		for key, w := range keys {
			if w.bound > 0 && gets > w.bound {
				t.Fatalf("%s still waits after %d Gets, %d were promised", key, gets, w.bound)
			}
		}
		if bounds < 1000 {
			t.Errorf("only %d keys waited for %v: the test shows little", bounds, maxWait)
		}
	})
}

// Without MaxWait, what is urgent always goes first.
func TestQueueStrictPriorities(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{MaxWait: -1}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.Add("low", reconcile.AddOptions{Priority: reconcile.PriorityLow})
		time.Sleep(1000 * time.Hour)
		for n := range 100 {
			q.Add(fmt.Sprint(n))
			if got := get(t, q).Key; got == "low" {
				t.Fatalf("low went first in round %d", n)
			}
		}
	})
}

// However many keys one tenant has, another that never has more than one ready
// waits for at most one of each other tenant, until keys have waited for MaxWait.
func TestQueueFairness(t *testing.T) {
	opts := reconcile.QueueOptions[string]{Tenant: func(k string) string { return k[:1] }}
	bubble(t, opts, func(t *testing.T, q *reconcile.Queue[string]) {
		for n := range 1000 {
			q.Add(fmt.Sprint("a", n))
			q.Add(fmt.Sprint("b", n))
		}
		got := map[byte]int{}
		for n := range 300 {
			q.Add("c") // it is ready already, or has just been worked on
			item := get(t, q)
			got[item.Key[0]]++
			q.Done(item.Key)
			if n%3 == 2 && got['c'] != n/3+1 {
				t.Fatalf("after %d Gets c had %d turns: %v", n+1, got['c'], got)
			}
		}
		if got['a'] != 100 || got['b'] != 100 {
			t.Errorf("turns: %v", got)
		}
	})
}

// A worker gets its keys while others add without a pause.
func TestQueueUnderAdds(t *testing.T) {
	q := reconcile.NewQueue(reconcile.QueueOptions[int]{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var adding sync.WaitGroup
	var over atomic.Bool
	adding.Go(func() {
		for n := 0; !over.Load(); n++ {
			q.Add(n % 1000)
		}
	})
	for n := range 5000 {
		item, err := q.Get(ctx)
		if err != nil {
			t.Fatalf("%d keys in a minute", n)
		}
		q.Done(item.Key)
	}
	over.Store(true)
	adding.Wait()
}

// A queue that is empty again takes no more memory than one that never held
// anything, but for a few spare entries.
func TestQueueGivesMemoryBack(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const keys = 50_000
	list := make([]store.Key, keys)
	for n := range list {
		list[n] = store.NewKey(fmt.Sprint("ns", n%5000), fmt.Sprint("name", n))
	}
	before := heap()
	q := reconcile.NewQueue(reconcile.QueueOptions[store.Key]{Tenant: func(k store.Key) string { return k.Namespace }})
	for _, k := range list {
		q.AddAfter(k, time.Hour)
	}
	full := heap()
	for _, k := range list {
		q.Add(k)
	}
	for range list {
		item := get(t, q)
		q.Done(item.Key)
	}
	empty := heap()
	t.Logf("%d B for a waiting key", (full-before)/keys)
	if empty-before > (full-before)/20 {
		t.Errorf("%d keys took %d B, and %d B when they were gone", keys, full-before, empty-before)
	}
	runtime.KeepAlive(q)
	runtime.KeepAlive(list)
}

// Deadlines come by the timer alone, in order, also when they are moved.
func TestQueueTimer(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		start := time.Now()
		var mu sync.Mutex
		got := map[string]time.Duration{}
		var workers sync.WaitGroup
		for range 3 {
			workers.Go(func() {
				for {
					item, err := q.Get(context.Background())
					if err != nil {
						return
					}
					mu.Lock()
					got[item.Key] = time.Since(start)
					mu.Unlock()
					q.Done(item.Key)
				}
			})
		}
		synctest.Wait()
		q.AddAfter("far", 290*365*24*time.Hour)
		q.AddAfter("b", 20*time.Second)
		q.AddAfter("a", 10*time.Second)
		q.AddAfter("c", 30*time.Second)
		q.AddAfter("canceled", 5*time.Second)
		q.Cancel("canceled")
		q.AddNotBefore("a", start.Add(25*time.Second))
		time.Sleep(time.Minute)
		synctest.Wait()
		for key, want := range map[string]time.Duration{"a": 25 * time.Second, "b": 20 * time.Second, "c": 30 * time.Second} {
			if got[key] != want {
				t.Errorf("%s ran after %v, want %v", key, got[key], want)
			}
		}
		if len(got) != 3 {
			t.Errorf("ran: %v", got)
		}
		q.ShutDown()
		workers.Wait()
	})
}

// Deadlines given as times of day count from the reading of the clock that they
// are given with: a time without a monotonic reading works as well.
func TestQueueWallClockTimes(t *testing.T) {
	bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
		q.AddNotBefore("k", time.Now().Round(0).Add(time.Minute))
		s, _ := q.Explain("k")
		if d := time.Until(s.Until); d != time.Minute {
			t.Errorf("waits %v, want 1m0s", d)
		}
	})
}

// All the workers that wait end when the last key is gone, or at once.
func TestQueueEndsWaitingWorkers(t *testing.T) {
	for name, stop := range map[string]func(q *reconcile.Queue[string]){
		"ShutDown": (*reconcile.Queue[string]).ShutDown,
		"Stop":     (*reconcile.Queue[string]).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, reconcile.QueueOptions[string]{}, func(t *testing.T, q *reconcile.Queue[string]) {
				var workers sync.WaitGroup
				q.AddAfter("k", time.Hour)
				for range 10 {
					workers.Go(func() {
						if _, err := q.Get(context.Background()); err != reconcile.ErrShutDown {
							t.Errorf("Get: %v", err)
						}
					})
				}
				synctest.Wait()
				start := time.Now()
				stop(q)
				workers.Wait()
				if time.Since(start) != 0 {
					t.Errorf("ended after %v", time.Since(start))
				}
			})
		})
	}
}

func TestQueueAllocations(t *testing.T) {
	q := reconcile.NewQueue(reconcile.QueueOptions[store.Key]{Tenant: func(k store.Key) string { return k.Namespace }})
	key := store.NewKey("ns", "name")
	run := func(o reconcile.AddOptions) func() {
		return func() {
			q.Add(key, o)
			item, err := q.Get(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			q.Done(item.Key)
		}
	}
	if n := testing.AllocsPerRun(100, run(reconcile.AddOptions{Priority: reconcile.PriorityLow})); n > 0 {
		t.Errorf("%v allocations for a key without a cause, want 0", n)
	}
	if n := testing.AllocsPerRun(100, run(reconcile.AddOptions{Cause: reconcile.Cause{Reason: "added", Key: key}})); n > 1 {
		t.Errorf("%v allocations for a key with a cause, want at most 1", n)
	}
}
