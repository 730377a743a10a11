// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	radix "github.com/hashicorp/go-memdb"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// broadcaster is what the fan-out benchmarks ask of the store and of its
// floors: one object after the other is written, and each watcher sees each
// write, in order.
type broadcaster interface {
	publish(i int)
	// watch calls see for each write until it returns false. It calls ready once
	// no later write can escape it.
	watch(ready func(), see func() bool)
	close()
}

var broadcasters = []struct {
	name string
	open func(events, watchers int) broadcaster
}{
	{"slipway", openWatched},
	{"memdb", openWatchedMemdb},
	{"map", openChannels},
}

// BenchmarkWatchFanout has one writer that writes without pause, and watchers
// that all see every write. One iteration is about a million deliveries.
func BenchmarkWatchFanout(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000, 10_000} {
		for _, s := range broadcasters {
			b.Run(fmt.Sprintf("watchers=%d/%s", watchers, s.name), func(b *testing.B) {
				var total fanout
				for b.Loop() {
					b.StopTimer()
					events := min(1_000_000/watchers, 50_000)
					st := s.open(events, watchers)
					total.run(b, st, watchers, events)
					st.close()
					b.StartTimer()
				}
				total.report(b)
			})
		}
	}
}

type fanout struct {
	deliveries int
	cpu, wall  time.Duration
	delays     []time.Duration
}

// sampleEvery is how many deliveries pass for each whose delay is measured: the
// clock costs about as much as a delivery.
const sampleEvery = 16

func (f *fanout) run(b *testing.B, st broadcaster, watchers, events int) {
	committed := make([]atomic.Int64, events)
	start := time.Now()
	var ready, done sync.WaitGroup
	ready.Add(watchers)
	delays := make([][]time.Duration, watchers)
	for w := range watchers {
		delays[w] = make([]time.Duration, 0, events/sampleEvery+1)
		done.Go(func() {
			n := 0
			st.watch(ready.Done, func() bool {
				if (n+w)%sampleEvery == 0 {
					if at := committed[n].Load(); at != 0 { // else it overtook the writer's clock
						delays[w] = append(delays[w], time.Since(start)-time.Duration(at))
					}
				}
				n++
				return n < events
			})
			if n < events {
				panic(fmt.Sprintf("a watcher saw %d of %d events", n, events))
			}
		})
	}
	ready.Wait()
	runtime.GC()
	cpu, wall := cpuTime(), time.Now()
	b.StartTimer()
	for i := range events {
		st.publish(i)
		committed[i].Store(int64(time.Since(start)))
	}
	done.Wait()
	b.StopTimer()
	f.wall += time.Since(wall)
	f.cpu += cpuTime() - cpu
	f.deliveries += watchers * events
	f.delays = append(f.delays, slices.Concat(delays...)...)
}

func (f *fanout) report(b *testing.B) {
	b.ReportMetric(float64(f.deliveries)/f.wall.Seconds(), "events/s")
	b.ReportMetric(float64(f.cpu.Nanoseconds())/float64(f.deliveries), "cpu-ns/delivery")
	slices.Sort(f.delays)
	if n := len(f.delays); n > 0 {
		b.ReportMetric(float64(f.delays[n*99/100].Nanoseconds()), "p99-ns")
	}
}

// watched is the store.
type watched struct {
	*slipway
	pods []*benchPod
}

func openWatched(events, _ int) broadcaster {
	return &watched{newSlipway(memory.Options{}), newBenchPods(events)}
}

func (s *watched) publish(i int) { s.write(false, s.pods[i:i+1]) }

func (s *watched) watch(ready func(), see func() bool) {
	for ev, err := range s.slipway.pods.Watch(background, store.WatchOptions{Initial: true}) {
		if err != nil {
			panic(err)
		}
		if ev.Type == store.Synced {
			ready()
		} else if !see() {
			return
		}
	}
}

// watchedMemdb is go-memdb with an index by revision: a watcher waits for the
// index to change, and asks for what is new.
type watchedMemdb struct {
	db   *radix.MemDB
	pods []*benchPod
}

type revised struct {
	pod      *benchPod
	revision uint64
}

type rawRevision struct{}

func (rawRevision) encode(rev uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(rev >> (56 - 8*i))
	}
	return b
}

func (r rawRevision) FromArgs(args ...any) ([]byte, error) { return r.encode(args[0].(uint64)), nil }

func (r rawRevision) FromObject(o any) (bool, []byte, error) {
	return true, r.encode(o.(*revised).revision), nil
}

