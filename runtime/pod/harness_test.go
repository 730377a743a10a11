// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
)

// world is a manager on a fake runtime, in virtual time.
type world struct {
	*testing.T
	rt     *fake.Runtime
	m      *pod.Manager
	config pod.Config
	begin  time.Time
	stop   func()

	mu       sync.Mutex
	events   []pod.Event
	statuses map[string][]*pod.Status
	removed  map[string]int
	starts   map[string][]time.Duration // since begin, by container name
}

// in runs a test in virtual time. Before is Options.Before of the fake.
func in(t *testing.T, options fake.Options, config pod.Config, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, begin: time.Now(), statuses: map[string][]*pod.Status{}, removed: map[string]int{}, starts: map[string][]time.Duration{}}
		before := options.Before
		options.Before = func(ctx context.Context, c fake.Call) error {
			if before != nil {
				if err := before(ctx, c); err != nil {
					return err
				}
			}
			if c.Op == "StartContainer" {
				w.mu.Lock()
				w.starts[c.Container] = append(w.starts[c.Container], time.Since(w.begin))
				w.mu.Unlock()
			}
			return nil
		}
		w.rt = fake.New(options)
		config.Runtime = w.rt
		config.OnEvent = func(e pod.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		}
		config.OnStatus = func(p *pod.Pod, s *pod.Status) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.statuses[p.UID] = append(w.statuses[p.UID], s)
		}
		config.OnRemoved = func(p *pod.Pod) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.removed[p.UID]++
		}
		w.config = config
		w.start()
		test(w)
		w.stop()
	})
}

// start runs a new manager, as an agent that was restarted would.
func (w *world) start() {
	w.m = pod.New(w.config)
	m := w.m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	w.stop = func() {
		w.Helper()
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
		w.stop = func() {}
	}
}

func (w *world) set(p *pod.Pod) {
	w.Helper()
	if err := w.m.Set(p); err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
}

// after lets time pass, and everything settle.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) status(uid string) *pod.Status {
	w.Helper()
	synctest.Wait()
	s := w.m.Status(uid)
	if s == nil {
		w.Fatalf("pod %s has no status", uid)
	}
	return s
}

// state is a container's state in short: "Running", "Waiting:CrashLoopBackOff", "Terminated:Error:1".
func (w *world) state(uid, name string) string {
	w.Helper()
	s := w.status(uid)
	for _, list := range [][]pod.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.Name == name {
				return short(c.State)
			}
		}
	}
	w.Fatalf("pod %s has no container %s", uid, name)
	return ""
}

func short(s pod.ContainerState) string {
	switch {
	case s.Running != nil:
		return "Running"
	case s.Terminated != nil:
		return fmt.Sprintf("Terminated:%s:%d", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Waiting != nil:
		return "Waiting:" + s.Waiting.Reason
	}
	return "none"
}

func (w *world) want(uid, name, state string) {
	w.Helper()
	if got := w.state(uid, name); got != state {
		w.Errorf("container %s of pod %s is %s, want %s (at %v)", name, uid, got, state, time.Since(w.begin))
	}
}

func (w *world) wantPhase(uid string, want pod.Phase) {
	w.Helper()
	if s := w.status(uid); s.Phase != want {
		w.Errorf("pod %s is %s (%s), want %s (at %v)", uid, s.Phase, s.Reason, want, time.Since(w.begin))
	}
}

func (w *world) wantReady(uid string, want bool) {
	w.Helper()
	if c, _ := w.status(uid).Condition(pod.PodReady); c.Status != want {
		w.Errorf("pod %s: Ready is %v, want %v (at %v)", uid, c.Status, want, time.Since(w.begin))
	}
}

func (w *world) container(uid, name string) string {
	w.Helper()
	id, err := w.m.Container(uid, name)
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// story is the events so far, as "Reason container".
func (w *world) story() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, e := range w.events {
		list = append(list, strings.TrimSpace(e.Reason+" "+e.Container))
	}
	return strings.Join(list, ", ")
}

func (w *world) message(reason string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Reason == reason {
			return e.Message
		}
	}
	return ""
}

func (w *world) startsOf(name string) []time.Duration {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts[name]
}

func simple(name string, command ...string) *pod.Pod {
	return &pod.Pod{Name: name, UID: name, Spec: pod.Spec{Containers: []pod.Container{
		{Name: "main", Image: "example.com/app:1", Command: command},
	}}}
}

// script gives containers behaviours by name.
func script(by map[string]fake.Behaviour) func(*runtime.PodSandboxConfig, *runtime.ContainerConfig) fake.Behaviour {
	return func(_ *runtime.PodSandboxConfig, c *runtime.ContainerConfig) fake.Behaviour {
		return by[c.Metadata.Name]
	}
}

// gone is how often OnRemoved told of the pod.
func (w *world) gone(uid string) int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.removed[uid]
}

// last is the last status that was reported.
func (w *world) last(uid string) *pod.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.statuses[uid]
	return list[len(list)-1]
}
