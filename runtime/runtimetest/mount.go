// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/runtime"
)

// at is where the suite mounts. Nothing is there on an ordinary machine, nor in an ordinary image.
const at = "/mnt/runtimetest"

// mounted starts a container with one mount. The status has to show it also where mounts
// have no effect, which ends the test there.
func (s *suite) mounted(m runtime.Mount, script string) string {
	s.Helper()
	sandbox, sc := s.sandbox()
	c := s.container("main", script)
	c.Mounts = []runtime.Mount{m}
	id := s.create(sandbox, c, sc)
	if d := cmp.Diff(c.Mounts, s.status(id).Mounts); d != "" {
		s.Errorf("mounts of the status (-want +got):\n%s", d)
	}
	if !s.config.Mounts {
		s.Skip("mounts have no effect here (Config.Mounts)")
	}
	s.must(s.rt.StartContainer(s.Context(), id))
	return id
}

// shared is a directory that the user of the container can write to, whoever it is.
func (s *suite) shared() string {
	s.Helper()
	dir := s.TempDir()
	s.must(os.Chmod(dir, 0o777))
	return dir
}

func (s *suite) put(path, text string) {
	s.Helper()
	s.must(os.WriteFile(path, []byte(text), 0o644))
}

func (s *suite) mountReadWrite() {
	dir := s.shared()
	s.put(filepath.Join(dir, "in"), "from the machine\n")
	id := s.mounted(runtime.Mount{HostPath: dir, ContainerPath: at}, "cat "+at+"/in > "+at+"/out; sleep 1000")
	s.wait("the container copies the file", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "out"))
		return string(b) == "from the machine\n"
	})
	s.put(filepath.Join(dir, "later"), "x")
	r, err := s.rt.ExecSync(s.Context(), id, []string{"ls", at}, 0)
	s.must(err)
	if got := strings.Fields(string(r.Stdout)); strings.Join(got, " ") != "in later out" {
		s.Errorf("an exec sees %q, %q, want in, later and out", r.Stdout, r.Stderr)
	}
	if _, err := os.Stat(at); err == nil {
		s.Errorf("%s can be seen on the machine", at)
	}
}

func (s *suite) mountReadOnly() {
	dir := s.shared()
	s.put(filepath.Join(dir, "in"), "from the machine\n")
	id := s.mounted(runtime.Mount{HostPath: dir, ContainerPath: at, ReadOnly: true}, "sleep 1000")
	r, err := s.rt.ExecSync(s.Context(), id, []string{"sh", "-c", "cat " + at + "/in; echo x > " + at + "/out"}, 0)
	s.must(err)
	if string(r.Stdout) != "from the machine\n" || r.ExitCode == 0 {
		s.Errorf("read and write = %q, %q, %d, want the first to succeed and the second to fail", r.Stdout, r.Stderr, r.ExitCode)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		s.Error("a read-only mount was written to")
	}
}

func (s *suite) mountFile() {
	file := filepath.Join(s.shared(), "file")
	s.put(file, "one file\n")
	id := s.mounted(runtime.Mount{HostPath: file, ContainerPath: at + "/deep/file"}, "sleep 1000")
	r, err := s.rt.ExecSync(s.Context(), id, []string{"cat", at + "/deep/file"}, 0)
	s.must(err)
	if string(r.Stdout) != "one file\n" {
		s.Errorf("the container reads %q, %q", r.Stdout, r.Stderr)
	}
}

func (s *suite) mountMissing() {
	if !s.config.Mounts {
		s.Skip("mounts have no effect here (Config.Mounts)")
	}
	sandbox, sc := s.sandbox()
	missing := filepath.Join(s.TempDir(), "missing")
	c := s.container("main", "true")
	c.Mounts = []runtime.Mount{{HostPath: missing, ContainerPath: at}}
	if s.config.Image != "" {
		s.create(sandbox, s.container("other", "true"), sc) // pulls the image
	}
	id, err := s.rt.CreateContainer(s.Context(), sandbox, c, sc)
	if err == nil {
		err = s.rt.StartContainer(s.Context(), id)
	}
	if err == nil || !strings.Contains(err.Error(), missing) {
		s.Errorf("a mount of what is not there: %v, want an error that names it", err)
	}
	if _, err := os.Stat(missing); err == nil {
		s.Error("the missing path was made")
	}
}

func (s *suite) mountPropagation() {
	if s.config.Propagation == nil {
		s.Skip("propagation is not supported, or can't be tested here (Config.Propagation)")
	}
	for propagation, want := range map[runtime.Propagation]string{
		runtime.PropagationHostToContainer: "new", runtime.PropagationPrivate: "", "": "",
	} {
		dir, mount := s.config.Propagation(s.T)
		s.must(os.Mkdir(filepath.Join(dir, "sub"), 0o755))
		id := s.mounted(runtime.Mount{HostPath: dir, ContainerPath: at, Propagation: propagation}, "sleep 1000")
		mount(filepath.Join(dir, "sub"))
		r, err := s.rt.ExecSync(s.Context(), id, []string{"ls", at + "/sub"}, 0)
		s.must(err)
		if got := strings.TrimSpace(string(r.Stdout)); got != want {
			s.Errorf("propagation %q: the container sees %q of what was mounted later, want %q", propagation, got, want)
		}
	}
}
