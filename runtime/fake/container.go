// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/crilog"
)

const (
	sigKill = 9
	sigTerm = 15
)

type container struct {
	id                         string
	sandbox                    *sandbox
	meta                       runtime.ContainerMetadata
	image                      string
	labels, annotations        map[string]string
	state                      runtime.ContainerState
	created, started, finished int64 // Unix nanoseconds, zero if not yet
	exit                       exit
	does                       *Behaviour // nil: runs until it is stopped
	resources                  *runtime.Resources
	logPath                    string
	mounts                     []runtime.Mount
	hasStdin, stdinOnce        bool
	timer                      *time.Timer   // the exit that lies ahead
	done                       chan struct{} // made by the first waiter, closed by the exit
	log                        *crilog.Log
	attached                   []*attachment
}

type exit struct {
	code            int
	reason, message string
}

// CreateContainer makes a container of a present image.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, c *runtime.ContainerConfig, sc *runtime.PodSandboxConfig) (string, error) {
	if c.Metadata.Name == "" {
		return "", fmt.Errorf("create container: %w: Metadata needs a name", runtime.ErrInvalid)
	}
	call := Call{Op: "CreateContainer", Container: c.Metadata.Name, Image: c.Image.Image}
	if sc != nil {
		call.Pod = sc.Metadata
	}
	if err := r.before(ctx, call); err != nil {
		return "", err
	}
	does := r.behaviour(sc, c)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[sandboxID]
	if s == nil {
		return "", fmt.Errorf("create container %s: sandbox %q: %w", c.Metadata.Name, sandboxID, runtime.ErrNotFound)
	}
	if s.stopped {
		return "", fmt.Errorf("create container %s: sandbox %s is stopped: %w", c.Metadata.Name, sandboxID, runtime.ErrState)
	}
	for _, old := range s.containers {
		if old.meta == c.Metadata {
			return "", fmt.Errorf("create container: attempt %d of %s is container %s: %w", c.Metadata.Attempt, c.Metadata.Name, old.id, runtime.ErrAlreadyExists)
		}
	}
	if c.Image.Image != "" && r.images[c.Image.Image] == nil {
		return "", fmt.Errorf("create container %s: image %q: %w", c.Metadata.Name, c.Image.Image, runtime.ErrNotFound)
	}
	n := &container{
		id: r.id(), sandbox: s, meta: c.Metadata, image: c.Image.Image, labels: c.Labels, annotations: c.Annotations,
		state: runtime.ContainerCreated, created: time.Now().UnixNano(), does: does, resources: c.Resources,
		mounts: c.Mounts, hasStdin: c.Stdin, stdinOnce: c.StdinOnce,
	}
	if c.LogPath != "" && (s.logDir != "" || filepath.IsAbs(c.LogPath)) && n.prints() {
		n.logPath = c.LogPath
		if !filepath.IsAbs(c.LogPath) {
			n.logPath = filepath.Join(s.logDir, c.LogPath)
		}
	}
	s.containers = append(s.containers, n)
	r.containers[n.id] = n
	r.publish(runtime.EventCreated, n)
	return n.id, nil
}

// StartContainer runs a created container.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	c, err := r.containerFor(ctx, "StartContainer", id)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("start container %q: %w", id, runtime.ErrNotFound)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.state != runtime.ContainerCreated {
		return fmt.Errorf("start container %s: it is %s: %w", id, c.state, runtime.ErrState)
	}
	err = c.openLog()
	if err == nil && c.does != nil {
		err = c.does.StartError
	}
	c.state, c.started = runtime.ContainerRunning, time.Now().UnixNano()
	if err != nil {
		c.started = 0
		r.exit(c, exit{code: 128, reason: runtime.ReasonStartError, message: err.Error()})
		return fmt.Errorf("start container %s: %w", id, err)
	}
	r.publish(runtime.EventStarted, c)
	if b := c.does; b != nil {
		c.print("stdout", b.Stdout)
		c.print("stderr", b.Stderr)
		if b.exits() {
			e := exit{code: b.ExitCode, message: b.Message}
			if b.OOM {
				e = exit{code: 128 + sigKill, reason: runtime.ReasonOOMKilled}
			}
			r.exitAfter(c, b.ExitAfter, e)
		}
	}
	return nil
}

// exitAfter needs r.mu. The exit happens in the timer's goroutine also when d is
// zero, so that a start and an exit are always two steps, as for a real program.
func (r *Runtime) exitAfter(c *container, d time.Duration, e exit) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.exit(c, e)
	})
}

// exit needs r.mu. It does nothing to a container that does not run.
func (r *Runtime) exit(c *container, e exit) {
	if c.state != runtime.ContainerRunning {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if e.reason == "" {
		e.reason = runtime.ReasonError
		if e.code == 0 {
			e.reason = runtime.ReasonCompleted
		}
	}
	c.state, c.finished, c.exit = runtime.ContainerExited, time.Now().UnixNano(), e
	if c.done != nil {
		close(c.done)
	}
	for _, a := range c.attached {
		a.close()
	}
	c.attached = nil
	c.closeLog()
	r.publish(runtime.EventStopped, c)
}

// StopContainer ends a running container as its behaviour says.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout time.Duration) error {
	c, err := r.containerFor(ctx, "StopContainer", id)
	if err != nil || c == nil {
		return err
	}
	done := r.signal(c, timeout)
	if done == nil {
		return nil
	}
	var kill <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		kill = timer.C
	}
	select {
	case <-done:
	case <-kill:
		r.Kill(id)
	case <-ctx.Done():
		return fmt.Errorf("stop container %s: %w", id, ctx.Err())
	}
	return nil
}

