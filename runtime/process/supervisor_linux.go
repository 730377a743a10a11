// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// The environment variables that make Main a supervisor, and the ones that processes get.
const (
	envStarter    = "SLIPWAY_SUPERVISOR_STARTER"
	envSupervisor = "SLIPWAY_SUPERVISOR"
	envContainer  = "SLIPWAY_CONTAINER" // ID of the container, by which strays are found
	envPodIP      = "SLIPWAY_POD_IP"
)

// idleExit is how long a supervisor without sandboxes and without agents stays.
const idleExit = 10 * time.Second

// Main is to be called first in main, by every program that uses [New]. In a process that New has started
// as supervisor it never returns; otherwise it returns at once.
func Main() {
	var err error
	if config, ok := os.LookupEnv(envStarter); ok {
		err = startSupervisor(config)
	} else if config, ok := os.LookupEnv(envSupervisor); ok {
		os.Unsetenv(envSupervisor)
		var o Options
		if err = json.Unmarshal([]byte(config), &o); err == nil {
			err = supervise(o)
		}
	} else {
		return
	}
	if err != nil {
		// Its standard error is the log file in the root directory.
		fmt.Fprintln(os.Stderr, time.Now().Format(time.RFC3339), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The timer slack (PR_SET_TIMERSLACK(2const)) of the supervisor, and the kernel's default, which is what
// containers get. Go's monitor thread sleeps 20 microseconds at a time while anything runs; with a
// millisecond of slack it wakes a tenth as often. Over the life of a short pod that saves 0.2 ms of
// 1.8 ms of the supervisor's processor time (BenchmarkPodStart). A thread's slack is inherited over
// fork and exec alone, so who starts the supervisor sets it.
const (
	prSetTimerSlack = 29
	supervisorSlack = time.Millisecond
	defaultSlack    = 50 * time.Microsecond
)

func setTimerSlack(d time.Duration) {
	// It can't fail for the calling thread.
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(d.Nanoseconds()), 0)
}

// startSupervisor runs this program once more, as the supervisor, and leaves it alone.
func startSupervisor(config string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	os.Unsetenv(envStarter)
	goruntime.LockOSThread()
	setTimerSlack(supervisorSlack)
	_, err = syscall.ForkExec(self, os.Args[:1], &syscall.ProcAttr{
		// A small heap: it holds a few records, and its memory counts for each pod.
		Env:   append(os.Environ(), envSupervisor+"="+config, "GOGC=50"),
		Files: []uintptr{0, 1, 2, readyFD},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

// readyFD is where the supervisor tells its starter that it listens, or why it can't.
const readyFD = 3

// supervise holds the processes of one node until none is left.
func supervise(o Options) error {
	ready := os.NewFile(readyFD, "ready")
	syscall.CloseOnExec(readyFD)
	goruntime.GOMAXPROCS(1)
	n, listener, err := openNode(o)
	if err != nil {
		fmt.Fprint(ready, err)
		ready.Close()
		return err
	}
	ready.Close() // empty: it listens
	// A signal to the terminal's group, or a polite kill of the agent, is not meant for the containers.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go n.reap()
	go n.accept(listener)
	select {
	case <-n.idle():
	case <-stop:
		n.shutdown()
	}
	return errors.Join(listener.Close(), os.Remove(filepath.Join(o.Root, socketName)))
}

const (
	socketName  = "supervisor.sock"
	lockName    = "supervisor.lock"
	logName     = "supervisor.log"
	journalName = "journal"
)

// openNode takes the root directory for itself, and takes in what the last supervisor left.
func openNode(o Options) (*node, net.Listener, error) {
	lock, err := os.OpenFile(filepath.Join(o.Root, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, nil, fmt.Errorf("%w: another supervisor holds %s", errLocked, lock.Name())
	}
	// Orphans of our children become our children, so that they can be found and are reaped.
	const prSetChildSubreaper = 36
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); e != 0 {
		return nil, nil, fmt.Errorf("become a subreaper: %w", e)
	}
	n := newNode(o, lock)
	if err := n.recover(); err != nil {
		return nil, nil, err
	}
	path := filepath.Join(o.Root, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	var listener net.Listener
	err = shortPath(o.Root, func(dir string) (err error) {
		listener, err = net.Listen("unix", filepath.Join(dir, socketName))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // its path is not the real one
	return n, listener, os.Chmod(path, 0o600)
}

var errLocked = errors.New("locked")

// shortPath calls f with a short name of dir: a Unix socket's path has at most 107 bytes.
func shortPath(dir string, f func(string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d", d.Fd()))
}

// reap waits for children, all of them in one place: os/exec is not used in a supervisor.
func (n *node) reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			// The starter holds the lock until the child is known.
			n.children.Lock()
			done := n.waiting[pid]
			delete(n.waiting, pid)
			n.children.Unlock()
			if done != nil {
				done <- exitCode(status)
			}
		}
		<-died
	}
}

func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// idle is closed when there has been nothing to hold and nobody to serve for a while.
func (n *node) idle() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		quiet := 0
		const looks = 10
		for quiet < looks {
			time.Sleep(idleExit / looks)
			n.mu.Lock()
			if len(n.sandboxes) == 0 && n.clients == 0 {
				quiet++
			} else {
				quiet = 0
			}
			n.mu.Unlock()
		}
		close(done)
	}()
	return done
}

func (n *node) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of files, most likely
			continue
		}
		n.mu.Lock()
		n.clients++
		n.mu.Unlock()
		go func() {
			n.client(newConn(c))
			n.mu.Lock()
			n.clients--
			n.mu.Unlock()
		}()
	}
}

// client answers the requests of one connection.
func (n *node) client(c *conn) {
	defer c.Close()
	for {
		name, args, files, err := c.receive()
		again := err == nil && n.serve(c, name, args, files)
		for _, f := range files {
			f.Close()
		}
		if !again {
			return
		}
	}
}

// serve handles one request, and reports whether the connection can have another.
func (n *node) serve(c *conn, name string, args []byte, files []*os.File) bool {
	op, ok := operations[name]
	if !ok {
		c.answer(nil, fmt.Errorf("operation %q: %w: agent and supervisor differ in version", name, runtime.ErrUnsupported))
		return false
	}
	if !op.long {
		return c.answer(op.do(n, context.Background(), args, files)) == nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The agent sends nothing more: what can be read is that it has gone.
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Read(make([]byte, 1))
		cancel()
	})
	if op.stream != nil {
		op.stream(n, ctx, c)
	} else {
		c.answer(op.do(n, ctx, args, files))
	}
	c.Close()
	wg.Wait()
	return false
}

// shutdown kills everything.
func (n *node) shutdown() {
	n.mu.Lock()
	var ids []string
	for id := range n.sandboxes {
		ids = append(ids, id)
	}
	n.mu.Unlock()
	for _, id := range ids {
		n.stopSandbox(id)
	}
}
