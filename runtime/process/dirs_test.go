// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/process"
)

// TestWorkingDirectory: what a pod leaves in its directory, or does to it, is not there for the next one.
func TestWorkingDirectory(t *testing.T) {
	o := process.Options{Root: t.TempDir()}
	rt := open(t, o)
	pod := func(name, script string) (sandbox, output string) {
		c := startContainer(t, rt, name, "pwd; ls -A; stat -c %a .; "+script)
		var st *runtime.ContainerStatus
		waitFor(t, name+" exits", func() bool {
			var err error
			if st, err = rt.ContainerStatus(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			return st.State == runtime.ContainerExited
		})
		b, err := os.ReadFile(st.LogPath)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(b)) {
			_, text, _ := strings.Cut(line, " stdout F ")
			lines = append(lines, strings.TrimSpace(text))
		}
		return st.SandboxID, strings.Join(lines[1:], " ")
	}
	for i, script := range []string{"true", "touch left", "mkdir .hidden", "chmod 700 .", "touch a; rm a", "true"} {
		name := "pod-" + itoa(i)
		sandbox, output := pod(name, script)
		if output != "755" {
			t.Errorf("%s, after what the one before did, found %q, want nothing, and mode 755", name, output)
		}
		if err := rt.StopPodSandbox(t.Context(), sandbox); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := rt.RemovePodSandbox(t.Context(), sandbox); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What nobody has is removed by the next supervisor.
	pid, err := rt.SupervisorPID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	waitFor(t, "the supervisor is dead", func() bool { return !alive(pid) })
	waitFor(t, "another supervisor answers", func() bool { _, err := rt.SupervisorPID(t.Context()); return err == nil })
	entries, err := os.ReadDir(filepath.Join(o.Root, "sandboxes"))
	if err != nil || len(entries) != 0 {
		t.Errorf("directories that no sandbox has: %v, %v, want none", entries, err)
	}
}
