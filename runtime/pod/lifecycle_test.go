// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
)

func TestStartAndDelete(t *testing.T) {
	in(t, fake.Options{}, pod.Config{HostIP: "192.0.2.1"}, func(w *world) {
		w.set(simple("a"))
		w.want("a", "main", "Running")
		w.wantPhase("a", pod.Running)
		s := w.status("a")
		for _, c := range s.Conditions {
			if !c.Status || c.Reason != "" || !c.LastTransitionTime.Equal(w.begin) {
				t.Errorf("condition %+v, want true, since the begin", c)
			}
		}
		if len(s.Conditions) != 5 || s.PodIP() == "" || s.HostIP != "192.0.2.1" || s.QOSClass != pod.BestEffort || !s.ContainerStatuses[0].Ready {
			t.Errorf("status %+v", s)
		}
		if err := w.m.Delete("a", nil); err != nil {
			t.Error(err)
		}
		w.after(0)
		if want := "Pulling main, Pulled main, Created main, Started main, Killing main"; w.story() != want {
			t.Errorf("events %s, want %s", w.story(), want)
		}
		if w.m.Status("a") != nil || w.gone("a") != 1 {
			t.Errorf("after delete: status %v, removed %d times", w.m.Status("a"), w.gone("a"))
		}
		last := w.last("a")
		if last.Phase != pod.Failed || short(last.ContainerStatuses[0].State) != "Terminated:Error:143" {
			t.Errorf("last status %s, %s", last.Phase, short(last.ContainerStatuses[0].State))
		}
		w.nothingLeft()
		if err := w.m.Delete("a", nil); !errors.Is(err, pod.ErrUnknownPod) {
			t.Errorf("delete again: %v, want ErrUnknownPod", err)
		}
	})
}

func (w *world) nothingLeft() {
	w.Helper()
	sandboxes, _ := w.rt.ListPodSandbox(context.Background(), runtime.PodSandboxFilter{})
	containers, _ := w.rt.ListContainers(context.Background(), runtime.ContainerFilter{})
	if len(sandboxes)+len(containers) > 0 {
		w.Errorf("left over: %d sandboxes, %d containers", len(sandboxes), len(containers))
	}
}

func TestCrashLoopBackOff(t *testing.T) {
	crash := script(map[string]fake.Behaviour{"main": {ExitAfter: time.Second, ExitCode: 1}})
	in(t, fake.Options{Script: crash}, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		w.after(time.Second)
		// The first restart is at once, the second waits 10 s.
		w.want("a", "main", "Running")
		w.after(time.Second)
		w.want("a", "main", "Waiting:CrashLoopBackOff")
		w.wantPhase("a", pod.Running)
		w.wantReady("a", false)
		s := w.status("a").ContainerStatuses[0]
		if want := "back-off 10s restarting failed container=main pod=a_default(a)"; s.State.Waiting.Message != want {
			t.Errorf("message %q, want %q", s.State.Waiting.Message, want)
		}
		if s.LastState.Terminated == nil || s.LastState.Terminated.ExitCode != 1 || s.RestartCount != 1 {
			t.Errorf("status in back-off: %+v", s)
		}
		w.after(time.Hour)
		var pauses []time.Duration
		starts := w.startsOf("main")
		for i := 1; i < len(starts); i++ {
			pauses = append(pauses, starts[i]-starts[i-1]-time.Second)
		}
		want := []time.Duration{0, 10e9, 20e9, 40e9, 80e9, 160e9, 300e9, 300e9, 300e9}
		if !slices.Equal(pauses[:len(want)], want) {
			t.Errorf("pauses before restarts %v, want %v and so on", pauses, want)
		}
	})
}

