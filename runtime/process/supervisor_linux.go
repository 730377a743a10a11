// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"slices"
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

// self is this program. One that was replaced or deleted since it was started is found all the same,
// which keeps agent and supervisor of one version.
func self() string {
	const running = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return running
	}
	was, wasErr := os.Stat(running)
	is, isErr := os.Stat(path)
	if wasErr != nil || isErr != nil || !os.SameFile(was, is) {
		return running
	}
	return path // which says more in a list of processes
}

// startSupervisor runs this program once more, as the supervisor, and leaves it alone.
func startSupervisor(config string) error {
	os.Unsetenv(envStarter)
	goruntime.LockOSThread()
	setTimerSlack(supervisorSlack)
	_, err := syscall.ForkExec(self(), os.Args[:1], &syscall.ProcAttr{
		Env:   append(os.Environ(), envSupervisor+"="+config),
		Files: []uintptr{0, 1, 2, readyFD},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

// readyFD is where the supervisor tells its starter that it listens, or why it can't.
const readyFD = 3

// supervise holds the processes of one node until none is left.
func supervise(o Options) error {
	debug.SetGCPercent(50) // a small heap: it holds a few records, and its memory counts for each pod
	ready := os.NewFile(readyFD, "ready")
	syscall.CloseOnExec(readyFD)
	n, listener, err := openNode(o)
	if err != nil {
		fmt.Fprint(ready, err)
		ready.Close()
		return err
	}
	ready.Close() // empty: it listens
	// A signal to the terminal's group, or a polite kill of the agent, is not meant for the containers. To ignore
	// these would make the containers ignore them too, for good: a shell can't even trap what it was born ignoring.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	reaping, stopReaping := context.WithCancel(context.Background())
	var reaper sync.WaitGroup
	reaper.Go(func() { n.reap(reaping, died) })
	accepting, stopAccepting := context.WithCancel(context.Background())
	n.wg.Go(func() { n.accept(accepting, listener) })

	n.hold(stop)

	err = n.shutdown()
	stopAccepting()
	err = errors.Join(err, listener.Close(), os.Remove(filepath.Join(o.Root, socketName)))
	n.hangUp()
	n.wg.Wait()
	stopReaping() // the last: others wait for what it reaps
	reaper.Wait()
	return err
}

const (
	socketName  = "supervisor.sock"
	lockName    = "supervisor.lock"
	logName     = "supervisor.log"
	journalName = "journal"

	sandboxesName = "sandboxes"
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
	if err := os.MkdirAll(filepath.Join(o.Root, sandboxesName), 0o755); err != nil {
		return nil, nil, err
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
func (n *node) reap(ctx context.Context, died <-chan os.Signal) {
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
			if n.reaped != nil {
				close(n.reaped)
				n.reaped = nil
			}
			n.children.Unlock()
			if done != nil {
				done <- exitCode(status)
			}
		}
		select {
		case <-died:
		case <-ctx.Done():
			return
		}
	}
}

// nextReaped is closed when the next process is reaped.
func (n *node) nextReaped() <-chan struct{} {
	n.children.Lock()
	defer n.children.Unlock()
	if n.reaped == nil {
		n.reaped = make(chan struct{})
	}
	return n.reaped
}

func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// hold returns when there has been nothing to hold and nobody to serve for a while,
// or when it is told to stop.
func (n *node) hold(stop <-chan os.Signal) {
	const looks = 10
	tick := time.NewTicker(idleExit / looks)
	defer tick.Stop()
	var l load
	for quiet := 0; quiet < looks; quiet++ {
		l.adapt()
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		n.mu.Lock()
		if len(n.sandboxes) > 0 || len(n.clients) > 0 {
			quiet = -1
		}
		n.mu.Unlock()
	}
}

// load decides on how many processors the supervisor's Go code runs. Most of the time it does one small thing at
// a time, and then a second processor costs more than it gives: with each thing Go wakes
// another thread that finds nothing to do, 10 % of the processor time of a pod's life (BenchmarkPodStart). When
// one processor is well used, by logs for instance, it gets all.
type load struct {
	at   time.Time
	used time.Duration
	wide bool
}

func (l *load) adapt() {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return
	}
	now, used := time.Now(), time.Duration(u.Utime.Nano()+u.Stime.Nano())
	share := 0.0
	if !l.at.IsZero() {
		share = float64(used-l.used) / float64(now.Sub(l.at))
	}
	const much, little = 0.6, 0.3
	switch {
	case share > much && !l.wide:
		l.wide = true
		goruntime.GOMAXPROCS(goruntime.NumCPU())
	case l.at.IsZero() || share < little && l.wide:
		l.wide = false
		goruntime.GOMAXPROCS(1)
	}
	l.at, l.used = now, used
}

func (n *node) accept(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of files, most likely
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		n.mu.Lock()
		n.clients[c] = true
		if ctx.Err() != nil { // hangUp may not see it
			c.Close()
		}
		n.mu.Unlock()
		n.wg.Go(func() {
			n.client(newConn(c))
			n.mu.Lock()
			delete(n.clients, c)
			n.mu.Unlock()
		})
	}
}

// hangUp ends what waits for an agent or for a system call of a process.
func (n *node) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.clients {
		c.Close()
	}
	for l := range n.listeners {
		l.Close()
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
func (n *node) shutdown() error {
	n.mu.Lock()
	ids := slices.Collect(maps.Keys(n.sandboxes))
	n.mu.Unlock()
	var err error
	for _, id := range ids {
		err = errors.Join(err, n.stopSandbox(context.Background(), id))
	}
	return err
}
