// SPDX-License-Identifier: Apache-2.0

package netproxy_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDocumentation expects that the first two programs of the package's
// documentation are those of Example_documentation, which runs, and that they
// are short: the rules for one service in fifteen lines, and what they do to a
// packet in five more.
func TestDocumentation(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]string
	inside := false
	for line := range strings.Lines(string(doc)) {
		code, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "//\t")
		if ok && !inside {
			blocks = append(blocks, nil)
		}
		if inside = ok; ok {
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], code)
		}
	}
	if len(blocks) < 2 || len(blocks[0]) > 15 || len(blocks[1]) > 5 {
		t.Fatalf("the rules for a service and the trace of a packet take %q", blocks)
	}
	isComment := func(line string) bool { return strings.HasPrefix(line, "//") }
	want := slices.DeleteFunc(slices.Concat(blocks[0], blocks[1]), isComment)

	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(example), "func Example_documentation() {\n")
	body, _, _ = strings.Cut(body, "\t// Output:")
	var got []string
	for line := range strings.Lines(body) {
		if line = strings.TrimPrefix(strings.TrimRight(line, "\n"), "\t"); line != "check(err)" {
			got = append(got, line)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the documentation has\n%s\nthe example that runs has\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}