func TestBackOffResets(t *testing.T) {
	n := 0
	behaviour := func(*runtime.PodSandboxConfig, *runtime.ContainerConfig) fake.Behaviour {
		n++
		if n == 5 {
			return fake.Behaviour{ExitAfter: 10*time.Minute + time.Second, ExitCode: 1}
		}
		return fake.Behaviour{ExitAfter: time.Second, ExitCode: 1}
	}
	in(t, fake.Options{Script: behaviour}, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		w.after(20 * time.Minute)
		starts := w.startsOf("main")
		if pause := starts[5] - starts[4] - 10*time.Minute - time.Second; pause != 0 {
			t.Errorf("after 10 min without failure the restart came after %v, want at once", pause)
		}
		if pause := starts[6] - starts[5] - time.Second; pause != 10*time.Second {
			t.Errorf("and the next after %v, want 10s", pause)
		}
	})
}

func TestRestartPolicies(t *testing.T) {
	for _, tt := range []struct {
		policy pod.RestartPolicy
		code   int
		phase  pod.Phase
		state  string
		starts int
	}{
		{pod.RestartNever, 0, pod.Succeeded, "Terminated:Completed:0", 1},
		{pod.RestartNever, 3, pod.Failed, "Terminated:Error:3", 1},
		{pod.RestartOnFailure, 0, pod.Succeeded, "Terminated:Completed:0", 1},
		{pod.RestartOnFailure, 3, pod.Running, "Waiting:CrashLoopBackOff", 2},
		{pod.RestartAlways, 0, pod.Running, "Waiting:CrashLoopBackOff", 2},
	} {
		t.Run(fmt.Sprintf("%s/%d", tt.policy, tt.code), func(t *testing.T) {
			in(t, fake.Options{}, pod.Config{}, func(w *world) {
				p := simple("a", "sh", "-c", fmt.Sprintf("sleep 1; exit %d", tt.code))
				p.Spec.RestartPolicy = tt.policy
				w.set(p)
				w.after(5 * time.Second)
				w.wantPhase("a", tt.phase)
				w.want("a", "main", tt.state)
				if n := len(w.startsOf("main")); n != tt.starts {
					t.Errorf("%d starts, want %d", n, tt.starts)
				}
				w.after(time.Hour)
				if tt.phase.Finished() {
					if n := len(w.startsOf("main")); n != 1 {
						t.Errorf("%d starts of a finished pod", n)
					}
				}
			})
		})
	}
}

func TestInitContainersAndSidecars(t *testing.T) {
	behaviours := script(map[string]fake.Behaviour{
		"first": {ExitAfter: 2 * time.Second}, "second": {ExitAfter: 3 * time.Second},
		"main": {StopAfter: 4 * time.Second, StopClean: true}, "proxy": {StopAfter: time.Second, StopClean: true}, "logs": {StopAfter: time.Second, StopClean: true},
	})
	in(t, fake.Options{Script: behaviours}, pod.Config{}, func(w *world) {
		p := simple("a")
		p.Spec.InitContainers = []pod.Container{
			{Name: "first"}, {Name: "proxy", RestartPolicy: pod.RestartAlways}, {Name: "second"}, {Name: "logs", RestartPolicy: pod.RestartAlways},
		}
		w.set(p)
		w.want("a", "first", "Running")
		w.want("a", "proxy", "Waiting:PodInitializing")
		w.want("a", "main", "Waiting:PodInitializing")
		w.wantPhase("a", pod.Pending)
		if c, _ := w.status("a").Condition(pod.Initialized); c.Status || c.Reason != "ContainersNotInitialized" || !strings.Contains(c.Message, "[first proxy second logs]") {
			t.Errorf("Initialized: %+v", c)
		}
		w.after(2 * time.Second)
		w.want("a", "first", "Terminated:Completed:0")
		w.want("a", "proxy", "Running")
		w.want("a", "second", "Running")
		w.after(3 * time.Second)
		w.want("a", "logs", "Running")
		w.want("a", "main", "Running")
		w.wantPhase("a", pod.Running)
		w.wantReady("a", true)

		w.rt.Exit(w.container("a", "proxy"), 1)
		w.after(0)
		w.want("a", "proxy", "Running") // a sidecar comes back
		if got, want := w.startsOf("main"), []time.Duration{5 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("starts of main %v, want %v", got, want)
		}

		w.m.Delete("a", nil)
		w.after(3 * time.Second)
		if got := w.running(); got != "logs main proxy" {
			t.Errorf("3 s after SIGTERM %q run, want all: sidecars wait for main", got)
		}
		w.after(1500 * time.Millisecond)
		if got := w.running(); got != "logs proxy" {
			t.Errorf("main has exited: %q run, want the sidecars still", got)
		}
		w.after(time.Second)
		if got := w.running(); got != "proxy" {
			t.Errorf("%q run, want only the first sidecar: they stop in reverse order", got)
		}
		w.after(time.Second)
		w.nothingLeft()
	})
}

