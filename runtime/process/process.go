// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// Options configure a node.
type Options struct {
	// Root is the directory of this node's state: one supervisor, and one pod runs there only once. Required.
	Root string
	// ImageDir has a directory for each image, by its name ("example.com/app:1" is
	// ImageDir/example.com/app:1). Empty: containers must not name an image.
	ImageDir string
	// Addresses is where pod addresses are taken from, inside 127.0.0.0/8. Zero: 65,536 that depend on Root.
	Addresses netip.Prefix
	// NoAddresses leaves pods in the machine's network, where two can't listen on one port.
	NoAddresses bool
	// CgroupRoot is where cgroups are mounted; empty: /sys/fs/cgroup.
	CgroupRoot string
}

// Runtime is the agent's side of a node. It has no state of its own: all is in
// the supervisor, which outlives it.
type Runtime struct {
	options  Options
	starting chan struct{} // holds a token while a supervisor is looked for or started

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

var (
	_ runtime.RuntimeService = (*Runtime)(nil)
	_ runtime.ImageService   = (*Runtime)(nil)
)

// New connects to the node's supervisor, and starts it if there is none: the program runs itself once
// more, and [Main] takes over there.
func New(o Options) (*Runtime, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil || o.Root == "" {
		return nil, fmt.Errorf("process runtime: %w: Options.Root must be a directory", runtime.ErrInvalid)
	}
	o.Root = root
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, fmt.Errorf("process runtime: %w", err)
	}
	r := &Runtime{options: o, starting: make(chan struct{}, 1)}
	if _, err := r.SupervisorPID(context.Background()); err != nil {
		return nil, fmt.Errorf("process runtime: %w", err)
	}
	return r, nil
}

// start starts a supervisor and waits until it listens.
func start(ctx context.Context, o Options) error {
	config, err := json.Marshal(o)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(o.Root, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	defer log.Close()
	ready, told, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	defer ready.Close()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self())
	cmd.Args = os.Args[:1]
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{told}
	cmd.Env = append(os.Environ(), envStarter+"="+string(config))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// The starter starts the supervisor and ends, so the supervisor is a child of
	// init: no zombie of it is left to an agent that has closed its Runtime or never looks.
	err = cmd.Run()
	told.Close()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w (does main call process.Main first?)", errors.Join(err, ctx.Err()))
	}
	defer context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })()
	said, err := io.ReadAll(ready)
	switch {
	case err != nil:
		return fmt.Errorf("start the supervisor: %w", errors.Join(err, ctx.Err()))
	case len(said) > len(errLocked.Error()) && string(said[:len(errLocked.Error())]) == errLocked.Error():
		return fmt.Errorf("start the supervisor: %w%s", errLocked, said[len(errLocked.Error()):])
	case len(said) > 0:
		return fmt.Errorf("start the supervisor: %s", said)
	}
	return nil
}

// Close ends the connection. Containers and supervisor go on: the next New finds
// them. A supervisor without sandboxes ends after some seconds.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, c := range r.idle {
		c.Close()
	}
	r.idle = nil
	return nil
}

// SupervisorPID is the process that holds the node's processes. Ended with SIGTERM, it kills them.
func (r *Runtime) SupervisorPID(ctx context.Context) (int, error) {
	return call[int](ctx, r, "PID", none{})
}

// dial connects to the supervisor, and starts one if there is none: also when the last one
// was killed while this agent runs.
func (r *Runtime) dial(ctx context.Context) (*conn, error) {
	select {
	case r.starting <- struct{}{}:
		defer func() { <-r.starting }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// A supervisor that another agent starts, or that is just going away, holds the lock for a moment.
	const tries, pause = 100, 20 * time.Millisecond
	var err error
	for range tries {
		var c *conn
		if c, err = r.connect(); err == nil {
			return c, nil
		}
		switch started := start(ctx, r.options); {
		case started == nil:
		case errors.Is(started, errLocked):
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		default:
			return nil, fmt.Errorf("%w: %w", runtime.ErrUnavailable, started)
		}
	}
	return nil, fmt.Errorf("%w: the supervisor does not answer, see %s: %w", runtime.ErrUnavailable, filepath.Join(r.options.Root, logName), err)
}

func (r *Runtime) connect() (*conn, error) {
	var c net.Conn
	err := shortPath(r.options.Root, func(dir string) (err error) {
		c, err = net.Dial("unix", filepath.Join(dir, socketName))
		return err
	})
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// take returns a connection that is not in use.
func (r *Runtime) take(ctx context.Context) (c *conn, used bool, err error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, false, fmt.Errorf("%w: the runtime was closed", runtime.ErrUnavailable)
	}
	if n := len(r.idle); n > 0 {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		r.mu.Unlock()
		return c, true, nil
	}
	r.mu.Unlock()
	c, err = r.dial(ctx)
	return c, false, err
}

func (r *Runtime) give(c *conn) {
	const keep = 8
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.idle) >= keep {
		c.Close()
		return
	}
	r.idle = append(r.idle, c)
}

