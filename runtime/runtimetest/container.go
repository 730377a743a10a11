// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

func (s *suite) containerLifeCycle() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "sleep 1000")
	c.Annotations = map[string]string{"note": "kept"}
	id := s.create(sandbox, c, sc)
	st := s.status(id)
	if st.State != runtime.ContainerCreated || st.CreatedAt.IsZero() || !st.StartedAt.IsZero() || st.SandboxID != sandbox {
		s.Errorf("after create: %+v", st)
	}
	if st.Metadata != c.Metadata || st.Labels["name"] != "main" || st.Annotations["note"] != "kept" || st.Image != c.Image.Image {
		s.Errorf("status does not say what was configured: %+v", st)
	}
	s.must(s.rt.StartContainer(s.Context(), id))
	if st = s.status(id); st.State != runtime.ContainerRunning || st.StartedAt.Before(st.CreatedAt) || !st.FinishedAt.IsZero() {
		s.Errorf("after start: %+v", st)
	}
	s.must(s.rt.StopContainer(s.Context(), id, patience))
	if st = s.status(id); st.State != runtime.ContainerExited || st.FinishedAt.Before(st.StartedAt) {
		s.Errorf("after stop: %+v", st)
	}
	s.must(s.rt.RemoveContainer(s.Context(), id))
	if _, err := s.rt.ContainerStatus(s.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("status after remove: %v, want ErrNotFound", err)
	}
}

func (s *suite) containerInvalid() {
	sandbox, sc := s.sandbox()
	if _, err := s.rt.CreateContainer(s.Context(), sandbox, &runtime.ContainerConfig{}, sc); !errors.Is(err, runtime.ErrInvalid) {
		s.Errorf("create without a name: %v, want ErrInvalid", err)
	}
	if _, err := s.rt.CreateContainer(s.Context(), "none", s.container("a", "true"), sc); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("create in no sandbox: %v, want ErrNotFound", err)
	}
	s.must(s.rt.StopPodSandbox(s.Context(), sandbox))
	if _, err := s.rt.CreateContainer(s.Context(), sandbox, s.container("a", "true"), sc); !errors.Is(err, runtime.ErrState) && !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("create in a stopped sandbox: %v, want ErrState", err)
	}
}

func (s *suite) containerUnique() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "true")
	id := s.create(sandbox, c, sc)
	if _, err := s.rt.CreateContainer(s.Context(), sandbox, c, sc); !errors.Is(err, runtime.ErrAlreadyExists) {
		s.Errorf("the same attempt again: %v, want ErrAlreadyExists", err)
	}
	s.must(s.rt.StartContainer(s.Context(), id))
	s.exited(id)
	next := *c
	next.Metadata.Attempt++
	if second := s.create(sandbox, &next, sc); second == id {
		s.Error("the next attempt has the ID of the first")
	}
}

func (s *suite) containerFilters() {
	one, oneConfig := s.sandbox()
	two, twoConfig := s.sandbox()
	a := s.create(one, s.container("a", "sleep 1000"), oneConfig)
	b := s.create(one, s.container("b", "true"), oneConfig)
	c := s.create(two, s.container("a", "true"), twoConfig)
	s.must(s.rt.StartContainer(s.Context(), a))
	s.must(s.rt.StartContainer(s.Context(), b))
	s.exited(b)
	for _, tt := range []struct {
		filter runtime.ContainerFilter
		want   []string
	}{
		{runtime.ContainerFilter{}, []string{a, b, c}},
		{runtime.ContainerFilter{ID: a}, []string{a}},
		{runtime.ContainerFilter{ID: "none"}, nil},
		{runtime.ContainerFilter{SandboxID: one}, []string{a, b}},
		{runtime.ContainerFilter{SandboxID: "none"}, nil},
		{runtime.ContainerFilter{State: runtime.ContainerRunning}, []string{a}},
		{runtime.ContainerFilter{State: runtime.ContainerExited}, []string{b}},
		{runtime.ContainerFilter{State: runtime.ContainerCreated}, []string{c}},
		{runtime.ContainerFilter{Labels: map[string]string{"name": "a"}}, []string{a, c}},
		{runtime.ContainerFilter{SandboxID: two, Labels: map[string]string{"name": "b"}}, nil},
	} {
		list, err := s.rt.ListContainers(s.Context(), tt.filter)
		s.must(err)
		var got []string
		for _, c := range list {
			got = append(got, c.ID)
		}
		if !sameSet(got, tt.want) {
			s.Errorf("ListContainers(%+v) = %v, want %v", tt.filter, got, tt.want)
		}
	}
}

