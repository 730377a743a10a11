// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/pod"
	"github.com/slipway-dev/slipway/runtime/process"
)

const crashPods = 8

// agent runs pods until it is killed.
func agent(dir string) {
	rt, err := process.New(process.Options{Root: filepath.Join(dir, "runtime")})
	if err != nil {
		panic(err)
	}
	m := pod.New(pod.Config{Runtime: rt, Root: filepath.Join(dir, "pods")})
	if err := m.Sync(crashWorkload(dir)); err != nil {
		panic(err)
	}
	if err := m.Run(context.Background()); err != nil {
		panic(err)
	}
}

// crashWorkload is what should run: each pod's program checks that it is the only one.
func crashWorkload(dir string) []*pod.Pod {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	var pods []*pod.Pod
	for n := range crashPods {
		name := fmt.Sprint("pod-", n)
		pods = append(pods, &pod.Pod{Name: name, UID: name, Spec: pod.Spec{
			InitContainers: []pod.Container{{Name: "init", Command: []string{"/bin/true"}}},
			Containers:     []pod.Container{{Name: "main", Command: []string{self, "exclusive", filepath.Join(dir, name)}}},
		}})
	}
	return pods
}

// exclusive holds a lock for as long as it lives, and notes each start. Whoever
// finds the lock taken is the second of two.
func exclusive(path string) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		panic(err)
	}
	note := "start\n"
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		note = "twice\n"
	}
	notes, err := os.OpenFile(path+".notes", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	notes.WriteString(note)
	time.Sleep(time.Hour)
	f.Close()
}

