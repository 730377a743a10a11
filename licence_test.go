// SPDX-License-Identifier: Apache-2.0

package slipway_test

import (
	"strings"
	"testing"
)

const licenceHeader = "// SPDX-License-Identifier: Apache-2.0\n\n"

// licenceProblems finds the files that do not begin with the licence header.
func licenceProblems(files []goFile) []string {
	var problems []string
	for _, f := range files {
		if !strings.HasPrefix(f.text, licenceHeader) {
			problems = append(problems, f.name+":1: must begin with the line "+
				strings.TrimSpace(licenceHeader)+" and a blank line")
		}
	}
	return problems
}

func TestLicenceHeaders(t *testing.T) {
	const problem = "a.go:1: must begin with the line // SPDX-License-Identifier: Apache-2.0 and a blank line"
	testGoRule(t, licenceProblems, []seed{
		{"good", map[string]string{"a.go": licenceHeader + "package a\n"}, nil},
		{"none", map[string]string{"a.go": "package a\n"}, []string{problem}},
		{"another licence", map[string]string{"a.go": "// SPDX-License-Identifier: MIT\n\npackage a\n"}, []string{problem}},
		{"not the first line", map[string]string{"a.go": "\n" + licenceHeader + "package a\n"}, []string{problem}},
		{"part of the package comment", map[string]string{"a.go": "// SPDX-License-Identifier: Apache-2.0\npackage a\n"}, []string{problem}},
		{"outside the repository's code", map[string]string{"testdata/a.go": "package a\n", ".cache/b.go": "package b\n"}, nil},
	})
}
