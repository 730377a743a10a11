// SPDX-License-Identifier: Apache-2.0

package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWeightOfAController holds a whole program with a manager, a controller and a
// store in its process to 10 MB, stripped, and 5 modules, itself included: what a
// user pays who builds on slipway.
func TestWeightOfAController(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "controller")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "./04-controller")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if mb := float64(info.Size()) / 1e6; mb > 10 {
		t.Errorf("the program has %.1f MB, want at most 10", mb)
	}
	out, err := exec.Command("go", "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "mod" || f[0] == "dep") {
			modules = append(modules, f[1])
		}
	}
	if len(modules) < 2 || len(modules) > 5 {
		t.Errorf("the program links the modules %v, want at most 5", modules)
	}
	t.Logf("%.1f MB, modules %v", float64(info.Size())/1e6, modules)
}
