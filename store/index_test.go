// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/store"
)

func TestParseFieldSelector(t *testing.T) {
	for _, test := range []struct {
		text      string
		want      store.FieldSelector
		canonical string // "": as text
	}{
		{"", nil, ""},
		{"a=b", store.FieldSelector{{Name: "a", Value: "b"}}, ""},
		{"a==b", store.FieldSelector{{Name: "a", Value: "b"}}, "a=b"},
		{"a!=b", store.FieldSelector{{Name: "a", Value: "b", Not: true}}, ""},
		{"a=", store.FieldSelector{{Name: "a"}}, ""},
		{"a==", store.FieldSelector{{Name: "a"}}, "a="},
		{"a!=", store.FieldSelector{{Name: "a", Not: true}}, ""},
		{"spec.nodeName=node-1,status.phase!=Failed", store.FieldSelector{
			{Name: "spec.nodeName", Value: "node-1"}, {Name: "status.phase", Value: "Failed", Not: true},
		}, ""},
		{" a =b, c\t!= d ", store.FieldSelector{{Name: "a", Value: "b"}, {Name: "c", Value: " d ", Not: true}}, "a=b,c!= d "},
		{`a=1\,2\=3\\`, store.FieldSelector{{Name: "a", Value: `1,2=3\`}}, ""},
		{`a=\\,b=\,`, store.FieldSelector{{Name: "a", Value: `\`}, {Name: "b", Value: ","}}, ""},
		{"é=ü", store.FieldSelector{{Name: "é", Value: "ü"}}, ""},
		{"a=!", store.FieldSelector{{Name: "a", Value: "!"}}, ""},
	} {
		got, err := store.ParseFieldSelector(test.text)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("ParseFieldSelector(%q) = %+v, %v, want %+v", test.text, got, err, test.want)
		}
		if canonical := got.String(); canonical != test.canonical && canonical != test.text {
			t.Errorf("ParseFieldSelector(%q).String() = %q, want %q", test.text, canonical, test.canonical)
		}
	}
}

func TestParseFieldSelectorErrors(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"a", "at position 1: want '=', '==' or '!=' after \"a\""},
		{"a!", "at position 2: want '=', '==' or '!=' after \"a\""},
		{"a=b,c", "at position 5: want '=', '==' or '!=' after \"c\""},
		{"=b", "at position 0: want a field name"},
		{"a=b, =c", "at position 5: want a field name"},
		{"!=b", "at position 0: want a field name"},
		{",a=b", "at position 0: want a field name"},
		{"a=b,,c=d", "at position 4: want a field name"},
		{" ", "at position 1: want a field name"},
		{"a=b,", "at position 4: want a field name, got the end"},
		{"a=b, ", "at position 5: want a field name"},
		{"a b=c", "at position 1: a field name has no ' '"},
		{"a!b=c", "at position 1: a field name has no '!'"},
		{"a! =c", "at position 1: a field name has no '!'"},
		{`a=b,c\,d=e`, `at position 5: a field name has no '\\'`},
		{"a=b=c", `at position 3: '=' and '\' in a value are written '\=' and '\\'`},
		{"a===b", `at position 3: '=' and`},
		{"a!==b", `at position 3: '=' and`},
		{`a=b,c=d\e`, `at position 7: '=' and`},
		{`a=b\`, `at position 3: '=' and`},
	} {
		got, err := store.ParseFieldSelector(test.text)
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), test.want) || got != nil {
			t.Errorf("ParseFieldSelector(%q) = %v, %v, want an error with %q", test.text, got, err, test.want)
		}
	}
}

// FuzzParseFieldSelector writes what it could read, and reads that again.
func FuzzParseFieldSelector(f *testing.F) {
	for _, text := range []string{"", "a=b", "a!=b,c==d", `a=\,\=\\`, " a =b", "a! =b", "a!==b", ",", "é=\xff", `a\,=b`, "a\u00a0=b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := store.ParseFieldSelector(text)
		if err != nil {
			if !errors.Is(err, store.ErrInvalid) {
				t.Fatalf("%q: %v is not invalid", text, err)
			}
			return
		}
		again, err := store.ParseFieldSelector(s.String())
		if err != nil || !slices.Equal(again, s) {
			t.Fatalf("%q is read as %+v, which is written as %q, which is read as %+v, %v", text, s, s, again, err)
		}
	})
}

// TestFieldSelectorAnd adds to one selector twice: neither result may show the
// other's condition.
func TestFieldSelectorAnd(t *testing.T) {
	base := make(store.FieldSelector, 1, 8)
	base[0] = store.FieldCondition{Name: "a", Value: "1"}
	b := base.And(store.FieldSelector{{Name: "b", Value: "2"}})
	c := base.And(store.FieldSelector{{Name: "c", Value: "3", Not: true}})
	if got := b.String() + " " + c.String() + " " + base.String(); got != "a=1,b=2 a=1,c!=3 a=1" {
		t.Errorf("got %s", got)
	}
	if got := (store.FieldSelector)(nil).And(nil).String(); got != "" {
		t.Errorf("nothing and nothing is %q", got)
	}
}

func TestIndexIs(t *testing.T) {
	x := store.NewIndex("spec.node", func(*thing) string { return "" })
	want := store.FieldSelector{{Name: "spec.node", Value: "a,b"}}
	if got := x.Is("a,b"); !slices.Equal(got, want) || x.Name() != "spec.node" {
		t.Errorf("Is = %+v, want %+v", got, want)
	}
	if got := x.Is("a,b").String(); got != `spec.node=a\,b` {
		t.Errorf("as text: %s", got)
	}
}
