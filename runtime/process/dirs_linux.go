// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// The processes of a sandbox begin in a directory of its own. Most leave it as empty as it was,
// and then the next sandbox gets it: ext4 does not give out an inode again for some seconds after it was
// deleted, and looks at all such for each new one, so that to make and remove a directory for each pod
// takes 0.3 ms when pods come and go quickly, a tenth of a pod's processor time (BenchmarkPodStart).

// dir is where the processes of a sandbox begin.
func (n *node) dir(s *sandbox) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dirNamed(s.Dir)
}

func (n *node) dirNamed(name string) string {
	return filepath.Join(n.options.Root, sandboxesName, name)
}

// takeDir gives a new sandbox its directory. It needs n.mu.
func (n *node) takeDir(s *sandbox) error {
	if k := len(n.spare); k > 0 {
		s.Dir = n.spare[k-1]
		n.spare = n.spare[:k-1]
		return nil
	}
	if err := os.Mkdir(n.dirNamed(s.ID), 0o755); err != nil {
		return err
	}
	s.Dir = s.ID
	return nil
}

// maxSpare is how many directories are kept.
const maxSpare = 32

// keepDir takes back the directory of a sandbox that was not made. It needs n.mu.
func (n *node) keepDir(s *sandbox) {
	if s.Dir != "" {
		n.spare = append(n.spare, s.Dir)
		s.Dir = ""
	}
}

// clear takes the directory of a sandbox away, in which nothing runs any more.
func (n *node) clear(s *sandbox) error {
	n.mu.Lock()
	name, room := s.Dir, len(n.spare) < maxSpare
	s.Dir = "" // of two calls only one goes on: what is another's by then must not be removed
	n.mu.Unlock()
	if name == "" {
		return nil
	}
	keep := room && asNew(n.dirNamed(name))
	var err error
	if !keep {
		err = os.RemoveAll(n.dirNamed(name))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		s.Dir = name
		return fmt.Errorf("remove the files of sandbox %s: %w", s.ID, err)
	}
	if keep {
		n.spare = append(n.spare, name)
	}
	return nil
}

// asNew reports whether a directory is as takeDir made it.
func asNew(dir string) bool {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	const small = 4096 // one that had very many files stays large
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&0o7777 != 0o755 || int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() || st.Size > small {
		return false
	}
	// No extended attributes, which access control lists are.
	if n, err := syscall.Listxattr(dir, nil); n != 0 || err != nil && err != syscall.ENOTSUP {
		return false
	}
	b := make([]byte, 256)
	k, err := syscall.ReadDirent(fd, b)
	if err != nil {
		return false
	}
	_, entries, _ := syscall.ParseDirent(b[:k], -1, nil) // without "." and ".."
	return entries == 0
}

// sweepDirs removes the directories that no sandbox has: spares of the last supervisor, and what it left.
func (n *node) sweepDirs() error {
	used := map[string]bool{}
	for _, s := range n.sandboxes {
		used[s.Dir] = true
	}
	entries, err := os.ReadDir(n.dirNamed(""))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !used[e.Name()] {
			if err := os.RemoveAll(n.dirNamed(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
