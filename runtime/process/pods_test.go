// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/pod"
	"github.com/slipway-dev/slipway/runtime/probe"
	"github.com/slipway-dev/slipway/runtime/process"
)

// manage runs a manager on real processes for the time of a test.
func manage(t *testing.T, config pod.Config, options ...process.Options) *pod.Manager {
	t.Helper()
	options = append(options, process.Options{})
	config.Runtime = open(t, options[0])
	if config.Root == "" {
		config.Root = t.TempDir()
	}
	m := pod.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return m
}

// is waits until a container of pod "a" is in a state.
func is(t *testing.T, m *pod.Manager, what string, ok func(*pod.Status, pod.ContainerStatus) bool) {
	t.Helper()
	waitFor(t, what, func() bool {
		s := m.Status("a")
		return s != nil && len(s.ContainerStatuses) > 0 && ok(s, s.ContainerStatuses[0])
	})
}

func processPod(script string) *pod.Pod {
	return &pod.Pod{Name: "a", UID: "a", Spec: pod.Spec{Containers: []pod.Container{{Name: "main", Command: []string{"sh", "-c", script}}}}}
}

func waits(reason string) func(*pod.Status, pod.ContainerStatus) bool {
	return func(_ *pod.Status, c pod.ContainerStatus) bool {
		return c.State.Waiting != nil && c.State.Waiting.Reason == reason
	}
}

func TestPodIsProbedAndStopped(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	removed := make(chan struct{})
	m := manage(t, pod.Config{OnRemoved: func(*pod.Pod) { close(removed) }})
	p := processPod("")
	c := &p.Spec.Containers[0]
	c.Command = []string{self, "echo-server", "7007"}
	marker := filepath.Join(t.TempDir(), "stopped")
	c.PreStop = &pod.Handler{Exec: []string{"sh", "-c", "echo yes > " + marker}}
	c.ReadinessProbe = &pod.Probe{Handler: pod.Handler{TCPSocket: &probe.TCPSocket{Port: 7007}}, Period: 50 * time.Millisecond}
	c.LivenessProbe = &pod.Probe{Handler: pod.Handler{Exec: []string{"true"}}, Period: 50 * time.Millisecond}
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the pod is ready", func(s *pod.Status, _ pod.ContainerStatus) bool {
		ready, _ := s.Condition(pod.PodReady)
		return ready.Status
	})
	if err := m.Delete("a", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-removed:
	case <-time.After(time.Minute):
		t.Fatal("the pod is not removed after a minute")
	}
	if b, err := os.ReadFile(marker); err != nil || string(b) != "yes\n" {
		t.Errorf("the preStop hook left %q, %v", b, err)
	}
}

func TestPodCrashes(t *testing.T) {
	m := manage(t, pod.Config{})
	p := processPod("echo why >&2; exit 3")
	p.Spec.Containers[0].MessageFromLog = true
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the back-off begins", waits(pod.ReasonCrashLoopBackOff))
	last := m.Status("a").ContainerStatuses[0].LastState.Terminated
	if last == nil || last.ExitCode != 3 || last.Message != "why\n" {
		t.Errorf("last state %+v, want exit code 3 and the log as message", last)
	}
}

func TestPodBadProgram(t *testing.T) {
	m := manage(t, pod.Config{})
	p := processPod("")
	p.Spec.Containers[0].Command = []string{"/no/such/program"}
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the back-off begins", waits(pod.ReasonCrashLoopBackOff))
	last := m.Status("a").ContainerStatuses[0].LastState.Terminated
	if last == nil || last.Reason != "StartError" || !strings.Contains(last.Message, "/no/such/program") {
		t.Errorf("last state %+v, want StartError with the program's name", last)
	}
}

