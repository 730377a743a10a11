// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/internal/cgroup"
)

// spawnSpec is one process to start: a container's or an exec's.
type spawnSpec struct {
	id        string // of the container
	command   []string
	env       []string
	dir       string
	root      string // directory of the image, empty for the machine's
	mounts    []runtime.Mount
	security  runtime.SecurityContext
	resources *runtime.Resources
	container *container
	files     []*os.File // stdin, stdout, stderr
	tty       bool
	exec      bool // into a container that runs
}

// spec is a command in a container.
func (n *node) spec(c *container, command []string) spawnSpec {
	s := spawnSpec{
		id: c.ID, command: command, env: n.environ(c), dir: c.Config.WorkingDir, root: c.ImageRef,
		mounts: c.Config.Mounts, security: c.Config.Security, container: c,
	}
	if s.dir == "" && s.root == "" {
		s.dir = n.dir(c.sandbox)
	}
	return s
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is what a process of a container sees: nothing of the agent's environment.
func (n *node) environ(c *container) []string {
	env := []string{"PATH=" + defaultPath, "HOME=/", "HOSTNAME=" + c.sandbox.Config.Hostname, envPodIP + "=" + c.sandbox.IP}
	set := func(name, value string) {
		env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		env = append(env, name+"="+value)
	}
	for _, e := range c.Config.Env {
		set(e.Name, e.Value)
	}
	set(envContainer, n.mark(c.ID))
	return env
}

// spawn starts a process, whose exit code will be sent to exit. It is the leader of a session of its
// own.
//
// The process is started from a thread that has been made what the process
// is to be: with its filter, in its cgroup, in its mount namespace. That saves a helper program between
// fork and exec, which would cost a Go start of some milliseconds. The thread ends with the goroutine.
func (n *node) spawn(s spawnSpec, exit chan<- int) (pid int, err error) {
	onOwnThread(func() { pid, err = n.spawnHere(s, exit) })
	return pid, err
}

// onOwnThread calls f on a thread that is used for nothing else and ends afterwards. It is never the first
// thread of the process: that one can't end, and what /proc and the kernel say of the process
// (its cgroup, its namespaces, its children) is what they say of its first thread.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		goruntime.LockOSThread()
		if syscall.Gettid() != os.Getpid() {
			f() // the thread ends because it is still locked
			return
		}
		onOwnThread(f) // not here, since here is taken
		goruntime.UnlockOSThread()
	}()
	<-done
}

func (n *node) spawnHere(s spawnSpec, exit chan<- int) (int, error) {
	attr := &syscall.ProcAttr{Dir: s.dir, Env: s.env, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, f := range s.files {
		attr.Files = append(attr.Files, f.Fd())
	}
	if s.tty {
		attr.Sys.Setctty = true
	}
	if err := credential(s.security, attr.Sys); err != nil {
		return 0, err
	}
	undo, err := n.enterCgroup(s, attr.Sys)
	if err != nil {
		return 0, err
	}
	root, isolated := os.Geteuid() == 0, isolated(&s)
	if isolated && root {
		if err := n.enterMounts(s, attr); err != nil {
			undo()
			return 0, err
		}
	}
	path := ""
	if !isolated || root { // otherwise the process itself looks for its program, where it will be seen
		if path, err = lookPath(s); err != nil {
			undo()
			return 0, err
		}
	}
	var listener *os.File
	if addr := s.container.sandbox.addr; addr.IsValid() {
		if listener, err = redirect(); err != nil {
			undo()
			return 0, fmt.Errorf("pod address: %w", err)
		}
	}
	setTimerSlack(defaultSlack)
	pid := 0
	if isolated && !root {
		pid, err = n.forkIsolated(s, attr, exit)
	} else {
		pid, err = n.forkExec(path, s.command, attr, exit)
	}
	if err != nil {
		undo()
		if listener != nil {
			listener.Close()
		}
		return 0, err
	}
	if listener != nil {
		n.mu.Lock()
		n.listeners[listener] = true
		n.mu.Unlock()
		n.wg.Go(func() {
			notified(listener, s.container.sandbox.addr)
			n.mu.Lock()
			delete(n.listeners, listener)
			n.mu.Unlock()
		})
	}
	if r := s.resources; r != nil && r.OOMScoreAdj != 0 {
		// Raising it needs no right; a refusal to lower it leaves the process as likely to go as any.
		os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.FormatInt(r.OOMScoreAdj, 10)), 0)
	}
	return pid, nil
}

// forkExec starts a process, of which the reaper knows before it can have ended.
func (n *node) forkExec(path string, command []string, attr *syscall.ProcAttr, exit chan<- int) (int, error) {
	n.children.Lock()
	defer n.children.Unlock()
	pid, err := syscall.ForkExec(path, command, attr)
	if err != nil {
		return 0, fmt.Errorf("exec %s: %w", path, err)
	}
	n.waiting[pid] = exit
	return pid, nil
}

func credential(s runtime.SecurityContext, attr *syscall.SysProcAttr) error {
	if s.RunAsUser == nil && s.RunAsGroup == nil && s.SupplementalGroups == nil {
		return nil
	}
	uid, gid := os.Geteuid(), os.Getegid()
	want := syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if s.RunAsUser != nil {
		want.Uid = uint32(*s.RunAsUser)
	}
	if s.RunAsGroup != nil {
		want.Gid = uint32(*s.RunAsGroup)
	}
	if int(want.Uid) == uid && int(want.Gid) == gid && s.SupplementalGroups == nil {
		return nil
	}
	if uid != 0 {
		return fmt.Errorf("run as user %d, group %d: %w: the node runs as user %d and is not root", want.Uid, want.Gid, runtime.ErrUnsupported, uid)
	}
	for _, g := range s.SupplementalGroups {
		want.Groups = append(want.Groups, uint32(g))
	}
	attr.Credential = &want
	return nil
}

