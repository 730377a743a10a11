// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"context"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime/process"
	"github.com/slipway-dev/slipway/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	process.Main()
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's second at each exit, for the supervisors
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "echo-server":
			echoServer(os.Args[2])
		case "agent":
			agent(os.Args[2])
		case "deleted":
			deleted(os.Args[2])
		case "exclusive":
			exclusive(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

// echoServer listens on all addresses, as most servers do.
func echoServer(port string) {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

// open returns a runtime in a directory of its own, whose supervisor ends with the test.
func open(t testing.TB, o process.Options) *process.Runtime {
	t.Helper()
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	rt, err := process.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, o, rt) })
	return rt
}

// end ends the supervisor with everything that it holds.
func end(t testing.TB, o process.Options, rt *process.Runtime) {
	t.Helper()
	rt.Close()
	again, err := process.New(o)
	if err != nil {
		t.Error(err)
		return
	}
	defer again.Close()
	pid, err := again.SupervisorPID(context.Background())
	if err != nil {
		t.Error(err)
		return
	}
	syscall.Kill(pid, syscall.SIGTERM)
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if !alive(pid) {
			return
		}
		if time.Since(begin) > time.Minute {
			t.Errorf("the supervisor %d does not end", pid)
			return
		}
	}
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	for i := range b {
		if b[i] == ')' && i+2 < len(b) && b[i+2] == 'Z' {
			return false
		}
	}
	return true
}

func TestConformance(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	roots := map[runtimetest.Runtime]process.Options{}
	propagation := propagates
	if os.Geteuid() != 0 { // who can't mount can't show that it appears
		propagation = nil
	}
	runtimetest.Run(t, runtimetest.Config{
		New: func(t *testing.T) runtimetest.Runtime {
			o := process.Options{Root: t.TempDir()}
			rt := open(t, o)
			roots[rt] = o
			return rt
		},
		MissingImage: "example.com/missing:1",
		Echo:         func(port int) []string { return []string{self, "echo-server", itoa(port)} },
		Limits:       limits(t),
		Mounts:       namespaces(t),
		Propagation:  propagation,
		Reconnect: func(t *testing.T, old runtimetest.Runtime) runtimetest.Runtime {
			old.(*process.Runtime).Close()
			rt, err := process.New(roots[old])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { rt.Close() })
			return rt
		},
	})
}

// limits reports whether cgroups can be made here. In CI they must be.
func limits(t *testing.T) bool {
	t.Helper()
	ok := os.Geteuid() == 0 && syscall.Access("/sys/fs/cgroup/memory/slipway", 2) == nil ||
		os.Geteuid() == 0 && os.MkdirAll("/sys/fs/cgroup/memory/slipway", 0o755) == nil
	if !ok && os.Getenv("CI") == "true" {
		t.Error("memory limits need root and cgroups of version 1, and CI has to test them")
	}
	return ok
}

func itoa(n int) string { return strconv.Itoa(n) }

// TestNeverTheFirstThread: a process that was started from the first thread of the supervisor put the
// supervisor into the container's cgroup, where the end of the container killed it.
func TestNeverTheFirstThread(t *testing.T) {
	for range 500 {
		process.OnOwnThread(func() {
			if syscall.Gettid() == os.Getpid() {
				t.Error("on the first thread")
			}
		})
	}
}