// running is the names of the containers that run.
func (w *world) running() string {
	list, _ := w.rt.ListContainers(context.Background(), runtime.ContainerFilter{State: runtime.ContainerRunning})
	var names []string
	for _, c := range list {
		names = append(names, c.Metadata.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestInitContainerFails(t *testing.T) {
	fails := script(map[string]fake.Behaviour{"init": {ExitAfter: time.Second, ExitCode: 2}})
	for policy, want := range map[pod.RestartPolicy]struct {
		phase pod.Phase
		state string
	}{
		pod.RestartAlways: {pod.Pending, "Waiting:CrashLoopBackOff"},
		pod.RestartNever:  {pod.Failed, "Terminated:Error:2"},
	} {
		in(t, fake.Options{Script: fails}, pod.Config{}, func(w *world) {
			p := simple("a")
			p.Spec.RestartPolicy = policy
			p.Spec.InitContainers = []pod.Container{{Name: "init"}}
			w.set(p)
			w.after(5 * time.Second)
			w.wantPhase("a", want.phase)
			w.want("a", "init", want.state)
			if n := len(w.startsOf("main")); n != 0 {
				t.Errorf("%s: main started %d times", policy, n)
			}
		})
	}
}

// A job with a sidecar ends when its main container does.
func TestSidecarOfJobStops(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p := simple("a", "sleep", "5")
		p.Spec.RestartPolicy = pod.RestartNever
		p.Spec.InitContainers = []pod.Container{{Name: "proxy", RestartPolicy: pod.RestartAlways}}
		w.set(p)
		w.want("a", "proxy", "Running")
		w.after(6 * time.Second)
		w.wantPhase("a", pod.Succeeded)
		w.want("a", "proxy", "Terminated:Error:143")
	})
}

func TestTermination(t *testing.T) {
	for _, tt := range []struct {
		name  string
		does  fake.Behaviour
		grace time.Duration
		want  time.Duration
		code  int
	}{
		{"at once", fake.Behaviour{}, 30 * time.Second, 0, 143},
		{"in time", fake.Behaviour{StopAfter: 5 * time.Second, StopClean: true}, 30 * time.Second, 5 * time.Second, 0},
		{"killed", fake.Behaviour{IgnoreTerm: true}, 30 * time.Second, 30 * time.Second, 137},
		{"short grace", fake.Behaviour{IgnoreTerm: true}, 3 * time.Second, 3 * time.Second, 137},
		{"no grace", fake.Behaviour{IgnoreTerm: true}, 0, 0, 137},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, fake.Options{Script: script(map[string]fake.Behaviour{"main": tt.does})}, pod.Config{}, func(w *world) {
				w.set(simple("a"))
				w.m.Delete("a", &tt.grace)
				w.after(tt.want - time.Millisecond)
				if tt.want > 0 && w.gone("a") != 0 {
					t.Error("removed too early")
				}
				w.after(2 * time.Millisecond)
				if w.gone("a") != 1 {
					t.Errorf("not removed after %v", tt.want)
				}
				last := w.last("a").ContainerStatuses[0].State.Terminated
				if last == nil || last.ExitCode != tt.code {
					t.Errorf("terminated %+v, want exit code %d", last, tt.code)
				}
			})
		})
	}
}

