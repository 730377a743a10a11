// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/crilog"
	"github.com/slipway-dev/slipway/runtime/internal/cgroup"
)

func (n *node) createContainer(sandboxID string, config *runtime.ContainerConfig) (string, error) {
	m := config.Metadata
	fail := func(err error) (string, error) { return "", fmt.Errorf("create container %s: %w", m.Name, err) }
	if m.Name == "" {
		return fail(fmt.Errorf("%w: Metadata needs a name", runtime.ErrInvalid))
	}
	if len(config.Command)+len(config.Args) == 0 {
		return fail(fmt.Errorf("%w: Command is empty, and this runtime has no images that could have one", runtime.ErrInvalid))
	}
	image := ""
	if config.Image.Image != "" {
		var err error
		if image, err = n.options.image(config.Image.Image); err != nil {
			return fail(err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sandboxes[sandboxID]
	if s == nil {
		return fail(fmt.Errorf("sandbox %q: %w", sandboxID, runtime.ErrNotFound))
	}
	if s.State != runtime.SandboxReady || s.closing {
		return fail(fmt.Errorf("sandbox %s is stopped: %w", sandboxID, runtime.ErrState))
	}
	for _, o := range s.containers {
		if o.Config.Metadata == m {
			return fail(fmt.Errorf("attempt %d is container %s: %w", m.Attempt, o.ID, runtime.ErrAlreadyExists))
		}
	}
	c := &container{sandbox: s, containerRecord: containerRecord{
		ID: newID(), SandboxID: sandboxID, Config: *config, CreatedAt: time.Now(), ImageRef: image,
		containerState: containerState{State: runtime.ContainerCreated, Resources: config.Resources},
	}}
	if config.LogPath != "" && (filepath.IsAbs(config.LogPath) || s.Config.LogDirectory != "") {
		c.LogPath = config.LogPath
		if !filepath.IsAbs(c.LogPath) {
			c.LogPath = filepath.Join(s.Config.LogDirectory, c.LogPath)
		}
	}
	if err := n.write(entry{Container: &c.containerRecord}); err != nil {
		return fail(err)
	}
	n.containers[c.ID] = c
	s.containers = append(s.containers, c)
	n.publish(runtime.EventCreated, c)
	return c.ID, nil
}

func (n *node) startContainer(id string) error {
	n.mu.Lock()
	c := n.containers[id]
	switch {
	case c == nil:
		n.mu.Unlock()
		return fmt.Errorf("start container %q: %w", id, runtime.ErrNotFound)
	case c.State != runtime.ContainerCreated || c.started != nil || c.sandbox.State != runtime.SandboxReady || c.sandbox.closing:
		n.mu.Unlock()
		return fmt.Errorf("start container %s: it is %s, or its sandbox is stopped: %w", id, c.State, runtime.ErrState)
	}
	started := make(chan struct{})
	c.started = started
	n.mu.Unlock()
	defer close(started)

	exit := make(chan int, 1)
	p, err := n.launch(c, exit)

	n.mu.Lock()
	defer n.mu.Unlock()
	c.started = nil
	if err != nil {
		c.State, c.ExitCode, c.Reason, c.Message = runtime.ContainerExited, 128, runtime.ReasonStartError, err.Error()
		c.FinishedAt = time.Now()
		n.publish(runtime.EventStopped, c)
		n.note(entry{ID: id, State: &c.containerState})
		return fmt.Errorf("start container %s: %w", id, err)
	}
	c.State, c.StartedAt, c.PID, c.done = runtime.ContainerRunning, time.Now(), p.pid, make(chan struct{})
	c.log, c.streams, c.Born = p.log, p.streams, p.born
	n.note(entry{ID: id, State: &c.containerState}) // if it is lost the mark in the environment finds the process
	n.publish(runtime.EventStarted, c)
	n.wg.Go(func() { n.await(c, exit, p) })
	return nil
}

// launched is a process that was started.
type launched struct {
	pid     int
	born    span
	log     *crilog.Log
	streams *streams
}

// launch opens the log and starts the process.
func (n *node) launch(c *container, exit chan<- int) (*launched, error) {
	p := &launched{}
	if c.LogPath != "" {
		var err error
		if p.log, err = crilog.Open(c.LogPath); err != nil {
			return nil, err
		}
	}
	s, child, err := openStreams(p.log, c.Config.Stdin, c.Config.TTY)
	if err != nil {
		return nil, errors.Join(err, closeLog(p.log))
	}
	p.streams = s
	spec := n.spec(c, slices.Concat(c.Config.Command, c.Config.Args))
	spec.files, spec.tty = child, c.Config.TTY
	spec.resources = c.resources(n) // they may have been updated since it was made
	p.born.From = bootTick()
	p.pid, err = n.spawn(spec, exit)
	p.born.To = bootTick()
	for _, f := range uniq(child) {
		f.Close()
	}
	if err != nil {
		s.abandon()
		return nil, errors.Join(err, closeLog(p.log))
	}
	s.run()
	return p, nil
}

func closeLog(l *crilog.Log) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

// drain is how long the output of a container is read after its exit: something
// that it left behind may hold the pipe for ever.
const drain = time.Second

// await takes in the exit of a container.
func (n *node) await(c *container, exit <-chan int, p *launched) {
	code := <-exit
	n.mu.Lock()
	c.ending = true // no group is made for it any more
	group := ""
	if cgroup.Needed(c.Resources) {
		group = c.ID // since its start, or a resize
	}
	n.mu.Unlock()
	oom := n.endCgroup(group)
	n.killStrays(p.pid, c.ID)
	p.streams.finish(drain)
	closeLog(p.log)
	n.mu.Lock()
	defer n.mu.Unlock()
	c.State, c.ExitCode, c.FinishedAt = runtime.ContainerExited, code, time.Now()
	c.log, c.streams = nil, nil
	switch {
	case oom:
		c.Reason = runtime.ReasonOOMKilled
	case code == 0:
		c.Reason = runtime.ReasonCompleted
	default:
		c.Reason = runtime.ReasonError
	}
	if n.containers[c.ID] == c {
		n.note(entry{ID: c.ID, State: &c.containerState})
	}
	close(c.done)
	n.publish(runtime.EventStopped, c)
}

// How long killStrays waits for processes that were killed to be gone, and for one that is in the middle of an exec, whose
// environment can't be read, to have one.
const (
	strayWait = time.Second
	execWait  = 20 * time.Millisecond
)

// killStrays kills the process group of a container, and processes that left it. Those become
// children of the supervisor when their parents have died, so it goes on until the group is gone and no child
// has the container's mark.
func (n *node) killStrays(group int, id string) {
	begin := time.Now()
	for {
		reaped := n.nextReaped()
		grouped := syscall.Kill(-group, syscall.SIGKILL) == nil
		found, unsure := n.killMarked(n.strays(), func(other string) bool { return other == id })
		waited := time.Since(begin)
		if !found && !(grouped && waited < strayWait) && !(unsure && waited < execWait) {
			return
		}
		select {
		case <-reaped:
		case <-time.After(time.Millisecond):
		}
	}
}

// strays are the children that the supervisor did not start itself.
func (n *node) strays() []int {
	n.children.Lock()
	defer n.children.Unlock()
	return slices.DeleteFunc(children(), func(pid int) bool { return n.waiting[pid] != nil })
}

// stop sends the stop signal, and SIGKILL when timeout has passed.
func (n *node) stop(ctx context.Context, id string, timeout time.Duration) error {
	c, err := n.settled(ctx, id)
	if c == nil {
		return err
	}
	n.mu.Lock()
	running, pid, done := c.State == runtime.ContainerRunning, c.PID, c.done
	n.mu.Unlock()
	if !running {
		return nil
	}
	if timeout > 0 {
		n.signal(c, pid, stopSignal(c.Config.StopSignal))
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop container %s: %w", id, ctx.Err())
		case <-timer.C:
		}
	}
	n.signal(c, pid, syscall.SIGKILL)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop container %s: %w", id, ctx.Err())
	}
}

// settled returns a container that is not about to start, nil if there is none.
func (n *node) settled(ctx context.Context, id string) (*container, error) {
	for {
		n.mu.Lock()
		c := n.containers[id]
		var started chan struct{}
		if c != nil {
			started = c.started
		}
		n.mu.Unlock()
		if started == nil {
			return c, nil
		}
		select {
		case <-started:
		case <-ctx.Done():
			return nil, fmt.Errorf("stop container %s: %w", id, ctx.Err())
		}
	}
}

// signal signals the process, or with SIGKILL its whole group, unless it has been reaped.
func (n *node) signal(c *container, pid int, s syscall.Signal) {
	n.children.Lock()
	defer n.children.Unlock()
	if n.waiting[pid] == nil {
		return
	}
	if s == syscall.SIGKILL {
		pid = -pid
	}
	syscall.Kill(pid, s)
}

func (n *node) removeContainer(ctx context.Context, id string) error {
	if err := n.stop(ctx, id, 0); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.containers[id]
	if c == nil {
		return nil
	}
	n.drop(c)
	n.note(entry{ID: id, Gone: true})
	n.publish(runtime.EventDeleted, c)
	return nil
}

func (c *container) summary() runtime.Container {
	return runtime.Container{
		ID: c.ID, SandboxID: c.SandboxID, Metadata: c.Config.Metadata, Image: c.Config.Image.Image, ImageRef: c.ImageRef,
		State: c.State, CreatedAt: c.CreatedAt, Labels: c.Config.Labels, Annotations: c.Config.Annotations,
	}
}

func (n *node) containerStatus(id string) (*runtime.ContainerStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %q: %w", id, runtime.ErrNotFound)
	}
	return &runtime.ContainerStatus{
		Container: c.summary(), StartedAt: c.StartedAt, FinishedAt: c.FinishedAt, ExitCode: c.ExitCode,
		Reason: c.Reason, Message: c.Message, LogPath: c.LogPath, Mounts: c.Config.Mounts, Resources: c.Resources,
	}, nil
}

