// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/process"
)

// TestImageDirectory runs a program in an unpacked image, which is its root directory.
func TestImageDirectory(t *testing.T) {
	needNamespaces(t)
	images := t.TempDir()
	dir := filepath.Join(images, "example.com/app:1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "hello"), []byte("from the image\n"), 0o644)
	rt := open(t, process.Options{ImageDir: images})
	spec := runtime.ImageSpec{Image: "example.com/app:1"}
	ref, err := rt.PullImage(t.Context(), spec, nil, nil)
	if err != nil || ref != dir {
		t.Fatalf("PullImage = %q, %v, want %q", ref, err, dir)
	}
	st, err := rt.ImageStatus(t.Context(), runtime.ImageSpec{Image: ref})
	if err != nil || st == nil || st.Size != 15 || st.RepoTags[0] != spec.Image {
		t.Errorf("ImageStatus = %+v, %v", st, err)
	}
	for name, want := range map[string]error{"example.com/other:1": runtime.ErrNotFound, "../secret": runtime.ErrInvalid} {
		if _, err := rt.PullImage(t.Context(), runtime.ImageSpec{Image: name}, nil, nil); !errors.Is(err, want) {
			t.Errorf("PullImage(%q) = %v, want %v", name, err, want)
		}
	}
	var mounts []runtime.Mount
	for _, shared := range []string{"/usr", "/lib", "/lib64", "/bin"} {
		if _, err := os.Stat(shared); err == nil {
			mounts = append(mounts, runtime.Mount{HostPath: shared, ContainerPath: shared, ReadOnly: true})
		}
	}
	// A link in an image leads into the image, also for what is mounted.
	outside := t.TempDir()
	os.Symlink(outside, filepath.Join(dir, "link"))
	volume := t.TempDir()
	os.WriteFile(filepath.Join(volume, "file"), []byte("from the volume\n"), 0o644)
	mounts = append(mounts, runtime.Mount{HostPath: volume, ContainerPath: "/link/volume"})
	s := &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "a", UID: "a"}, LogDirectory: t.TempDir()}
	id, err := rt.RunPodSandbox(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.CreateContainer(t.Context(), id, &runtime.ContainerConfig{
		Metadata: runtime.ContainerMetadata{Name: "main"}, Image: spec, Command: []string{"sh", "-c", "cat /hello /link/volume/file; sleep 1000"}, Mounts: mounts, LogPath: "log",
	}, s)
	if err == nil {
		err = rt.StartContainer(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the program reads the image's file", func() bool {
		b, _ := os.ReadFile(filepath.Join(s.LogDirectory, "log"))
		return strings.Contains(string(b), "from the image") && strings.Contains(string(b), "from the volume")
	})
	r, err := rt.ExecSync(t.Context(), c, []string{"cat", "/hello"}, 0)
	if err != nil || string(r.Stdout) != "from the image\n" {
		t.Errorf("exec in the image: %q, %q, %v", r.Stdout, r.Stderr, err)
	}
	if list, _ := os.ReadDir(outside); len(list) > 0 {
		t.Errorf("a link in the image led out of it: %v", list)
	}
}

func TestTerminal(t *testing.T) {
	rt := open(t, process.Options{})
	c := startContainer(t, rt, "a", "sleep 1000")
	sizes := make(chan runtime.TerminalSize, 1)
	sizes <- runtime.TerminalSize{Width: 97, Height: 31}
	var out bytes.Buffer
	code, err := rt.Exec(t.Context(), c, runtime.ExecOptions{
		Command: []string{"sh", "-c", "test -t 0 && test -t 1 && while test \"$(stty size)\" != '31 97'; do sleep 0.01; done; stty size; exit 4"},
		Stdin:   strings.NewReader(""), Stdout: &out, TTY: true, Resize: sizes,
	})
	if err != nil || code != 4 || strings.TrimSpace(out.String()) != "31 97" {
		t.Errorf("exec on a terminal = %d, %v, %q, want 4 and its size", code, err, out.String())
	}
}
