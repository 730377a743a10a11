// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/internal/cgroup"
)

// operation is one thing that an agent can ask its supervisor.
type operation struct {
	do     func(*node, context.Context, []byte, []*os.File) (any, error)
	stream func(*node, context.Context, *conn)
	long   bool // it may wait, and ends when the agent hangs up
}

// The arguments of operations that need more than an ID.
type (
	createArgs struct {
		Sandbox string
		Config  *runtime.ContainerConfig
	}
	stopArgs struct {
		ID      string
		Timeout time.Duration
	}
	execArgs struct {
		ID      string
		Command []string
		TTY     bool
		Stdin   bool
	}
	attachArgs struct {
		ID                    string
		Stdin, Stdout, Stderr bool
	}
	resizeArgs struct {
		ID        string
		Resources *runtime.Resources
	}
)

// typed makes an operation of a function with typed arguments.
func typed[A, R any](f func(n *node, ctx context.Context, a A) (R, error)) operation {
	return operation{do: func(n *node, ctx context.Context, raw []byte, _ []*os.File) (any, error) {
		var a A
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, fmt.Errorf("%w: %w", runtime.ErrInvalid, err)
		}
		return f(n, ctx, a)
	}}
}

func long(o operation) operation { o.long = true; return o }

// none is the result of operations without one.
type none struct{}

// operations is a table and not state: it is never changed.
var operations = map[string]operation{
	"PID": typed(func(*node, context.Context, none) (int, error) { return os.Getpid(), nil }),
	"RunPodSandbox": typed(func(n *node, _ context.Context, a *runtime.PodSandboxConfig) (string, error) {
		return n.runSandbox(a)
	}),
	"StopPodSandbox":   typed(func(n *node, ctx context.Context, id string) (none, error) { return none{}, n.stopSandbox(ctx, id) }),
	"RemovePodSandbox": typed(func(n *node, ctx context.Context, id string) (none, error) { return none{}, n.removeSandbox(ctx, id) }),
	"PodSandboxStatus": typed(func(n *node, _ context.Context, id string) (*runtime.PodSandboxStatus, error) {
		return n.sandboxStatus(id)
	}),
	"ListPodSandbox": typed(func(n *node, _ context.Context, f runtime.PodSandboxFilter) ([]runtime.PodSandbox, error) {
		return n.listSandboxes(f), nil
	}),
	"CreateContainer": typed(func(n *node, _ context.Context, a createArgs) (string, error) {
		return n.createContainer(a.Sandbox, a.Config)
	}),
	"StartContainer": typed(func(n *node, _ context.Context, id string) (none, error) { return none{}, n.startContainer(id) }),
	"StopContainer": long(typed(func(n *node, ctx context.Context, a stopArgs) (none, error) {
		return none{}, n.stop(ctx, a.ID, a.Timeout)
	})),
	"KillContainer":   typed(func(n *node, ctx context.Context, id string) (none, error) { return none{}, n.stop(ctx, id, 0) }),
	"RemoveContainer": typed(func(n *node, ctx context.Context, id string) (none, error) { return none{}, n.removeContainer(ctx, id) }),
	"ContainerStatus": typed(func(n *node, _ context.Context, id string) (*runtime.ContainerStatus, error) {
		return n.containerStatus(id)
	}),
	"ReopenContainerLog": typed(func(n *node, _ context.Context, id string) (none, error) { return none{}, n.reopenLog(id) }),
	"ListContainers": typed(func(n *node, _ context.Context, f runtime.ContainerFilter) ([]runtime.Container, error) {
		return n.listContainers(f), nil
	}),
	"UpdateContainerResources": typed(func(n *node, _ context.Context, a resizeArgs) (none, error) {
		return none{}, n.updateResources(a.ID, a.Resources)
	}),
	"ListContainerStats": typed(func(n *node, _ context.Context, f runtime.ContainerFilter) ([]runtime.ContainerStats, error) {
		return n.stats(f), nil
	}),
	"Exec":   {long: true, do: (*node).exec},
	"Attach": {long: true, do: (*node).attach},
	"Events": {long: true, stream: (*node).stream},
}

// exec runs a command in a container, on the three files that came along, and returns its exit code.
func (n *node) exec(ctx context.Context, raw []byte, files []*os.File) (any, error) {
	var a execArgs
	if err := json.Unmarshal(raw, &a); err != nil || len(files) != 3 {
		return nil, fmt.Errorf("exec: %w: arguments and %d files", runtime.ErrInvalid, len(files))
	}
	c, err := n.running("exec", a.ID)
	if err != nil {
		return nil, err
	}
	s := n.spec(c, a.Command)
	s.files, s.tty, s.exec = files, a.TTY, true
	exit := make(chan int, 1)
	pid, err := n.spawn(s, exit)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", a.ID, err)
	}
	for _, f := range files {
		f.Close() // so that the agent sees the end of the output
	}
	n.mu.Lock()
	gone := c.done
	n.mu.Unlock()
	select {
	case code := <-exit:
		return code, nil
	case <-ctx.Done():
	case <-gone: // an exec ends with its container
	}
	n.signal(c, pid, syscall.SIGKILL)
	<-exit
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return 137, nil
}