// call asks the supervisor. Cancelling hangs up, which ends what the supervisor waits for.
func call[R any](ctx context.Context, r *Runtime, op string, args any) (R, error) {
	var result R
	if err := ctx.Err(); err != nil {
		return result, fmt.Errorf("%s: %w", op, err)
	}
	c, err := r.exchange(ctx, op, args, &result)
	if c != nil && operations[op].long {
		c.Close()
	} else if c != nil {
		r.give(c)
	}
	return result, err
}

// exchange returns the connection if it can be used again.
func (r *Runtime) exchange(ctx context.Context, op string, args, result any, files ...*os.File) (*conn, error) {
	body, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	c, used, err := r.take(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	err = c.send(op, body, files...)
	if err != nil && used { // the supervisor is another one by now
		c.Close()
		if c, err = r.dial(ctx); err == nil {
			err = c.send(op, body, files...)
		}
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, fmt.Errorf("%s: %w: %w", op, runtime.ErrUnavailable, err)
	}
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	answered, err := c.receiveAnswer(result)
	if !stop() || err != nil {
		c.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", op, ctx.Err())
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w: the supervisor is gone: %w", op, runtime.ErrUnavailable, err)
		}
	}
	return c, answered
}

// Version names the runtime.
func (r *Runtime) Version(ctx context.Context) (runtime.Version, error) {
	return runtime.Version{RuntimeName: "process", RuntimeVersion: "1", RuntimeAPIVersion: "v1"}, ctx.Err()
}

// Status reports whether the supervisor answers.
func (r *Runtime) Status(ctx context.Context) (runtime.Status, error) {
	_, err := r.SupervisorPID(ctx)
	c := runtime.Condition{Type: runtime.RuntimeReady, Status: err == nil}
	if err != nil {
		c.Reason, c.Message = "SupervisorUnavailable", err.Error()
	}
	return runtime.Status{Conditions: []runtime.Condition{c, {Type: runtime.NetworkReady, Status: true}}}, ctx.Err()
}

// RunPodSandbox makes a directory and takes an address; nothing runs yet.
func (r *Runtime) RunPodSandbox(ctx context.Context, c *runtime.PodSandboxConfig) (string, error) {
	return call[string](ctx, r, "RunPodSandbox", c)
}

// StopPodSandbox kills what runs in the sandbox.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	_, err := call[none](ctx, r, "StopPodSandbox", id)
	return err
}

// RemovePodSandbox removes the sandbox with its directory and containers.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	_, err := call[none](ctx, r, "RemovePodSandbox", id)
	return err
}

// PodSandboxStatus describes one sandbox.
func (r *Runtime) PodSandboxStatus(ctx context.Context, id string) (*runtime.PodSandboxStatus, error) {
	return call[*runtime.PodSandboxStatus](ctx, r, "PodSandboxStatus", id)
}

// ListPodSandbox lists what matches.
func (r *Runtime) ListPodSandbox(ctx context.Context, f runtime.PodSandboxFilter) ([]runtime.PodSandbox, error) {
	return call[[]runtime.PodSandbox](ctx, r, "ListPodSandbox", f)
}

// UpdatePodSandboxResources is not supported: limits are those of containers.
func (r *Runtime) UpdatePodSandboxResources(ctx context.Context, id string, overhead, resources *runtime.Resources) error {
	if _, err := r.PodSandboxStatus(ctx, id); err != nil {
		return err
	}
	return fmt.Errorf("resources of sandbox %s: %w: limits are those of containers", id, runtime.ErrUnsupported)
}

// CreateContainer writes down what will run.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, c *runtime.ContainerConfig, _ *runtime.PodSandboxConfig) (string, error) {
	return call[string](ctx, r, "CreateContainer", createArgs{sandboxID, c})
}

// StartContainer starts the process.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	_, err := call[none](ctx, r, "StartContainer", id)
	return err
}

// StopContainer signals the process, and kills its process group when timeout has passed.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout time.Duration) error {
	if timeout <= 0 {
		_, err := call[none](ctx, r, "KillContainer", id)
		return err
	}
	_, err := call[none](ctx, r, "StopContainer", stopArgs{id, timeout})
	return err
}

// RemoveContainer kills and forgets a container. Its log stays.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	_, err := call[none](ctx, r, "RemoveContainer", id)
	return err
}

// ContainerStatus describes one container.
func (r *Runtime) ContainerStatus(ctx context.Context, id string) (*runtime.ContainerStatus, error) {
	return call[*runtime.ContainerStatus](ctx, r, "ContainerStatus", id)
}

// ListContainers lists what matches.
func (r *Runtime) ListContainers(ctx context.Context, f runtime.ContainerFilter) ([]runtime.Container, error) {
	return call[[]runtime.Container](ctx, r, "ListContainers", f)
}

