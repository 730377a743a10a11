// SPDX-License-Identifier: Apache-2.0

package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	goruntime "runtime"
	"sync"
	"syscall"
	"unsafe"
)

// Each pod has an address of its own in 127.0.0.0/8, and its processes stay in
// the machine's network. What a process binds to all addresses, or to localhost, is bound to its pod's address
// instead, and what it connects to localhost goes there: so two pods can listen on one port, every
// pod and the machine reach both, and nothing of this needs root.
//
// The kernel does it with us: a seccomp filter hands the system calls bind and
// connect to the supervisor (seccomp_unotify(2)), which makes them on a copy of the process's
// socket (pidfd_getfd(2)) with the other address. All other system calls run at full speed.

// numbers that package syscall does not have.
type sysNumbers struct {
	arch                                           uint32
	seccomp, pidfdOpen, pidfdGetfd, processVMReadv uintptr
}

func numbers() (sysNumbers, bool) {
	switch goruntime.GOARCH {
	case "amd64":
		return sysNumbers{0xc000003e, 317, 434, 438, 310}, true
	case "arm64":
		return sysNumbers{0xc00000b7, 277, 434, 438, 270}, true
	}
	return sysNumbers{}, false
}

const (
	prSetNoNewPrivs      = 38
	seccompSetModeFilter = 1
	seccompNewListener   = 1 << 3
	seccompRetAllow      = 0x7fff0000
	seccompRetUserNotif  = 0x7fc00000
	notifContinue        = 1
	ioctlNotifRecv       = 0xc0502100
	ioctlNotifSend       = 0xc0182101
	ioctlNotifIDValid    = 0x40082102
	pidfdThread          = syscall.O_EXCL
)

type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type notifyAnswer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// redirect makes the calling thread, and what it starts, hand over bind and
// connect. The thread can't be used for anything else afterwards: lock it, and let it end.
func redirect() (*os.File, error) {
	sys, ok := numbers()
	if !ok {
		return nil, fmt.Errorf("pod addresses on %s: %w", goruntime.GOARCH, errors.ErrUnsupported)
	}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
		return nil, fmt.Errorf("no_new_privs: %w", e)
	}
	const loadWord, jumpEqual, ret = 0x20, 0x15, 0x06
	program := []syscall.SockFilter{
		{Code: loadWord, K: 4}, // seccomp_data.arch
		{Code: jumpEqual, K: sys.arch, Jt: 0, Jf: 3},
		{Code: loadWord, K: 0}, // seccomp_data.nr
		{Code: jumpEqual, K: syscall.SYS_BIND, Jt: 2},
		{Code: jumpEqual, K: syscall.SYS_CONNECT, Jt: 1},
		{Code: ret, K: seccompRetAllow},
		{Code: ret, K: seccompRetUserNotif},
	}
	filter := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, e := syscall.RawSyscall(sys.seccomp, seccompSetModeFilter, seccompNewListener, uintptr(unsafe.Pointer(&filter)))
	if e != 0 {
		return nil, fmt.Errorf("seccomp filter: %w", e)
	}
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		return nil, err
	}
	return os.NewFile(fd, "seccomp"), nil
}

// notified answers the notifications of one process and its children until the last
// of them is gone.
func notified(listener *os.File, pod netip.Addr) {
	var calls sync.WaitGroup
	defer calls.Wait()
	defer listener.Close()
	raw, err := listener.SyscallConn()
	if err != nil {
		return
	}
	for {
		var n notification
		var done bool
		err := raw.Read(func(fd uintptr) bool {
			// Receiving may block although the file does not, so it is asked first.
			ready, over := poll(int(fd))
			if !ready {
				done = over
				return over
			}
			n = notification{}
			_, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, ioctlNotifRecv, uintptr(unsafe.Pointer(&n)))
			return e == 0
		})
		if err != nil || done {
			return
		}
		// A connect may block, so each has its goroutine; it ends with the system call.
		calls.Go(func() {
			a := handle(raw, &n, pod)
			raw.Control(func(fd uintptr) {
				syscall.Syscall(syscall.SYS_IOCTL, fd, ioctlNotifSend, uintptr(unsafe.Pointer(&a)))
			})
		})
	}
}

