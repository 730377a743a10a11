// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/crilog"
)

// prints reports whether the container will ever write to a log: cat does, when
// someone attaches.
func (c *container) prints() bool {
	return c.hasStdin || c.does != nil && (c.does.Stdout != "" || c.does.Stderr != "")
}

func (c *container) openLog() (err error) {
	if c.logPath != "" {
		c.log, err = crilog.Open(c.logPath)
	}
	return err
}

func (c *container) closeLog() {
	if c.log != nil {
		c.log.Close()
		c.log = nil
	}
}

// print needs r.mu.
func (c *container) print(stream, text string) {
	if text == "" {
		return
	}
	if c.log != nil {
		s := c.log.Stream(stream)
		s.Write([]byte(text))
		s.Close()
	}
	for _, a := range c.attached {
		a.put(stream, text)
	}
}

// ReopenContainerLog makes the container write to a new file.
func (r *Runtime) ReopenContainerLog(ctx context.Context, id string) error {
	c, err := r.running(ctx, "ReopenContainerLog", id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.log == nil {
		return nil
	}
	return c.log.Reopen()
}

// running returns a running container, or an error that says why there is none.
func (r *Runtime) running(ctx context.Context, op, id string) (*container, error) {
	c, err := r.containerFor(ctx, op, id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil || r.containers[id] == nil {
		return nil, fmt.Errorf("%s: container %q: %w", op, id, runtime.ErrNotFound)
	}
	if c.state != runtime.ContainerRunning {
		return nil, fmt.Errorf("%s: container %s is %s, not Running: %w", op, id, c.state, runtime.ErrState)
	}
	return c, nil
}

// ExecSync answers as the behaviour of the container says.
func (r *Runtime) ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (runtime.ExecResult, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return r.exec(ctx, "ExecSync", id, command, nil)
}

func (r *Runtime) exec(ctx context.Context, op, id string, command []string, stdin io.Reader) (runtime.ExecResult, error) {
	c, err := r.running(ctx, op, id)
	if err != nil {
		return runtime.ExecResult{}, err
	}
	if len(command) == 0 {
		return runtime.ExecResult{}, fmt.Errorf("exec in container %s: %w: no command", id, runtime.ErrInvalid)
	}
	b := Program(command)
	input := ""
	if stdin != nil && (command[0] == "cat" || c.does != nil && c.does.Exec != nil) {
		data, err := io.ReadAll(stdin)
		if err != nil {
			return runtime.ExecResult{}, fmt.Errorf("exec in container %s: stdin: %w", id, err)
		}
		input = string(data)
	}
	if c.does != nil && c.does.Exec != nil {
		return c.does.Exec(command, input), nil
	}
	if command[0] == "cat" {
		return runtime.ExecResult{Stdout: []byte(input)}, nil
	}
	if !b.Exits {
		return runtime.ExecResult{}, fmt.Errorf("exec in container %s: %q is not a program of the fake: %w", id, command[0], runtime.ErrInvalid)
	}
	timer := time.NewTimer(b.ExitAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return runtime.ExecResult{}, fmt.Errorf("exec %q in container %s: %w", command, id, ctx.Err())
	}
	return runtime.ExecResult{Stdout: []byte(b.Stdout), Stderr: []byte(b.Stderr), ExitCode: b.ExitCode}, nil
}

// Exec is ExecSync with streams.
func (r *Runtime) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	result, err := r.exec(ctx, "Exec", id, o.Command, o.Stdin)
	if err != nil {
		return 0, err
	}
	if o.TTY {
		result.Stdout, result.Stderr = append(result.Stdout, result.Stderr...), nil
	}
	return result.ExitCode, errors.Join(writeAll(o.Stdout, result.Stdout), writeAll(o.Stderr, result.Stderr))
}

func writeAll(w io.Writer, b []byte) error {
	if w == nil || len(b) == 0 {
		return nil
	}
	_, err := w.Write(b)
	return err
}

// attachment is what an attached caller has not read yet.
type attachment struct {
	mu   sync.Mutex
	out  map[string]*bytes.Buffer
	wake chan struct{}
	end  bool
}

func (a *attachment) put(stream, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.out[stream] == nil {
		a.out[stream] = &bytes.Buffer{}
	}
	a.out[stream].WriteString(text)
	a.signal()
}

func (a *attachment) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end = true
	a.signal()
}

