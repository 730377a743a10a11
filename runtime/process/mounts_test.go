// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/process"
)

// needNamespaces skips a test where neither root nor user namespaces can make mounts.
func needNamespaces(t *testing.T) {
	t.Helper()
	if !namespaces(t) {
		if os.Getenv("CI") == "true" {
			t.Fatal("mounts need root or unprivileged user namespaces, and CI has to test them")
		}
		t.Skip("mounts need root or unprivileged user namespaces")
	}
}

func namespaces(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}},
	}
	return cmd.Run() == nil
}

// TestMountsCover mounts a volume where the machine has no directory: the machine's own are covered,
// in the container only.
func TestMountsCover(t *testing.T) {
	needNamespaces(t)
	host := t.TempDir()
	os.WriteFile(filepath.Join(host, "color"), []byte("blue\n"), 0o644)
	mounts := []runtime.Mount{
		{HostPath: host, ContainerPath: "/etc/slipway-test/config", ReadOnly: true},
		{HostPath: filepath.Join(host, "color"), ContainerPath: "/etc/slipway-test/file"},
	}
	rt := open(t, process.Options{})
	c := startContainer(t, rt, "a", "cat /etc/slipway-test/config/color /etc/slipway-test/file; test -r /etc/passwd || echo no passwd; sleep 1000", mounts...)
	st, err := rt.ContainerStatus(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	defer func() { t.Logf("log: %s", b) }()
	waitFor(t, "the output", func() bool {
		b, _ = os.ReadFile(st.LogPath)
		return strings.Count(string(b), "blue") == 2 && !strings.Contains(string(b), "no passwd")
	})
	r, err := rt.ExecSync(t.Context(), c, []string{"sh", "-c", "cat /etc/slipway-test/config/color; id -u"}, 0)
	if want := "blue\n" + itoa(os.Geteuid()) + "\n"; err != nil || string(r.Stdout) != want {
		t.Errorf("exec sees %q, %q, %v, want %q", r.Stdout, r.Stderr, err, want)
	}
	if _, err := os.Stat("/etc/slipway-test"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount can be seen on the machine: %v", err)
	}
}

// TestMountErrors: what can't be mounted is said with both paths, and nothing is left behind.
func TestMountErrors(t *testing.T) {
	needNamespaces(t)
	rt := open(t, process.Options{})
	for name, tt := range map[string]struct {
		mount runtime.Mount
		want  error
	}{
		"in the root directory": {runtime.Mount{HostPath: t.TempDir(), ContainerPath: "/no-such-directory"}, nil},
		"missing image":         {runtime.Mount{Image: &runtime.ImageSpec{Image: "example.com/none:1"}, ContainerPath: "/mnt/image"}, runtime.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "a", UID: name}}
			id, err := rt.RunPodSandbox(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			c, err := rt.CreateContainer(t.Context(), id, &runtime.ContainerConfig{
				Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{"true"}, Mounts: []runtime.Mount{tt.mount},
			}, s)
			if err != nil {
				t.Fatal(err)
			}
			err = rt.StartContainer(t.Context(), c)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "at "+tt.mount.ContainerPath) {
				t.Errorf("StartContainer = %v", err)
			}
		})
	}
}

