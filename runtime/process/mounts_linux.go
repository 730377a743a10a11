// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"unsafe"

	"github.com/slipway-dev/slipway/runtime"
)

// What a container sees of the machine's files is made by a plan: a list of
// system calls with all that they need, worked out beforehand. As root the thread that will start the process carries it out, in
// a mount namespace of its own. Without root a child does, in a user namespace of its own, where only
// bare system calls can be made (see fork_linux.go).

// step is one system call.
type step struct {
	what string // for an error
	call uintptr
	args [6]uintptr
	done syscall.Errno // an error that means that there is nothing to do
	want uintptr       // zero: any result
	last bool          // the first argument is the file that the step before opened, which this is the end of
	next bool          // if it fails the next step is another way
}

// plan is a list of steps, which are made in order.
type plan struct {
	steps []step
	keep  []any           // memory and files that steps refer to
	root  string          // directory of the image; empty for the machine's
	made  map[string]bool // what exists only when the steps before have been made
}

// add appends a step. Arguments are integers and strings.
func (p *plan) add(what string, call uintptr, args ...any) *step {
	s := step{what: what, call: call}
	for i, a := range args {
		switch a := a.(type) {
		case string:
			b, err := syscall.BytePtrFromString(a)
			if err != nil { // a zero byte: the kernel sees what is before, which is not there
				b = &[]byte{0}[0]
			}
			p.keep = append(p.keep, b)
			s.args[i] = uintptr(unsafe.Pointer(b))
		case unsafe.Pointer:
			p.keep = append(p.keep, a)
			s.args[i] = uintptr(a)
		case int:
			s.args[i] = uintptr(a)
		case uintptr:
			s.args[i] = a
		}
	}
	p.steps = append(p.steps, s)
	return &p.steps[len(p.steps)-1]
}

// run carries the plan out on the calling thread.
func (p *plan) run() error {
	defer goruntime.KeepAlive(p)
	result := uintptr(0)
	for _, s := range p.steps {
		if s.last {
			s.args[0] = result
		}
		r, _, e := syscall.Syscall6(s.call, s.args[0], s.args[1], s.args[2], s.args[3], s.args[4], s.args[5])
		if s.last {
			syscall.Close(int(result)) // a child leaves that to its exec
		}
		if e != 0 && e != s.done {
			return fmt.Errorf("%s: %w", s.what, e)
		}
		result = r
	}
	return nil
}

// close closes the files that the steps used.
func (p *plan) close() {
	for _, k := range p.keep {
		if f, ok := k.(*os.File); ok {
			f.Close()
		}
	}
}

// Numbers of system calls that package syscall does not have; they are the same on all architectures.
const (
	sysOpenTree     = 428
	sysMoveMount    = 429
	sysMountSetattr = 442

	atFDCWD      = -100
	atRecursive  = 0x8000
	openTreeFlag = 1 // OPEN_TREE_CLONE
	moveEmpty    = 4 // MOVE_MOUNT_F_EMPTY_PATH
)

// isolated reports whether a container needs a mount namespace.
func isolated(s *spawnSpec) bool {
	if s.root != "" {
		return true
	}
	for _, m := range s.mounts {
		if !identity(m) {
			return true
		}
	}
	return false
}

// identity mounts show a path where it is already.
func identity(m runtime.Mount) bool {
	return filepath.Clean(m.ContainerPath) == filepath.Clean(m.HostPath) && !m.ReadOnly && m.Image == nil
}

// planMounts works out the mounts of a container, in a mount namespace that is new, and of the calling
// thread if it is shared.
func (o Options) planMounts(root string, mounts []runtime.Mount, shared bool) (p *plan, err error) {
	p = &plan{root: root, made: map[string]bool{}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	trees := map[int]*os.File{}
	for i := range mounts {
		if mounts[i].Propagation == runtime.PropagationBidirectional {
			if trees[i], err = openTree(mounts[i], shared); err != nil {
				return p, fmt.Errorf("mount %s at %s: %w", mounts[i].HostPath, mounts[i].ContainerPath, err)
			}
			p.keep = append(p.keep, trees[i])
		}
	}
	p.add("mount namespace", syscall.SYS_MOUNT, "", "/", 0, syscall.MS_REC|syscall.MS_SLAVE, 0)
	for i, m := range mounts {
		if err := o.planMount(p, m, trees[i]); err != nil {
			return p, fmt.Errorf("mount %s at %s: %w", m.HostPath, m.ContainerPath, err)
		}
	}
	return p, nil
}

// openTree takes a mount as it is before it becomes a slave: what is mounted in it in the container appears on
// the machine.
func openTree(m runtime.Mount, shared bool) (*os.File, error) {
	if !shared {
		return nil, fmt.Errorf("propagation Bidirectional: %w: it needs root", runtime.ErrUnsupported)
	}
	path, err := syscall.BytePtrFromString(m.HostPath)
	if err != nil {
		return nil, err
	}
	at := atFDCWD
	fd, _, e := syscall.Syscall(sysOpenTree, uintptr(at), uintptr(unsafe.Pointer(path)), openTreeFlag|syscall.O_CLOEXEC|atRecursive)
	if e != 0 {
		return nil, e
	}
	return os.NewFile(fd, m.HostPath), nil
}

func (o Options) planMount(p *plan, m runtime.Mount, tree *os.File) error {
	if m.Image != nil {
		dir, err := o.image(m.Image.Image)
		if err != nil {
			return err
		}
		m.HostPath, m.ReadOnly = dir, true
	}
	info, err := os.Stat(m.HostPath)
	if err != nil {
		return err
	}
	target, err := p.mountpoint(m.ContainerPath, info.IsDir())
	if err != nil {
		return err
	}
	what := fmt.Sprintf("mount %s at %s", m.HostPath, m.ContainerPath)
	if tree != nil {
		p.add(what, sysMoveMount, int(tree.Fd()), "", atFDCWD, target, moveEmpty)
	} else {
		p.add(what, syscall.SYS_MOUNT, m.HostPath, target, 0, syscall.MS_BIND|syscall.MS_REC, 0)
		if m.Propagation != runtime.PropagationHostToContainer {
			p.add(what, syscall.SYS_MOUNT, "", target, 0, syscall.MS_REC|syscall.MS_PRIVATE, 0)
		}
	}
	switch {
	case m.RecursiveReadOnly:
		const readOnly = 1 // MOUNT_ATTR_RDONLY
		attributes := &[4]uint64{readOnly}
		p.add(what+", recursively read-only", sysMountSetattr, atFDCWD, target, atRecursive, unsafe.Pointer(attributes), int(unsafe.Sizeof(*attributes)))
	case m.ReadOnly:
		flags, err := mountFlags(m.HostPath)
		if err != nil {
			return err
		}
		p.add(what+", read-only", syscall.SYS_MOUNT, "", target, 0, flags|syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, 0)
	}
	return nil
}

// mountFlags are those of the file system that a path is on. A remount has to repeat them: it would drop them, which
// a user namespace does not permit.
func mountFlags(path string) (int, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, err
	}
	const stRelatime = 4096 // all others have the values of the mount flags
	flags := int(st.Flags) & (syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC | syscall.MS_NOATIME | syscall.MS_NODIRATIME)
	if st.Flags&stRelatime != 0 {
		flags |= syscall.MS_RELATIME
	}
	return flags, nil
}

