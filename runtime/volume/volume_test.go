// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/runtime/volume"
)

// see returns what a program sees in the directory.
func see(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	root, err := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(root, path)
		b, err := os.ReadFile(filepath.Join(dir, name)) // through the visible link
		if err != nil {
			t.Error(err)
		}
		got[name] = string(b)
		return nil
	})
	return got
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	for _, step := range []struct {
		files   map[string]volume.File
		changed bool
	}{
		{map[string]volume.File{"a": {Data: []byte("1")}, "d/b": {Data: []byte("2")}}, true},
		{map[string]volume.File{"a": {Data: []byte("1")}, "d/b": {Data: []byte("2")}}, false},
		{map[string]volume.File{"a": {Data: []byte("1")}, "d/b": {Data: []byte("2"), Mode: 0o600}}, true},
		{map[string]volume.File{"a": {Data: []byte("3")}, "d/b": {Data: []byte("2")}}, true},
		{map[string]volume.File{"a": {Data: []byte("3")}}, true},
		{map[string]volume.File{"a": {Data: []byte("3")}, "c": {}}, true},
		{map[string]volume.File{}, true},
		{map[string]volume.File{}, false},
	} {
		changed, err := volume.Write(dir, step.files)
		if err != nil || changed != step.changed {
			t.Fatalf("Write(%v) = %v, %v, want %v", step.files, changed, err, step.changed)
		}
		want := map[string]string{}
		for path, f := range step.files {
			want[path] = string(f.Data)
		}
		if d := cmp.Diff(want, see(t, dir)); d != "" {
			t.Errorf("after %v (-want +got):\n%s", step.files, d)
		}
		entries, _ := os.ReadDir(dir)
		if n := 2 + len(step.files); len(entries) != n {
			t.Errorf("%d entries, want %d: %v", len(entries), n, entries)
		}
	}
}

func TestWriteBadPaths(t *testing.T) {
	for _, path := range []string{"", ".", "..", "../x", "/x", "a/../../x", "..data", "..x/y", "a//b"} {
		if _, err := volume.Write(t.TempDir(), map[string]volume.File{path: {}}); err == nil {
			t.Errorf("Write of %q succeeded", path)
		}
	}
}

// TestWriteAtomic reads two files through one directory handle while they
// change: they must always be of one generation.
func TestWriteAtomic(t *testing.T) {
	dir := t.TempDir()
	write := func(n int) {
		b := fmt.Append(nil, n)
		if _, err := volume.Write(dir, map[string]volume.File{"a": {Data: b}, "b": {Data: b}}); err != nil {
			t.Error(err)
		}
	}
	write(0)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		for n := range 300 {
			write(n)
		}
	})
	reads := 0
	for ctx.Err() == nil {
		root, err := os.OpenRoot(filepath.Join(dir, "..data"))
		if err != nil {
			continue
		}
		a, errA := root.ReadFile("a")
		b, errB := root.ReadFile("b")
		root.Close()
		if errA == nil && errB == nil {
			reads++
			if string(a) != string(b) {
				t.Fatalf("saw %q and %q at one time", a, b)
			}
		}
	}
	wg.Wait()
	if reads == 0 {
		t.Error("nothing was read")
	}
}