func (s *suite) exitCodes() {
	for code, reason := range map[int]string{0: runtime.ReasonCompleted, 1: runtime.ReasonError, 42: runtime.ReasonError} {
		_, id := s.run(fmt.Sprintf("exit %d", code))
		if st := s.exited(id); st.ExitCode != code || st.Reason != reason {
			s.Errorf("exit %d: code %d, reason %q, want reason %q", code, st.ExitCode, st.Reason, reason)
		}
	}
}

func (s *suite) startTwice() {
	_, id := s.run("sleep 1000")
	if err := s.rt.StartContainer(s.Context(), id); !errors.Is(err, runtime.ErrState) {
		s.Errorf("start of a running container: %v, want ErrState", err)
	}
	s.must(s.rt.StopContainer(s.Context(), id, 0))
	if err := s.rt.StartContainer(s.Context(), id); !errors.Is(err, runtime.ErrState) {
		s.Errorf("start of a container that has exited: %v, want ErrState", err)
	}
}

func (s *suite) missingProgram() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "")
	c.Command = []string{"/no/such/program"}
	if s.config.Image != "" {
		s.create(sandbox, s.container("other", "true"), sc) // pulls the image
	}
	id, err := s.rt.CreateContainer(s.Context(), sandbox, c, sc)
	if err == nil {
		err = s.rt.StartContainer(s.Context(), id)
	}
	if err == nil {
		s.Skip("this runtime has every program")
	}
	if !strings.Contains(err.Error(), "/no/such/program") {
		s.Errorf("error %q does not name the program", err)
	}
	if id != "" {
		if st := s.status(id); st.State != runtime.ContainerExited || st.Reason != runtime.ReasonStartError || st.Message == "" {
			s.Errorf("status %s, reason %q, message %q, want Exited, StartError and a message", st.State, st.Reason, st.Message)
		}
	}
}

func (s *suite) stopGraceful() {
	_, id := s.run("exec sleep 1000")
	begin := time.Now()
	s.must(s.rt.StopContainer(s.Context(), id, patience))
	if took := time.Since(begin); took >= patience {
		s.Errorf("stop took %v: it waited for the timeout", took)
	}
	if st := s.status(id); st.State != runtime.ContainerExited || st.ExitCode != 143 {
		s.Errorf("after SIGTERM: %s with exit code %d, want Exited with 143", st.State, st.ExitCode)
	}
}

func (s *suite) stopSignal() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "trap '' TERM; trap 'exit 9' INT; echo ready $((1+1)); while true; do sleep 0.01; done")
	c.StopSignal = "SIGINT"
	id := s.create(sandbox, c, sc)
	s.must(s.rt.StartContainer(s.Context(), id))
	path := s.status(id).LogPath
	if path == "" {
		s.Skip("this runtime has no logs here, and the trap can't be seen")
	}
	s.wait("the trap is set", func() bool { return strings.Contains(s.read(path), "ready") })
	if s.read(path) != "ready 2\n" {
		s.Skip("this runtime runs no real shell")
	}
	s.must(s.rt.StopContainer(s.Context(), id, patience))
	if st := s.status(id); st.ExitCode != 9 {
		s.Errorf("exit code %d after the stop signal SIGINT, want 9, from the trap", st.ExitCode)
	}
}

// stubborn ignores SIGTERM, in itself and in what it starts.
const stubborn = "trap '' TERM; echo ready; sleep 1000"

// runStubborn waits until the trap is set, where there is a log to see it in.
func (s *suite) runStubborn() string {
	_, id := s.run(stubborn)
	if path := s.status(id).LogPath; path != "" {
		s.wait("the trap is set", func() bool { return strings.Contains(s.read(path), "ready") })
	}
	return id
}

