// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/store"
)

func TestNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	any := func(name string) error { return store.ValidateName("name", name) }
	for _, test := range []struct {
		rule  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{"any", any,
			[]string{"a", "A_b", "web-1.2", "system:node", "...", "é", "a\u00a0b", "-", long(253)},
			[]string{"", ".", "..", "a/b", "/", "a%2f", "a b", "a\x00", "a\tb", "a\n", "\x7f", long(254)}},
		{"label", store.DNSLabel,
			[]string{"a", "0", "web-1", "a--b", long(63)},
			[]string{"", "-a", "a-", "A", "a.b", "a_b", "é", "a ", long(64)}},
		{"subdomain", store.DNSSubdomain,
			[]string{"a", "a.b", "0.1", "web-1.example.com", long(253)},
			[]string{"", ".", "a.", ".a", "a..b", "a.-b", "a-.b", "A.b", "a_b", "a/b", long(254)}},
	} {
		for _, name := range test.good {
			if err := test.check(name); err != nil {
				t.Errorf("%s: %q: %v", test.rule, name, err)
			}
		}
		for _, name := range test.bad {
			if err := test.check(name); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%s: %q: %v, want an invalid error", test.rule, name, err)
			}
		}
	}
	if got, want := any("a/b").Error(), `invalid: name "a/b": must not contain '/'`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
