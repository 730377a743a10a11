// SPDX-License-Identifier: Apache-2.0

// Package runtimetest checks that a container runtime keeps the rules of
// package runtime. Run it from a test of your own implementation:
//
//	func TestConformance(t *testing.T) {
//		runtimetest.Run(t, runtimetest.Config{
//			New: func(t *testing.T) runtimetest.Runtime { return myruntime.New(t.TempDir()) },
//		})
//	}
//
// The programs that it runs are sh, sleep, cat and echo, which every system and
// every base image has. It waits for what it expects, up to a minute, so that it is
// as quick as the runtime, and correct on a slow machine.
package runtimetest

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// Runtime is what is tested.
type Runtime interface {
	runtime.RuntimeService
	runtime.ImageService
}

// Config says how to get a runtime and what it has.
type Config struct {
	// New returns a runtime with nothing in it, and cleans up by t.Cleanup.
	New func(t *testing.T) Runtime
	// Image has the programs named above; empty for a runtime that needs none.
	Image string
	// MissingImage can't be pulled. Empty: that is not tested.
	MissingImage string
	// Echo is a command that listens on a TCP port of its localhost and sends back what it
	// reads. Nil: port forwarding is not tested.
	Echo func(port int) []string
	// Reconnect returns another client of the same runtime, as an agent does that was
	// restarted; the first one is gone. Nil: that is not tested.
	Reconnect func(t *testing.T, old Runtime) Runtime
	// Limits says that memory limits are enforced here.
	Limits bool
	// Mounts says that mounts are shown to containers here. What is mounted is on this machine.
	Mounts bool
	// Propagation returns a directory in which later mounts can be seen by who mounts it too, and what mounts
	// a file system there, at a directory that exists, with a file "new" in it. Nil: propagation of mounts is not tested.
	Propagation func(t *testing.T) (dir string, mount func(at string))
}

// Run runs the whole suite, each part with a runtime of its own.
func Run(t *testing.T, c Config) {
	for _, part := range []struct {
		name string
		test func(*suite)
	}{
		{"Service", (*suite).service},
		{"SandboxLifeCycle", (*suite).sandboxLifeCycle},
		{"SandboxInvalid", (*suite).sandboxInvalid},
		{"SandboxUnique", (*suite).sandboxUnique},
		{"SandboxFilters", (*suite).sandboxFilters},
		{"SandboxStopKillsContainers", (*suite).sandboxStopKills},
		{"SandboxRemoveRemovesContainers", (*suite).sandboxRemoves},
		{"SandboxAddresses", (*suite).sandboxAddresses},
		{"ContainerLifeCycle", (*suite).containerLifeCycle},
		{"ContainerInvalid", (*suite).containerInvalid},
		{"ContainerUnique", (*suite).containerUnique},
		{"ContainerFilters", (*suite).containerFilters},
		{"ContainerExitCodes", (*suite).exitCodes},
		{"ContainerStartTwice", (*suite).startTwice},
		{"ContainerMissingProgram", (*suite).missingProgram},
		{"ContainerStopGraceful", (*suite).stopGraceful},
		{"ContainerStopStubborn", (*suite).stopStubborn},
		{"ContainerStopCancelled", (*suite).stopCancelled},
		{"ContainerRemoveRunning", (*suite).removeRunning},
		{"ContainerEnvironment", (*suite).environment},
		{"ContainerResources", (*suite).resources},
		{"ContainerStopSignal", (*suite).stopSignal},
		{"MountReadWrite", (*suite).mountReadWrite},
		{"MountReadOnly", (*suite).mountReadOnly},
		{"MountFile", (*suite).mountFile},
		{"MountMissing", (*suite).mountMissing},
		{"MountPropagation", (*suite).mountPropagation},
		{"Idempotent", (*suite).idempotent},
		{"Unknown", (*suite).unknown},
		{"Concurrent", (*suite).concurrent},
		{"Log", (*suite).log},
		{"LogRotation", (*suite).logRotation},
		{"LogPathIsDirectory", (*suite).logPathIsDirectory},
		{"ExecSync", (*suite).execSync},
		{"ExecSyncTimeout", (*suite).execSyncTimeout},
		{"Exec", (*suite).exec},
		{"ExecDeadContainer", (*suite).execDead},
		{"Attach", (*suite).attach},
		{"PortForward", (*suite).portForward},
		{"Stats", (*suite).stats},
		{"Events", (*suite).events},
		{"Images", (*suite).images},
		{"MissingImage", (*suite).missingImage},
		{"OutOfMemory", (*suite).outOfMemory},
		{"Reconnect", (*suite).reconnect},
	} {
		t.Run(part.name, func(t *testing.T) {
			s := &suite{T: t, config: c, rt: c.New(t), logs: t.TempDir()}
			part.test(s)
		})
	}
}

type suite struct {
	*testing.T
	config Config
	rt     Runtime
	logs   string
	uids   atomic.Int64
}

// patience is how long to wait for what will happen.
const patience = time.Minute

// sandbox runs a sandbox that nobody else uses.
func (s *suite) sandbox() (string, *runtime.PodSandboxConfig) {
	s.Helper()
	n := s.uids.Add(1)
	c := &runtime.PodSandboxConfig{
		Metadata:     runtime.PodSandboxMetadata{Name: fmt.Sprintf("pod-%d", n), Namespace: "suite", UID: fmt.Sprintf("uid-%d", n)},
		LogDirectory: filepath.Join(s.logs, fmt.Sprint(n)),
		Labels:       map[string]string{"n": fmt.Sprint(n), "suite": "yes"},
		Annotations:  map[string]string{"note": "kept"},
	}
	id, err := s.rt.RunPodSandbox(s.Context(), c)
	s.must(err)
	return id, c
}

// container is the configuration of a container that runs a shell script.
func (s *suite) container(name, script string) *runtime.ContainerConfig {
	return &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: name},
		Image:    runtime.ImageSpec{Image: s.config.Image},
		Command:  []string{"sh", "-c", script},
		LogPath:  name + ".log",
		Labels:   map[string]string{"name": name, "suite": "yes"},
	}
}

func (s *suite) create(sandbox string, c *runtime.ContainerConfig, sc *runtime.PodSandboxConfig) string {
	s.Helper()
	if s.config.Image != "" {
		_, err := s.rt.PullImage(s.Context(), c.Image, nil, sc)
		s.must(err)
	}
	id, err := s.rt.CreateContainer(s.Context(), sandbox, c, sc)
	s.must(err)
	return id
}

// run creates a sandbox with one container, and starts it.
func (s *suite) run(script string) (sandbox, container string) {
	s.Helper()
	sandbox, sc := s.sandbox()
	container = s.create(sandbox, s.container("main", script), sc)
	s.must(s.rt.StartContainer(s.Context(), container))
	return sandbox, container
}

func (s *suite) status(id string) *runtime.ContainerStatus {
	s.Helper()
	st, err := s.rt.ContainerStatus(s.Context(), id)
	s.must(err)
	return st
}

// exited waits until a container has exited.
func (s *suite) exited(id string) *runtime.ContainerStatus {
	s.Helper()
	var st *runtime.ContainerStatus
	s.wait("container "+id+" exits", func() bool {
		st = s.status(id)
		return st.State == runtime.ContainerExited
	})
	return st
}

func (s *suite) wait(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}
