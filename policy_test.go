// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// The tests of this package are the rules of the repository. Each rule is a
// function from files to problems ("file:line: what is wrong, and what would be
// right"); its test applies it to the repository, and a table of small bad inputs
// shows that it can fail.
//
// The rules read Go files by parsing them, not by asking the go command, so that
// they hold for every platform and build tag, and so that the go command sees
// which files a cached test result depends on.

// rootPath is the path of the root module and the prefix of all others.
const rootPath = "github.com/slipway-dev/slipway"

// A goFile is a parsed Go file of the repository.
type goFile struct {
	name string // slash-separated, from the root
	text string
	fset *token.FileSet
	ast  *ast.File
}

func (f goFile) dir() string  { return path.Dir(f.name) }
func (f goFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// problem formats a finding at a node of the file.
func (f goFile) problem(n ast.Node, format string, args ...any) string {
	line := f.fset.Position(n.Pos()).Line
	return fmt.Sprintf("%s:%d: %s", f.name, line, fmt.Sprintf(format, args...))
}

// repository is the checkout: tests run in the directory of their package.
func repository() fs.FS { return os.DirFS(".") }

// goFiles parses the Go files of the tree, all modules included.
func goFiles(tree fs.FS) ([]goFile, error) {
	var files []goFile
	err := walk(tree, func(name string) error {
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, goFile{name, string(text), fset, parsed})
		return nil
	})
	return files, err
}

// walk calls visit for each file that the go command would look at: not below
// testdata, nor below directories whose name begins with a dot or an underscore.
func walk(tree fs.FS, visit func(name string) error) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case !d.IsDir():
			return visit(name)
		case name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_'):
			return fs.SkipDir
		}
		return nil
	})
}

// A seed is a small tree and the problems that a rule finds in it.
type seed struct {
	name  string
	files map[string]string
	want  []string
}

// testGoRule applies a rule about Go files to the repository and to its seeds.
func testGoRule(t *testing.T, rule func([]goFile) []string, seeds []seed) {
	t.Helper()
	testRule(t, func(tree fs.FS) ([]string, error) {
		files, err := goFiles(tree)
		return rule(files), err
	}, seeds)
}

// testRule applies a rule to the repository and to its seeds.
func testRule(t *testing.T, rule func(fs.FS) ([]string, error), seeds []seed) {
	t.Helper()
	problems, err := rule(repository())
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
	for _, s := range seeds {
		t.Run(s.name, func(t *testing.T) {
			got, err := rule(memoryFS(s.files))
			if err != nil {
				t.Fatal(err)
			}
			expect(t, got, s.want)
		})
	}
}

// expect compares the problems that a rule found with those it should find.
func expect(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("problems:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func memoryFS(files map[string]string) fs.FS {
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return tree
}
