// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"go/ast"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows holds, for each part of the house, the other parts that its packages
// may import, in tests too. A part is a directory and all below it that is not a
// part of its own. Every part may import itself and internal.
var arrows = map[string][]string{
	".":               {"store", "watch", "reconcile", "schedule", "runtime", "netproxy"}, // examples only: it has no code
	"internal":        nil,
	"store":           nil,
	"store/apiserver": {"store", "watch"},
	"watch":           {"store"},
	"reconcile":       {"store", "watch"},
	"schedule":        nil,
	"runtime":         nil,
	"netproxy":        nil,
	"examples":        {".", "store", "store/apiserver", "watch", "reconcile", "schedule", "runtime", "netproxy"},
	"tools":           nil,
}

// partOf returns the part that a directory belongs to, "" if there is none.
func partOf(dir string) string {
	if dir == "." {
		return dir
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if _, ok := arrows[dir]; ok {
			return dir
		}
	}
	return ""
}

// arrowProblems finds the imports between parts for which there is no arrow.
func arrowProblems(files []goFile) []string {
	var problems []string
	for _, f := range files {
		from := partOf(f.dir())
		if from == "" {
			problems = append(problems, f.name+": belongs to no part of the house: move it, or give the part a line in arrows (imports_test.go)")
			continue
		}
		for _, spec := range f.ast.Imports {
			dir, ours := repositoryDir(importPath(spec))
			to := partOf(dir)
			if ours && to != from && to != "internal" && !slices.Contains(arrows[from], to) {
				problems = append(problems, f.problem(spec, "%s may not import %s: arrows (imports_test.go) allows %s",
					from, dir, strings.Join(append([]string{"internal"}, arrows[from]...), ", ")))
			}
		}
	}
	return problems
}

// foreignProblems finds the imports of the root module from other modules that
// the list of root dependencies does not allow where they are. What a nested
// module imports is its own affair: its go.mod is its list.
func foreignProblems(files []goFile, allowed []dependency, nested []string) []string {
	var problems []string
	for _, f := range files {
		if slices.ContainsFunc(nested, func(dir string) bool { return within(f.dir(), dir) }) {
			continue
		}
		for _, spec := range f.ast.Imports {
			imported := importPath(spec)
			if _, ours := repositoryDir(imported); ours || isStandard(imported) {
				continue
			}
			if !slices.ContainsFunc(allowed, func(d dependency) bool { return d.allows(f, imported) }) {
				problems = append(problems, f.problem(spec, "%s is not allowed here: see rootDependencies (dependencies_test.go)", imported))
			}
		}
	}
	return problems
}

// repositoryDir returns the directory of an import path of this repository.
func repositoryDir(imported string) (dir string, ours bool) {
	if imported == rootPath {
		return ".", true
	}
	return strings.CutPrefix(imported, rootPath+"/")
}

// isStandard reports whether an import path is of the standard library: only
// there, the first element has no dot.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// within reports whether name is dir or below it; both may be import paths.
func within(name, dir string) bool {
	return dir == "." || name == dir || strings.HasPrefix(name, dir+"/")
}

func importPath(spec *ast.ImportSpec) string {
	imported, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		panic("policy: the parser let through the import path " + spec.Path.Value)
	}
	return imported
}