func TestPodImageWithoutImages(t *testing.T) {
	m := manage(t, pod.Config{})
	p := processPod("true")
	p.Spec.Containers[0].Image = "example.com/app:1"
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the pull fails", func(s *pod.Status, c pod.ContainerStatus) bool {
		return waits(pod.ReasonErrImagePull)(s, c) || waits(pod.ReasonImagePullBackOff)(s, c) // a second later
	})
	if text := m.Status("a").ContainerStatuses[0].State.Waiting.Message; !strings.Contains(text, "leave the image empty") {
		t.Errorf("message %q does not say what would be right", text)
	}
}

func TestPodLogs(t *testing.T) {
	m := manage(t, pod.Config{Logs: pod.LogLimits{MaxSize: 2000, Interval: 20 * time.Millisecond, MaxFiles: 100}})
	p := processPod("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.002; done")
	p.Spec.RestartPolicy = pod.RestartNever
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the container runs", func(_ *pod.Status, c pod.ContainerStatus) bool { return c.ContainerID != "" })
	entries, err := m.Logs(t.Context(), "a", "main", pod.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for e, err := range entries {
		if err != nil {
			t.Fatal(err)
		}
		last = string(e.Line)
	}
	if last != "line 199" {
		t.Errorf("following ended at %q, want the last line", last)
	}
	is(t, m, "the pod has succeeded", func(s *pod.Status, _ pod.ContainerStatus) bool { return s.Phase == pod.Succeeded })
}

// TestPodResize changes the memory limit of a running container, on a kernel's cgroup.
func TestPodResize(t *testing.T) {
	if !limits(t) {
		t.Skip("limits need root and cgroups of version 1")
	}
	m := manage(t, pod.Config{})
	p := processPod("exec sleep 1000")
	p.Spec.TerminationGracePeriod = new(time.Duration(0))
	p.Spec.Containers[0].Resources = pod.Resources{Limits: pod.ResourceList{CPU: 100, Memory: 64 << 20}}
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the container runs", func(_ *pod.Status, c pod.ContainerStatus) bool { return c.State.Running != nil })
	id := m.Status("a").ContainerStatuses[0].ContainerID
	limit := func() string {
		b, err := os.ReadFile("/sys/fs/cgroup/memory/slipway/" + id + "/memory.limit_in_bytes")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	if got := limit(); got != "67108864" {
		t.Errorf("the limit is %s, want 64 MiB", got)
	}
	larger := *p
	larger.Spec.Containers = []pod.Container{p.Spec.Containers[0]}
	larger.Spec.Containers[0].Resources.Limits.Memory = 128 << 20
	if err := m.Set(&larger); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the status has the new limit", func(_ *pod.Status, c pod.ContainerStatus) bool { return c.Resources.Limits.Memory == 128<<20 })
	if c := m.Status("a").ContainerStatuses[0]; limit() != "134217728" || c.ContainerID != id || c.RestartCount != 0 {
		t.Errorf("after the resize the limit is %s, the container %+v; want 128 MiB in the same container", limit(), c)
	}
	if err := m.Delete("a", nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the pod is removed", func() bool { return m.Status("a") == nil })
	wantNoGroup(t, id)
}

func wantNoGroup(t *testing.T, id string) {
	t.Helper()
	for _, controller := range []string{"cpu", "memory", "pids"} {
		if _, err := os.Stat("/sys/fs/cgroup/" + controller + "/slipway/" + id); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the %s group of container %s is left: %v", controller, id, err)
		}
	}
}

// TestResizeBeforeStart: a container starts with the limits that it was given last.
func TestResizeBeforeStart(t *testing.T) {
	if !limits(t) {
		t.Skip("limits need root and cgroups of version 1")
	}
	rt := open(t, process.Options{})
	s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "a", UID: "a"}}
	sandbox, err := rt.RunPodSandbox(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	id, err := rt.CreateContainer(t.Context(), sandbox, &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{"sleep", "1000"}, Resources: &runtime.Resources{MemoryLimit: 64 << 20},
	}, s)
	if err == nil {
		err = errors.Join(rt.UpdateContainerResources(t.Context(), id, &runtime.Resources{MemoryLimit: 32 << 20}), rt.StartContainer(t.Context(), id))
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/sys/fs/cgroup/memory/slipway/" + id + "/memory.limit_in_bytes")
	if got := strings.TrimSpace(string(b)); err != nil || got != "33554432" {
		t.Errorf("the limit is %s, %v, want 32 MiB", got, err)
	}
}

// TestGroupsAreRemoved: of a container that got its first limits while it ran, and of one whose supervisor was killed.
func TestGroupsAreRemoved(t *testing.T) {
	if !limits(t) {
		t.Skip("limits need root and cgroups of version 1")
	}
	rt := open(t, process.Options{})
	var ids []string
	for _, name := range []string{"resized", "killed"} {
		id := startContainer(t, rt, name, "exec sleep 1000")
		if err := rt.UpdateContainerResources(t.Context(), id, &runtime.Resources{MemoryLimit: 64 << 20}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rt.StopContainer(t.Context(), ids[0], 0); err != nil {
		t.Fatal(err)
	}
	wantNoGroup(t, ids[0])
	pid, err := rt.SupervisorPID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	waitFor(t, "the supervisor is dead", func() bool { return !alive(pid) })
	waitFor(t, "another supervisor answers", func() bool { _, err := rt.SupervisorPID(t.Context()); return err == nil })
	wantNoGroup(t, ids[1])
}

// TestPodVolumes: real programs see volumes where they are mounted, and new content all at once.
func TestPodVolumes(t *testing.T) {
	needNamespaces(t)
	out := t.TempDir()
	refs := &settings{value: "old"}
	m := manage(t, pod.Config{References: refs})
	p := processPod("while true; do cat /mnt/slipway/settings/a /mnt/slipway/settings/b > " + out + "/tmp; mv " + out + "/tmp " + out + "/seen; sleep 0.01; done")
	p.Spec.TerminationGracePeriod = new(time.Duration(0))
	p.Spec.Volumes = []pod.Volume{{Name: "settings", Projected: &pod.Projected{Sources: []pod.Projection{{ConfigMap: "settings"}}}}}
	p.Spec.Containers[0].VolumeMounts = []pod.VolumeMount{{Name: "settings", MountPath: "/mnt/slipway/settings"}}
	p.Spec.Containers[0].TerminationMessagePath = "/mnt/slipway/message"
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	sees := func(want string) func() bool {
		return func() bool {
			b, _ := os.ReadFile(filepath.Join(out, "seen"))
			return string(b) == want
		}
	}
	waitFor(t, "the program sees the content", sees("oldold"))
	refs.set("new")
	m.ReferencesChanged("default")
	waitFor(t, "the program sees the new content", sees("newnew"))
	c, err := m.Container("a", "main")
	if err != nil {
		t.Fatal(err)
	}
	debug := *p
	debug.Spec.EphemeralContainers = []pod.Container{{Name: "debug", Command: []string{"sh", "-c", "echo from the debugger"}, TargetContainer: "main"}}
	if err := m.Set(&debug); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the ephemeral container has run", func() bool {
		s := m.Status("a").EphemeralContainerStatuses
		return len(s) == 1 && s[0].State.Terminated != nil && s[0].State.Terminated.ExitCode == 0
	})
	if again, err := m.Container("a", "main"); err != nil || again != c {
		t.Errorf("the main container is %s, %v, want %s still", again, err, c)
	}
}

// settings is a References with one configMap of two keys, which have the same value.
type settings struct {
	mu    sync.Mutex
	value string
}

func (s *settings) set(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = value
}

func (s *settings) ConfigMap(context.Context, string, string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string][]byte{"a": []byte(s.value), "b": []byte(s.value)}, nil
}

func (s *settings) Secret(context.Context, string, string) (map[string][]byte, error) {
	return nil, runtime.ErrNotFound
}

func (s *settings) Token(context.Context, *pod.Pod, string, time.Duration) (string, error) {
	return "", runtime.ErrNotFound
}