func TestSecondDeleteShortensGrace(t *testing.T) {
	stubborn := script(map[string]fake.Behaviour{"main": {IgnoreTerm: true}})
	in(t, fake.Options{Script: stubborn}, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		long, brief := time.Hour, time.Second
		w.m.Delete("a", &long)
		w.after(time.Minute)
		w.m.Delete("a", &long) // can't make it longer, nor start it anew
		w.m.Delete("a", &brief)
		w.after(time.Second + time.Millisecond)
		if w.gone("a") != 1 {
			t.Error("still there 1 s after a delete with a grace of 1 s")
		}
	})
}

func TestHooks(t *testing.T) {
	var ran []string // by one goroutine at a time, and read when all is over
	exec := func(command []string, _ string) runtime.ExecResult {
		ran = append(ran, command[0])
		if command[0] == "bad" {
			return runtime.ExecResult{ExitCode: 1}
		}
		return runtime.ExecResult{}
	}
	in(t, fake.Options{Script: script(map[string]fake.Behaviour{"main": {Exec: exec}})}, pod.Config{}, func(w *world) {
		p := simple("a")
		p.Spec.Containers[0].PostStart = &pod.Handler{Exec: []string{"hello"}}
		p.Spec.Containers[0].PreStop = &pod.Handler{Sleep: 5 * time.Second}
		w.set(p)
		w.want("a", "main", "Running")
		w.m.Delete("a", nil)
		w.after(4 * time.Second)
		w.want("a", "main", "Running")
		w.after(time.Second)
		w.nothingLeft()
		if !slices.Equal(ran, []string{"hello"}) {
			t.Errorf("hooks ran: %v", ran)
		}
		bad := simple("b")
		bad.Spec.Containers[0].PostStart = &pod.Handler{Exec: []string{"bad"}}
		w.set(bad)
		w.after(time.Second)
		if s := w.story(); !strings.Contains(s, "FailedPostStartHook main, Killing main") {
			t.Errorf("events %s", s)
		}
		w.want("b", "main", "Waiting:CrashLoopBackOff")
	})
}

func TestPreStopUsesUpGrace(t *testing.T) {
	stubborn := script(map[string]fake.Behaviour{"main": {IgnoreTerm: true}})
	in(t, fake.Options{Script: stubborn}, pod.Config{}, func(w *world) {
		p := simple("a")
		p.Spec.TerminationGracePeriod = new(10 * time.Second)
		p.Spec.Containers[0].PreStop = &pod.Handler{Sleep: time.Hour}
		w.set(p)
		w.m.Delete("a", nil)
		w.after(12*time.Second - time.Millisecond)
		if w.gone("a") != 0 {
			t.Error("killed before SIGTERM had its 2 s")
		}
		w.after(2 * time.Millisecond)
		if w.gone("a") != 1 {
			t.Error("still there after grace and 2 s")
		}
		if w.message(pod.EventFailedPreStopHook) == "" {
			t.Errorf("events %s, want FailedPreStopHook", w.story())
		}
	})
}

