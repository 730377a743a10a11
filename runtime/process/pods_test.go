// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime/pod"
	"github.com/slipway-dev/slipway/runtime/probe"
	"github.com/slipway-dev/slipway/runtime/process"
)

// manage runs a manager on real processes for the time of a test.
func manage(t *testing.T, config pod.Config) *pod.Manager {
	t.Helper()
	config.Runtime = open(t, process.Options{})
	config.Root = t.TempDir()
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
	is(t, m, "the pull fails", waits(pod.ReasonErrImagePull))
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
