// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/slipway-dev/slipway/runtime"
)

// Machine returns what Eviction.Signals is by default: the memory of this machine, the file system of
// the directory root, and that of the images. Empty and nil leave out the last two.
func Machine(root string, images runtime.ImageService) func(context.Context) (Signals, error) {
	return func(ctx context.Context) (s Signals, err error) {
		if s.MemoryAvailable, s.MemoryCapacity, err = memory(); err != nil {
			return s, err
		}
		if root != "" {
			var st syscall.Statfs_t
			if err := syscall.Statfs(root, &st); err != nil {
				return s, fmt.Errorf("file system of %s: %w", root, err)
			}
			s.NodeFsAvailable, s.NodeFsCapacity = int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
			s.NodeFsInodesFree, s.NodeFsInodes = int64(st.Ffree), int64(st.Files)
		}
		if images != nil {
			usage, err := images.ImageFsInfo(ctx)
			if err != nil {
				return s, err
			}
			for _, u := range usage {
				s.ImageFsAvailable, s.ImageFsCapacity = int64(u.AvailableBytes), int64(u.CapacityBytes)
				s.ImageFsInodesFree, s.ImageFsInodes = int64(u.FreeInodes), int64(u.CapacityInodes)
				break // kubelet looks at the first too
			}
		}
		return s, nil
	}
}

// memory reads /proc/meminfo (proc_meminfo(5)).
func memory() (available, capacity int64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			capacity = kib << 10
		case "MemAvailable":
			available = kib << 10
		}
	}
	return available, capacity, lines.Err()
}

// allocated is what a file takes on its disk: a sparse file less than its size.
func allocated(info fs.FileInfo) int64 {
	const block = 512 // of st_blocks, whatever the file system's are
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * block
	}
	return info.Size()
}

// mountMemory puts a file system in memory at a directory; size zero is the kernel's choice, half of the
// memory. It does nothing if there is one already.
func mountMemory(path string, size int64) error {
	mounted, err := isMountpoint(path)
	if err != nil || mounted {
		return err
	}
	options := "mode=0777"
	if size > 0 {
		options += ",size=" + strconv.FormatInt(size, 10)
	}
	err = syscall.Mount("tmpfs", path, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, options)
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("mount a file system in memory: %w: it needs root; leave medium empty", err)
	}
	return err
}

// unmountMemory undoes mountMemory, also for who does not know whether it was called.
func unmountMemory(path string) error {
	mounted, err := isMountpoint(path)
	if err != nil || !mounted {
		return err
	}
	return syscall.Unmount(path, syscall.MNT_DETACH)
}

// isMountpoint compares a directory's device with that of its parent, which tells for all mounts
// that mountMemory makes.
func isMountpoint(path string) (bool, error) {
	var here, above syscall.Stat_t
	if err := cmp.Or(syscall.Lstat(path, &here), syscall.Lstat(path+"/..", &above)); err != nil {
		return false, err
	}
	return here.Dev != above.Dev, nil
}
