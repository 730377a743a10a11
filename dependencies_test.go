// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A dependency is a module that the root module requires itself, which is to say
// that everyone who imports slipway downloads it.
type dependency struct {
	module string
	users  []string // directories whose packages may import it; nil for all
	tests  bool     // only in test files and in public test kits such as store/storetest
}

// rootDependencies is the list of them, complete: each stands in go.mod, and
// ARCHITECTURE.md says why it is worth its weight.
var rootDependencies = []dependency{
	{module: "github.com/anishathalye/porcupine", users: []string{"store/storetest"}, tests: true},
	{module: "github.com/cenkalti/backoff/v4", users: []string{"watch"}},
	{module: "github.com/google/go-cmp", tests: true},
	{module: "github.com/hashicorp/go-memdb", users: []string{"store"}},
	{module: "github.com/tidwall/btree", users: []string{"store/memory"}},
}

// allows reports whether a file may import a package for the dependency's sake.
func (d dependency) allows(f goFile, imported string) bool {
	user := d.users == nil || slices.ContainsFunc(d.users, func(dir string) bool { return within(f.dir(), dir) })
	test := f.isTest() || strings.HasSuffix(path.Base(f.dir()), "test")
	return within(imported, d.module) && user && (test || !d.tests)
}

// dependencyProblems compares the list with a go.mod file, and with the text of
// ARCHITECTURE.md unless that is nil.
func dependencyProblems(list []dependency, mod goMod, architecture []byte) []string {
	var problems []string
	direct := map[string]bool{}
	for _, require := range mod.Require {
		if require.Indirect {
			continue
		}
		direct[require.Path] = true
		if !slices.ContainsFunc(list, func(d dependency) bool { return d.module == require.Path }) {
			problems = append(problems, fmt.Sprintf("go.mod: %s is not in rootDependencies (dependencies_test.go): "+
				"add it there and its reason to ARCHITECTURE.md, or do without", require.Path))
		}
	}
	for _, d := range list {
		if !direct[d.module] {
			problems = append(problems, fmt.Sprintf("dependencies_test.go: go.mod does not require %s: delete its line", d.module))
		}
		if architecture != nil && !strings.Contains(string(architecture), d.module) {
			problems = append(problems, fmt.Sprintf("ARCHITECTURE.md: no word of why the root module depends on %s", d.module))
		}
	}
	return problems
}

func TestRootDependencies(t *testing.T) {
	architecture, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, problem := range dependencyProblems(rootDependencies, readGoMod(t, "go.mod"), architecture) {
		t.Error(problem)
	}

	const mod = `module example.com/m
require example.com/a v1.0.0
require (
	example.com/b/v4 v4.0.0
	example.com/deep v1.0.0 // indirect
)
`
	a, b, c := dependency{module: "example.com/a"}, dependency{module: "example.com/b/v4"}, dependency{module: "example.com/c"}
	for _, test := range []struct {
		name         string
		list         []dependency
		architecture []byte
		want         []string
	}{
		{"good", []dependency{a, b}, []byte("We need example.com/a to breathe and example.com/b/v4 to eat."), nil},
		{"before ARCHITECTURE.md", []dependency{a, b}, nil, nil},
		{"not in the list", []dependency{b}, nil,
			[]string{"go.mod: example.com/a is not in rootDependencies (dependencies_test.go): add it there and its reason to ARCHITECTURE.md, or do without"}},
		{"no longer in go.mod", []dependency{a, b, c}, nil,
			[]string{"dependencies_test.go: go.mod does not require example.com/c: delete its line"}},
		{"no reason", []dependency{a, b}, []byte("We need example.com/b/v4 to eat."),
			[]string{"ARCHITECTURE.md: no word of why the root module depends on example.com/a"}},
		{"empty ARCHITECTURE.md", []dependency{a, b}, []byte{}, []string{
			"ARCHITECTURE.md: no word of why the root module depends on example.com/a",
			"ARCHITECTURE.md: no word of why the root module depends on example.com/b/v4",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "go.mod")
			if err := os.WriteFile(name, []byte(mod), 0o666); err != nil {
				t.Fatal(err)
			}
			expect(t, dependencyProblems(test.list, readGoMod(t, name), test.architecture), test.want)
		})
	}
}

// A goMod is what the rules want to know of a go.mod file.
type goMod struct {
	Module  struct{ Path string }
	Go      string
	Require []struct {
		Path     string
		Indirect bool
	}
	Replace []struct{ Old, New struct{ Path string } }
}

func readGoMod(t *testing.T, name string) goMod {
	t.Helper()
	var mod goMod
	readEdit(t, name, &mod, "mod")
	return mod
}

// readEdit parses a file with `go KIND edit -json`.
func readEdit(t *testing.T, name string, into any, kind string) {
	t.Helper()
	// Reading the file here tells the go command that the test depends on it.
	if _, err := os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", kind, "edit", "-json", name)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
}