func TestImagePull(t *testing.T) {
	var missing atomic.Bool
	missing.Store(true)
	var tries atomic.Int64
	options := fake.Options{Image: func(string) (runtime.Image, error) {
		tries.Add(1)
		if missing.Load() {
			return runtime.Image{}, runtime.ErrNotFound
		}
		return runtime.Image{}, nil
	}}
	in(t, options, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		w.want("a", "main", "Waiting:ErrImagePull")
		w.wantPhase("a", pod.Pending)
		w.after(2 * time.Second)
		w.want("a", "main", "Waiting:ImagePullBackOff")
		w.after(time.Hour)
		if pulls := tries.Load(); pulls < 10 || pulls > 18 { // 10, 20, 40, 80, 160 s, then every 5 min
			t.Errorf("%d pulls in an hour", pulls)
		}
		missing.Store(false)
		w.after(5 * time.Minute)
		w.want("a", "main", "Running")
		if id := w.status("a").ContainerStatuses[0].ImageID; !strings.HasPrefix(id, "sha256:") {
			t.Errorf("image ID %q", id)
		}

		never := simple("b")
		never.Spec.Containers[0].Image = "example.com/other:1"
		never.Spec.Containers[0].ImagePullPolicy = pod.PullNever
		w.set(never)
		w.want("b", "main", "Waiting:ErrImageNeverPull")

		missing.Store(true)
		present := simple("c") // IfNotPresent, and it is there
		w.set(present)
		w.want("c", "main", "Running")
		latest := simple("d")
		latest.Spec.Containers[0].Image = "example.com/app"
		w.set(latest) // Always
		w.want("d", "main", "Waiting:ErrImagePull")
	})
}

func TestProbes(t *testing.T) {
	var healthy sync.Map // of those that are well
	healthy.Store("live", true)
	config := pod.Config{Probe: func(ctx context.Context, _ *pod.Pod, _ string, h pod.Handler) error {
		switch what := h.Exec[0]; {
		case what == "hang":
			<-ctx.Done()
			return ctx.Err()
		default:
			if _, ok := healthy.Load(what); !ok {
				return fmt.Errorf("%s is not well", what)
			}
			return nil
		}
	}}
	in(t, fake.Options{}, config, func(w *world) {
		p := simple("a")
		c := &p.Spec.Containers[0]
		c.StartupProbe = &pod.Probe{Handler: pod.Handler{Exec: []string{"up"}}, Period: 5 * time.Second, FailureThreshold: 12}
		c.ReadinessProbe = &pod.Probe{Handler: pod.Handler{Exec: []string{"ready"}}, Period: 2 * time.Second, FailureThreshold: 2, SuccessThreshold: 2}
		c.LivenessProbe = &pod.Probe{Handler: pod.Handler{Exec: []string{"live"}}, Period: 3 * time.Second}
		w.set(p)
		healthy.Store("ready", true)
		w.after(21 * time.Second)
		w.wantReady("a", false)
		if w.status("a").ContainerStatuses[0].Started {
			t.Error("started before the startup probe said so")
		}
		healthy.Store("up", true)
		w.after(10 * time.Second)
		w.wantReady("a", true)
		healthy.Delete("ready")
		w.after(2 * time.Second)
		w.wantReady("a", true) // one failure is not enough
		w.after(2 * time.Second)
		w.wantReady("a", false)
		if c, _ := w.status("a").Condition(pod.ContainersReady); c.Reason != "ContainersNotReady" || c.Message != "containers with unready status: [main]" {
			t.Errorf("ContainersReady %+v", c)
		}
		healthy.Store("ready", true)
		w.after(5 * time.Second)
		w.wantReady("a", true)
		healthy.Clear()
		healthy.Store("ready", true)
		w.after(10 * time.Second)
		if n := len(w.startsOf("main")); n != 2 {
			t.Errorf("%d starts after liveness failed three times, want 2", n)
		}
		w.wantReady("a", false) // the new container has to start first
		if m := w.message(pod.EventKilling); m != "Container main failed liveness probe, will be restarted" {
			t.Errorf("killing because %q", m)
		}
		if m := w.message(pod.EventUnhealthy); !strings.HasPrefix(m, "Startup probe failed: up is not well") {
			t.Errorf("unhealthy because %q", m)
		}
		w.after(75 * time.Second) // 12 failures of the startup probe, then 10 s of back-off
		if n := len(w.startsOf("main")); n != 3 {
			t.Errorf("%d starts after the startup probe failed, want 3", n)
		}
	})
	in(t, fake.Options{}, config, func(w *world) {
		p := simple("a")
		p.Spec.Containers[0].LivenessProbe = &pod.Probe{Handler: pod.Handler{Exec: []string{"hang"}}}
		w.set(p)
		w.after(25 * time.Second) // 0, 11, 22 s: each hangs for a second
		if n := len(w.startsOf("main")); n != 2 {
			t.Errorf("%d starts with a probe that hangs, want 2", n)
		}
	})
}

