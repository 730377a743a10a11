// SPDX-License-Identifier: Apache-2.0

package core

import (
	"errors"
	"testing"

	"github.com/slipway-dev/slipway/store"
)

func tokenList(t testing.TB) (*store.Schema, *store.ListOptions) {
	labels, err := store.ParseSelector("app=web")
	if err != nil {
		t.Fatal(err)
	}
	return itemSchema(t), &store.ListOptions{Namespace: "ns", Labels: labels, Fields: store.FieldSelector{{Name: "node", Value: "a"}}}
}

// FuzzToken changes a token: what is still read must say what the token said.
func FuzzToken(f *testing.F) {
	schema, opts := tokenList(f)
	sent := token{Revision: 12, Namespace: "ns", Name: "web-1", Remaining: 34}
	text := sent.String(schema, opts)
	for _, seed := range []string{
		text, "", ".", text + "0", text[1:], text[:len(text)-1], text[:len(text)-9], text + "\n", "\n" + text,
		"e30.00000000", token{Revision: 13}.String(schema, opts),
		token{Revision: 12, Namespace: "ns", Name: "web-1", Remaining: 35}.String(itemSchema(f), &store.ListOptions{}),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, changed string) {
		got, err := parseToken(changed, schema, opts)
		switch {
		case err == nil && got != sent && changed != got.String(schema, opts):
			t.Errorf("%q is read as %+v", changed, got)
		case err != nil && changed == text:
			t.Errorf("the token as it was returned: %v", err)
		case err != nil && !errors.Is(err, store.ErrInvalid):
			t.Errorf("%q: %v is not invalid", changed, err)
		}
	})
}

// TestTokenChanges flips each bit of a token, and cuts it at each place.
func TestTokenChanges(t *testing.T) {
	schema, opts := tokenList(t)
	sent := token{Revision: 12, Namespace: "ns", Name: "web-1", Remaining: -1}
	text := sent.String(schema, opts)
	refuse := func(changed string) {
		t.Helper()
		// The last digit of base 64 has bits that say nothing: a change of them is
		// no change of what the token says.
		if got, err := parseToken(changed, schema, opts); err == nil && got != sent {
			t.Errorf("%q, changed from %q, is read as %+v", changed, text, got)
		} else if err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %v is not invalid", changed, err)
		}
	}
	for i := range text {
		for bit := range 8 {
			b := []byte(text)
			b[i] ^= 1 << bit
			refuse(string(b))
		}
		if _, err := parseToken(text[:i], schema, opts); err == nil {
			t.Errorf("%q, cut from %q, is read", text[:i], text)
		}
	}
}

// TestTokenOfAnotherList takes a token to lists that differ in one respect.
func TestTokenOfAnotherList(t *testing.T) {
	schema, opts := tokenList(t)
	sent := token{Revision: 12, Name: "web-1"}
	text := sent.String(schema, opts)
	if got, err := parseToken(text, schema, opts); err != nil || got != sent {
		t.Fatalf("the same list: %+v, %v, want %+v", got, err, sent)
	}
	limited := *opts
	limited.Limit, limited.AtLeast = 5, 12
	if got, err := parseToken(text, schema, &limited); err != nil || got != sent {
		t.Errorf("with another limit: %+v, %v, want %+v", got, err, sent)
	}
	other, err := store.Kind[*item]{Name: "Other"}.Schema()
	if err != nil {
		t.Fatal(err)
	}
	namespace, labels, fields := *opts, *opts, *opts
	namespace.Namespace, labels.Labels, fields.Fields = "", store.Selector{}, nil
	for name, list := range map[string]struct {
		schema *store.Schema
		opts   *store.ListOptions
	}{
		"kind": {other, opts}, "namespace": {schema, &namespace}, "labels": {schema, &labels}, "fields": {schema, &fields},
	} {
		if got, err := parseToken(text, list.schema, list.opts); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("another %s: %+v, %v, want an invalid error", name, got, err)
		}
	}
}
