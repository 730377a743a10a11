// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

func TestErrorText(t *testing.T) {
	for _, test := range []struct {
		err  *store.Error
		want string
	}{
		{&store.Error{Op: "create", Kind: "Pod", Key: store.NewKey("default", "web"), Err: store.ErrAlreadyExists},
			"store: create Pod default/web: already exists"},
		{&store.Error{Op: "get", Kind: "Node", Key: store.NewKey("", "n"), Err: store.ErrNotFound}, "store: get Node n: not found"},
		{&store.Error{Op: "list", Kind: "Deployment.apps", Err: store.ErrUnknownKind}, "store: list Deployment.apps: kind is not registered"},
		{&store.Error{Op: "transaction", Err: store.ErrClosed}, "store: transaction: store is closed"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		wrapped := fmt.Errorf("reconcile: %w", test.err)
		found, ok := errors.AsType[*store.Error](wrapped)
		if !ok || found != test.err || !errors.Is(wrapped, test.err.Err) {
			t.Errorf("%v can't be found in %v", test.err, wrapped)
		}
	}
}

func TestInvalidf(t *testing.T) {
	err := store.Invalidf("field %d: %w", 3, io.ErrUnexpectedEOF)
	if got, want := err.Error(), "invalid: field 3: unexpected EOF"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, store.ErrInvalid) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, store.ErrConflict) {
		t.Errorf("%v matches the wrong errors", err)
	}
}

// TestHookErrorText: what a hook returned is not called invalid twice, and an
// object without a name leaves no hole.
func TestHookErrorText(t *testing.T) {
	st := memory.New(memory.Options{})
	defer st.Close()
	k := store.Kind[*Job]{Name: "Pod", ValidateName: func(string) error { return store.Invalidf("no such name") }}
	h, err := store.Register(st, k)
	if err != nil {
		t.Fatal(err)
	}
	for want, meta := range map[string]store.Meta{
		"store: create Pod a/x: invalid: no such name": {Namespace: "a", Name: "x"},
		"store: create Pod: invalid: the namespace is empty: the kind is namespaced (set one, or give the kind Scope: store.Cluster)": {},
	} {
		if _, err := h.Create(t.Context(), &Job{Meta: meta}); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestSentinels checks that no two sentinels match each other or read alike.
func TestSentinels(t *testing.T) {
	all := []error{
		store.ErrNotFound, store.ErrAlreadyExists, store.ErrConflict, store.ErrInvalid, store.ErrTooOld, store.ErrFuture,
		store.ErrUnknownKind, store.ErrKindExists, store.ErrLeaseLost, store.ErrHookPanic, store.ErrTooLarge,
		store.ErrUnknownOutcome, store.ErrUnsupported, store.ErrClosed,
	}
	for i, a := range all {
		for j, b := range all {
			if i != j && (errors.Is(a, b) || a.Error() == b.Error()) {
				t.Errorf("%v and %v are alike", a, b)
			}
		}
	}
}

func TestNamesOfEnumerations(t *testing.T) {
	ops := []string{"unknown operation", "create", "update", "patch", "delete", "unknown operation"}
	for i, want := range ops {
		if got := store.Op(i).String(); got != want {
			t.Errorf("Op(%d) = %q, want %q", i, got, want)
		}
	}
	events := []string{"UNKNOWN", "ADDED", "MODIFIED", "DELETED", "SYNCED", "BOOKMARK", "UNKNOWN"}
	for i, want := range events {
		if got := store.EventType(i).String(); got != want {
			t.Errorf("EventType(%d) = %q, want %q", i, got, want)
		}
	}
}
