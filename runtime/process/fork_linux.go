// SPDX-License-Identifier: Apache-2.0

package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/slipway-dev/slipway/runtime"
)

// A process can enter a user namespace only while it has a single thread, so no thread of a Go program ever can. A child
// between fork and exec is such a process. What it does there is a plan: the child makes the
// system calls of the plan and nothing else, since Go's runtime does not work in it.

// forkSteps is what the child works on. All of it is made before the fork.
type forkSteps struct {
	steps  []step
	ready  [2]int // pipe: the child has its namespaces, or has failed
	permit [2]int // pipe: has a byte when the child may go on, and its end if it must not
	report [2]uintptr
}

// errNamespace is wrapped by what fails before the child has its namespaces.
var errNamespace = errors.New("user namespace")

// fork starts a process that carries out before, then waits until meanwhile has returned, and then carries out after, which ends with
// exec. An error of meanwhile ends the process. The fork itself happens in birth, which returns what the
// function that it gets returns. If there is an error the process has ended.
func fork(before, after *plan, birth func(func() int) int, meanwhile func(pid int) error) (pid int, err error) {
	defer goruntime.KeepAlive(before)
	defer goruntime.KeepAlive(after)
	f := &forkSteps{}
	if err := syscall.Pipe2(f.ready[:], syscall.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer syscall.Close(f.ready[0])
	if err := syscall.Pipe2(f.permit[:], syscall.O_CLOEXEC); err != nil {
		syscall.Close(f.ready[1])
		return 0, err
	}
	b := new(byte)
	wait := &plan{}
	wait.add("tell the supervisor", syscall.SYS_WRITE, f.ready[1], unsafe.Pointer(&f.report), reportSize)
	wait.add("wait", syscall.SYS_CLOSE, f.permit[1])
	wait.add("wait for the supervisor", syscall.SYS_READ, f.permit[0], unsafe.Pointer(b), 1).want = 1
	f.steps = append(append(append(f.steps, before.steps...), wait.steps...), after.steps...)

	pid = birth(f.start)
	goruntime.KeepAlive(wait)
	syscall.Close(f.ready[1])
	syscall.Close(f.permit[0])
	if pid < 0 {
		syscall.Close(f.permit[1])
		return 0, fmt.Errorf("fork: %w", syscall.Errno(-pid))
	}
	if err = f.result(true); err == nil {
		err = meanwhile(pid)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errNamespace, err)
	}
	if err == nil {
		_, err = syscall.Write(f.permit[1], []byte{1})
	}
	syscall.Close(f.permit[1]) // without the byte the child ends
	if err == nil {
		err = f.result(false)
	}
	if err != nil {
		wait4(pid)
		return pid, err
	}
	return pid, nil
}

const reportSize = int(unsafe.Sizeof(forkSteps{}.report))

// result reads what the child says: that it waits (first), or which step failed. An exec closes the pipe.
func (f *forkSteps) result(first bool) error {
	var b [reportSize]byte
	for {
		n, err := syscall.Read(f.ready[0], b[:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return err
		case n == 0 && !first:
			return nil
		case n != len(b):
			return errors.New("the process ended before its program began")
		}
		at, e := binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:])
		if e == 0 {
			return nil
		}
		return fmt.Errorf("%s: %w", f.steps[at].what, syscall.Errno(e))
	}
}

