// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// ExecSync runs a command on pipes of its own.
func (r *Runtime) ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (runtime.ExecResult, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	out, errs := &limited{}, &limited{}
	code, err := r.Exec(ctx, id, runtime.ExecOptions{Command: command, Stdout: out, Stderr: errs})
	if err != nil {
		return runtime.ExecResult{}, err
	}
	return runtime.ExecResult{Stdout: out.Bytes(), Stderr: errs.Bytes(), ExitCode: code}, nil
}

// limited keeps the first runtime.MaxExecOutput bytes.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), runtime.MaxExecOutput-l.Len())])
	return len(p), nil
}

// lingering is how long output is read after the command has exited: something
// that it left behind may hold the pipe.
const lingering = 200 * time.Millisecond

// Exec hands the command its files directly: the supervisor does not copy.
func (r *Runtime) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	if len(o.Command) == 0 {
		return 0, fmt.Errorf("exec in container %s: %w: no command", id, runtime.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	p := &plumbing{}
	defer p.close()
	var child []*os.File
	var err error
	if o.TTY {
		child, err = p.terminal(o)
	} else {
		child, err = p.pipes(o.Stdin, o.Stdout, o.Stderr)
	}
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	code := 0
	c, err := r.exchange(ctx, "Exec", execArgs{ID: id, Command: o.Command, TTY: o.TTY, Stdin: o.Stdin != nil}, &code, child...)
	if c != nil {
		c.Close()
	}
	if err != nil {
		return 0, err
	}
	p.finish()
	if p.failed != nil {
		return code, fmt.Errorf("exec in container %s: %w", id, p.failed)
	}
	return code, nil
}

// plumbing copies between a caller's streams and files that a command has the other ends of.
type plumbing struct {
	far   []*os.File // the command's ends
	near  []*os.File // ours
	reads []*os.File
	stop  []chan struct{}
	wg    sync.WaitGroup // of outputs, and of resizing

	mu     sync.Mutex
	failed error // of writing to the caller
}

// pipes makes the three files of a command. Nil streams are /dev/null.
func (p *plumbing) pipes(in io.Reader, out, errs io.Writer) ([]*os.File, error) {
	if in == nil {
		if err := p.null(os.O_RDONLY); err != nil {
			return nil, err
		}
	} else {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		p.far, p.near = append(p.far, r), append(p.near, w)
		go func() { // ends with the stream, as ExecOptions says
			io.Copy(w, in)
			w.Close()
		}()
	}
	for _, to := range []io.Writer{out, errs} {
		if to == nil {
			if err := p.null(os.O_WRONLY); err != nil {
				return nil, err
			}
			continue
		}
		if err := p.output(to); err != nil {
			return nil, err
		}
	}
	return p.far, nil
}

func (p *plumbing) null(flag int) error {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err == nil {
		p.far = append(p.far, f)
	}
	return err
}

func (p *plumbing) output(to io.Writer) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.far, p.near, p.reads = append(p.far, w), append(p.near, r), append(p.reads, r)
	p.wg.Go(func() { p.copy(to, r) })
	return nil
}

func (p *plumbing) copy(to io.Writer, from *os.File) {
	_, err := io.Copy(to, readerOnly{from})
	if err != nil && !ended(err) {
		p.mu.Lock()
		p.failed = err
		p.mu.Unlock()
	}
}

// terminal makes one pseudo terminal for all three.
func (p *plumbing) terminal(o runtime.ExecOptions) ([]*os.File, error) {
	near, far, err := openTerminal()
	if err != nil {
		return nil, err
	}
	p.far, p.near, p.reads = append(p.far, far), append(p.near, near), append(p.reads, near)
	if o.Stdin != nil {
		go io.Copy(near, o.Stdin)
	}
	out := o.Stdout
	if out == nil {
		out = io.Discard
	}
	p.wg.Go(func() { p.copy(out, near) })
	if o.Resize != nil {
		stop := make(chan struct{})
		p.stop = append(p.stop, stop)
		p.wg.Go(func() {
			for {
				select {
				case size, ok := <-o.Resize:
					if !ok || resize(near, size) != nil {
						return
					}
				case <-stop:
					return
				}
			}
		})
	}
	return []*os.File{far, far, far}, nil
}

// finish reads the outputs to their end.
func (p *plumbing) finish() {
	for _, f := range p.far {
		f.Close()
	}
	p.far = nil
	for _, c := range p.stop {
		close(c)
	}
	p.stop = nil
	for _, f := range p.reads {
		f.SetReadDeadline(time.Now().Add(lingering))
	}
	p.wg.Wait()
}

func (p *plumbing) close() {
	for _, c := range p.stop {
		close(c)
	}
	for _, f := range append(p.far, p.near...) {
		f.Close()
	}
	p.wg.Wait()
}

// Attach hands the supervisor pipes, into which it copies.
func (r *Runtime) Attach(ctx context.Context, id string, o runtime.AttachOptions) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	p := &plumbing{}
	defer p.close()
	args := attachArgs{ID: id, Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil}
	if o.Stdin != nil {
		pr, pw, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("attach to container %s: %w", id, err)
		}
		p.far, p.near = append(p.far, pr), append(p.near, pw)
		go func() {
			io.Copy(pw, o.Stdin)
			pw.Close()
		}()
	}
	for _, to := range []io.Writer{o.Stdout, o.Stderr} {
		if to == nil {
			continue
		}
		if err := p.output(to); err != nil {
			return fmt.Errorf("attach to container %s: %w", id, err)
		}
	}
	var ok none
	c, err := r.exchange(ctx, "Attach", args, &ok, p.far...)
	if c != nil {
		c.Close()
	}
	p.finish()
	return err
}

// readerOnly keeps io.Copy from splicing, which knows no deadlines.
type readerOnly struct{ io.Reader }

// ended reports whether an error is only the end of a pipe or terminal.
func ended(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EIO)
}
