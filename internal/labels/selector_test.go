// SPDX-License-Identifier: Apache-2.0

package labels_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/internal/labels"
)

func TestParseAndMatch(t *testing.T) {
	set := map[string]string{"app": "web", "env": "prod", "gpu": "4", "empty": "", "example.com/x": "y"}
	for _, tt := range []struct {
		text string
		want bool
		back string // the canonical text, where it differs
	}{
		{"", true, ""},
		{"  ", true, ""},
		{"app", true, ""},
		{"!app", false, ""},
		{"! app", false, "!app"},
		{"none", false, ""},
		{"!none", true, ""},
		{"app=web", true, ""},
		{"app==web", true, "app=web"},
		{"app = web , env = prod", true, "app=web,env=prod"},
		{"app!=web", false, ""},
		{"none!=web", true, ""},
		{"empty=", true, ""},
		{"app=", false, ""},
		{"env in (qa,prod)", true, "env in (prod,qa)"},
		{"env in (qa)", false, "env=qa"},
		{"env notin (qa, dev)", true, "env notin (dev,qa)"},
		{"env notin (prod)", false, "env!=prod"},
		{"none notin (a)", true, "none!=a"},
		{"empty in (,a)", true, ""},
		{"gpu>3", true, ""},
		{"gpu>4", false, ""},
		{"gpu<5,gpu>-1", true, ""},
		{"app>3", false, ""},
		{"in in (in)", false, "in=in"},
		{"example.com/x=y", true, ""},
		{"app=web,env=qa", false, ""},
	} {
		s, err := labels.Parse(tt.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.text, err)
			continue
		}
		if got := s.Matches(set); got != tt.want {
			t.Errorf("Parse(%q).Matches(%v) = %v, want %v", tt.text, set, got, tt.want)
		}
		back := tt.back
		if back == "" {
			back = strings.TrimSpace(tt.text)
		}
		if got := s.String(); got != back {
			t.Errorf("Parse(%q).String() = %q, want %q", tt.text, got, back)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct {
		text string
		pos  int // -1: no SyntaxError, but an invalid key or value
		want string
	}{
		{",", 0, "a label key"},
		{"a,", 2, "a label key"},
		{"a b", 2, "an operator"},
		{"a in", 4, "'('"},
		{"a in (b", 7, "',' or ')'"},
		{"a in (b c)", 8, "',' or ')'"},
		{"a=b c", 4, "',' or the end"},
		{"a=b=c", 3, "',' or the end"},
		{"!", 1, "a label key"},
		{"!a=b", 2, "',' or the end"},
		{"a=-", -1, "label value"},
		{"-=a", -1, "label key"},
		{"A.b/c=d", -1, "DNS subdomain"},
		{"a>b", -1, "an integer"},
		{strings.Repeat("a", 64), -1, "1 to 63"},
	} {
		_, err := labels.Parse(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%q) = %v, want an error about %q", tt.text, err, tt.want)
			continue
		}
		syntax, ok := errors.AsType[*labels.SyntaxError](err)
		if ok != (tt.pos >= 0) || ok && syntax.Pos != tt.pos {
			t.Errorf("Parse(%q) = %v, want position %d", tt.text, err, tt.pos)
		}
	}
}

func TestNewRequirementErrors(t *testing.T) {
	for _, tt := range []struct {
		op     labels.Operator
		values []string
	}{
		{labels.In, nil},
		{labels.NotIn, nil},
		{labels.Exists, []string{"a"}},
		{labels.DoesNotExist, []string{"a"}},
		{labels.Gt, []string{"1", "2"}},
		{labels.Lt, []string{"x"}},
		{"Like", []string{"a"}},
		{labels.In, []string{"a b"}},
	} {
		if r, err := labels.NewRequirement("key", tt.op, tt.values...); err == nil {
			t.Errorf("NewRequirement(key, %s, %q) = %v, want an error", tt.op, tt.values, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "a=b,c!=d", "a in (b,c),!d", "a notin (b),e>3,f<4", "a in (", "!!"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := labels.Parse(text)
		if err != nil {
			return
		}
		again, err := labels.Parse(s.String())
		if err != nil {
			t.Fatalf("Parse(%q).String() = %q, which does not parse: %v", text, s, err)
		}
		if again.String() != s.String() {
			t.Fatalf("Parse(%q): %q became %q", text, s, again)
		}
	})
}
