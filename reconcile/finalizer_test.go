// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

const holdFinalizer = "sea.example.com/hold"

func TestFinalizers(t *testing.T) {
	shared := []string{"a.example.com/x"}
	h := newHull("h")
	h.Finalizers = shared[:1:1]
	for _, test := range []struct {
		do   func() bool
		want bool
		left []string
	}{
		{func() bool { ok, err := reconcile.AddFinalizer(h, holdFinalizer); must(t, err); return ok }, true, []string{"a.example.com/x", holdFinalizer}},
		{func() bool { ok, err := reconcile.AddFinalizer(h, holdFinalizer); must(t, err); return ok }, false, []string{"a.example.com/x", holdFinalizer}},
		{func() bool { return reconcile.HasFinalizer(h, holdFinalizer) }, true, []string{"a.example.com/x", holdFinalizer}},
		{func() bool { return reconcile.RemoveFinalizer(h, "a.example.com/x") }, true, []string{holdFinalizer}},
		{func() bool { return reconcile.RemoveFinalizer(h, "a.example.com/x") }, false, []string{holdFinalizer}},
		{func() bool { return reconcile.HasFinalizer(h, "a.example.com/x") }, false, []string{holdFinalizer}},
	} {
		if got := test.do(); got != test.want || !slices.Equal(h.Finalizers, test.left) {
			t.Errorf("%v, finalizers %v; want %v, %v", got, h.Finalizers, test.want, test.left)
		}
	}
	if shared[0] != "a.example.com/x" {
		t.Errorf("the slice that was shared is now %v", shared)
	}
	for _, name := range []string{"", "hold", "/hold", "example.com/", "Example.com/hold", "example.com/ho ld", "foregroundDeletions"} {
		added, err := reconcile.AddFinalizer(h, name)
		refused(t, name, err, store.ErrInvalid, "finalizer", "want a domain")
		if added {
			t.Errorf("%q was added", name)
		}
	}
	for _, name := range []string{reconcile.FinalizerForeground, reconcile.FinalizerOrphan, "x/y"} {
		if _, err := reconcile.AddFinalizer(h, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFinalize runs an object's life as a controller sees it.
func TestFinalize(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	h := f.hull("h")
	cleaned, fail := 0, errors.New("the pump is broken")
	cleanup := func(context.Context, *hull) error { cleaned++; return fail }
	run := func(h *hull) (*hull, bool, error) {
		return reconcile.Finalize(ctx, f.hulls, h, holdFinalizer, cleanup)
	}

	h2, deleted, err := run(h)
	must(t, err)
	if deleted || !reconcile.HasFinalizer(h2, holdFinalizer) || h2.ResourceVersion == h.ResourceVersion {
		t.Fatalf("a living object: deleted %v, %+v", deleted, h2.Meta)
	}
	h3, _, err := run(h2)
	must(t, err)
	if h3 != h2 {
		t.Error("written again although nothing was missing")
	}
	gone, err := f.hulls.Delete(ctx, store.KeyOf(h))
	must(t, err)
	if _, deleted, err = run(gone); err != fail || !deleted || cleaned != 1 {
		t.Fatalf("a cleanup that fails: deleted %v, error %v, cleaned %d times", deleted, err, cleaned)
	}
	fail = nil
	if _, deleted, err = run(gone); err != nil || !deleted || cleaned != 2 {
		t.Fatalf("a cleanup that works: deleted %v, error %v, cleaned %d times", deleted, err, cleaned)
	}
	if _, err := f.hulls.Get(ctx, store.KeyOf(h)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the object is still there: %v", err)
	}
	// From here on the caller's object is out of date.
	if _, deleted, err = run(gone); err != nil || !deleted {
		t.Errorf("gone meanwhile, while it was being deleted: deleted %v, error %v", deleted, err)
	}
	if _, deleted, err = run(h); err != nil || !deleted {
		t.Errorf("gone meanwhile, and alive when read: deleted %v, error %v", deleted, err)
	}
	again := f.hull("h")
	_, _, err = run(h)
	refused(t, "another of that name", err, store.ErrConflict)
	if now, err := f.hulls.Get(ctx, store.KeyOf(again)); err != nil || len(now.Finalizers) != 0 {
		t.Errorf("the other has the finalizers %v (%v)", now.Finalizers, err)
	}
}

// TestFinalizeMarkedMeanwhile adds no finalizer to what is being deleted, though
// the caller has not seen that yet.
func TestFinalizeMarkedMeanwhile(t *testing.T) {
	f := newFleet(t)
	h := newHull("h")
	h.Finalizers = []string{"other.example.com/x"}
	h, err := f.hulls.Create(t.Context(), h)
	must(t, err)
	_, err = f.hulls.Delete(t.Context(), store.KeyOf(h))
	must(t, err)
	now, deleted, err := reconcile.Finalize(t.Context(), f.hulls, h, holdFinalizer, func(context.Context, *hull) error {
		t.Error("cleanup was called without the finalizer")
		return nil
	})
	if err != nil || !deleted || reconcile.HasFinalizer(now, holdFinalizer) {
		t.Errorf("deleted %v, error %v, finalizers %v", deleted, err, now.Finalizers)
	}
	if _, deleted, err = reconcile.Finalize(t.Context(), f.hulls, now, holdFinalizer, func(context.Context, *hull) error {
		t.Error("cleanup was called without the finalizer")
		return nil
	}); err != nil || !deleted {
		t.Errorf("without the finalizer: deleted %v, error %v", deleted, err)
	}
}

func TestFinalizeBadInput(t *testing.T) {
	f := newFleet(t)
	h := f.hull("h")
	cleanup := func(context.Context, *hull) error { return nil }
	_, _, err := reconcile.Finalize(t.Context(), f.hulls, nil, holdFinalizer, cleanup)
	refused(t, "nil object", err, store.ErrInvalid, "the object is nil")
	_, _, err = reconcile.Finalize(t.Context(), f.hulls, h, holdFinalizer, nil)
	refused(t, "nil cleanup", err, store.ErrInvalid, "cleanup function is nil")
	_, _, err = reconcile.Finalize(t.Context(), f.hulls, h, "hold", cleanup)
	refused(t, "bad name", err, store.ErrInvalid, `finalizer "hold"`)
}
