// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// topLevel lists what the repository's root may hold, besides the tests of this
// package; a name that ends in a slash is a directory.
var topLevel = []string{
	"store/", "watch/", "reconcile/", "schedule/", "runtime/", "netproxy/", "examples/",
	"internal/", "tools/", ".ci/",
	"doc.go", "go.mod", "go.sum", "go.work", "go.work.sum", ".gitignore",
	"README.md", "LICENSE", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SCOPE.md",
}

// required lists what the root must hold.
var required = []string{
	"internal/", "tools/", ".ci/", "doc.go", "go.mod", "go.work", ".gitignore",
	"README.md", "ARCHITECTURE.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "SCOPE.md",
}

// layoutProblems finds strays at the top level, and what is missing there. What
// .gitignore names is not part of the repository.
func layoutProblems(tree fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, err
	}
	ignored, err := ignorePatterns(tree)
	if err != nil {
		return nil, err
	}
	var problems, names []string
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		names = append(names, name)
		matches := func(pattern string) bool { ok, _ := path.Match(pattern, name); return ok }
		switch {
		case name == ".git" || name == ".git/" || strings.HasSuffix(name, "_test.go"):
		case slices.Contains(topLevel, name) || slices.ContainsFunc(ignored, matches):
		default:
			problems = append(problems, fmt.Sprintf("%s: does not belong at the top level: put it below the package it serves", name))
		}
	}
	for _, name := range required {
		if !slices.Contains(names, name) {
			problems = append(problems, name+": missing")
		}
	}
	return problems, nil
}

// ignorePatterns returns the patterns of .gitignore as path.Match knows them.
func ignorePatterns(tree fs.FS) ([]string, error) {
	text, err := fs.ReadFile(tree, ".gitignore")
	if err != nil {
		return nil, err
	}
	var patterns []string
	for line := range strings.Lines(string(text)) {
		pattern := strings.TrimPrefix(strings.TrimSpace(line), "/")
		if pattern == "" || pattern[0] == '#' {
			continue
		}
		if _, err := path.Match(pattern, ""); err != nil || strings.HasPrefix(pattern, "!") {
			return nil, fmt.Errorf(".gitignore: pattern %q is none that this test understands", pattern)
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

func TestLayout(t *testing.T) {
	// with returns a tree of all that is required, and more.
	with := func(more map[string]string) map[string]string {
		files := map[string]string{}
		for _, name := range required {
			if strings.HasSuffix(name, "/") {
				name += "file"
			}
			files[name] = ""
		}
		files[".gitignore"] = "# built\n*.test\n/bin/\n\n"
		maps.Copy(files, more)
		return files
	}
	without := with(nil)
	delete(without, "SCOPE.md")
	testRule(t, layoutProblems, []seed{
		{"good", with(map[string]string{"store/doc.go": "", "policy_test.go": "", ".git/HEAD": "", "bin/tool": "", "slipway.test": ""}), nil},
		{"worktree", with(map[string]string{".git": "gitdir: elsewhere"}), nil},
		{"stray file", with(map[string]string{"notes.txt": "", "slipway.go": ""}), []string{
			"notes.txt: does not belong at the top level: put it below the package it serves",
			"slipway.go: does not belong at the top level: put it below the package it serves",
		}},
		{"stray directory", with(map[string]string{"pkg/a.go": "", ".idea/x": ""}), []string{
			".idea/: does not belong at the top level: put it below the package it serves",
			"pkg/: does not belong at the top level: put it below the package it serves",
		}},
		{"file in a directory's place", with(map[string]string{"watch": ""}),
			[]string{"watch: does not belong at the top level: put it below the package it serves"}},
		{"missing", without, []string{"SCOPE.md: missing"}},
	})
	_, err := layoutProblems(memoryFS(with(map[string]string{".gitignore": "!keep\n"})))
	if err == nil {
		t.Error("no error for a .gitignore pattern that the test can't apply")
	}
}