func TestStartErrors(t *testing.T) {
	for _, tt := range []struct {
		op, state, event string
	}{
		{"CreateContainer", "Waiting:CreateContainerError", "Failed main"},
		{"StartContainer", "Waiting:RunContainerError", "Failed main"},
		{"RunPodSandbox", "Waiting:ContainerCreating", "FailedCreatePodSandBox"},
		{"ImageStatus", "Waiting:ImageInspectError", "InspectFailed main"},
	} {
		t.Run(tt.op, func(t *testing.T) {
			var broken atomic.Bool
			broken.Store(true)
			options := fake.Options{Before: func(_ context.Context, c fake.Call) error {
				if broken.Load() && c.Op == tt.op {
					return errors.New("no space left on device")
				}
				return nil
			}}
			in(t, options, pod.Config{}, func(w *world) {
				w.set(simple("a"))
				w.want("a", "main", tt.state)
				if s := w.story(); !strings.HasSuffix(s, tt.event) {
					t.Errorf("events %s, want %s", s, tt.event)
				}
				broken.Store(false)
				w.after(11 * time.Second)
				w.want("a", "main", "Running")
				w.m.Delete("a", nil)
				w.after(time.Second)
				w.nothingLeft()
			})
		})
	}
}

func TestSandboxLost(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		first := w.status("a").PodIP()
		w.rt.Restart() // the machine rebooted
		w.after(time.Minute)
		w.want("a", "main", "Running")
		s := w.status("a").ContainerStatuses[0]
		if s.RestartCount != 1 || s.LastState.Terminated == nil || s.LastState.Terminated.ExitCode != 137 {
			t.Errorf("after a reboot: %+v", s)
		}
		if !strings.Contains(w.story(), "SandboxChanged") || w.status("a").PodIP() == "" {
			t.Errorf("events %s, address %s then %s", w.story(), first, w.status("a").PodIP())
		}
		w.m.Delete("a", nil)
		w.after(time.Second)
		w.nothingLeft()
	})
}

func TestActiveDeadline(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p := simple("a")
		p.Spec.ActiveDeadline = time.Minute
		w.set(p)
		w.after(59 * time.Second)
		w.wantPhase("a", pod.Running)
		w.after(2 * time.Second)
		w.wantPhase("a", pod.Failed)
		if s := w.status("a"); s.Reason != pod.ReasonDeadlineExceeded || short(s.ContainerStatuses[0].State) != "Terminated:Error:143" {
			t.Errorf("reason %s, container %s", s.Reason, short(s.ContainerStatuses[0].State))
		}
	})
}

func TestResize(t *testing.T) {
	in(t, fake.Options{}, pod.Config{MemoryCapacity: 8 << 30}, func(w *world) {
		p := simple("a")
		p.Spec.Containers[0].Resources = pod.Resources{Requests: pod.ResourceList{CPU: 100, Memory: 64 << 20}, Limits: pod.ResourceList{CPU: 200, Memory: 128 << 20}}
		w.set(p)
		id := w.container("a", "main")
		bigger := *p
		bigger.Spec.Containers = slices.Clone(p.Spec.Containers)
		bigger.Spec.Containers[0].Resources.Limits.Memory = 256 << 20
		w.set(&bigger)
		st, err := w.rt.ContainerStatus(t.Context(), id)
		if err != nil || st.State != runtime.ContainerRunning || st.Resources.MemoryLimit != 256<<20 || st.Resources.CPUQuota != 20_000 {
			t.Errorf("after resize: %+v, %v", st, err)
		}
		if got := w.status("a").ContainerStatuses[0]; got.Resources != bigger.Spec.Containers[0].Resources || got.RestartCount != 0 {
			t.Errorf("status after resize: %+v", got)
		}
		restart := bigger
		restart.Spec.Containers = slices.Clone(bigger.Spec.Containers)
		restart.Spec.Containers[0].Resources.Limits.Memory = 512 << 20
		restart.Spec.Containers[0].RestartOnResize = true
		w.set(&restart)
		if got := w.status("a").ContainerStatuses[0]; got.RestartCount != 1 || got.Resources.Limits.Memory != 512<<20 {
			t.Errorf("status after a resize that restarts: %+v", got)
		}
	})
}