// UpdateContainerResources changes cgroup limits; ErrUnsupported where groups can't be made.
func (r *Runtime) UpdateContainerResources(ctx context.Context, id string, n *runtime.Resources) error {
	_, err := call[none](ctx, r, "UpdateContainerResources", resizeArgs{id, n})
	return err
}

// ReopenContainerLog goes on in a new file.
func (r *Runtime) ReopenContainerLog(ctx context.Context, id string) error {
	_, err := call[none](ctx, r, "ReopenContainerLog", id)
	return err
}

// GetContainerEvents subscribes at the supervisor.
func (r *Runtime) GetContainerEvents(ctx context.Context) (iter.Seq2[runtime.ContainerEvent, error], error) {
	var ok none
	c, err := r.exchange(ctx, "Events", none{}, &ok)
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return func(yield func(runtime.ContainerEvent, error) bool) {
		defer c.Close()
		defer stop()
		for {
			var e runtime.ContainerEvent
			answered, err := c.receiveAnswer(&e)
			if err != nil {
				if ctx.Err() == nil {
					yield(runtime.ContainerEvent{}, fmt.Errorf("events: %w: the supervisor is gone: %w", runtime.ErrUnavailable, err))
				}
				return
			}
			if !yield(e, answered) || answered != nil {
				return
			}
		}
	}, nil
}

// ContainerStats reads /proc.
func (r *Runtime) ContainerStats(ctx context.Context, id string) (*runtime.ContainerStats, error) {
	list, err := r.ListContainerStats(ctx, runtime.ContainerFilter{ID: id})
	if err != nil {
		return nil, err
	}
	if len(list) == 1 {
		return &list[0], nil
	}
	st, err := r.ContainerStatus(ctx, id)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("stats of container %s: it is %s, not Running: %w", id, st.State, runtime.ErrState)
}

// ListContainerStats reads /proc once for all.
func (r *Runtime) ListContainerStats(ctx context.Context, f runtime.ContainerFilter) ([]runtime.ContainerStats, error) {
	return call[[]runtime.ContainerStats](ctx, r, "ListContainerStats", f)
}

// PodSandboxStats adds up a sandbox's containers.
func (r *Runtime) PodSandboxStats(ctx context.Context, id string) (*runtime.PodSandboxStats, error) {
	st, err := r.PodSandboxStatus(ctx, id)
	if err != nil {
		return nil, err
	}
	list, err := r.ListContainerStats(ctx, runtime.ContainerFilter{SandboxID: id})
	if err != nil {
		return nil, err
	}
	return sumStats(&st.PodSandbox, list), nil
}

func sumStats(s *runtime.PodSandbox, list []runtime.ContainerStats) *runtime.PodSandboxStats {
	out := &runtime.PodSandboxStats{ID: s.ID, Metadata: s.Metadata}
	out.Timestamp = time.Now()
	for _, c := range list {
		out.CPU += c.CPU
		out.MemoryWorkingSet += c.MemoryWorkingSet
		out.MemoryRSS += c.MemoryRSS
		out.Processes += c.Processes
		out.Containers = append(out.Containers, c)
	}
	return out
}

// ListPodSandboxStats adds up the containers of each ready sandbox.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, f runtime.PodSandboxFilter) ([]runtime.PodSandboxStats, error) {
	sandboxes, err := r.ListPodSandbox(ctx, f)
	if err != nil {
		return nil, err
	}
	containers, err := r.ListContainerStats(ctx, runtime.ContainerFilter{})
	if err != nil {
		return nil, err
	}
	bySandbox := map[string][]runtime.ContainerStats{}
	for _, c := range containers {
		bySandbox[c.SandboxID] = append(bySandbox[c.SandboxID], c)
	}
	var list []runtime.PodSandboxStats
	for i := range sandboxes {
		if s := &sandboxes[i]; s.State == runtime.SandboxReady {
			list = append(list, *sumStats(s, bySandbox[s.ID]))
		}
	}
	return list, nil
}

// PortForward connects to the pod's address.
func (r *Runtime) PortForward(ctx context.Context, sandboxID string, port int, stream io.ReadWriteCloser) error {
	defer stream.Close()
	st, err := r.PodSandboxStatus(ctx, sandboxID)
	if err != nil {
		return err
	}
	if st.State != runtime.SandboxReady {
		return fmt.Errorf("port forward: sandbox %s is stopped: %w", sandboxID, runtime.ErrState)
	}
	host := "127.0.0.1"
	if len(st.IPs) > 0 {
		host = st.IPs[0]
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port forward to pod %s: %w: %w", st.Metadata.Name, runtime.ErrUnavailable, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); stream.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(stream, conn)
		stream.Close()
	})
	io.Copy(conn, stream)
	conn.(*net.TCPConn).CloseWrite()
	wg.Wait()
	return nil
}