func (a *attachment) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *attachment) take() (stdout, stderr []byte, end bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	take := func(stream string) []byte {
		b := a.out[stream]
		if b == nil {
			return nil
		}
		delete(a.out, stream)
		return b.Bytes()
	}
	return take("stdout"), take("stderr"), a.end
}

// Attach connects to a container. One with Stdin writes to stdout what it reads,
// as cat does, and with StdinOnce exits when the input ends.
func (r *Runtime) Attach(ctx context.Context, id string, o runtime.AttachOptions) error {
	c, err := r.running(ctx, "Attach", id)
	if err != nil {
		return err
	}
	if o.Stdin != nil && !c.hasStdin {
		return fmt.Errorf("attach to container %s: it was made without stdin: %w", id, runtime.ErrInvalid)
	}
	a := &attachment{out: map[string]*bytes.Buffer{}, wake: make(chan struct{}, 1)}
	r.mu.Lock()
	if c.state == runtime.ContainerRunning {
		c.attached = append(c.attached, a)
	} else {
		a.close()
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.attached = slices.DeleteFunc(c.attached, func(o *attachment) bool { return o == a })
	}()
	if o.Stdin != nil {
		// Ends with the stream, which the caller closes: see ExecOptions.
		go r.copyInput(c, o.Stdin)
	}
	for {
		stdout, stderr, end := a.take()
		if err := errors.Join(writeAll(o.Stdout, stdout), writeAll(o.Stderr, stderr)); err != nil {
			return fmt.Errorf("attach to container %s: %w", id, err)
		}
		if end {
			return nil
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			return fmt.Errorf("attach to container %s: %w", id, ctx.Err())
		}
	}
}

func (r *Runtime) copyInput(c *container, from io.Reader) {
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		r.mu.Lock()
		if c.state != runtime.ContainerRunning {
			r.mu.Unlock()
			return
		}
		c.print("stdout", string(b[:n]))
		if err != nil && c.stdinOnce {
			r.exit(c, exit{})
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// PortForward connects to a container's Serve.
func (r *Runtime) PortForward(ctx context.Context, sandboxID string, port int, stream io.ReadWriteCloser) error {
	defer stream.Close()
	s, err := r.sandboxFor(ctx, "PortForward", sandboxID)
	if err != nil {
		return err
	}
	serve, err := r.server(s, sandboxID, port)
	if err != nil {
		return err
	}
	near, far := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { serve(far) })
	wg.Go(func() { io.Copy(stream, near); stream.Close() })
	stop := context.AfterFunc(ctx, func() { near.Close(); stream.Close() })
	defer stop()
	io.Copy(near, stream)
	near.Close()
	wg.Wait()
	return nil
}

func (r *Runtime) server(s *sandbox, id string, port int) (func(net.Conn), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == nil || r.sandboxes[id] == nil {
		return nil, fmt.Errorf("port forward: sandbox %q: %w", id, runtime.ErrNotFound)
	}
	if s.stopped {
		return nil, fmt.Errorf("port forward: sandbox %s is stopped: %w", id, runtime.ErrState)
	}
	for _, c := range s.containers {
		if c.state == runtime.ContainerRunning && c.does != nil && c.does.Serve[port] != nil {
			return c.does.Serve[port], nil
		}
	}
	return nil, fmt.Errorf("port forward to port %d of pod %s: connection refused: %w", port, strings.Join([]string{s.meta.Namespace, s.meta.Name}, "/"), runtime.ErrUnavailable)
}
