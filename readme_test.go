// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A block is a fenced block of Go code in a Markdown file.
type block struct {
	line int // of its first line of code
	text string
}

// goBlocks returns the blocks of a Markdown text that are fenced with three
// backquotes and marked as Go.
func goBlocks(markdown string) ([]block, error) {
	var blocks []block
	var fence string // the line that opened the block we are in
	var text strings.Builder
	begin := 0
	for i, line := range strings.Split(markdown, "\n") {
		switch trimmed := strings.TrimSpace(line); {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			fence, begin = trimmed, i+2
			text.Reset()
		case fence != "" && trimmed == "```":
			if language, _, _ := strings.Cut(strings.TrimPrefix(fence, "```"), " "); language == "go" {
				blocks = append(blocks, block{begin, text.String()})
			}
			fence = ""
		case fence != "":
			text.WriteString(line + "\n")
		}
	}
	if fence != "" {
		return nil, fmt.Errorf("line %d: the block is never closed", begin-1)
	}
	return blocks, nil
}

// isFile reports whether the block is a Go file rather than a fragment of one.
func (b block) isFile() bool {
	_, err := parser.ParseFile(token.NewFileSet(), "", b.text, parser.PackageClauseOnly)
	return err == nil
}

// readmeProblems finds the Go blocks of README.md that readers could not rely
// on: files that do not compile, and fragments that no Example contains.
func readmeProblems(t *testing.T, markdown string, files []goFile) []string {
	blocks, err := goBlocks(markdown)
	if err != nil {
		return []string{"README.md: " + err.Error()}
	}
	var problems []string
	for _, b := range blocks {
		if b.isFile() {
			if out := compile(t, b); out != "" {
				problems = append(problems, fmt.Sprintf("README.md:%d: does not compile:\n%s", b.line, out))
			}
		} else if !slices.ContainsFunc(files, func(f goFile) bool { return hasExample(f) && containsLines(f.text, b.text) }) {
			problems = append(problems, fmt.Sprintf("README.md:%d: this fragment stands in no file with an Example: "+
				"make it a region of one, or a complete program", b.line))
		}
	}
	return problems
}

// hasExample reports whether a file holds a testable example.
func hasExample(f goFile) bool {
	return f.isTest() && slices.ContainsFunc(f.ast.Decls, func(decl ast.Decl) bool {
		fn, ok := decl.(*ast.FuncDecl)
		return ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Example")
	})
}

// containsLines reports whether the lines of the fragment follow each other in
// the text, all indented by the same amount or not at all.
func containsLines(text, fragment string) bool {
	want := unindent(strings.Split(strings.Trim(fragment, "\n"), "\n"))
	lines := strings.Split(text, "\n")
	for i := 0; i+len(want) <= len(lines); i++ {
		if slices.Equal(unindent(lines[i:i+len(want)]), want) {
			return true
		}
	}
	return false
}

// unindent returns the lines without the indentation that they have in common
// and without trailing space.
func unindent(lines []string) []string {
	indent, first := "", true
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		own := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if first {
			indent, first = own, false
		}
		for !strings.HasPrefix(own, indent) {
			indent = indent[:len(indent)-1]
		}
	}
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = strings.TrimRight(strings.TrimPrefix(line, indent), " \t\r")
	}
	return out
}

// compile builds a Go file in a module of its own, which a workspace ties to all
// modules of the checkout: so nothing is downloaded. It returns what the go
// command complains about.
func compile(t *testing.T, b block) string {
	t.Helper()
	checkout, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var work strings.Builder
	work.WriteString("go 1.26.0\nuse .\n")
	for _, used := range readGoWork(t, "go.work") {
		fmt.Fprintf(&work, "use %q\n", filepath.Join(checkout, filepath.FromSlash(used)))
	}
	for name, text := range map[string]string{
		"go.work": work.String(),
		"go.mod":  "module example.com/reader\n\ngo 1.26\n",
		"main.go": fmt.Sprintf("//line README.md:%d\n%s", b.line, b.text),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(dir, "go.work"))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err == nil {
		return ""
	}
	return string(bytes.TrimSpace(out))
}