type rawRevisedKey struct{ rawKey }

func (k rawRevisedKey) FromObject(o any) (bool, []byte, error) {
	return k.rawKey.FromObject(o.(*revised).pod)
}

func openWatchedMemdb(events, _ int) broadcaster {
	db := must(radix.NewMemDB(&radix.DBSchema{Tables: map[string]*radix.TableSchema{
		"pods": {Name: "pods", Indexes: map[string]*radix.IndexSchema{
			"id":       {Name: "id", Unique: true, Indexer: rawRevisedKey{}},
			"revision": {Name: "revision", Unique: true, Indexer: rawRevision{}},
		}},
	}}))
	return &watchedMemdb{db, newBenchPods(events)}
}

func (s *watchedMemdb) publish(i int) {
	txn := s.db.Txn(true)
	if err := txn.Insert("pods", &revised{s.pods[i], uint64(i + 1)}); err != nil {
		panic(err)
	}
	txn.Commit()
}

func (s *watchedMemdb) watch(ready func(), see func() bool) {
	seen := uint64(0)
	for {
		txn := s.db.Txn(false)
		changed := must(txn.Get("pods", "revision")).WatchCh()
		it := must(txn.LowerBound("pods", "revision", seen+1))
		if ready != nil {
			ready()
			ready = nil
		}
		for o := it.Next(); o != nil; o = it.Next() {
			seen = o.(*revised).revision
			if !see() {
				return
			}
		}
		<-changed
	}
}

func (s *watchedMemdb) close() {}

// channels is the map with a channel for each watcher, which blocks the writer
// when it is full.
type channels struct {
	*mutexMap
	objects []*benchPod
	outs    []chan *benchPod
}

func openChannels(events, _ int) broadcaster {
	return &channels{openMap().(*mutexMap), newBenchPods(events), nil}
}

func (s *channels) publish(i int) {
	s.write(false, s.objects[i:i+1])
	for _, out := range s.outs {
		out <- s.objects[i]
	}
}

func (s *channels) watch(ready func(), see func() bool) {
	out := make(chan *benchPod, 128)
	s.mu.Lock()
	s.outs = append(s.outs, out)
	s.mu.Unlock()
	ready()
	for range out {
		if !see() {
			return
		}
	}
}

// BenchmarkWatchSlow writes beside watchers that took one event and never come
// back for more: what a slow watcher costs the writer.
func BenchmarkWatchSlow(b *testing.B) {
	const size = 100_000
	for _, slow := range []int{0, 1000} {
		b.Run(fmt.Sprintf("slow=%d/slipway", slow), func(b *testing.B) {
			m := meter{b: b}
			for b.Loop() {
				b.StopTimer()
				st := newSlipway(memory.Options{})
				release := stall(st, slow)
				pods := newBenchPods(size)
				m.measure(size, func() {
					for i := range pods {
						st.write(false, pods[i:i+1])
					}
				})
				release()
				st.close()
				b.StartTimer()
			}
			m.report()
		})
	}
}

// stall starts watchers that block in their first event, and returns what ends
// them.
func stall(st *slipway, watchers int) (release func()) {
	var stalled, done sync.WaitGroup
	gate := make(chan struct{})
	stalled.Add(watchers)
	for range watchers {
		done.Go(func() {
			for range st.pods.Watch(background, store.WatchOptions{Initial: true}) {
				stalled.Done()
				<-gate
				return
			}
		})
	}
	stalled.Wait()
	return func() {
		close(gate)
		done.Wait()
	}
}

// BenchmarkWatchIdle reports the heap that a watcher takes while there is
// nothing for it, its goroutine's stack apart.
func BenchmarkWatchIdle(b *testing.B) {
	const watchers = 10_000
	var perWatcher float64
	for b.Loop() {
		st := newSlipway(memory.Options{})
		ctx, cancel := context.WithCancel(background)
		before := heap()
		var ready, done sync.WaitGroup
		ready.Add(watchers)
		for range watchers {
			done.Go(func() {
				for _, err := range st.pods.Watch(ctx, store.WatchOptions{Initial: true}) {
					if err != nil {
						return
					}
					ready.Done()
				}
			})
		}
		ready.Wait()
		time.Sleep(100 * time.Millisecond) // for the last to fall asleep
		perWatcher = math.Round(float64(heap()-before) / watchers)
		cancel()
		done.Wait()
		st.close()
	}
	b.ReportMetric(perWatcher, "heap-B/watcher")
}