// signal sends SIGTERM, or SIGKILL without a timeout, and returns what closes
// when the container has exited; nil if it has.
func (r *Runtime) signal(c *container, timeout time.Duration) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.state != runtime.ContainerRunning {
		return nil
	}
	b := c.does
	switch {
	case timeout <= 0:
		r.exit(c, exit{code: 128 + sigKill})
		return nil
	case b == nil:
		r.exit(c, exit{code: 128 + sigTerm})
		return nil
	case b.IgnoreTerm: // until the timeout
	case b.StopAfter > 0:
		r.exitAfter(c, b.StopAfter, exit{code: b.StopCode})
	default:
		code := b.StopCode
		if code == 0 && !b.StopClean {
			code = 128 + sigTerm
		}
		r.exit(c, exit{code: code})
		return nil
	}
	if c.done == nil {
		c.done = make(chan struct{})
	}
	return c.done
}

// Kill ends a running container with SIGKILL, as another process might.
// It reports whether it ran.
func (r *Runtime) Kill(id string) bool { return r.end(id, exit{code: 128 + sigKill}) }

// OOM ends a running container as if it had gone over its memory limit.
func (r *Runtime) OOM(id string) bool {
	return r.end(id, exit{code: 128 + sigKill, reason: runtime.ReasonOOMKilled})
}

// Exit ends a running container with an exit code.
func (r *Runtime) Exit(id string, code int) bool { return r.end(id, exit{code: code}) }

// Restart is what a reboot of the machine does: every container is dead, every
// sandbox not ready, and what was written stays.
func (r *Runtime) Restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sandboxes {
		r.stopSandbox(s)
	}
}

func (r *Runtime) end(id string, e exit) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.state != runtime.ContainerRunning {
		return false
	}
	r.exit(c, e)
	return true
}

// RemoveContainer kills a running container and forgets it.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	c, err := r.containerFor(ctx, "RemoveContainer", id)
	if err != nil || c == nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.containers[id] != nil {
		r.remove(c)
	}
	return nil
}

// remove needs r.mu.
func (r *Runtime) remove(c *container) {
	r.exit(c, exit{code: 128 + sigKill})
	c.sandbox.containers = slices.DeleteFunc(c.sandbox.containers, func(o *container) bool { return o == c })
	delete(r.containers, c.id)
	r.publish(runtime.EventDeleted, c)
}

// containerFor runs the hook and returns nil if there is no such container.
func (r *Runtime) containerFor(ctx context.Context, op, id string) (*container, error) {
	r.mu.Lock()
	c := r.containers[id]
	r.mu.Unlock()
	call := Call{Op: op}
	if c != nil {
		call.Pod, call.Container, call.Image = c.sandbox.meta, c.meta.Name, c.image
	}
	return c, r.before(ctx, call)
}

// ContainerStatus describes one container.
func (r *Runtime) ContainerStatus(ctx context.Context, id string) (*runtime.ContainerStatus, error) {
	c, err := r.containerFor(ctx, "ContainerStatus", id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil || r.containers[id] == nil {
		return nil, fmt.Errorf("container %q: %w", id, runtime.ErrNotFound)
	}
	return &runtime.ContainerStatus{
		Container: r.summary(c),
		StartedAt: unix(c.started), FinishedAt: unix(c.finished),
		ExitCode: c.exit.code, Reason: c.exit.reason, Message: c.exit.message,
		LogPath: c.logPath, Mounts: c.mounts, Resources: c.resources,
	}, nil
}

func (r *Runtime) summary(c *container) runtime.Container {
	s := runtime.Container{
		ID: c.id, SandboxID: c.sandbox.id, Metadata: c.meta, Image: c.image, State: c.state,
		CreatedAt: unix(c.created), Labels: c.labels, Annotations: c.annotations,
	}
	if image := r.images[c.image]; image != nil {
		s.ImageRef = image.ID
	}
	return s
}

func unix(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// ListContainers lists what matches.
func (r *Runtime) ListContainers(ctx context.Context, f runtime.ContainerFilter) ([]runtime.Container, error) {
	if err := r.before(ctx, Call{Op: "ListContainers"}); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []runtime.Container
	for c := range r.candidates(f) {
		if s := r.summary(c); f.Matches(&s) {
			list = append(list, s)
		}
	}
	return list, nil
}

// UpdateContainerResources keeps the new limits.
func (r *Runtime) UpdateContainerResources(ctx context.Context, id string, n *runtime.Resources) error {
	c, err := r.containerFor(ctx, "UpdateContainerResources", id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil || r.containers[id] == nil {
		return fmt.Errorf("update container %q: %w", id, runtime.ErrNotFound)
	}
	if c.state == runtime.ContainerExited {
		return fmt.Errorf("update container %s: it has exited: %w", id, runtime.ErrState)
	}
	merged := n.Over(c.resources)
	c.resources = &merged
	return nil
}