func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	files, err := goFiles(repository())
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range readmeProblems(t, string(readme), files) {
		t.Error(problem)
	}
}

func TestReadmeRule(t *testing.T) {
	examples, err := goFiles(memoryFS(map[string]string{
		"a/example_test.go": "package a_test\n\ntype pod struct{}\n\nfunc Example() {\n\tif true {\n\t\tfirst()\n\n\t\tsecond(func() {\n\t\t\tthird()\n\t\t})\n\t}\n}\n",
		"a/a_test.go":       "package a_test\n\nfunc TestA() {\n\tfourth()\n}\n",
		"a/a.go":            "package a\n\nfunc Example() {\n\tfifth()\n}\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	fenced := func(code string) string { return "# Title\n\nText.\n\n```go\n" + code + "```\n" }
	const (
		imports  = "package main\n\nimport _ \"" + rootPath + "\"\n\n"
		stranger = "this fragment stands in no file with an Example: make it a region of one, or a complete program"
	)
	for _, test := range []struct {
		name, markdown string
		want           []string // the beginnings of the problems
	}{
		{"no code", "# Title\n", nil},
		{"other languages", "```sh\ngo test\n```\n\n```\nfirst(\n```\n", nil},
		{"program", fenced(imports + "func main() {}\n"), nil},
		{"library file", fenced("package lib\n\nimport _ \"" + rootPath + "\"\n"), nil},
		{"fragment", fenced("first()\n\nsecond(func() {\n\tthird()\n})\n"), nil},
		{"fragment, part of a statement, spaces at the ends", fenced("second(func() { \n\tthird()\n"), nil},
		{"fragment in a list", "- Item:\n\n  ```go\n  first()\n  ```\n", nil},
		{"fragment outside a function", fenced("type pod struct{}\n"), nil},
		{"program that is wrong", fenced(imports + "func main() { undefined() }\n"),
			[]string{"README.md:6: does not compile:\n# example.com/reader\nREADME.md:10: undefined: undefined"}},
		{"program with a syntax error", fenced("package main\n\nfunc main() {\n"), []string{"README.md:6: does not compile:\n"}},
		{"program that is none", fenced("package main\n"), []string{"README.md:6: does not compile:\n"}},
		{"program that imports what users can't", fenced("package main\n\nimport _ \"" + rootPath + "/internal/labels\"\n\nfunc main() {}\n"),
			[]string{"README.md:6: does not compile:\npackage example.com/reader\n\tREADME.md:8: use of internal package"}},
		{"program that imports what is not there", fenced("package main\n\nimport _ \"" + rootPath + "/nothing\"\n\nfunc main() {}\n"),
			[]string{"README.md:6: does not compile:\nREADME.md:8: "}},
		{"fragment of nothing", fenced("sixth()\n"), []string{"README.md:6: " + stranger}},
		{"fragment with a line left out", fenced("first()\nsecond(func() {\n"), []string{"README.md:6: " + stranger}},
		{"fragment indented otherwise", fenced("first()\n\n\tsecond(func() {\n"), []string{"README.md:6: " + stranger}},
		{"fragment of a test without an Example", fenced("fourth()\n"), []string{"README.md:6: " + stranger}},
		{"fragment of no test", fenced("fifth()\n"), []string{"README.md:6: " + stranger}},
		{"second block", fenced("first()\n") + fenced("sixth()\n"), []string{"README.md:13: " + stranger}},
		{"fence with a title", "```go title\nsixth()\n```\n", []string{"README.md:2: " + stranger}},
		{"never closed", "```go\nfirst()\n", []string{"README.md: line 1: the block is never closed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readmeProblems(t, test.markdown, examples)
			if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}
