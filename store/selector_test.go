// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"testing"

	"github.com/slipway-dev/slipway/store"
)

func TestSelector(t *testing.T) {
	web := map[string]string{"app": "web", "env": "prod"}
	for _, test := range []struct {
		text string
		set  map[string]string
		want bool
	}{
		{"", nil, true},
		{"app=web", web, true},
		{"app=web", nil, false},
		{"app!=web", nil, true},
		{"env in (prod, qa),app", web, true},
		{"env notin (prod)", web, false},
		{"env notin (prod)", nil, true},
		{"!legacy", web, true},
		{"!app", web, false},
	} {
		s, err := store.ParseSelector(test.text)
		if err != nil {
			t.Errorf("ParseSelector(%q): %v", test.text, err)
			continue
		}
		if got := s.Matches(test.set); got != test.want {
			t.Errorf("%q matches %v: %t, want %t", test.text, test.set, got, test.want)
		}
		if s.Empty() != (test.text == "") {
			t.Errorf("%q: Empty = %t", test.text, s.Empty())
		}
		again, err := store.ParseSelector(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q is written as %q, which is read as %q, %v", test.text, s, again, err)
		}
	}
}

func TestSelectorErrors(t *testing.T) {
	_, err := store.ParseSelector("app=web,,x")
	syntax, ok := errors.AsType[*store.SelectorSyntaxError](err)
	if !ok || !errors.Is(err, store.ErrInvalid) || syntax.Pos != 8 {
		t.Errorf("error %v (%+v), want an invalid one with a syntax error at 8", err, syntax)
	}
	if _, err := store.MatchLabels(map[string]string{"-": "x"}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("MatchLabels of a bad key: %v", err)
	}
	if _, err := store.MatchLabels(map[string]string{"a": "-"}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("MatchLabels of a bad value: %v", err)
	}
	var all store.Selector
	for _, test := range []struct {
		op     store.SelectorOperator
		values []string
	}{{store.In, nil}, {store.NotIn, nil}, {store.Exists, []string{"x"}}, {store.DoesNotExist, []string{"x"}}} {
		if s, err := all.And("a", test.op, test.values...); !errors.Is(err, store.ErrInvalid) || !s.Empty() {
			t.Errorf("And(a, %v, %q) = %v, %v, want an invalid error", test.op, test.values, s, err)
		}
	}
}

// TestSelectorAnd adds to one selector twice: neither result may show the other's
// condition.
func TestSelectorAnd(t *testing.T) {
	and := func(s store.Selector, key string, op store.SelectorOperator, values ...string) store.Selector {
		t.Helper()
		s, err := s.And(key, op, values...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base := and(and(and(store.Selector{}, "a", store.In, "1"), "b", store.Exists), "c", store.DoesNotExist)
	x, y := and(base, "x", store.In, "1", "2"), and(base, "y", store.NotIn, "3")
	if got, want := x.String(), "a=1,b,!c,x in (1,2)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := y.String(), "a=1,b,!c,y!=3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	set, err := store.MatchLabels(map[string]string{"b": "2", "a": "1"})
	if err != nil || set.String() != "a=1,b=2" {
		t.Errorf("MatchLabels = %s, %v", set, err)
	}
}
