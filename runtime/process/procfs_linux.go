// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// clockTick is USER_HZ, which is 100 on every architecture that Go runs on.
const clockTick = time.Second / 100

// stat is what /proc/PID/stat says of a process (proc_pid_stat(5)).
type stat struct {
	pid, parent, session int
	state                byte
	cpu                  time.Duration // with that of children it has waited for
	start                uint64        // ticks after boot
	rss                  uint64        // bytes
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	return parseStat(pid, b)
}

func parseStat(pid int, b []byte) (stat, bool) {
	// The name in parentheses may hold anything, also parentheses.
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return stat{}, false
	}
	f := strings.Fields(string(b[end+1:])) // f[0] is the third field, the state
	if len(f) < 22 {
		return stat{}, false
	}
	num := func(i int) uint64 { n, _ := strconv.ParseUint(f[i], 10, 64); return n }
	return stat{
		pid: pid, state: f[0][0], parent: int(num(1)), session: int(num(3)),
		cpu:   time.Duration(num(11)+num(12)+num(13)+num(14)) * clockTick,
		start: num(19), rss: num(21) * uint64(os.Getpagesize()),
	}, true
}

// span is a time in which a process was born, in ticks after boot. The kernel's own
// note of it (stat.start) lies in between. Looking at the clock before and after a fork takes
// a hundredth of the time that reading the note does.
type span struct{ From, To uint64 }

func (s span) has(tick uint64) bool { return s.From <= tick && tick <= s.To }

// bootTick is now.
func bootTick() uint64 {
	const clockBoottime = 7
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&t)), 0) // can't fail
	return uint64(time.Duration(t.Nano()) / clockTick)
}

// processes lists all processes that can be seen.
func processes() []stat {
	var list []stat
	for _, pid := range pids() {
		if s, ok := readStat(pid); ok {
			list = append(list, s)
		}
	}
	return list
}

func pids() []int {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var list []int
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// marked returns the value of a variable in the environment that a process was started with; false if
// it has no environment.
func marked(pid int, name string) (value string, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || len(b) == 0 {
		return "", false
	}
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if value, ok := bytes.CutPrefix(v, []byte(name+"=")); ok {
			return string(value), true
		}
	}
	return "", true
}

// leader is the process of a thread.
func leader(tid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return tid
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if pid, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				return pid
			}
		}
	}
	return tid
}