// attach connects files with a container's streams: an input to read from, outputs to write to.
func (n *node) attach(ctx context.Context, raw []byte, files []*os.File) (any, error) {
	var a attachArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("attach: %w: %w", runtime.ErrInvalid, err)
	}
	c, err := n.running("attach", a.ID)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	s, done := c.streams, c.done
	n.mu.Unlock()
	if s == nil {
		return none{}, nil // it exits at this moment
	}
	if a.Stdin && s.stdin == nil {
		return nil, fmt.Errorf("attach to container %s: it was made without stdin: %w", a.ID, runtime.ErrInvalid)
	}
	next := func(want bool) *os.File {
		if !want || len(files) == 0 {
			return nil
		}
		f := files[0]
		files = files[1:]
		return f
	}
	in := next(a.Stdin)
	t := &tap{out: next(a.Stdout), err: next(a.Stderr), lost: make(chan struct{})}
	s.attach(t)
	defer s.detach(t)
	if in != nil {
		var wg sync.WaitGroup
		defer wg.Wait()
		if in, err = interruptible(in); err != nil {
			return nil, fmt.Errorf("attach to container %s: %w", a.ID, err)
		}
		defer in.Close()
		wg.Go(func() { s.input(in, c.Config.StdinOnce) })
	}
	select {
	case <-done:
		return none{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.lost:
		return nil, fmt.Errorf("attach to container %s: %w: the output was not read for %v", a.ID, runtime.ErrLagged, slowest)
	}
}

// interruptible returns a copy of a pipe's end, of which Close ends a Read. It does so for nobody else: only
// this process uses the end.
func interruptible(f *os.File) (*os.File, error) {
	fd, _, e := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_DUPFD_CLOEXEC, 0)
	if e != 0 {
		return nil, e
	}
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		syscall.Close(int(fd))
		return nil, err
	}
	return os.NewFile(fd, f.Name()), nil
}

// stream sends events: first an empty answer, which says that the subscription stands.
func (n *node) stream(ctx context.Context, c *conn) {
	events := n.events.Subscribe(ctx)
	if c.answer(none{}, nil) != nil {
		return
	}
	for e, err := range events {
		if c.answer(e, err) != nil || err != nil {
			return
		}
	}
}

// updateResources changes limits in place.
func (n *node) updateResources(id string, r *runtime.Resources) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.containers[id]
	if c == nil {
		return fmt.Errorf("update container %q: %w", id, runtime.ErrNotFound)
	}
	if c.State == runtime.ContainerExited || c.ending {
		return fmt.Errorf("update container %s: it has exited: %w", id, runtime.ErrState)
	}
	merged := r.Over(c.Resources)
	if c.State == runtime.ContainerRunning && cgroup.Needed(&merged) {
		h, err := n.cgroups()
		if err != nil {
			return fmt.Errorf("update container %s: %w", id, err)
		}
		if err := n.regroup(h, c, &merged); err != nil {
			return fmt.Errorf("update container %s: %w", id, err)
		}
	}
	c.Resources = &merged
	return n.write(entry{ID: id, State: &c.containerState})
}

// regroup applies limits. A container that had none until now is moved into a group, with all of its session.
func (n *node) regroup(h *cgroup.Hierarchy, c *container, r *runtime.Resources) error {
	if cgroup.Needed(c.Resources) {
		return h.Group(c.ID).Apply(r)
	}
	g, err := h.Create(c.ID, r)
	if err != nil {
		return err
	}
	for _, s := range processes() {
		if s.session == c.PID {
			if err := g.Add(s.pid); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// stats reads what the processes of containers use. A container is the session
// of its first process.
func (n *node) stats(f runtime.ContainerFilter) []runtime.ContainerStats {
	n.mu.Lock()
	bySession := map[int]*runtime.ContainerStats{}
	for _, c := range n.containers {
		if s := c.summary(); c.State == runtime.ContainerRunning && f.Matches(&s) {
			bySession[c.PID] = &runtime.ContainerStats{ID: c.ID, SandboxID: c.SandboxID, Metadata: c.Config.Metadata}
		}
	}
	n.mu.Unlock()
	if len(bySession) == 0 {
		return nil
	}
	now := time.Now()
	for _, p := range processes() {
		if s := bySession[p.session]; s != nil {
			s.CPU += p.cpu
			s.MemoryRSS += p.rss
			s.MemoryWorkingSet += p.rss
			s.Processes++
		}
	}
	var list []runtime.ContainerStats
	for _, s := range bySession {
		s.Timestamp = now
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b runtime.ContainerStats) int { return compare(a.ID, b.ID) })
	return list
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
