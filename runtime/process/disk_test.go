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
	"github.com/slipway-dev/slipway/runtime/crilog"
	"github.com/slipway-dev/slipway/runtime/pod"
	"github.com/slipway-dev/slipway/runtime/process"
)

// smallDisk mounts a file system of its own, of 32 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("mounting a small file system needs root, and CI has to test this")
		}
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp takes all room that is left, and returns the file that has it.
func fillUp(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "everything")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for b := make([]byte, size); err == nil; _, err = f.Write(b) {
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	return path
}

// manageOn is manage on a disk that is given; it returns what the manager tells.
func manageOn(t *testing.T, disk string, config pod.Config) (*pod.Manager, func(reason string) string) {
	t.Helper()
	config.Runtime = open(t, process.Options{Root: filepath.Join(disk, "runtime")})
	config.Root = filepath.Join(disk, "pods")
	if err := os.MkdirAll(config.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	messages := map[string]string{}
	config.OnEvent = func(e pod.Event) {
		mu.Lock()
		defer mu.Unlock()
		messages[e.Reason] = e.Message
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
	return m, func(reason string) string {
		mu.Lock()
		defer mu.Unlock()
		return messages[reason]
	}
}

func writer(name, script string) *pod.Pod {
	return &pod.Pod{Name: name, UID: name, Spec: pod.Spec{
		TerminationGracePeriod: new(time.Duration(0)),
		Volumes:                []pod.Volume{{Name: "scratch", EmptyDir: &pod.EmptyDir{}}},
		Containers: []pod.Container{{Name: "main", Command: []string{"sh", "-c", script},
			VolumeMounts: []pod.VolumeMount{{Name: "scratch", MountPath: "/mnt/scratch"}}}},
	}}
}

func phaseIs(t *testing.T, m *pod.Manager, uid string, want pod.Phase) {
	t.Helper()
	waitFor(t, uid+" is "+string(want), func() bool {
		s := m.Status(uid)
		return s != nil && s.Phase == want
	})
}

// TestDiskPressure: of two pods on a real file system, the one that fills it has to go, and its
// files with it; the other goes on.
func TestDiskPressure(t *testing.T) {
	disk := smallDisk(t)
	m, _ := manageOn(t, disk, pod.Config{Eviction: &pod.Eviction{Interval: 50 * time.Millisecond, NodeFsAvailable: 0.2, ImageFsAvailable: 0.2, Transition: time.Second}})
	for _, p := range []*pod.Pod{
		writer("modest", "dd if=/dev/zero of=/mnt/scratch/data bs=64k count=16 2>/dev/null; exec sleep 1000"),
		writer("greedy", "dd if=/dev/zero of=/mnt/scratch/data bs=64k; exec sleep 1000"),
	} {
		if err := m.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	phaseIs(t, m, "greedy", pod.Failed)
	if s := m.Status("greedy"); s.Reason != pod.ReasonEvicted || !strings.HasPrefix(s.Message, "The node was low on resource: ephemeral-storage. ") {
		t.Errorf("evicted: %s: %s", s.Reason, s.Message)
	}
	waitFor(t, "the pressure ends", func() bool {
		_, pressure := m.Pressure()
		return !pressure
	})
	phaseIs(t, m, "modest", pod.Running)
	var st syscall.Statfs_t
	if err := syscall.Statfs(disk, &st); err != nil || st.Bavail*5 < st.Blocks*4 {
		t.Errorf("%d of %d blocks are free, %v: want four fifths", st.Bavail, st.Blocks, err)
	}
}

// TestFullDisk: on a full disk new pods wait and say why, old ones can be stopped and removed, and everything
// goes on when there is room.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t)
	m, message := manageOn(t, disk, pod.Config{})
	if err := m.Set(writer("old", "exec sleep 1000")); err != nil {
		t.Fatal(err)
	}
	phaseIs(t, m, "old", pod.Running)
	all := fillUp(t, disk)
	fresh := writer("new", "exec sleep 1000")
	fresh.Spec.Volumes = append(fresh.Spec.Volumes, pod.Volume{Name: "fields", Projected: &pod.Projected{
		Sources: []pod.Projection{{Fields: []pod.FieldFile{{Path: "name", FieldRef: "metadata.name"}}}},
	}})
	if err := m.Set(fresh); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new pod says why it waits", func() bool {
		return strings.Contains(message(pod.EventFailedMount), "no space left on device")
	})
	if err := m.Delete("old", nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the old pod is removed", func() bool { return m.Status("old") == nil })
	if err := os.Remove(all); err != nil {
		t.Fatal(err)
	}
	phaseIs(t, m, "new", pod.Running)
}

// TestFullDiskRuntime is the runtime's part: what can't be recorded is not made, what
// has happened is never refused, and logs say what they lost.
func TestFullDiskRuntime(t *testing.T) {
	disk := smallDisk(t)
	o := process.Options{Root: filepath.Join(disk, "runtime")}
	rt := open(t, o)
	input := filepath.Join(t.TempDir(), "input")
	if err := syscall.Mkfifo(input, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "a", UID: "a"}, LogDirectory: filepath.Join(disk, "logs")}
	id, err := rt.RunPodSandbox(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	config := &runtime.ContainerConfig{Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{"cat", input}, LogPath: "main.log"}
	c, err := rt.CreateContainer(t.Context(), id, config, s)
	if err == nil {
		err = rt.StartContainer(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
	feed, err := os.OpenFile(input, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	st, err := rt.ContainerStatus(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	all := fillUp(t, disk)
	// The journal may have room in its last block for some more.
	for n := 1; err == nil; n++ {
		config := *config
		config.Metadata.Attempt = uint32(n)
		_, err = rt.CreateContainer(t.Context(), id, &config, s)
	}
	if !errors.Is(err, runtime.ErrExhausted) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("create a container on a full disk: %v, want ErrExhausted, and why", err)
	}
	feed.WriteString(strings.Repeat("this has no room\n", 1000))
	time.Sleep(50 * time.Millisecond) // so that it is lost before there is room; if it is not, nothing is
	if err := os.Remove(all); err != nil {
		t.Fatal(err)
	}
	feed.WriteString("this has room\n")
	waitFor(t, "the log goes on", func() bool {
		for e, err := range crilog.Read(t.Context(), st.LogPath, crilog.ReadOptions{}) {
			if err != nil {
				t.Error(err)
			}
			if string(e.Line) == "this has room" {
				return true
			}
		}
		return false
	})
	all = fillUp(t, disk)
	if err := rt.StopContainer(t.Context(), c, 0); err != nil {
		t.Errorf("stop a container on a full disk: %v", err)
	}
	if err := rt.RemovePodSandbox(t.Context(), id); err != nil {
		t.Errorf("remove a sandbox on a full disk: %v", err)
	}
	if err := os.Remove(all); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.RunPodSandbox(t.Context(), s); err != nil {
		t.Errorf("run the sandbox again when there is room: %v", err)
	}
	pid, err := rt.SupervisorPID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What the journal could not take at the time is in it now.
	syscall.Kill(pid, syscall.SIGKILL)
	waitFor(t, "the supervisor is dead", func() bool { return !alive(pid) })
	var list []runtime.Container
	waitFor(t, "another supervisor answers", func() bool {
		list, err = rt.ListContainers(t.Context(), runtime.ContainerFilter{})
		return err == nil
	})
	if len(list) != 0 {
		t.Errorf("containers after a restart of the supervisor: %v, want none", list)
	}
}
