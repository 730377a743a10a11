// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// moduleDirs returns the directories of the tree that hold a go.mod file.
func moduleDirs(tree fs.FS) ([]string, error) {
	var dirs []string
	err := walk(tree, func(name string) error {
		if path.Base(name) == "go.mod" {
			dirs = append(dirs, path.Dir(name))
		}
		return nil
	})
	return dirs, err
}

// moduleProblems checks that go.work ties all modules together (`go test work`
// tests no others), that each is where its path says, and that each takes the
// others of the repository from the checkout when it is built without go.work.
func moduleProblems(mods map[string]goMod, used []string) []string {
	var problems []string
	for _, dir := range used {
		if _, ok := mods[dir]; !ok {
			problems = append(problems, fmt.Sprintf("go.work: uses %s, which is no module", dir))
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(mods)) {
		mod, name := mods[dir], path.Join(dir, "go.mod")
		if !slices.Contains(used, dir) {
			problems = append(problems, fmt.Sprintf("go.work: lacks `use ./%s`", dir))
		}
		if want := path.Join(rootPath, dir); mod.Module.Path != want {
			problems = append(problems, fmt.Sprintf("%s: module %s, want %s", name, mod.Module.Path, want))
		}
		if mod.Go != "1.26" && !strings.HasPrefix(mod.Go, "1.26.") {
			problems = append(problems, fmt.Sprintf("%s: go %s, want 1.26 as everywhere", name, mod.Go))
		}
		problems = append(problems, replaceProblems(name, dir, mod)...)
	}
	return problems
}

func replaceProblems(name, dir string, mod goMod) []string {
	var problems []string
	for _, require := range mod.Require {
		sibling, ours := repositoryDir(require.Path)
		if !ours {
			continue
		}
		want, err := filepath.Rel(dir, sibling)
		if err != nil {
			panic(fmt.Sprintf("policy: no way from %s to %s: %v", dir, sibling, err))
		}
		want = filepath.ToSlash(want)
		if !strings.HasPrefix(want, "..") {
			want = "./" + want
		}
		found := false
		for _, replace := range mod.Replace {
			found = found || replace.Old.Path == require.Path && path.Clean(replace.New.Path) == path.Clean(want)
		}
		if !found {
			problems = append(problems, fmt.Sprintf("%s: lacks `replace %s => %s`", name, require.Path, want))
		}
	}
	return problems
}

func TestModules(t *testing.T) {
	rule := func(t *testing.T, root string) []string {
		dirs, err := moduleDirs(os.DirFS(root))
		if err != nil {
			t.Fatal(err)
		}
		mods := map[string]goMod{}
		for _, dir := range dirs {
			mods[dir] = readGoMod(t, filepath.Join(root, filepath.FromSlash(dir), "go.mod"))
		}
		return moduleProblems(mods, readGoWork(t, filepath.Join(root, "go.work")))
	}
	for _, problem := range rule(t, ".") {
		t.Error(problem)
	}

	const (
		root    = "module " + rootPath + "\ngo 1.26\n"
		nested  = "module " + rootPath + "/store/etcd\ngo 1.26.0\nrequire " + rootPath + " v0.0.0\n"
		replace = "replace " + rootPath + " => ../..\n"
		work    = "go 1.26.0\nuse (\n\t.\n\t./store/etcd\n)\n"
	)
	for _, s := range []seed{
		{"good", map[string]string{"go.mod": root, "store/etcd/go.mod": nested + replace, "go.work": work}, nil},
		{"not in go.work", map[string]string{"go.mod": root, "store/etcd/go.mod": nested + replace, "go.work": "go 1.26\nuse .\n"},
			[]string{"go.work: lacks `use ./store/etcd`"}},
		{"gone", map[string]string{"go.mod": root, "go.work": work},
			[]string{"go.work: uses store/etcd, which is no module"}},
		{"no replace", map[string]string{"go.mod": root, "store/etcd/go.mod": nested, "go.work": work},
			[]string{"store/etcd/go.mod: lacks `replace github.com/slipway-dev/slipway => ../..`"}},
		{"replace by something else", map[string]string{"go.mod": root, "store/etcd/go.mod": nested + "replace " + rootPath + " => ../../store\n", "go.work": work},
			[]string{"store/etcd/go.mod: lacks `replace github.com/slipway-dev/slipway => ../..`"}},
		{"no replace of a sibling", map[string]string{"go.mod": root, "go.work": work + "use ./examples\n", "store/etcd/go.mod": nested + replace,
			"examples/go.mod": "module " + rootPath + "/examples\ngo 1.26\nrequire " + rootPath + "/store/etcd v0.0.0\n"},
			[]string{"examples/go.mod: lacks `replace github.com/slipway-dev/slipway/store/etcd => ../store/etcd`"}},
		{"of another path", map[string]string{"go.mod": root, "store/etcd/go.mod": "module example.com/etcd\ngo 1.26\n", "go.work": work},
			[]string{"store/etcd/go.mod: module example.com/etcd, want github.com/slipway-dev/slipway/store/etcd"}},
		{"of another Go", map[string]string{"go.mod": "module " + rootPath + "\ngo 1.25\n", "go.work": "go 1.26\nuse .\n"},
			[]string{"go.mod: go 1.25, want 1.26 as everywhere"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, memoryFS(s.files)); err != nil {
				t.Fatal(err)
			}
			expect(t, rule(t, dir), s.want)
		})
	}
}

// readGoWork returns the directories that a go.work file uses.
func readGoWork(t *testing.T, name string) []string {
	t.Helper()
	var work struct{ Use []struct{ DiskPath string } }
	readEdit(t, name, &work, "work")
	var dirs []string
	for _, use := range work.Use {
		dirs = append(dirs, path.Clean(filepath.ToSlash(use.DiskPath)))
	}
	return dirs
}
