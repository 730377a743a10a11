// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/pod"
	"github.com/slipway-dev/slipway/runtime/process"
)

// TestPodIgnoresSIGTERM: a pod is gone after its grace period, whatever its program does.
func TestPodIgnoresSIGTERM(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	removed := make(chan struct{})
	m := manage(t, pod.Config{OnRemoved: func(*pod.Pod) { close(removed) }})
	p := processPod("trap '' TERM; touch " + ready + "; while true; do sleep 0.01; done")
	p.Spec.TerminationGracePeriod = new(300 * time.Millisecond)
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the trap is set", func() bool { _, err := os.Stat(ready); return err == nil })
	begin := time.Now()
	if err := m.Delete("a", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-removed:
	case <-time.After(time.Minute):
		t.Fatal("the pod is not removed after a minute")
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("the pod was removed after %v, before its grace period was over", took)
	}
}

// TestPodLogPathIsDirectory: a container without its log does not run; the next attempt has another file.
func TestPodLogPathIsDirectory(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "logs", "default_a_a", "main", "0.log"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := manage(t, pod.Config{Root: root})
	if err := m.Set(processPod("exec sleep 1000")); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the second attempt runs", func(_ *pod.Status, c pod.ContainerStatus) bool { return c.State.Running != nil })
	c := m.Status("a").ContainerStatuses[0]
	if last := c.LastState.Terminated; c.RestartCount != 1 || last == nil || last.Reason != runtime.ReasonStartError || !strings.Contains(last.Message, "0.log: is a directory") {
		t.Errorf("after %d restarts the last state is %+v, want StartError, which names the log", c.RestartCount, last)
	}
}

// TestPodProbeHangs: a probe that does not return is a failed one, and leaves nothing behind.
func TestPodProbeHangs(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "probes")
	m := manage(t, pod.Config{})
	p := processPod("exec sleep 1000")
	p.Spec.TerminationGracePeriod = new(time.Duration(0))
	p.Spec.Containers[0].LivenessProbe = &pod.Probe{
		Handler: pod.Handler{Exec: []string{"sh", "-c", "echo $$ >> " + marker + "; exec sleep 1000"}},
		Period:  20 * time.Millisecond, Timeout: 50 * time.Millisecond, FailureThreshold: 2,
	}
	if err := m.Set(p); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the container is restarted", func(_ *pod.Status, c pod.ContainerStatus) bool { return c.RestartCount > 0 })
	if err := m.Delete("a", nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the pod is removed", func() bool { return m.Status("a") == nil })
	b, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(b)) {
		var pid int
		fmt.Sscan(line, &pid)
		if alive(pid) {
			t.Errorf("the probe %d still runs", pid)
		}
	}
}

// TestPodWithoutNetwork: a sandbox that gets no address is not made, and the pod waits.
func TestPodWithoutNetwork(t *testing.T) {
	failed := make(chan string, 100)
	m := manage(t, pod.Config{OnEvent: func(e pod.Event) {
		if e.Reason == pod.EventFailedCreateSandbox {
			failed <- e.Message
		}
	}}, process.Options{Addresses: netip.MustParsePrefix("127.99.99.0/31")}) // one address besides that of the network
	first := processPod("exec sleep 1000")
	first.Spec.TerminationGracePeriod = new(time.Duration(0))
	second := *first
	second.Name, second.UID = "b", "b"
	if err := m.Set(first); err != nil {
		t.Fatal(err)
	}
	is(t, m, "the first pod runs", func(s *pod.Status, _ pod.ContainerStatus) bool { return s.Phase == pod.Running })
	if err := m.Set(&second); err != nil {
		t.Fatal(err)
	}
	select {
	case text := <-failed:
		if !strings.Contains(text, "no free address") {
			t.Errorf("event %q does not say what is missing", text)
		}
	case <-time.After(time.Minute):
		t.Fatal("no event for a minute")
	}
	phaseIs(t, m, "b", pod.Pending)
	if s := m.Status("b"); s.ContainerStatuses[0].State.Waiting.Reason != pod.ReasonContainerCreating {
		t.Errorf("status without a network: %+v, want ContainerCreating", s)
	}
	// That it goes on when there is an address is tested in virtual time, in package pod.
}

// TestProgramIsGone: an agent whose program was deleted, as an upgrade does, can still start a supervisor.
func TestProgramIsGone(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "agent")
	if err := copyFile(program, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "deleted", filepath.Join(dir, "root")).CombinedOutput()
	if err != nil || string(out) != "started\n" {
		t.Errorf("without its program: %q, %v, want started", out, err)
	}
}

// deleted is the program of TestProgramIsGone.
func deleted(root string) {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	os.Remove(program)
	o := process.Options{Root: root}
	rt, err := process.New(o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	pid, err := rt.SupervisorPID(context.Background())
	if err != nil || !alive(pid) {
		fmt.Println("no supervisor:", err)
		os.Exit(1)
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = errors.Join(p.Signal(os.Interrupt), p.Signal(syscall.SIGTERM)) // the first is not meant for it
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("started")
	os.Exit(0)
}