func (n *node) listContainers(f runtime.ContainerFilter) []runtime.Container {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []runtime.Container
	for _, c := range n.containers {
		if s := c.summary(); f.Matches(&s) {
			list = append(list, s)
		}
	}
	return list
}

// running returns a running container, or says why there is none.
func (n *node) running(op, id string) (*container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.containers[id]
	if c == nil {
		return nil, fmt.Errorf("%s: container %q: %w", op, id, runtime.ErrNotFound)
	}
	if c.State != runtime.ContainerRunning {
		return nil, fmt.Errorf("%s: container %s is %s, not Running: %w", op, id, c.State, runtime.ErrState)
	}
	return c, nil
}

func (n *node) reopenLog(id string) error {
	c, err := n.running("reopen log", id)
	if err != nil {
		return err
	}
	n.mu.Lock()
	log := c.log
	n.mu.Unlock()
	if log == nil {
		return nil
	}
	return log.Reopen()
}

// stopSignal reads a name such as "SIGQUIT" or "QUIT"; SIGTERM otherwise.
func stopSignal(name string) syscall.Signal {
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGKILL, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGWINCH,
	} {
		if n := signalName(s); n == name || n == "SIG"+name {
			return s
		}
	}
	return syscall.SIGTERM
}

func signalName(s syscall.Signal) string {
	return map[syscall.Signal]string{
		syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGABRT: "SIGABRT", syscall.SIGKILL: "SIGKILL",
		syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2", syscall.SIGTERM: "SIGTERM", syscall.SIGWINCH: "SIGWINCH",
	}[s]
}
