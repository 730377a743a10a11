// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
)

// scratch is a pod with an emptyDir, which is empty already.
func scratch(name string, e pod.EmptyDir) *pod.Pod {
	p := simple(name)
	p.Spec.Volumes = []pod.Volume{{Name: "scratch", EmptyDir: &e}}
	p.Spec.Containers[0].VolumeMounts = []pod.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	return p
}

// fill writes n bytes into a pod's emptyDir, as its program would.
func (w *world) fill(uid string, n int) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.config.Root, "pods", uid, "volumes", "scratch", "data"), make([]byte, n), 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w *world) wantEvicted(uid, message string) {
	w.Helper()
	w.wantPhase(uid, pod.Failed)
	if s := w.status(uid); s.Reason != "Evicted" || !strings.HasPrefix(s.Message, message) {
		w.Errorf("pod %s: %s: %q, want Evicted: %q", uid, s.Reason, s.Message, message)
	}
	if _, err := os.Stat(filepath.Join(w.config.Root, "pods", uid, "volumes")); !errors.Is(err, os.ErrNotExist) {
		w.Errorf("the volumes of pod %s still take their space: %v", uid, err)
	}
}

func TestEmptyDirLimit(t *testing.T) {
	in(t, fake.Options{}, pod.Config{Root: t.TempDir()}, func(w *world) {
		w.set(scratch("small", pod.EmptyDir{SizeLimit: 1 << 20}))
		w.set(scratch("large", pod.EmptyDir{SizeLimit: 16 << 20}))
		w.set(scratch("free", pod.EmptyDir{}))
		for _, uid := range []string{"small", "large", "free"} {
			w.fill(uid, 1<<19)
		}
		w.after(time.Minute)
		w.wantPhase("small", pod.Running)
		for _, uid := range []string{"small", "large", "free"} {
			w.fill(uid, 3<<20)
		}
		w.after(10 * time.Second)
		w.wantEvicted("small", `Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". `)
		w.wantPhase("large", pod.Running)
		w.wantPhase("free", pod.Running)
	})
}

func TestEphemeralStorageLimit(t *testing.T) {
	for _, tt := range []struct {
		name, file, message string
	}{
		{"log", "logs/default_a_a/main/0.log", `Container main exceeded its local ephemeral storage limit "1Mi". `},
		{"volume", "pods/a/volumes/scratch/data", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, fake.Options{}, pod.Config{Root: t.TempDir()}, func(w *world) {
				p := scratch("a", pod.EmptyDir{})
				p.Spec.Containers[0].Resources.Limits.EphemeralStorage = 1 << 20
				w.set(p)
				path := filepath.Join(w.config.Root, tt.file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, make([]byte, 2<<20), 0o644)); err != nil {
					t.Fatal(err)
				}
				w.after(10 * time.Second)
				w.wantEvicted("a", tt.message)
			})
		})
	}
}