// mountpoint makes the place of a mount, and returns its path on the machine. In an image it is simply made. The
// machine's own directories are left as they are: one that lacks the place is covered by a copy
// made of bind mounts, which only this container sees.
func (p *plan) mountpoint(path string, dir bool) (string, error) {
	target := filepath.Join("/", path)
	if p.root != "" {
		var err error
		if target, err = within(p.root, path); err != nil {
			return "", err
		}
	}
	if p.exists(target) {
		return target, nil
	}
	above := filepath.Dir(target)
	var missing []string
	for !p.exists(above) {
		missing = append(missing, above)
		above = filepath.Dir(above)
	}
	if p.root == "" && !p.made[above] {
		if err := p.cover(above); err != nil {
			return "", fmt.Errorf("cover %s: %w", above, err)
		}
	}
	for i := len(missing) - 1; i >= 0; i-- {
		p.mkdir(missing[i])
	}
	if dir {
		p.mkdir(target)
	} else {
		p.mkfile(target)
	}
	return target, nil
}

func (p *plan) exists(path string) bool {
	if p.made[path] {
		return true
	}
	_, err := os.Stat(path)
	return err == nil
}

func (p *plan) mkdir(path string) {
	p.made[path] = true
	p.add("make "+path, syscall.SYS_MKDIRAT, atFDCWD, path, 0o755).done = syscall.EEXIST
}

func (p *plan) mkfile(path string) {
	p.made[path] = true
	p.add("make "+path, syscall.SYS_MKNODAT, atFDCWD, path, syscall.S_IFREG|0o644, 0).done = syscall.EEXIST
}

// cover mounts an empty file system over dir and shows what was in dir there again.
func (p *plan) cover(dir string) error {
	if dir == "/" {
		return errors.New("a mount can't add to the root directory of the machine: use a path in a directory that exists, such as /mnt/data")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	// The directory has to be opened in the mount namespace, so only the number of its file is taken now.
	old, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	p.keep = append(p.keep, old)
	fd := int(old.Fd())
	const path = 0x200000 // O_PATH
	p.add("open "+dir, syscall.SYS_OPENAT, atFDCWD, dir, path|syscall.O_CLOEXEC, 0)
	p.add("open "+dir, syscall.SYS_DUP3, 0, fd, syscall.O_CLOEXEC).last = true
	p.add("cover "+dir, syscall.SYS_MOUNT, "slipway", dir, "tmpfs", 0, "mode=755")
	p.made[dir] = true
	for _, e := range entries {
		if err := p.showAgain(fmt.Sprintf("/proc/self/fd/%d/%s", fd, e.Name()), filepath.Join(dir, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) showAgain(from, to string, e os.DirEntry) error {
	switch {
	case e.Type()&os.ModeSymlink != 0:
		link, err := os.Readlink(to)
		if err != nil {
			return err
		}
		p.add("show "+to, syscall.SYS_SYMLINKAT, link, atFDCWD, to)
		return nil
	case e.IsDir():
		p.mkdir(to)
		delete(p.made, to) // what is in it is what is on the machine
	default:
		p.mkfile(to)
	}
	p.add("show "+to, syscall.SYS_MOUNT, from, to, 0, syscall.MS_BIND|syscall.MS_REC, 0)
	return nil
}

// within returns where a path of an image is on the machine: its symbolic links are those of the image, and
// lead nowhere else.
func within(root, path string) (string, error) {
	const maxLinks = 40
	at, rest := "/", filepath.Join("/", path)
	for links := 0; rest != "/" && rest != ""; {
		var name string
		name, rest, _ = strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		next := filepath.Join(at, name)
		link, err := os.Readlink(filepath.Join(root, next))
		switch {
		case err == nil:
			if links++; links > maxLinks {
				return "", fmt.Errorf("%s in the image: %w", path, syscall.ELOOP)
			}
			if !filepath.IsAbs(link) {
				link = filepath.Join(at, link)
			}
			at, rest = "/", filepath.Join("/", link, rest)
		case errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist):
			at = next
		default:
			return "", err
		}
	}
	return filepath.Join(root, at), nil
}