// TestUnprivileged runs the tests of this package once more as nobody, if it is root who runs them.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is not root: all tests are unprivileged")
	}
	if testing.Short() {
		t.Skip("runs all tests again")
	}
	const nobody = 65534
	// The test's own binary and directory are closed to others.
	dir, err := os.MkdirTemp("", "unprivileged")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self := filepath.Join(dir, "process.test")
	if err := errors.Join(os.Chown(dir, nobody, nobody), copyFile(self, os.Args[0])); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.short", "-test.timeout=5m")
	cmd.Dir = dir
	// Limits and small file systems need root, so CI must not insist.
	cmd.Env = append(os.Environ(), "CI=", "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// propagates returns a directory that is shared, as runtimetest.Config.Propagation wants it.
func propagates(t *testing.T) (dir string, mount func(at string)) {
	t.Helper()
	dir = t.TempDir()
	do := func(what, source, target, kind string, flags uintptr) {
		t.Helper()
		if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do("bind", dir, dir, "", syscall.MS_BIND)
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	do("share", "", dir, "", syscall.MS_SHARED)
	return dir, func(at string) {
		do("tmpfs", "tmpfs", at, "tmpfs", 0)
		os.WriteFile(filepath.Join(at, "new"), nil, 0o644)
	}
}

// TestMountBidirectional: what the container mounts appears on the machine, which needs root.
func TestMountBidirectional(t *testing.T) {
	needNamespaces(t)
	rt := open(t, process.Options{})
	if os.Geteuid() != 0 {
		s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "a", UID: "a"}}
		id, err := rt.RunPodSandbox(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		c, err := rt.CreateContainer(t.Context(), id, &runtime.ContainerConfig{
			Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{"true"},
			Mounts: []runtime.Mount{{HostPath: t.TempDir(), ContainerPath: "/mnt/slipway-test", Propagation: runtime.PropagationBidirectional}},
		}, s)
		if err == nil {
			err = rt.StartContainer(t.Context(), c)
		}
		if !errors.Is(err, runtime.ErrUnsupported) {
			t.Errorf("without root: %v, want ErrUnsupported", err)
		}
		return
	}
	dir, _ := propagates(t)
	os.Mkdir(filepath.Join(dir, "sub"), 0o755)
	mount := runtime.Mount{HostPath: dir, ContainerPath: "/mnt/slipway-test", Propagation: runtime.PropagationBidirectional}
	startContainer(t, rt, "a", "mount -t tmpfs tmpfs /mnt/slipway-test/sub && touch /mnt/slipway-test/sub/new; sleep 1000", mount)
	waitFor(t, "the mount appears on the machine", func() bool {
		_, err := os.Stat(filepath.Join(dir, "sub", "new"))
		return err == nil
	})
}

// TestWithoutNamespaces runs, as an ordinary user, where the kernel permits no user namespaces: mounts are
// refused with what would be right, and all else works.
func TestWithoutNamespaces(t *testing.T) {
	const inside = "SLIPWAY_TEST_WITHOUT_NAMESPACES"
	if os.Getenv(inside) == "" {
		withoutNamespaces(t, inside)
		return
	}
	if namespaces(t) {
		t.Fatal("the limit of user namespaces has no effect")
	}
	rt := open(t, process.Options{})
	startContainer(t, rt, "a", "sleep 1000", runtime.Mount{HostPath: "/tmp", ContainerPath: "/tmp"})
	s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "b", UID: "b"}}
	id, err := rt.RunPodSandbox(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.CreateContainer(t.Context(), id, &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: "main"}, Command: []string{"true"},
		Mounts: []runtime.Mount{{HostPath: t.TempDir(), ContainerPath: "/mnt/slipway-test"}},
	}, s)
	if err == nil {
		err = rt.StartContainer(t.Context(), c)
	}
	if !errors.Is(err, runtime.ErrUnsupported) || !strings.Contains(err.Error(), "mount a volume at its own path") {
		t.Errorf("a mount without namespaces: %v, want ErrUnsupported, and what would be right", err)
	}
}

// withoutNamespaces runs TestWithoutNamespaces in a user namespace that may have none below it.
func withoutNamespaces(t *testing.T, variable string) {
	t.Helper()
	needNamespaces(t)
	const nobody, sysResource = 65534, 24
	user, group := os.Geteuid(), os.Getegid()
	if user == 0 {
		user, group = nobody, nobody
	}
	dir, err := os.MkdirTemp("", "without")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self := filepath.Join(dir, "process.test")
	if err := errors.Join(os.Chown(dir, user, group), copyFile(self, os.Args[0])); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec "+self+" -test.run='^TestWithoutNamespaces$'")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), variable+"=yes", "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, AmbientCaps: []uintptr{sysResource},
		UidMappings: []syscall.SysProcIDMap{{ContainerID: user, HostID: user, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: group, HostID: group, Size: 1}},
		Credential:  &syscall.Credential{Uid: uint32(user), Gid: uint32(group), NoSetGroups: true},
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