func (s *suite) stopStubborn() {
	id := s.runStubborn()
	const grace = 300 * time.Millisecond
	begin := time.Now()
	s.must(s.rt.StopContainer(s.Context(), id, grace))
	if took := time.Since(begin); took < grace {
		s.Errorf("stop took %v, less than the grace of %v", took, grace)
	}
	if st := s.status(id); st.State != runtime.ContainerExited || st.ExitCode != 137 {
		s.Errorf("after SIGKILL: %s with exit code %d, want Exited with 137", st.State, st.ExitCode)
	}
}

func (s *suite) stopCancelled() {
	id := s.runStubborn()
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.rt.StopContainer(ctx, id, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("stop with a context that ended: %v, want context.DeadlineExceeded", err)
	}
	if st := s.status(id); st.State != runtime.ContainerRunning {
		s.Errorf("container is %s, want Running still", st.State)
	}
	s.must(s.rt.StopContainer(s.Context(), id, 0))
	if st := s.status(id); st.State != runtime.ContainerExited {
		s.Errorf("after a second stop with a shorter timeout: %s, want Exited", st.State)
	}
}

func (s *suite) removeRunning() {
	_, id := s.run("sleep 1000")
	s.must(s.rt.RemoveContainer(s.Context(), id))
	if _, err := s.rt.ContainerStatus(s.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("status after remove: %v, want ErrNotFound", err)
	}
}

func (s *suite) environment() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "echo A=$A; echo B=$B")
	c.Env = []runtime.EnvVar{{Name: "A", Value: "first"}, {Name: "B", Value: "b c"}, {Name: "A", Value: "last"}}
	id := s.create(sandbox, c, sc)
	s.must(s.rt.StartContainer(s.Context(), id))
	path := s.exited(id).LogPath
	if got := s.read(path); got == "A=$A\nB=$B\n" {
		s.Skip("this runtime runs no real shell")
	} else if got != "A=last\nB=b c\n" {
		s.Errorf("the program saw %q", got)
	}
}

func (s *suite) resources() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "sleep 1000")
	id := s.create(sandbox, c, sc)
	s.must(s.rt.StartContainer(s.Context(), id))
	err := s.rt.UpdateContainerResources(s.Context(), id, &runtime.Resources{MemoryLimit: 512 << 20, CPUShares: 512})
	if errors.Is(err, runtime.ErrUnsupported) {
		s.Log("no resource limits here:", err)
		return
	}
	s.must(err)
	if r := s.status(id).Resources; r == nil || r.MemoryLimit != 512<<20 || r.CPUShares != 512 {
		s.Errorf("resources after update: %+v", r)
	}
	s.must(s.rt.UpdateContainerResources(s.Context(), id, &runtime.Resources{MemoryLimit: 256 << 20}))
	if r := s.status(id).Resources; r == nil || r.MemoryLimit != 256<<20 || r.CPUShares != 512 {
		s.Errorf("resources after a second update: %+v, want the CPU shares kept", r)
	}
}

func (s *suite) idempotent() {
	sandbox, c := s.run("sleep 1000")
	for range 2 {
		s.must(s.rt.StopContainer(s.Context(), c, 0))
	}
	for range 2 {
		s.must(s.rt.RemoveContainer(s.Context(), c))
	}
	for range 2 {
		s.must(s.rt.StopPodSandbox(s.Context(), sandbox))
	}
	for range 2 {
		s.must(s.rt.RemovePodSandbox(s.Context(), sandbox))
	}
}