// TestDiskEviction: images that nobody uses go first, then the pod that is furthest above what it asked for.
func TestDiskEviction(t *testing.T) {
	var made atomic.Pointer[fake.Runtime]
	var disk atomic.Int64 // free besides the images
	disk.Store(50 << 20)
	const capacity = 100 << 20
	config := pod.Config{Root: t.TempDir(), Eviction: &pod.Eviction{Signals: func(ctx context.Context) (pod.Signals, error) {
		images, err := made.Load().ListImages(ctx, runtime.ImageSpec{})
		free := disk.Load() - int64(len(images))<<20
		return pod.Signals{NodeFsAvailable: free, NodeFsCapacity: capacity}, err
	}}}
	in(t, fake.Options{}, config, func(w *world) {
		rt := w.rt
		made.Store(rt)
		for i := range 20 {
			if _, err := rt.PullImage(t.Context(), runtime.ImageSpec{Image: fmt.Sprint("example.com/unused:", i)}, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		for name, used := range map[string]int{"modest": 2 << 20, "greedy": 3 << 20, "entitled": 9 << 20} {
			p := scratch(name, pod.EmptyDir{})
			if name == "entitled" {
				p.Spec.Containers[0].Resources.Requests.EphemeralStorage = 10 << 20
			}
			w.set(p)
			w.fill(name, used)
		}
		w.after(8 * time.Minute) // so that the images were seen, and are old enough to go
		disk.Store(25 << 20)     // 4 MiB less than the threshold, with 21 images
		w.after(time.Minute)
		images, _ := rt.ListImages(t.Context(), runtime.ImageSpec{})
		if len(images) != 1 || w.status("greedy").Phase != pod.Running {
			t.Errorf("%d images, and the greedy pod is %s; want only the image in use, and no eviction", len(images), w.status("greedy").Phase)
		}
		if _, pressure := w.m.Pressure(); !pressure {
			t.Error("no disk pressure")
		}
		disk.Store(5 << 20)
		w.after(10 * time.Second)
		disk.Store(50 << 20)
		w.wantEvicted("greedy", "The node was low on resource: ephemeral-storage. Threshold quantity: 10485760, available: 4194304. Pod was using 3")
		w.wantPhase("modest", pod.Running)
		w.wantPhase("entitled", pod.Running)
		w.after(6 * time.Minute)
		if _, pressure := w.m.Pressure(); pressure {
			t.Error("disk pressure stays after the transition period")
		}
	})
}

func TestImageGC(t *testing.T) {
	var made atomic.Pointer[fake.Runtime]
	images := func() []runtime.Image {
		if rt := made.Load(); rt != nil {
			list, _ := rt.ListImages(context.Background(), runtime.ImageSpec{})
			return list
		}
		return nil // the manager looks at once
	}
	// Each image is 1 MiB, as the fake has it, on a disk of 100 MiB.
	options := fake.Options{ImageFs: func() []runtime.FilesystemUsage {
		return []runtime.FilesystemUsage{{CapacityBytes: 100 << 20, AvailableBytes: uint64(100-len(images())) << 20}}
	}}
	pull := func(w *world, n int) {
		if _, err := w.rt.PullImage(t.Context(), runtime.ImageSpec{Image: fmt.Sprintf("example.com/unused:%02d", n)}, nil, nil); err != nil {
			w.Fatal(err)
		}
	}
	names := func() (list []string) {
		for _, i := range images() {
			list = append(list, strings.TrimPrefix(i.RepoTags[0], "example.com/"))
		}
		slices.Sort(list)
		return list
	}
	in(t, options, pod.Config{}, func(w *world) {
		made.Store(w.rt)
		w.set(simple("a"))
		for n := range 83 {
			pull(w, n)
		}
		w.after(5 * time.Minute) // seen, and not yet too many
		if n := len(names()); n != 84 {
			t.Errorf("%d images, want 84: below the threshold none is removed", n)
		}
		for n := 83; n < 90; n++ {
			pull(w, n)
			w.after(time.Second)
		}
		w.after(5 * time.Minute)
		if got := names(); len(got) != 80 || got[0] != "app:1" || !slices.Contains(got, "unused:89") {
			t.Errorf("%d images, %v, want 80: the one in use, and the newest", len(got), got)
		}
	})
	in(t, options, pod.Config{ImageGC: pod.ImageGC{MaxAge: time.Hour}}, func(w *world) {
		made.Store(w.rt)
		w.set(simple("a"))
		pull(w, 1)
		w.after(50 * time.Minute)
		if n := len(names()); n != 2 {
			t.Errorf("%d images, want 2: none is too old", n)
		}
		w.after(20 * time.Minute)
		if got := names(); !slices.Equal(got, []string{"app:1"}) {
			t.Errorf("images %v, want only the one in use", got)
		}
	})
}

// TestMemoryVolume needs root, and checks without that the pod says so.
func TestMemoryVolume(t *testing.T) {
	dir := t.TempDir()
	var volume string
	in(t, fake.Options{}, pod.Config{Root: dir}, func(w *world) {
		volume = filepath.Join(dir, "pods", "a", "volumes", "scratch")
		w.set(scratch("a", pod.EmptyDir{Medium: pod.MediumMemory, SizeLimit: 1 << 20}))
		if os.Geteuid() != 0 {
			if os.Getenv("CI") == "true" {
				t.Error("volumes in memory need root, and CI has to test them")
			}
			if m := w.message(pod.EventFailedMount); !strings.Contains(m, "needs root") {
				t.Errorf("without root: %q", m)
			}
			return
		}
		w.want("a", "main", "Running")
		err := os.WriteFile(filepath.Join(volume, "data"), make([]byte, 2<<20), 0o644)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("2 MiB in a volume of 1 MiB: %v, want no space left on device", err)
		}
		w.stop()
		w.start() // it is mounted already
		w.set(scratch("a", pod.EmptyDir{Medium: pod.MediumMemory, SizeLimit: 1 << 20}))
		if st, err := os.Stat(filepath.Join(volume, "data")); err != nil || st.Size() == 0 {
			t.Errorf("the data after a restart of the agent: %v, %v", st, err)
		}
		w.m.Delete("a", nil)
		w.after(time.Second)
		if w.gone("a") != 1 {
			t.Error("the pod is not removed")
		}
		if _, err := os.Stat(filepath.Join(dir, "pods", "a")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the pod's directory is left: %v", err)
		}
	})
}

func TestMachine(t *testing.T) {
	s, err := pod.Machine(t.TempDir(), fake.New(fake.Options{}))(t.Context())
	if err != nil || s.MemoryAvailable <= 0 || s.MemoryCapacity < s.MemoryAvailable || s.NodeFsAvailable <= 0 || s.NodeFsCapacity < s.NodeFsAvailable ||
		s.ImageFsCapacity != 1<<40 {
		t.Errorf("Machine() = %+v, %v", s, err)
	}
}

// TestOneEvictionAtATime: while an evicted pod has not given back what it used, no other has to go.
func TestOneEvictionAtATime(t *testing.T) {
	slow := func(ctx context.Context, c fake.Call) error {
		if c.Op == "StopPodSandbox" {
			time.Sleep(20 * time.Second)
		}
		return nil
	}
	config := pod.Config{Eviction: &pod.Eviction{Signals: func(context.Context) (pod.Signals, error) {
		return pod.Signals{MemoryAvailable: 1, MemoryCapacity: 1 << 30}, nil
	}}}
	in(t, fake.Options{Before: slow}, config, func(w *world) {
		failed := func() (n int) {
			for _, uid := range []string{"a", "b", "c"} {
				if w.status(uid).Phase == pod.Failed {
					n++
				}
			}
			return n
		}
		for _, uid := range []string{"a", "b", "c"} {
			w.set(simple(uid))
		}
		w.after(29 * time.Second)
		if n := len(w.eventsOf(pod.EventEvicted)); n != 1 {
			t.Errorf("%d evictions while the first pod stops, want 1", n)
		}
		w.after(2 * time.Minute)
		if n := failed(); n != 3 {
			t.Errorf("%d pods have gone while the shortage lasts, want all 3", n)
		}
	})
}

func (w *world) eventsOf(reason string) (list []pod.Event) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Reason == reason {
			list = append(list, e)
		}
	}
	return list
}
