// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
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