func (s *suite) unknown() {
	ctx := s.Context()
	for name, err := range map[string]error{
		"StopContainer":    s.rt.StopContainer(ctx, "none", 0),
		"RemoveContainer":  s.rt.RemoveContainer(ctx, "none"),
		"StopPodSandbox":   s.rt.StopPodSandbox(ctx, "none"),
		"RemovePodSandbox": s.rt.RemovePodSandbox(ctx, "none"),
	} {
		if err != nil {
			s.Errorf("%s of an unknown ID: %v, want success", name, err)
		}
	}
	_, exec := s.rt.ExecSync(ctx, "none", []string{"true"}, 0)
	_, stats := s.rt.ContainerStats(ctx, "none")
	for name, err := range map[string]error{
		"StartContainer":     s.rt.StartContainer(ctx, "none"),
		"ReopenContainerLog": s.rt.ReopenContainerLog(ctx, "none"),
		"Attach":             s.rt.Attach(ctx, "none", runtime.AttachOptions{}),
		"ExecSync":           exec,
		"ContainerStats":     stats,
	} {
		if !errors.Is(err, runtime.ErrNotFound) || !strings.Contains(err.Error(), "none") {
			s.Errorf("%s of an unknown ID: %v, want ErrNotFound with the ID", name, err)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.rt.ListContainers(cancelled, runtime.ContainerFilter{}); !errors.Is(err, context.Canceled) {
		s.Errorf("list with a cancelled context: %v, want context.Canceled", err)
	}
}

// concurrent lets several goroutines take pods through their whole life, and
// several others fight over one container.
func (s *suite) concurrent() {
	ctx := s.Context()
	sandbox, sc := s.sandbox()
	shared := s.create(sandbox, s.container("shared", "sleep 1000"), sc)
	var wg sync.WaitGroup
	var started [8]bool
	for n := range started {
		wg.Go(func() {
			started[n] = s.rt.StartContainer(ctx, shared) == nil
			meta := runtime.PodSandboxMetadata{Name: "c", UID: fmt.Sprint("concurrent-", n)}
			own := &runtime.PodSandboxConfig{Metadata: meta, LogDirectory: sc.LogDirectory}
			id, err := s.rt.RunPodSandbox(ctx, own)
			if err != nil {
				s.Error(err)
				return
			}
			c, err := s.rt.CreateContainer(ctx, id, s.container("main", "sleep 1000"), own)
			if err != nil {
				s.Error(err)
				return
			}
			if err := errors.Join(s.rt.StartContainer(ctx, c), s.rt.StopContainer(ctx, c, 0), s.rt.RemovePodSandbox(ctx, id)); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(slices.DeleteFunc(started[:], func(ok bool) bool { return !ok })); n != 1 {
		s.Errorf("%d of 8 calls started the container, want 1", n)
	}
	list, err := s.rt.ListContainers(ctx, runtime.ContainerFilter{})
	s.must(err)
	if len(list) != 1 || list[0].ID != shared {
		s.Errorf("left over: %v, want only %s", list, shared)
	}
}

func (s *suite) outOfMemory() {
	if !s.config.Limits {
		s.Skip("this runtime does not enforce memory limits here (Config.Limits)")
	}
	sandbox, sc := s.sandbox()
	c := s.container("main", "tail /dev/zero")
	c.Resources = &runtime.Resources{MemoryLimit: 16 << 20}
	id := s.create(sandbox, c, sc)
	s.must(s.rt.StartContainer(s.Context(), id))
	if st := s.exited(id); st.Reason != runtime.ReasonOOMKilled || st.ExitCode != 137 {
		s.Errorf("reason %q, exit code %d, want OOMKilled and 137", st.Reason, st.ExitCode)
	}
}

func (s *suite) reconnect() {
	if s.config.Reconnect == nil {
		s.Skip("nothing survives the client of this runtime (Config.Reconnect)")
	}
	sandbox, sc := s.sandbox()
	runs := s.create(sandbox, s.container("runs", "sleep 1000"), sc)
	exits := s.create(sandbox, s.container("exits", "sleep 0.3; exit 7"), sc)
	made := s.create(sandbox, s.container("made", "true"), sc)
	s.must(s.rt.StartContainer(s.Context(), runs))
	s.must(s.rt.StartContainer(s.Context(), exits))
	before := s.status(runs)
	s.rt = s.config.Reconnect(s.T, s.rt)
	if st := s.status(runs); st.State != runtime.ContainerRunning || !st.StartedAt.Equal(before.StartedAt) || st.Labels["name"] != "runs" {
		s.Errorf("after reconnecting: %+v, want %+v", st, before)
	}
	if st := s.exited(exits); st.ExitCode != 7 {
		s.Errorf("exit code of a container that ended meanwhile: %d, want 7", st.ExitCode)
	}
	if _, err := s.rt.RunPodSandbox(s.Context(), sc); !errors.Is(err, runtime.ErrAlreadyExists) {
		s.Errorf("the same sandbox again: %v, want ErrAlreadyExists", err)
	}
	s.must(s.rt.StartContainer(s.Context(), made))
	if st := s.exited(made); st.ExitCode != 0 {
		s.Errorf("a container that was created before: exit code %d, want 0", st.ExitCode)
	}
}
