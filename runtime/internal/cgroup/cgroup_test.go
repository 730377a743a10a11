// SPDX-License-Identifier: Apache-2.0

package cgroup_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/internal/cgroup"
)

// TestFiles checks what is written, in an ordinary directory. Version 2 is
// checked nowhere else on a machine that has version 1.
func TestFiles(t *testing.T) {
	limits := &runtime.Resources{CPUShares: 1024, CPUQuota: 50_000, MemoryLimit: 64 << 20, PidsLimit: 20}
	for _, tt := range []struct {
		version string
		want    map[string]string
		oomFile string
	}{
		{"v1", map[string]string{
			"cpu/slipway/c/cpu.shares": "1024", "cpu/slipway/c/cpu.cfs_period_us": "100000", "cpu/slipway/c/cpu.cfs_quota_us": "50000",
			"memory/slipway/c/memory.limit_in_bytes": "67108864", "pids/slipway/c/pids.max": "20", "cpu/slipway/c/cgroup.procs": "42",
		}, "memory/slipway/c/memory.oom_control"},
		{"v2", map[string]string{
			"slipway/c/cpu.weight": "39", "slipway/c/cpu.max": "50000 100000", "slipway/c/memory.max": "67108864",
			"slipway/c/memory.swap.max": "0", "slipway/c/pids.max": "20", "slipway/c/cgroup.procs": "42", "slipway/cgroup.subtree_control": "+cpu +memory +pids",
		}, "slipway/c/memory.events"},
	} {
		t.Run(tt.version, func(t *testing.T) {
			root := t.TempDir()
			if tt.version == "v2" {
				os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu memory pids"), 0o644)
			}
			h, err := cgroup.Open(root)
			if err != nil || h.V2() != (tt.version == "v2") {
				t.Fatalf("Open: %v, version 2 %v", err, h.V2())
			}
			g, err := h.Create("c", limits)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Add(42); err != nil {
				t.Fatal(err)
			}
			for path, want := range tt.want {
				got, err := os.ReadFile(filepath.Join(root, path))
				if err != nil || string(got) != want {
					t.Errorf("%s = %q, %v, want %q", path, got, err, want)
				}
			}
			if g.OOMKilled() {
				t.Error("OOM killed without a kill")
			}
			os.WriteFile(filepath.Join(root, tt.oomFile), []byte("low 0\noom_kill 1\n"), 0o644)
			if !g.OOMKilled() {
				t.Error("the kill is not seen")
			}
			if list, err := g.Processes(); err != nil || len(list) != 1 || list[0] != 42 {
				t.Errorf("processes %v, %v", list, err)
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	if _, err := cgroup.Open(file); !errors.Is(err, runtime.ErrUnsupported) {
		t.Errorf("Open of a file: %v, want ErrUnsupported", err)
	}
}

func TestUnifiedFileNames(t *testing.T) {
	root := t.TempDir()
	os.WriteFile(filepath.Join(root, "cgroup.controllers"), nil, 0o644)
	h, err := cgroup.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Create("c", &runtime.Resources{Unified: map[string]string{"../../x": "1"}})
	if !errors.Is(err, runtime.ErrInvalid) {
		t.Errorf("a file outside of the group: %v, want ErrInvalid", err)
	}
}
