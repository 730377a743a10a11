// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/parser"
	"go/token"
	"strings"
)

// firstProgram returns the first fenced block of Go in the Markdown text that is
// a program of its own, and the line it begins at; line 0 if there is none.
func firstProgram(markdown string) (program string, line int) {
	var block strings.Builder
	begin := 0 // the line after the fence that opened the block; 0 outside of one
	for i, text := range strings.Split(markdown, "\n") {
		switch fence := strings.TrimSpace(text); {
		case begin == 0 && fence == "```go":
			begin = i + 2
			block.Reset()
		case begin != 0 && fence == "```":
			if isProgram(block.String()) {
				return block.String(), begin
			}
			begin = 0
		case begin != 0:
			block.WriteString(text + "\n")
		}
	}
	return "", 0
}

// isProgram reports whether the text has a package clause that says main: the
// compiler judges the rest of it.
func isProgram(text string) bool {
	f, err := parser.ParseFile(token.NewFileSet(), "", text, parser.PackageClauseOnly)
	return err == nil && f.Name.Name == "main"
}