// TestAgentKilledAtRandom kills the agent with SIGKILL at random instants. After each restart no
// pod runs twice; in the end each runs, and was started once.
func TestAgentKilledAtRandom(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	launch := func() *exec.Cmd {
		cmd := exec.Command(self, "agent", dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	t.Cleanup(func() {
		o := process.Options{Root: filepath.Join(dir, "runtime")}
		rt, err := process.New(o)
		if err != nil {
			t.Fatal(err)
		}
		end(t, o, rt)
	})
	for range 15 {
		cmd := launch()
		time.Sleep(time.Duration(r.Int64N(int64(150 * time.Millisecond))))
		cmd.Process.Kill()
		cmd.Wait()
		wantOnce(t, dir)
	}
	last := launch()
	defer func() {
		last.Process.Kill()
		last.Wait()
	}()
	waitFor(t, "all pods run", func() bool {
		for n := range crashPods {
			if notes(t, dir, n) == "" {
				return false
			}
		}
		return true
	})
	wantOnce(t, dir)
	for n := range crashPods {
		if got := notes(t, dir, n); got != "start\n" {
			t.Errorf("pod %d: %q, want one start", n, got)
		}
	}
}

func notes(t *testing.T, dir string, n int) string {
	b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("pod-%d.notes", n)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func wantOnce(t *testing.T, dir string) {
	t.Helper()
	for n := range crashPods {
		if got := notes(t, dir, n); strings.Contains(got, "twice") {
			t.Fatalf("pod %d ran twice at one time: %q", n, got)
		}
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("waited 10 s in vain: %s", what)
		}
	}
}

// TestSupervisorKilled: its processes lose their pipes, so they end with it, and the next
// supervisor says so. None is left behind, not even one that left its session.
func TestSupervisorKilled(t *testing.T) {
	o := process.Options{Root: t.TempDir()}
	rt := open(t, o)
	pidFile := filepath.Join(o.Root, "stray.pid")
	c := startContainer(t, rt, "one", "setsid sh -c 'echo $$ > "+pidFile+".tmp; mv "+pidFile+".tmp "+pidFile+"; exec sleep 1000' & sleep 1000")
	var stray int
	waitFor(t, "the stray runs", func() bool {
		b, err := os.ReadFile(pidFile)
		fmt.Sscan(string(b), &stray)
		return err == nil && stray > 0
	})
	pid, err := rt.SupervisorPID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	waitFor(t, "the supervisor is dead", func() bool { return !alive(pid) })
	var st *runtime.ContainerStatus
	waitFor(t, "another supervisor answers the same agent", func() bool {
		st, err = rt.ContainerStatus(t.Context(), c)
		return err == nil
	})
	if st.State != runtime.ContainerExited || st.ExitCode != 137 || !strings.Contains(st.Message, "supervisor") {
		t.Errorf("after the supervisor was killed: %+v", st)
	}
	waitFor(t, "the stray is dead", func() bool { return !alive(stray) })
}

// TestStrayEndsWithContainer: a daemon does not outlive the container that started it.
func TestStrayEndsWithContainer(t *testing.T) {
	rt := open(t, process.Options{})
	pidFile := filepath.Join(t.TempDir(), "pid")
	c := startContainer(t, rt, "one", "(setsid sleep 1000 & echo $! > "+pidFile+") ; sleep 1000")
	var stray int
	waitFor(t, "the stray runs", func() bool {
		b, _ := os.ReadFile(pidFile)
		fmt.Sscan(string(b), &stray)
		return stray > 0
	})
	if err := rt.StopContainer(t.Context(), c, 0); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the stray is dead", func() bool { return !alive(stray) })
}

func startContainer(t *testing.T, rt *process.Runtime, name string, script string, mounts ...runtime.Mount) string {
	t.Helper()
	s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: name, UID: name}, LogDirectory: t.TempDir()}
	id, err := rt.RunPodSandbox(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.CreateContainer(t.Context(), id, &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{"sh", "-c", script}, Mounts: mounts, LogPath: "main.log",
	}, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReplicasShareAPort: two pods listen on one port of all addresses, without root;
// each is reached at its own address, and reaches itself as localhost.
func TestReplicasShareAPort(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rt := open(t, process.Options{})
	for _, name := range []string{"one", "two"} {
		s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: name, UID: name}}
		id, err := rt.RunPodSandbox(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		c, err := rt.CreateContainer(t.Context(), id, &runtime.ContainerConfig{
			Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{self, "echo-server", "7007"},
		}, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := rt.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		st, err := rt.PodSandboxStatus(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, name+" answers at "+st.IPs[0], func() bool { return echoes(net.JoinHostPort(st.IPs[0], "7007")) })
		r, err := rt.ExecSync(t.Context(), c, []string{"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7007; echo hello >&3; head -n 1 <&3"}, 0)
		if err != nil || string(r.Stdout) != "hello\n" {
			t.Errorf("localhost of %s: %q, %q, %v", name, r.Stdout, r.Stderr, err)
		}
	}
	if echoes("127.0.0.1:7007") {
		t.Error("the pods' port is open on the machine's localhost")
	}
}

func echoes(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	c.Write([]byte("ping"))
	b := make([]byte, 4)
	_, err = io.ReadFull(c, b)
	return err == nil && string(b) == "ping"
}

// TestSupervisorKilledAtRandom kills the supervisor with SIGKILL while pods come and go. After each time the next one
// answers, nothing of the old processes is left, what it lists can be removed, and the same pods can run again.
func TestSupervisorKilledAtRandom(t *testing.T) {
	o := process.Options{Root: t.TempDir()}
	rt := open(t, o)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				for ctx.Err() == nil { // the errors are those of a supervisor that is gone
					if stop, err := startPod(ctx, rt, n); err == nil && n%2 == 0 {
						stop()
					}
				}
			})
		}
		time.Sleep(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
		pid, err := rt.SupervisorPID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		syscall.Kill(pid, syscall.SIGKILL)
		wg.Wait()
		waitFor(t, "the supervisor is dead", func() bool { return !alive(pid) })
		var sandboxes []runtime.PodSandbox
		waitFor(t, "another supervisor answers", func() bool {
			sandboxes, err = rt.ListPodSandbox(t.Context(), runtime.PodSandboxFilter{})
			return err == nil
		})
		running, err := rt.ListContainers(t.Context(), runtime.ContainerFilter{State: runtime.ContainerRunning})
		if err != nil || len(running) > 0 {
			t.Errorf("round %d: %d containers run, %v, want none", round, len(running), err)
		}
		waitFor(t, "no process of a container is left", func() bool { return len(marked(o.Root)) == 0 })
		for _, s := range sandboxes {
			if err := rt.RemovePodSandbox(t.Context(), s.ID); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	if stop, err := startPod(t.Context(), rt, 0); err != nil {
		t.Error(err)
	} else if err := stop(); err != nil {
		t.Error(err)
	}
}

// marked lists the processes that have the mark of a root directory in their environment.
func marked(root string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), "@"+root+"\x00") {
			pids = append(pids, f)
		}
	}
	return pids
}
