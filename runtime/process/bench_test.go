// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/process"
	"github.com/slipway-dev/slipway/runtime/runtimetest"
)

// BenchmarkPodStart takes pods from nothing to running, and away again, one after another:
// sandbox, create, start; stop, remove. The floor is a fork and exec with a kill and a wait.
func BenchmarkPodStart(b *testing.B) {
	b.Run("impl=fake/slipway", func(b *testing.B) {
		rt := fake.New(fake.Options{})
		podStart(b, os.Getpid(), func(n int) (func() error, error) { return startPod(b.Context(), rt, n) })
	})
	b.Run("impl=process/slipway", func(b *testing.B) {
		rt := open(b, process.Options{})
		pid, err := rt.SupervisorPID(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		podStart(b, pid, func(n int) (func() error, error) { return startPod(b.Context(), rt, n) })
	})
	b.Run("impl=process/forkexec", func(b *testing.B) {
		podStart(b, os.Getpid(), func(int) (func() error, error) {
			cmd := exec.Command("/bin/sleep", "1000")
			return func() error {
				err := cmd.Process.Kill()
				cmd.Wait()
				return err
			}, cmd.Start()
		})
	})
}

// startPod returns what stops the pod and removes it.
func startPod(ctx context.Context, rt runtimetest.Runtime, n int) (func() error, error) {
	s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "bench", Namespace: "default", UID: strconv.Itoa(n)}}
	id, err := rt.RunPodSandbox(ctx, s)
	if err != nil {
		return nil, err
	}
	c, err := rt.CreateContainer(ctx, id, &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{"/bin/sleep", "1000"},
	}, s)
	if err != nil {
		return nil, err
	}
	return func() error {
		return errors.Join(rt.StopContainer(ctx, c, 0), rt.RemovePodSandbox(ctx, id))
	}, rt.StartContainer(ctx, c)
}

const settle = 3 * time.Millisecond

// podStart measures one pod at a time. The processor time is that of this process, of the
// supervisor pid if it is another, and of the children of both, which have been waited for.
func podStart(b *testing.B, pid int, start func(n int) (stop func() error, err error)) {
	b.ReportAllocs()
	var starts []time.Duration
	goruntime.GC()
	before := cpu(b, pid)
	n := 0
	for b.Loop() {
		begin := time.Now()
		stop, err := start(n)
		starts = append(starts, time.Since(begin))
		// The program gets the time to start, so that its own share of the
		// processor time is in all figures; a kill right after the fork would save it that.
		time.Sleep(settle)
		if err == nil {
			err = stop()
		}
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	goruntime.GC()
	used := cpu(b, pid) - before
	slices.Sort(starts)
	b.ReportMetric(float64(starts[len(starts)/2].Nanoseconds()), "p50-start-ns")
	b.ReportMetric(float64(starts[len(starts)*99/100].Nanoseconds()), "p99-start-ns")
	b.ReportMetric(float64(used.Nanoseconds())/float64(n), "cpu-ns/pod")
}

func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	if pid != os.Getpid() {
		// The clock of another process counts nanoseconds; its children are only in
		// stat, in ticks of 10 ms, which is enough over many pods.
		const perProcess = 2
		var t syscall.Timespec
		if _, _, e := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|perProcess), uintptr(unsafe.Pointer(&t)), 0); e != 0 {
			b.Fatal(e)
		}
		sum += time.Duration(t.Nano()) + childTime(b, pid)
	}
	return sum
}

func childTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(f[13])
	system, _ := strconv.Atoi(f[14])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// BenchmarkSupervisorMemory is what the supervisor holds for each of 100 running pods.
func BenchmarkSupervisorMemory(b *testing.B) {
	const pods = 100
	b.Run("pods=100/slipway", func(b *testing.B) {
		for b.Loop() {
			rt := open(b, process.Options{})
			pid, err := rt.SupervisorPID(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			var stops []func() error
			for n := range pods {
				stop, err := startPod(b.Context(), rt, n)
				if err != nil {
					b.Fatal(err)
				}
				stops = append(stops, stop)
			}
			b.ReportMetric(float64(pss(b, pid))/pods, "pss-bytes/pod")
			for _, stop := range stops {
				if err := stop(); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// pss is the proportional set size of a process, in bytes.
func pss(b *testing.B, pid int) int {
	b.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			kib, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatal("smaps_rollup has no Pss")
	return 0
}