func wait4(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// start forks. In the child it never returns.
//
// The child has a copy of this thread's stack and of the heap, so it needs neither; what it must not do is
// anything for which Go's scheduler, collector or race detector has to run.
//
//go:norace
//go:nosplit
func (f *forkSteps) start() int {
	pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return -int(e)
	}
	if pid != 0 {
		return int(pid)
	}
	failed, why, result := 0, syscall.Errno(0), uintptr(0)
	for i := 0; i < len(f.steps); i++ {
		s := &f.steps[i]
		if s.last {
			s.args[0] = result
		}
		r, _, e := syscall.RawSyscall6(s.call, s.args[0], s.args[1], s.args[2], s.args[3], s.args[4], s.args[5])
		if s.want > 0 && e == 0 && r != s.want {
			e = syscall.EPIPE
		}
		if e == 0 || e == s.done {
			result = r
			continue
		}
		// Of several ways the error that says more than "not there" is told.
		if why == 0 || why == syscall.ENOENT {
			failed, why = i, e
		}
		if !s.next {
			break
		}
	}
	f.report[0], f.report[1] = uintptr(failed), uintptr(why)
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(f.ready[1]), uintptr(unsafe.Pointer(&f.report)), uintptr(reportSize))
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// forkIsolated starts a process with mounts, or an image as its root directory, without root: in a user
// namespace of its own, where its user and group are what they were and all others are nobody.
func (n *node) forkIsolated(s spawnSpec, attr *syscall.ProcAttr, exit chan<- int) (int, error) {
	before, after := &plan{}, &plan{}
	group := func(pid int) error { return nil } // in version 1 it is that of this thread
	if attr.Sys.UseCgroupFD {
		group = func(pid int) error {
			return os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/cgroup.procs", attr.Sys.CgroupFD), []byte(strconv.Itoa(pid)), 0)
		}
	}
	meanwhile := group
	if s.exec {
		closers, err := n.planJoin(s, before)
		defer closers()
		if err != nil {
			return 0, err
		}
	} else {
		mounts, err := n.options.planMounts(s.root, s.mounts, false)
		if err != nil {
			return 0, err
		}
		defer mounts.close()
		after = mounts
		before.add("user namespace", syscall.SYS_UNSHARE, syscall.CLONE_NEWUSER|syscall.CLONE_NEWNS)
		meanwhile = func(pid int) error { return errors.Join(mapUser(pid), group(pid)) }
	}
	if err := planExec(after, s, attr); err != nil {
		return 0, err
	}
	birth := func(start func() int) int {
		n.children.Lock()
		defer n.children.Unlock()
		syscall.ForkLock.Lock()
		defer syscall.ForkLock.Unlock()
		pid := start()
		if pid > 0 {
			n.waiting[pid] = exit
		}
		return pid
	}
	pid, err := fork(before, after, birth, meanwhile)
	if err == nil {
		return pid, nil
	}
	n.children.Lock()
	delete(n.waiting, pid)
	n.children.Unlock()
	if errors.Is(err, errNamespace) && !s.exec {
		err = fmt.Errorf("%w: without root, mounts and images need unprivileged user namespaces, which this machine does not permit; "+
			"mount a volume at its own path: %w", runtime.ErrUnsupported, err)
	}
	return 0, err
}

// planJoin enters the namespaces of the container's process.
func (n *node) planJoin(s spawnSpec, p *plan) (closers func(), err error) {
	n.mu.Lock()
	pid := s.container.PID
	n.mu.Unlock()
	for name, flag := range map[string]int{"user": syscall.CLONE_NEWUSER, "mnt": syscall.CLONE_NEWNS} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
		if err != nil {
			return p.close, fmt.Errorf("namespaces of the container: %w", err)
		}
		p.keep = append(p.keep, f)
		p.add("namespaces of the container", sysSetns(), int(f.Fd()), flag)
		if name == "user" && len(p.steps) == 2 { // it gives the right to the other
			p.steps[0], p.steps[1] = p.steps[1], p.steps[0]
		}
	}
	return p.close, nil
}

// planExec is what a process does last, as syscall.ForkExec does.
func planExec(p *plan, s spawnSpec, attr *syscall.ProcAttr) error {
	if s.root != "" {
		p.add("root directory "+s.root, syscall.SYS_CHROOT, s.root)
	}
	dir := attr.Dir
	if dir == "" {
		dir = "/"
	}
	p.add("session", syscall.SYS_SETSID)
	p.add("working directory "+dir, syscall.SYS_CHDIR, dir)
	for to, from := range attr.Files {
		p.add("files", syscall.SYS_DUP3, int(from), to, 0)
	}
	if attr.Sys.Setctty {
		p.add("terminal", syscall.SYS_IOCTL, attr.Sys.Ctty, syscall.TIOCSCTTY, 1)
	}
	argv, err := syscall.SlicePtrFromStrings(s.command)
	if err != nil {
		return fmt.Errorf("command %q: %w", s.command, err)
	}
	env, err := syscall.SlicePtrFromStrings(attr.Env)
	if err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	paths, err := candidates(s)
	if err != nil {
		return err
	}
	for _, path := range paths {
		what := fmt.Sprintf("exec: %q", s.command[0])
		p.add(what, syscall.SYS_EXECVE, path, unsafe.Pointer(&argv[0]), unsafe.Pointer(&env[0])).next = true
	}
	p.steps[len(p.steps)-1].next = false
	return nil
}

// mapUser lets a process in a new user namespace be who it was.
func mapUser(pid int) error {
	for _, f := range []struct {
		file string
		id   int
	}{{"uid_map", os.Geteuid()}, {"setgroups", -1}, {"gid_map", os.Getegid()}} {
		text := fmt.Sprintf("%d %d 1", f.id, f.id)
		if f.id < 0 {
			text = "deny" // what the kernel wants before anybody may map a group
		}
		if err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/"+f.file, []byte(text), 0); err != nil {
			return err
		}
	}
	return nil
}