func TestArrows(t *testing.T) {
	importing := func(pkg string, paths ...string) string {
		var text strings.Builder
		text.WriteString("package " + pkg + "\n")
		for _, p := range paths {
			text.WriteString("import _ \"" + p + "\"\n")
		}
		return text.String()
	}
	const p = rootPath
	testGoRule(t, arrowProblems, []seed{
		{"good", map[string]string{
			"doc.go":                       importing("slipway", "fmt"),
			"example_test.go":              importing("slipway_test", p+"/store", p+"/netproxy"),
			"internal/labels/a.go":         importing("labels", p+"/internal/text"),
			"store/a.go":                   importing("store", p+"/internal/labels", p+"/store/internal/btree", "golang.org/x/sync/errgroup"),
			"store/etcd/a.go":              importing("etcd", p+"/store", p+"/store/storetest"),
			"store/apiserver/auth/a.go":    importing("auth", p+"/store", p+"/watch", p+"/store/apiserver"),
			"watch/a.go":                   importing("watch", p+"/store", p+"/store/storetest"),
			"reconcile/a_test.go":          importing("reconcile_test", p+"/store", p+"/watch", p+"/reconcile"),
			"examples/cluster/a.go":        importing("cluster", p, p+"/store/apiserver", p+"/runtime/cri", p+"/examples/cluster/dns"),
			"examples/cluster/server/a.go": importing("server", p+"/reconcile", p+"/schedule", p+"/netproxy", p+"/watch"),
			"tools/a.go":                   importing("main", "fmt"),
		}, nil},
		{"against the arrow", map[string]string{"store/a.go": importing("store", p+"/store/memdb", p+"/watch")},
			[]string{"store/a.go:3: store may not import watch: arrows (imports_test.go) allows internal"}},
		{"in a test", map[string]string{"watch/a_test.go": importing("watch_test", p+"/reconcile")},
			[]string{"watch/a_test.go:2: watch may not import reconcile: arrows (imports_test.go) allows internal, store"}},
		{"sideways", map[string]string{
			"netproxy/trace/a.go": importing("trace", p+"/store/storetest"),
			"runtime/a.go":        importing("runtime", p+"/schedule"),
			"schedule/a.go":       importing("schedule", p+"/netproxy"),
		}, []string{
			"netproxy/trace/a.go:2: netproxy may not import store/storetest: arrows (imports_test.go) allows internal",
			"runtime/a.go:2: runtime may not import schedule: arrows (imports_test.go) allows internal",
			"schedule/a.go:2: schedule may not import netproxy: arrows (imports_test.go) allows internal",
		}},
		{"a heavy module from a light one", map[string]string{"store/a.go": importing("store", p+"/store/apiserver")},
			[]string{"store/a.go:2: store may not import store/apiserver: arrows (imports_test.go) allows internal"}},
		{"of what nobody may import", map[string]string{"reconcile/a.go": importing("reconcile", p, p+"/examples/cluster")},
			[]string{
				"reconcile/a.go:2: reconcile may not import .: arrows (imports_test.go) allows internal, store, watch",
				"reconcile/a.go:3: reconcile may not import examples/cluster: arrows (imports_test.go) allows internal, store, watch",
			}},
		{"internal importing a part", map[string]string{"internal/a/a.go": importing("a", p+"/store")},
			[]string{"internal/a/a.go:2: internal may not import store: arrows (imports_test.go) allows internal"}},
		{"a part that is not in the house", map[string]string{"util/a.go": importing("util"), "watch/a.go": importing("watch", p+"/util")},
			[]string{
				"util/a.go: belongs to no part of the house: move it, or give the part a line in arrows (imports_test.go)",
				"watch/a.go:2: watch may not import util: arrows (imports_test.go) allows internal, store",
			}},
		{"a name that only begins like a part", map[string]string{"storex/a.go": importing("storex")},
			[]string{"storex/a.go: belongs to no part of the house: move it, or give the part a line in arrows (imports_test.go)"}},
	})
}

func TestForeignImports(t *testing.T) {
	rule := func(allowed []dependency) func(tree fs.FS) ([]string, error) {
		return func(tree fs.FS) ([]string, error) {
			files, err := goFiles(tree)
			if err != nil {
				return nil, err
			}
			dirs, err := moduleDirs(tree)
			return foreignProblems(files, allowed, slices.DeleteFunc(dirs, func(dir string) bool { return dir == "." })), err
		}
	}
	problems, err := rule(rootDependencies)(repository())
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}

	allowed := []dependency{
		{module: "example.com/anywhere"},
		{module: "example.com/some/lib", users: []string{"store", "watch/cache"}},
		{module: "example.com/check", users: []string{"store"}, tests: true},
	}
	const refused = " is not allowed here: see rootDependencies (dependencies_test.go)"
	tests := map[string]struct{ imported, want string }{
		"netproxy/a.go":               {"net/http", ""},
		"netproxy/b.go":               {"example.com/anywhere/sub", ""},
		"netproxy/c.go":               {"example.com/anywhereelse", "example.com/anywhereelse" + refused},
		"netproxy/d.go":               {"example.com/some/lib", "example.com/some/lib" + refused},
		"netproxy/rules/a_test.go":    {"example.com/some/lib", "example.com/some/lib" + refused},
		"store/a.go":                  {"example.com/some/lib/v2", ""},
		"store/b.go":                  {"example.com/some", "example.com/some" + refused},
		"store/c.go":                  {"example.com/check", "example.com/check" + refused},
		"store/c_test.go":             {"example.com/check/diff", ""},
		"store/storetest/a.go":        {"example.com/check", ""},
		"store/nested/go.mod":         {},
		"store/nested/deep/a.go":      {"example.com/unheard-of", ""},
		"store/nestedbutno/a_test.go": {"example.com/unheard-of", "example.com/unheard-of" + refused},
		"watch/a.go":                  {"example.com/some/lib", "example.com/some/lib" + refused},
		"watch/cache/a.go":            {"example.com/some/lib", ""},
		"watch/b_test.go":             {"example.com/check", "example.com/check" + refused},
	}
	files := map[string]string{"go.mod": "module example.com/root\n"}
	var want []string
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		files[name] = "package p\nimport _ \"" + tests[name].imported + "\"\n"
		if tests[name].want != "" {
			want = append(want, name+":2: "+tests[name].want)
		}
	}
	got, err := rule(allowed)(memoryFS(files))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	expect(t, got, want)
}
