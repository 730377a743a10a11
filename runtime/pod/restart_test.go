// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
)

func TestAgentRestartKeepsWhatRuns(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p, orphan := simple("a"), simple("orphan")
		p.Spec.Containers[0].ReadinessProbe = &pod.Probe{Handler: pod.Handler{Exec: []string{"true"}}, InitialDelay: time.Hour}
		w.set(p)
		w.set(orphan)
		w.set(simple("crashes", "sh", "-c", "sleep 1; exit 1"))
		w.after(30 * time.Minute)
		before := w.status("crashes").ContainerStatuses[0]
		id := w.container("a", "main")
		last := *w.status("a")
		last.ContainerStatuses = slices.Clone(last.ContainerStatuses)
		last.ContainerStatuses[0].Ready = true
		w.stop()
		w.start()
		w.after(10 * time.Minute)
		if got := w.running(); got != "main main" {
			t.Errorf("nobody has said what is wanted, and %q run", got)
		}
		known := *p
		known.Last = &last
		if err := w.m.Sync([]*pod.Pod{&known, simple("crashes", "sh", "-c", "sleep 1; exit 1")}); err != nil {
			t.Fatal(err)
		}
		w.after(0)
		if got := w.container("a", "main"); got != id {
			t.Errorf("container %s after the restart, want %s still", got, id)
		}
		w.wantReady("a", true) // it was, and no probe says otherwise
		if w.gone("orphan") != 1 {
			t.Error("the pod that is not wanted is still there")
		}
		w.after(6 * time.Minute)
		after := w.status("crashes").ContainerStatuses[0]
		if n := after.RestartCount - before.RestartCount; n < 2 || n > 4 {
			t.Errorf("%d restarts in 16 min: the back-off of 5 min was forgotten", n)
		}
	})
}

func TestFinishedPodStaysFinished(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p := simple("a", "sleep", "1")
		p.Spec.RestartPolicy = pod.RestartNever
		w.set(p)
		w.after(2 * time.Second)
		w.wantPhase("a", pod.Succeeded)
		last := w.status("a")
		w.stop()
		w.start()
		w.set(p) // the runtime has its exit code
		w.wantPhase("a", pod.Succeeded)
		w.stop()
		w.rt.RemovePodSandbox(t.Context(), w.sandboxes()[0].ID)
		w.start()
		known := *p
		known.Last = last
		w.set(&known) // only the caller knows
		w.wantPhase("a", pod.Succeeded)
		if n := len(w.startsOf("main")); n != 1 {
			t.Errorf("%d starts, want 1", n)
		}
	})
}

func (w *world) sandboxes() []runtime.PodSandbox {
	list, err := w.rt.ListPodSandbox(context.Background(), runtime.PodSandboxFilter{})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// TestAgentDiesAtRandom kills the agent at random instants of random
// operations: its calls may have had their effect without an answer. After each
// restart no container runs twice, and in the end each pod runs once.
func TestAgentDiesAtRandom(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(&locked{src: rand.NewPCG(seed, 0)})
			latency := func(ctx context.Context, c fake.Call) error {
				timer := time.NewTimer(time.Duration(r.Int64N(int64(20 * time.Millisecond))))
				defer timer.Stop()
				select {
				case <-timer.C:
				case <-ctx.Done():
					if r.IntN(2) == 0 {
						return ctx.Err()
					}
				}
				return nil
			}
			in(t, fake.Options{Before: latency}, pod.Config{}, func(w *world) {
				var pods []*pod.Pod
				for n := range 10 {
					p := simple(fmt.Sprint("p", n))
					p.Spec.InitContainers = []pod.Container{{Name: "init", Command: []string{"true"}}}
					pods = append(pods, p)
				}
				for range 12 {
					w.m.Sync(pods)
					time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
					w.stop()
					w.noDoubles()
					w.start()
				}
				w.m.Sync(pods)
				w.after(5 * time.Minute)
				w.noDoubles()
				for _, p := range pods {
					w.want(p.UID, "main", "Running")
				}
				w.m.Sync(nil)
				w.after(5 * time.Minute)
				w.nothingLeft()
			})
		})
	}
}

// noDoubles checks that no container of a pod runs twice.
func (w *world) noDoubles() {
	w.Helper()
	synctest.Wait()
	list, err := w.rt.ListContainers(context.Background(), runtime.ContainerFilter{State: runtime.ContainerRunning})
	if err != nil {
		w.Fatal(err)
	}
	seen := map[string]string{}
	for _, c := range list {
		key := c.Labels["io.kubernetes.pod.uid"] + "/" + c.Metadata.Name
		if other := seen[key]; other != "" {
			w.Errorf("%s runs twice: %s and %s", key, other, c.ID)
		}
		seen[key] = c.ID
	}
}

