// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

func TestOwners(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	a, b := f.hull("a"), f.hull("b")
	yard, err := f.yards.Create(ctx, &yard{Meta: store.Meta{Name: "y"}})
	must(t, err)

	p := newPlank("p")
	must(t, reconcile.SetOwner(f.planks, p, f.yards, yard))
	must(t, reconcile.SetOwner(f.planks, p, f.hulls, a))
	if _, ok := reconcile.ControllerOf(f.planks, p); ok {
		t.Error("controlled by a plain owner")
	}
	must(t, reconcile.SetController(f.planks, p, f.hulls, a)) // from plain owner to controller, in place
	must(t, reconcile.SetController(f.planks, p, f.hulls, a))
	must(t, reconcile.SetOwner(f.planks, p, f.hulls, a)) // stays the controller
	must(t, reconcile.SetOwner(f.planks, p, f.hulls, b))
	p, err = f.planks.Create(ctx, p) // the store checks the references, too
	must(t, err)
	want := []store.OwnerReference{
		{APIVersion: "v1", Kind: "Yard", Name: "y", UID: yard.UID},
		{APIVersion: "sea.example.com/v1", Kind: "Hull", Name: "a", UID: a.UID, Controller: new(true), BlockOwnerDeletion: new(true)},
		{APIVersion: "sea.example.com/v1", Kind: "Hull", Name: "b", UID: b.UID},
	}
	if d := cmp.Diff(want, p.OwnerReferences); d != "" {
		t.Errorf("owners (-want +got):\n%s", d)
	}
	if ref, ok := reconcile.ControllerOf(f.planks, p); !ok || ref.UID != a.UID {
		t.Errorf("controlled by %+v, %v", ref, ok)
	}
	if !reconcile.IsControlledBy(f.planks, p, f.hulls, a) || reconcile.IsControlledBy(f.planks, p, f.hulls, b) || reconcile.IsControlledBy(f.planks, p, f.yards, yard) {
		t.Error("IsControlledBy: want a, and neither b nor the yard")
	}
	if reconcile.IsControlledBy(f.planks, p, f.hulls, newHull("a")) {
		t.Error("controlled by a hull without UID")
	}

	own := p.DeepCopy()
	if !reconcile.RemoveOwner(f.planks, own, f.hulls, a) || reconcile.RemoveOwner(f.planks, own, f.hulls, a) {
		t.Error("RemoveOwner: want true once")
	}
	if len(own.OwnerReferences) != 2 || len(p.OwnerReferences) != 3 {
		t.Errorf("left are %d, and the shared object has %d", len(own.OwnerReferences), len(p.OwnerReferences))
	}
}

// TestTwoControllers keeps an object's controller against another, and against
// another object of the same name.
func TestTwoControllers(t *testing.T) {
	f := newFleet(t)
	a, b := f.hull("a"), f.hull("b")
	p := newPlank("p")
	must(t, reconcile.SetController(f.planks, p, f.hulls, a))
	before := p.DeepCopy()
	err := reconcile.SetController(f.planks, p, f.hulls, b)
	refused(t, "another controller", err, reconcile.ErrOwned,
		"Plank sea/p is controlled by Hull a (UID "+a.UID+"), not by Hull b (UID "+b.UID+")")
	if owned := new(reconcile.OwnedError); !errors.As(err, &owned) || owned.Has.Name != "a" || owned.Wanted.Name != "b" {
		t.Errorf("error %#v", err)
	}
	again := a.DeepCopy()
	again.UID = "another"
	refused(t, "its name, another UID", reconcile.SetController(f.planks, p, f.hulls, again), reconcile.ErrOwned, "UID another")
	if d := cmp.Diff(before, p); d != "" {
		t.Errorf("what was refused changed the object:\n%s", d)
	}
}

func TestOwnersBadInput(t *testing.T) {
	f := newFleet(t)
	a := f.hull("a")
	elsewhere := newPlank("p")
	elsewhere.Namespace = "lake"
	for _, test := range []struct {
		name string
		err  error
		text string
	}{
		{"nil object", reconcile.SetController(f.planks, nil, f.hulls, a), "the Plank to be owned is nil"},
		{"nil owner", reconcile.SetOwner(f.planks, newPlank("p"), f.hulls, nil), "the Hull.sea.example.com to own Plank sea/p is nil"},
		{"no UID", reconcile.SetController(f.planks, newPlank("p"), f.hulls, newHull("a")), "has no UID: create it first"},
		{"another namespace", reconcile.SetController(f.planks, elsewhere, f.hulls, a), "must be in the namespace"},
		{"no namespace yet", reconcile.SetController(f.planks, &plank{}, f.hulls, a), "must be in the namespace"},
		{"cluster-scoped", reconcile.SetOwner(f.yards, &yard{Meta: store.Meta{Name: "y"}}, f.hulls, a), "can't own what is in none"},
		{"itself", reconcile.SetOwner(f.hulls, newHull("a"), f.hulls, a), "can't own itself"},
	} {
		refused(t, test.name, test.err, store.ErrInvalid, test.text)
	}
}
