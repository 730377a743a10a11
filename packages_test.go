// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packageCommentProblems finds packages without exactly one package comment, or
// whose comment does not begin as godoc expects it to. Test files are no place
// for it, except in packages that consist of nothing else, which may do without.
func packageCommentProblems(files []goFile) []string {
	packages := map[string][]goFile{} // by directory and name
	for _, f := range files {
		if !isIgnored(f) && !strings.HasSuffix(f.ast.Name.Name, "_test") {
			key := f.dir() + " " + f.ast.Name.Name
			packages[key] = append(packages[key], f)
		}
	}
	var problems []string
	for _, key := range slices.Sorted(maps.Keys(packages)) {
		problems = append(problems, packageComment(packages[key])...)
	}
	return problems
}

// packageComment checks the comments of one package.
func packageComment(files []goFile) []string {
	var problems, commented []string
	code := slices.ContainsFunc(files, func(f goFile) bool { return !f.isTest() })
	for _, f := range files {
		if f.ast.Doc == nil {
			continue
		}
		commented = append(commented, f.name)
		begin := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			begin = "Command "
		}
		if code && f.isTest() {
			problems = append(problems, f.problem(f.ast.Doc, "the package comment belongs in doc.go, not in a test file"))
		}
		if !strings.HasPrefix(f.ast.Doc.Text(), begin) {
			problems = append(problems, f.problem(f.ast.Doc, "the package comment must begin with %q", begin))
		}
	}
	switch {
	case len(commented) == 0 && code:
		problems = append(problems, fmt.Sprintf("%s: package %s has no package comment: write doc.go", files[0].dir(), files[0].ast.Name.Name))
	case len(commented) > 1:
		problems = append(problems, fmt.Sprintf("%s: package %s has %d package comments, want one: %s",
			files[0].dir(), files[0].ast.Name.Name, len(commented), strings.Join(commented, ", ")))
	}
	return problems
}

// isIgnored reports whether a build constraint takes the file out of every
// package, as with programs that generate code.
func isIgnored(f goFile) bool {
	for _, group := range f.ast.Comments {
		if group.Pos() > f.ast.Package {
			break
		}
		for _, line := range group.List {
			if expr, err := constraint.Parse(line.Text); err == nil && expr.String() == "ignore" {
				return true
			}
		}
	}
	return false
}

func TestPackageComments(t *testing.T) {
	testGoRule(t, packageCommentProblems, []seed{
		{"good", map[string]string{
			"a/a.go": "package a\n", "a/doc.go": "// Package a is good.\npackage a\n", "a/a_test.go": "package a_test\n",
			"b/main.go":   "// Command b is good.\npackage main\n",
			"c/c_test.go": "package c\n",
			"d/doc.go":    "// Package d is good.\npackage d\n",
			"d/gen.go":    "//go:build ignore\n\npackage main\n",
		}, nil},
		{"none", map[string]string{"a/a.go": "// Copyright.\n\npackage a\n"},
			[]string{"a: package a has no package comment: write doc.go"}},
		{"two", map[string]string{"a/a.go": "// Package a is one.\npackage a\n", "a/b.go": "// Package a is two.\npackage a\n"},
			[]string{"a: package a has 2 package comments, want one: a/a.go, a/b.go"}},
		{"in a test file", map[string]string{"a/a.go": "package a\n", "a/a_test.go": "// Package a is hidden.\npackage a\n"},
			[]string{"a/a_test.go:1: the package comment belongs in doc.go, not in a test file"}},
		{"of another name", map[string]string{"a/a.go": "\n// Package b is misnamed.\npackage a\n"},
			[]string{`a/a.go:2: the package comment must begin with "Package a "`}},
		{"command", map[string]string{"a/a.go": "// Package main runs.\npackage main\n"},
			[]string{`a/a.go:1: the package comment must begin with "Command "`}},
		{"two in one directory", map[string]string{"a/a.go": "// Package a is good.\npackage a\n", "a/b.go": "//go:build linux\n\npackage main\n"},
			[]string{"a: package main has no package comment: write doc.go"}},
	})
}

// stateProblems finds what runs or can be changed behind a user's back: init
// functions, and exported variables of packages that can be imported. Sentinel
// errors are the exception that Go's habits make.
func stateProblems(files []goFile) []string {
	var problems []string
	for _, f := range files {
		for _, decl := range f.ast.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil && decl.Name.Name == "init" {
					problems = append(problems, f.problem(decl, "no init functions: initialise in a constructor"))
				}
			case *ast.GenDecl:
				if decl.Tok == token.VAR && !f.isTest() && f.ast.Name.Name != "main" {
					problems = append(problems, exportedVariables(f, decl)...)
				}
			}
		}
	}
	return problems
}

var sentinel = regexp.MustCompile(`^Err[A-Z]`)

func exportedVariables(f goFile, decl *ast.GenDecl) []string {
	var problems []string
	for _, spec := range decl.Specs {
		for _, name := range spec.(*ast.ValueSpec).Names {
			if name.IsExported() && !sentinel.MatchString(name.Name) {
				problems = append(problems, f.problem(name, "exported variable %s: anyone could change it; make it a constant or a function", name.Name))
			}
		}
	}
	return problems
}

func TestPackageState(t *testing.T) {
	testGoRule(t, stateProblems, []seed{
		{"good", map[string]string{
			"a/a.go":      "package a\n\nimport \"errors\"\n\nvar ErrGone = errors.New(\"gone\")\n\nvar _ = 1\n\nvar table = [2]int{}\n\nconst Max = 1\n\ntype T struct{}\n\nfunc (T) init() {}\n\nfunc f() { var Local int; _ = Local }\n",
			"a/a_test.go": "package a\n\nvar Exported = 1\n",
			"b/main.go":   "package main\n\nvar Flag = 1\n",
		}, nil},
		{"init", map[string]string{"a/a.go": "package a\n\nfunc init() {}\n", "a/a_test.go": "package a\n\nfunc init() {}\n"},
			[]string{
				"a/a.go:3: no init functions: initialise in a constructor",
				"a/a_test.go:3: no init functions: initialise in a constructor",
			}},
		{"exported variable", map[string]string{"a/a.go": "package a\n\nvar (\n\tx, Default = 1, 2\n\tErrors []error\n)\n"},
			[]string{
				"a/a.go:4: exported variable Default: anyone could change it; make it a constant or a function",
				"a/a.go:5: exported variable Errors: anyone could change it; make it a constant or a function",
			}},
	})
}