func TestEphemeralContainer(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p := simple("a")
		w.set(p)
		id := w.container("a", "main")
		debug := *p
		debug.Spec.EphemeralContainers = []pod.Container{{Name: "debug", Command: []string{"sleep", "10"}, TargetContainer: "main"}}
		w.set(&debug)
		w.want("a", "debug", "Running")
		w.after(time.Minute)
		w.want("a", "debug", "Terminated:Completed:0") // and is not restarted
		w.want("a", "main", "Running")
		if w.container("a", "main") != id {
			t.Error("the main container was restarted")
		}
		w.wantReady("a", true)
	})
}

func TestImageChangeRestarts(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p := simple("a")
		w.set(p)
		next := *p
		next.Spec.Containers = []pod.Container{{Name: "main", Image: "example.com/app:2"}}
		w.set(&next)
		s := w.status("a").ContainerStatuses[0]
		if s.RestartCount != 1 || s.Image != "example.com/app:2" || s.State.Running == nil {
			t.Errorf("after a new image: %+v", s)
		}
		if m := w.message(pod.EventKilling); m != "Container main definition changed, will be restarted" {
			t.Errorf("killing because %q", m)
		}
	})
}

func TestOOMKilled(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p := simple("a")
		p.Spec.RestartPolicy = pod.RestartNever
		w.set(p)
		w.rt.OOM(w.container("a", "main"))
		w.want("a", "main", "Terminated:OOMKilled:137")
		w.wantPhase("a", pod.Failed)
	})
}

func TestReadinessGate(t *testing.T) {
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		p := simple("a")
		p.Spec.ReadinessGates = []string{"example.com/lb"}
		w.set(p)
		w.wantReady("a", false)
		if c, _ := w.status("a").Condition(pod.PodReady); c.Reason != "ReadinessGatesNotReady" {
			t.Errorf("Ready %+v", c)
		}
		w.m.SetCondition("a", pod.Condition{Type: "example.com/lb", Status: true})
		w.wantReady("a", true)
	})
}