// enterCgroup makes the process be born in its group, if it has limits.
func (n *node) enterCgroup(s spawnSpec, attr *syscall.SysProcAttr) (undo func(), err error) {
	undo = func() {}
	if s.exec {
		s.resources = s.container.resources(n)
	}
	if !cgroup.Needed(s.resources) {
		return undo, nil
	}
	h, err := n.cgroups()
	if err != nil {
		return undo, nil // no limits here, as the documentation says
	}
	g, err := h.Create(s.id, s.resources)
	if err != nil {
		return undo, err
	}
	if !s.exec {
		undo = func() { g.Remove() }
	}
	if !h.V2() {
		return undo, g.AddThread(syscall.Gettid())
	}
	dir, err := g.Dir()
	if err != nil {
		return undo, err
	}
	// The thread ends soon after the fork, and the file with it at the next collection.
	attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	remove := undo
	return func() { dir.Close(); remove() }, nil
}

func (c *container) resources(n *node) *runtime.Resources {
	n.mu.Lock()
	defer n.mu.Unlock()
	return c.containerState.Resources
}

func (n *node) cgroups() (*cgroup.Hierarchy, error) {
	root := n.options.CgroupRoot
	if root == "" {
		root = cgroup.DefaultRoot
	}
	return cgroup.Open(root)
}

// endCgroup kills what is left in the group and removes it. It reports whether
// the kernel killed one of its processes for memory.
func (n *node) endCgroup(name string) (oom bool) {
	if name == "" {
		return false
	}
	h, err := n.cgroups()
	if err != nil {
		return false
	}
	g := h.Group(name)
	oom = g.OOMKilled()
	for begin := time.Now(); time.Since(begin) < strayWait; {
		reaped := n.nextReaped()
		list, err := g.Processes()
		if err != nil || len(list) == 0 {
			break
		}
		for _, pid := range list {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		// Each is a child of the supervisor, or of one of these; whoever moved another into the group reaps it.
		select {
		case <-reaped:
		case <-time.After(10 * time.Millisecond):
		}
	}
	g.Remove()
	return oom
}

// enterMounts puts the thread into a mount namespace with the container's mounts. It needs root.
func (n *node) enterMounts(s spawnSpec, attr *syscall.ProcAttr) error {
	if s.root != "" {
		attr.Sys.Chroot = s.root
		if attr.Dir == "" {
			attr.Dir = "/"
		}
	}
	if s.exec {
		return n.joinMounts(s)
	}
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	p, err := n.options.planMounts(s.root, s.mounts, true)
	if err != nil {
		return err
	}
	defer p.close()
	return p.run()
}

// joinMounts puts the thread where the container's process is.
func (n *node) joinMounts(s spawnSpec) error {
	n.mu.Lock()
	pid := s.container.PID
	n.mu.Unlock()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return fmt.Errorf("mounts of the container: %w", err)
	}
	defer f.Close()
	if err := syscall.Unshare(syscall.CLONE_FS); err != nil {
		return fmt.Errorf("mounts of the container: %w", err)
	}
	if _, _, e := syscall.RawSyscall(sysSetns(), f.Fd(), syscall.CLONE_NEWNS, 0); e != 0 {
		return fmt.Errorf("mounts of the container: %w", e)
	}
	return nil
}

func sysSetns() uintptr {
	if goruntime.GOARCH == "arm64" {
		return 268
	}
	return 308 // amd64
}

// candidates are the paths at which execvp looks for the program, in the container.
func candidates(s spawnSpec) ([]string, error) {
	if len(s.command) == 0 {
		return nil, fmt.Errorf("%w: no command", runtime.ErrInvalid)
	}
	name := s.command[0]
	if strings.Contains(name, "/") {
		return []string{name}, nil
	}
	path := defaultPath
	for _, v := range s.env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	var list []string
	for _, dir := range filepath.SplitList(path) {
		list = append(list, filepath.Join(dir, name))
	}
	return list, nil
}

// lookPath finds the program as execvp does, with the container's PATH and in its root.
func lookPath(s spawnSpec) (string, error) {
	list, err := candidates(s)
	if err != nil {
		return "", err
	}
	name := s.command[0]
	for _, path := range list {
		in := path
		if !filepath.IsAbs(in) {
			in = filepath.Join(s.dir, in)
		}
		if err = executable(filepath.Join("/", s.root, in), name); err == nil {
			return path, nil
		}
	}
	if strings.Contains(name, "/") {
		return "", err
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH: %w", name, os.ErrNotExist)
}

func executable(path, name string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("exec: %q: %w", name, errors.Unwrap(err))
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("exec: %q: %w", name, os.ErrPermission)
	}
	return nil
}

// children lists the PIDs of this process's children. Those of threads that have ended, and orphans that a
// subreaper gets, are all children of the first thread, so one file has them; asking each thread
// costs a millisecond for each exit.
func children() []int {
	pid := strconv.Itoa(os.Getpid())
	b, err := os.ReadFile("/proc/self/task/" + pid + "/children")
	if err != nil {
		return nil
	}
	var list []int
	for f := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// uniq drops files that stand twice, as a terminal does.
func uniq(files []*os.File) []*os.File {
	var list []*os.File
	for _, f := range files {
		if !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}