func poll(fd int) (ready, over bool) {
	const pollIn, pollHup = 1, 0x10
	p := struct {
		fd              int32
		events, revents int16
	}{int32(fd), pollIn, 0}
	var now syscall.Timespec
	_, _, e := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if e != 0 {
		return false, false
	}
	return p.revents&pollIn != 0, p.revents&pollIn == 0 && p.revents&pollHup != 0
}

type rawConn interface{ Control(func(uintptr)) error }

// handle makes one system call in the process's place, or lets it go on itself.
func handle(listener rawConn, n *notification, pod netip.Addr) notifyAnswer {
	goOn := notifyAnswer{id: n.id, flags: notifContinue}
	sys, _ := numbers()
	addr := make([]byte, min(n.args[2], 128))
	if len(addr) < 8 || !readMemory(sys, int(n.pid), n.args[1], addr) || !valid(listener, n.id) {
		return goOn
	}
	to, ok := rewrite(addr, pod, n.nr == syscall.SYS_BIND)
	if !ok {
		return goOn
	}
	fd, e := takeSocket(sys, int(n.pid), n.args[0])
	if e != 0 {
		return notifyAnswer{id: n.id, errno: -int32(e)}
	}
	defer syscall.Close(fd)
	if !valid(listener, n.id) { // the process is still the one that asked
		return goOn
	}
	_, _, e = syscall.Syscall(uintptr(n.nr), uintptr(fd), uintptr(unsafe.Pointer(&to[0])), uintptr(len(to)))
	return notifyAnswer{id: n.id, errno: -int32(e)}
}

func valid(listener rawConn, id uint64) (ok bool) {
	listener.Control(func(fd uintptr) {
		_, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, ioctlNotifIDValid, uintptr(unsafe.Pointer(&id)))
		ok = e == 0
	})
	return ok
}

// readMemory fills b from a process's memory.
func readMemory(sys sysNumbers, pid int, at uint64, b []byte) bool {
	local := syscall.Iovec{Base: &b[0], Len: uint64(len(b))}
	remote := struct{ base, size uint64 }{at, uint64(len(b))}
	n, _, e := syscall.Syscall6(sys.processVMReadv, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	return e == 0 && int(n) == len(b)
}

// takeSocket copies a file descriptor of a process, which is named by one of its threads.
func takeSocket(sys sysNumbers, tid int, fd uint64) (int, syscall.Errno) {
	pidfd, _, e := syscall.Syscall(sys.pidfdOpen, uintptr(tid), pidfdThread, 0)
	if e == syscall.EINVAL { // before Linux 6.9 only processes can be opened
		pidfd, _, e = syscall.Syscall(sys.pidfdOpen, uintptr(leader(tid)), 0, 0)
	}
	if e != 0 {
		return 0, e
	}
	defer syscall.Close(int(pidfd))
	got, _, e := syscall.Syscall(sys.pidfdGetfd, pidfd, uintptr(fd), 0)
	return int(got), e
}

// rewrite returns the socket address to use instead of addr; false leaves it as it is. Only
// "all addresses" (bind) and "localhost" are changed: they mean the pod.
func rewrite(addr []byte, pod netip.Addr, bind bool) ([]byte, bool) {
	v4 := pod.As4()
	own := func(a netip.Addr) bool {
		a = a.Unmap()
		return a.IsUnspecified() || a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
	}
	switch binary.NativeEndian.Uint16(addr) {
	case syscall.AF_INET:
		if !own(netip.AddrFrom4([4]byte(addr[4:8]))) {
			return nil, false
		}
		out := append([]byte(nil), addr...)
		copy(out[4:8], v4[:])
		return out, true
	case syscall.AF_INET6:
		if len(addr) < 24 || !own(netip.AddrFrom16([16]byte(addr[8:24]))) {
			return nil, false
		}
		out := append([]byte(nil), addr...)
		mapped := netip.AddrFrom4(v4).As16() // ::ffff:a.b.c.d, which a socket for both protocols takes
		copy(out[8:24], mapped[:])
		return out, true
	}
	return nil, false
}