func TestEviction(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	usage := func(mem uint64) fake.Behaviour {
		return fake.Behaviour{IgnoreTerm: true, Usage: &runtime.Usage{MemoryWorkingSet: mem}}
	}
	behaviour := func(s *runtime.PodSandboxConfig, _ *runtime.ContainerConfig) fake.Behaviour {
		return map[string]fake.Behaviour{"greedy": usage(300 << 20), "modest": usage(50 << 20), "critical": usage(900 << 20)}[s.Metadata.Name]
	}
	config := pod.Config{Eviction: &pod.Eviction{Signals: func(context.Context) (pod.Signals, error) {
		return pod.Signals{MemoryAvailable: free.Load(), MemoryCapacity: 8 << 30}, nil
	}}}
	in(t, fake.Options{Script: behaviour}, config, func(w *world) {
		for _, name := range []string{"greedy", "modest", "critical"} {
			p := simple(name)
			p.Spec.Containers[0].Resources.Requests.Memory = 100 << 20
			if name == "critical" {
				p.Spec.Priority = 2_000_001_000
			}
			w.set(p)
		}
		w.after(time.Minute)
		if memory, _ := w.m.Pressure(); memory {
			t.Error("pressure without shortage")
		}
		free.Store(50 << 20)
		w.after(10 * time.Second)
		free.Store(1 << 30)
		w.wantPhase("greedy", pod.Failed)
		w.wantPhase("modest", pod.Running)
		w.wantPhase("critical", pod.Running)
		s := w.status("greedy")
		if s.Reason != "Evicted" || !strings.HasPrefix(s.Message, "The node was low on resource: memory. ") {
			t.Errorf("evicted: %s: %s", s.Reason, s.Message)
		}
		if c, _ := s.Condition(pod.DisruptionTarget); !c.Status {
			t.Error("no condition DisruptionTarget")
		}
		if memory, disk := w.m.Pressure(); !memory || disk {
			t.Errorf("pressure: memory %v, disk %v", memory, disk)
		}
		w.after(6 * time.Minute)
		if memory, _ := w.m.Pressure(); memory {
			t.Error("pressure stays after the transition period")
		}
	})
}

func TestValidate(t *testing.T) {
	bad := &pod.Pod{Name: "A", UID: "x/y", Spec: pod.Spec{
		RestartPolicy: "Sometimes",
		Volumes:       []pod.Volume{{Name: "v"}},
		Containers: []pod.Container{
			{Name: "c", VolumeMounts: []pod.VolumeMount{{Name: "w", MountPath: "rel"}}, LivenessProbe: &pod.Probe{}},
			{Name: "c", Resources: pod.Resources{Requests: pod.ResourceList{CPU: 2}, Limits: pod.ResourceList{CPU: 1}}, ImagePullPolicy: "Maybe"},
		},
	}}
	err := pod.Validate(bad)
	if !errors.Is(err, runtime.ErrInvalid) {
		t.Fatalf("Validate = %v, want ErrInvalid", err)
	}
	for _, want := range []string{`name: "A"`, "uid:", `"Sometimes"`, "volumes[0]: has 0 sources", `no volume "w"`, `mount path "rel"`, "livenessProbe", `"c" is there twice`, "request 2, limit 1", `"Maybe"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestQOS(t *testing.T) {
	both := pod.ResourceList{CPU: 100, Memory: 1 << 20}
	for _, tt := range []struct {
		resources []pod.Resources
		want      pod.QOSClass
	}{
		{[]pod.Resources{{}}, pod.BestEffort},
		{[]pod.Resources{{Limits: both}}, pod.Guaranteed},
		{[]pod.Resources{{Requests: both, Limits: both}}, pod.Guaranteed},
		{[]pod.Resources{{Requests: both}}, pod.Burstable},
		{[]pod.Resources{{Limits: both}, {}}, pod.Burstable},
		{[]pod.Resources{{Limits: pod.ResourceList{CPU: 100}}}, pod.Burstable},
		{[]pod.Resources{{Requests: pod.ResourceList{CPU: 50, Memory: 1 << 20}, Limits: both}}, pod.Burstable},
	} {
		p := &pod.Pod{}
		for _, r := range tt.resources {
			p.Spec.Containers = append(p.Spec.Containers, pod.Container{Resources: r})
		}
		if got := pod.QOS(p); got != tt.want {
			t.Errorf("QOS(%+v) = %s, want %s", tt.resources, got, tt.want)
		}
	}
}

func TestStatusNeverGoesBack(t *testing.T) {
	// Each status differs from the one before: nothing is reported twice.
	in(t, fake.Options{}, pod.Config{}, func(w *world) {
		w.set(simple("a", "sh", "-c", "sleep 1; exit 1"))
		w.after(10 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, s := range w.statuses["a"][1:] {
			if d := cmp.Diff(w.statuses["a"][i], s); d == "" {
				t.Errorf("status %d is the same as the one before", i+1)
			}
		}
	})
}
