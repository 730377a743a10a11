// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/crilog"
)

// streams are the near ends of a container's input and output. The supervisor
// holds them, so that they outlive the agent.
type streams struct {
	log   *crilog.Log
	stdin *os.File // nil without
	tty   *os.File // the terminal's near end, nil without
	out   map[string]*os.File

	wg       sync.WaitGroup // of the copies
	mu       sync.Mutex
	attached map[*tap]struct{}
}

// tap gets a copy of the output.
type tap struct {
	out, err *os.File // nil: not wanted
	lost     chan struct{}
	once     sync.Once
}

// pipe returns a pipe whose one end, which we keep, works with Go's poller, and
// whose other end is an ordinary blocking file for the child.
func pipe() (near, far *os.File, err error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output"), nil
}

// openStreams returns our ends, and the child's three files.
func openStreams(log *crilog.Log, stdin, tty bool) (*streams, []*os.File, error) {
	s := &streams{log: log, out: map[string]*os.File{}, attached: map[*tap]struct{}{}}
	if tty {
		near, far, err := openTerminal()
		if err != nil {
			return nil, nil, err
		}
		s.tty, s.out["stdout"] = near, near
		if stdin {
			s.stdin = near
		}
		return s, []*os.File{far, far, far}, nil
	}
	var child []*os.File
	if stdin {
		var fds [2]int
		if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
			return nil, nil, fmt.Errorf("pipe: %w", err)
		}
		syscall.SetNonblock(fds[1], true)
		s.stdin = os.NewFile(uintptr(fds[1]), "input")
		child = append(child, os.NewFile(uintptr(fds[0]), "input"))
	} else {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return nil, nil, err
		}
		child = append(child, null)
	}
	for _, name := range []string{"stdout", "stderr"} {
		near, far, err := pipe()
		if err != nil {
			s.abandon()
			for _, f := range child {
				f.Close()
			}
			return nil, nil, err
		}
		s.out[name] = near
		child = append(child, far)
	}
	return s, child, nil
}

// openTerminal returns both ends of a new pseudo terminal (pty(7)).
func openTerminal() (near, far *os.File, err error) {
	near, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("terminal: %w", err)
	}
	var number, unlock int32
	control := func(request uintptr, v *int32) {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, near.Fd(), request, uintptr(unsafe.Pointer(v))); e != 0 {
			err = errors.Join(err, e)
		}
	}
	control(syscall.TIOCSPTLCK, &unlock)
	control(syscall.TIOCGPTN, &number)
	if err == nil {
		syscall.SetNonblock(int(near.Fd()), true) // Fd has made it blocking
		far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("terminal: %w", err), near.Close())
	}
	return near, far, nil
}

// resize sets the size of a terminal.
func resize(tty *os.File, size runtime.TerminalSize) error {
	window := struct{ rows, cols, x, y uint16 }{size.Height, size.Width, 0, 0}
	raw, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	var e syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, e = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&window)))
	})
	if err == nil && e != 0 {
		err = e
	}
	return err
}

// run begins to copy.
func (s *streams) run() {
	for name, f := range s.out {
		s.wg.Go(func() { s.copy(name, f) })
	}
}

// buffers are shared by all copies: an idle container holds none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copy reads an output until its end.
func (s *streams) copy(name string, f *os.File) {
	var log *crilog.Stream
	if s.log != nil {
		log = s.log.Stream(name)
		defer log.Close()
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	for {
		n := 0
		var b *[]byte
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			b = buffers.Get().(*[]byte)
			n, failed = syscall.Read(int(fd), *b)
			if failed == syscall.EAGAIN {
				buffers.Put(b)
				return false
			}
			return true
		})
		if err != nil {
			return // closed by finish
		}
		if n > 0 {
			if log != nil {
				log.Write((*b)[:n])
			}
			s.feed(name, (*b)[:n])
		}
		buffers.Put(b)
		if failed == syscall.EINTR {
			continue
		}
		if n <= 0 || failed != nil {
			return // the end, which a terminal tells as EIO
		}
	}
}

// slowest is how long an attached reader may keep the output of a container waiting.
const slowest = 10 * time.Second

func (s *streams) feed(name string, b []byte) {
	s.mu.Lock()
	var list []*tap
	for t := range s.attached {
		list = append(list, t)
	}
	s.mu.Unlock()
	for _, t := range list {
		f := t.out
		if name == "stderr" {
			f = t.err
		}
		if f == nil {
			continue
		}
		f.SetWriteDeadline(time.Now().Add(slowest))
		if _, err := f.Write(b); err != nil {
			s.detach(t)
		}
	}
}

func (s *streams) attach(t *tap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached[t] = struct{}{}
}

func (s *streams) detach(t *tap) {
	s.mu.Lock()
	delete(s.attached, t)
	s.mu.Unlock()
	t.once.Do(func() { close(t.lost) })
}

// input copies to the container's stdin until from ends; once then closes it.
func (s *streams) input(from io.Reader, once bool) {
	io.Copy(s.stdin, from)
	if once {
		if s.tty != nil {
			s.stdin.Write([]byte{4}) // what Control-D sends
		} else {
			s.stdin.Close()
		}
	}
}

// finish waits for the end of the output, for a time, and closes everything.
func (s *streams) finish(patience time.Duration) {
	for _, f := range s.out {
		f.SetReadDeadline(time.Now().Add(patience))
	}
	s.wg.Wait()
	s.abandon()
}

// abandon closes our ends.
func (s *streams) abandon() {
	if s.stdin != nil {
		s.stdin.Close()
	}
	for _, f := range s.out {
		f.Close()
	}
}
