// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A module whose root package works, with a nested module inside.
func library() map[string]string {
	return map[string]string{
		"go.mod":          "module example.com/Lib\n\ngo 1.26\n",
		"lib.go":          "package lib\n\nconst Greeting = \"hello from lib\"\n",
		"sub/sub.go":      "package sub\n\nconst Greeting = \"hello from sub\"\n",
		"nested/go.mod":   "module example.com/Lib/nested\n\ngo 1.26\n",
		"nested/lib.go":   "package nested\n",
		"internal/int.go": "package internal\n",
	}
}

func program(path string) string {
	return "# Lib\n\n```go\nlib.Fragment()\n```\n\n```go\npackage main\n\nimport lib \"" + path +
		"\"\n\nfunc main() { println(lib.Greeting) }\n```\n"
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		change map[string]string // files that differ from library()
		out    string            // expected in the output
		err    string            // expected in the error; "" for none
	}{
		{"no README", nil, "importing the root package", ""},
		{"README without a program", map[string]string{"README.md": "```go\nx()\n```\n"}, "importing the root package", ""},
		{"README program", map[string]string{"README.md": program("example.com/Lib/sub")}, "hello from sub", ""},
		{"root package broken", map[string]string{"lib.go": "package lib\n\nvar x int = \"\"\n"}, "lib.go:3", "go run"},
		{"README program broken", map[string]string{"README.md": program("example.com/Lib/none")}, "cannot find module providing package", "go get ."},
		{"README program imports a nested module", map[string]string{"README.md": program("example.com/Lib/nested")}, "cannot find module providing package", "go get ."},
		{"README program imports an internal package", map[string]string{"README.md": program("example.com/Lib/internal")}, "use of internal package", "go run"},
		{"README program fails", map[string]string{"README.md": "```go\npackage main\n\nfunc main() { panic(1) }\n```\n"}, "panic: 1", "go run"},
		{"module path that can't be published", map[string]string{"go.mod": "module lib@1\n\ngo 1.26\n"}, "", "lib@1"},
		{"go.mod that relies on a replace directive", map[string]string{
			"go.mod": "module example.com/Lib\n\ngo 1.26\n\nrequire example.com/absent v0.0.0\n\nreplace example.com/absent => ./nested\n",
			"lib.go": "package lib\n\nimport _ \"example.com/absent\"\n",
		}, "example.com/absent", "go get"},
	}
	// Nothing here may need a network: a path that no proxy has is the answer.
	t.Setenv("GOPROXY", "off")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			files := library()
			maps.Copy(files, test.change)
			writeFiles(t, dir, files)
			var out strings.Builder
			err := check(t.Context(), dir, &out)
			if !strings.Contains(out.String(), test.out) {
				t.Errorf("output lacks %q:\n%s", test.out, &out)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want one with %q\n%s", err, test.err, &out)
			}
		})
	}
}

func TestCheckWithoutModule(t *testing.T) {
	if err := check(t.Context(), t.TempDir(), t.Output()); err == nil || !strings.Contains(err.Error(), "go.mod") {
		t.Errorf("error %v, want one that names go.mod", err)
	}
}

func TestFirstProgram(t *testing.T) {
	const source = "package main\n\nfunc main() {}\n"
	tests := []struct {
		name, markdown, program string
		line                    int
	}{
		{"empty", "", "", 0},
		{"first of two", "a\n```go\n" + source + "```\n```go\npackage main\n```\n", source, 3},
		{"after a fragment", "```go\nf()\n```\n```go\n" + source + "```\n", source, 5},
		{"comment before the package clause", "```go\n// Greets.\npackage main\n```\n", "// Greets.\npackage main\n", 2},
		{"another package", "```go\npackage lib\n```\n", "", 0},
		{"another language", "```text\npackage main\n```\n", "", 0},
		{"fence that never ends", "```go\n" + source, "", 0},
	}
	for _, test := range tests {
		program, line := firstProgram(test.markdown)
		if program != test.program || line != test.line {
			t.Errorf("%s: firstProgram = %q, %d, want %q, %d", test.name, program, line, test.program, test.line)
		}
	}
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