// locked is a source of random numbers for several goroutines.
type locked struct {
	mu  sync.Mutex
	src rand.Source
}

func (l *locked) Uint64() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.src.Uint64()
}

// TestSetWhileStarting sets, deletes and syncs pods from several goroutines while the manager starts
// and relists: each pod ends as it was last asked to.
func TestSetWhileStarting(t *testing.T) {
	for range 20 {
		in(t, fake.Options{}, pod.Config{Relist: time.Microsecond}, func(w *world) {
			var wg sync.WaitGroup
			for n := range 20 {
				wg.Go(func() {
					p := simple(fmt.Sprint("p", n))
					if err := w.m.Set(p); err != nil {
						t.Error(err)
					}
					if n%2 == 0 {
						if err := w.m.Delete(p.UID, nil); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			w.after(time.Millisecond)
			for n := range 20 {
				if s := w.m.Status(fmt.Sprint("p", n)); (s == nil) != (n%2 == 0) {
					t.Errorf("pod %d: status %v", n, s)
				}
			}
		})
	}
}

// TestOneTurnAtATime: the operations of one pod never overlap, but for the stops at its end.
func TestOneTurnAtATime(t *testing.T) {
	var mu sync.Mutex
	busy := map[string]string{}
	before := func(ctx context.Context, c fake.Call) error {
		if c.Pod.UID == "" || c.Op == "StopContainer" {
			return nil
		}
		mu.Lock()
		if other := busy[c.Pod.UID]; other != "" {
			t.Errorf("%s during %s of pod %s", c.Op, other, c.Pod.UID)
		}
		busy[c.Pod.UID] = c.Op
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		busy[c.Pod.UID] = ""
		return nil
	}
	in(t, fake.Options{Before: before}, pod.Config{Relist: time.Millisecond}, func(w *world) {
		var wg sync.WaitGroup
		for range 4 { // who all want something of the same pods
			wg.Go(func() {
				for n := range 20 {
					p := simple(fmt.Sprint("p", n%5), "sh", "-c", "sleep 0.01; exit 1")
					p.Spec.Containers = append(p.Spec.Containers, pod.Container{Name: "other", Command: []string{"sleep", "0.005"}})
					w.m.Set(p)
					time.Sleep(3 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		w.after(time.Minute)
		w.m.Sync(nil)
		w.after(time.Minute)
		w.nothingLeft()
	})
}

// TestRuntimeUnavailable: while the runtime does not answer, what ran is reported as it was, what is new
// waits and says why, and all goes on afterwards.
func TestRuntimeUnavailable(t *testing.T) {
	var gone atomic.Bool
	before := func(context.Context, fake.Call) error {
		if gone.Load() {
			return fmt.Errorf("connect: %w", runtime.ErrUnavailable)
		}
		return nil
	}
	in(t, fake.Options{Before: before}, pod.Config{Relist: time.Second}, func(w *world) {
		w.set(simple("old"))
		id := w.container("old", "main")
		gone.Store(true)
		w.set(simple("new"))
		w.after(5 * time.Minute)
		w.wantPhase("old", pod.Running)
		w.want("new", "main", "Waiting:ContainerCreating")
		if m := w.message(pod.EventFailedCreateSandbox); !strings.Contains(m, runtime.ErrUnavailable.Error()) {
			t.Errorf("the event says %q", m)
		}
		gone.Store(false)
		w.after(11 * time.Second)
		w.want("new", "main", "Running")
		if w.container("old", "main") != id {
			t.Error("the old pod was restarted")
		}
	})
}

// TestNoAddress: a sandbox whose network can't be set up leaves nothing behind, and its pod goes on
// when it can.
func TestNoAddress(t *testing.T) {
	options := fake.Options{Addresses: netip.MustParsePrefix("10.0.0.0/31")}
	in(t, options, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		w.set(simple("b"))
		w.want("b", "main", "Waiting:ContainerCreating")
		w.wantPhase("b", pod.Pending)
		if m := w.message(pod.EventFailedCreateSandbox); !strings.Contains(m, "no free address") {
			t.Errorf("the event says %q", m)
		}
		if n := len(w.sandboxes()); n != 1 {
			t.Errorf("%d sandboxes, want 1", n)
		}
		w.m.Delete("a", nil)
		w.after(11 * time.Second)
		w.want("b", "main", "Running")
	})
}
