// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func createPromises() []promise {
	return []promise{
		{name: "StampsMetadata", test: createStamps},
		{name: "IsReadBack", test: createReadBack},
		{name: "KeepsACopy", test: createCopies},
		{name: "TakesOver", test: createTakesOver},
		{name: "GeneratesNames", test: createGenerates},
		{name: "AlreadyExists", test: createExists},
		{name: "DemandsNoVersion", test: createVersion},
		{name: "KindsAndNamespacesAreApart", test: createApart},
		{name: "RevisionGrows", test: createGrows},
		{name: "AgainIsAnotherUID", test: createAgain},
	}
}

func createStamps(x *trial) {
	in := object("a", "x", size(7), func(w *widget) {
		w.Generation = 99
		w.DeletionTimestamp = &store.Time{Time: time.Now()}
		w.CreationTimestamp = store.Time{Time: time.Unix(1, 0)}
		w.UID = "mine"
	})
	o := x.create(x.widgets, in)
	if rev := x.revision(o); rev != x.latest() {
		x.Errorf("the resource version is %d, and the store at %d", rev, x.latest())
	}
	if o.UID == "" || o.UID == "mine" {
		x.Errorf("UID %q: want one made by the store", o.UID)
	}
	if o.Generation != 1 {
		x.Errorf("generation %d, want 1", o.Generation)
	}
	if age := time.Since(o.CreationTimestamp.Time); age < 0 || age > patience {
		x.Errorf("creation timestamp %v, want now", o.CreationTimestamp)
	}
	if o.DeletionTimestamp != nil {
		x.Errorf("deletion timestamp %v, want none", o.DeletionTimestamp)
	}
	if o.Spec.Size != 7 {
		x.Errorf("spec %+v, want what was given", o.Spec)
	}
	if in.ResourceVersion != "" || in.UID != "mine" {
		x.Errorf("the caller's object was changed: %+v", in.Meta)
	}
}

func createReadBack(x *trial) {
	in := object("a", "x", node("n1"), tags("t1", "t2"), size(3), phase("Up"), label("app", "web"), finalizers("f"))
	in.Annotations = map[string]string{"note": "ünï"}
	o := x.create(x.widgets, in)
	x.same("get", x.get(x.widgets, key("a", "x")), o)
	x.same("spec", o.Spec, in.Spec)
	x.same("status", o.Status, in.Status)
	x.same("labels", o.Labels, in.Labels)
	x.same("annotations", o.Annotations, in.Annotations)
	x.same("finalizers", o.Finalizers, in.Finalizers)
}

func createCopies(x *trial) {
	in := object("a", "x", tags("t"), label("app", "web"))
	x.create(x.widgets, in)
	in.Spec.Tags[0], in.Labels["app"], in.Spec.Size = "changed", "changed", 9
	o := x.get(x.widgets, key("a", "x"))
	if o.Spec.Tags[0] != "t" || o.Labels["app"] != "web" || o.Spec.Size != 0 {
		x.Errorf("what the caller changed after the write is seen in the store: %+v", o)
	}
	up := o.DeepCopy()
	up.Spec.Size = 5
	x.update(x.widgets, up)
	up.Spec.Size = 6
	if o := x.get(x.widgets, key("a", "x")); o.Spec.Size != 5 {
		x.Errorf("what the caller changed after the update is seen in the store: %+v", o.Spec)
	}
}

func createTakesOver(x *trial) {
	o := x.create(x.widgets, object("a", "x", size(1)), store.WriteOptions{TakeOver: true})
	x.same("get", x.get(x.widgets, key("a", "x")), o)
	up := o.DeepCopy()
	up.Spec.Size = 2
	o = x.update(x.widgets, up, store.WriteOptions{TakeOver: true})
	x.same("get", x.get(x.widgets, key("a", "x")), o)
	if o.Spec.Size != 2 || o.Generation != 2 {
		x.Errorf("after the update: %+v", o)
	}
}

func createGenerates(x *trial) {
	seen := map[string]bool{}
	for range 50 {
		in := object("a", "")
		in.GenerateName = "gen-"
		o := x.create(x.widgets, in)
		if !strings.HasPrefix(o.Name, "gen-") || len(o.Name) <= len("gen-") || seen[o.Name] {
			x.Fatalf("name %q: want a new one that begins with gen-", o.Name)
		}
		seen[o.Name] = true
		x.same("get", x.get(x.widgets, store.KeyOf(o)), o)
		if in.Name != "" {
			x.Fatalf("the caller's object was given the name %q", in.Name)
		}
	}
	in := object("a", "own")
	in.GenerateName = "gen-"
	if o := x.create(x.widgets, in); o.Name != "own" {
		x.Errorf("name %q: want the one that was given", o.Name)
	}
}

func createExists(x *trial) {
	o := x.create(x.widgets, object("a", "x", size(1)))
	_, err := x.widgets.Create(x.ctx, object("a", "x", size(2)))
	x.fails("second create", err, store.ErrAlreadyExists)
	x.same("the object after the second create", x.get(x.widgets, key("a", "x")), o)
	e, ok := errors.AsType[*store.Error](err)
	if !ok || e.Key != key("a", "x") || !strings.Contains(e.Kind, "Widget") {
		x.Errorf("error %v: want a *store.Error that names the kind and the key", err)
	}
}

func createVersion(x *trial) {
	_, err := x.widgets.Create(x.ctx, object("a", "x", version("1")))
	x.fails("create with a resource version", err, store.ErrInvalid)
	x.absent(x.widgets, key("a", "x"))
}

func createApart(x *trial) {
	a := x.create(x.widgets, object("a", "x", size(1)))
	b := x.create(x.widgets, object("b", "x", size(2)))
	g := x.create(x.gizmos, object("a", "x", size(3)))
	r := x.create(x.racks, object("", "x", size(4)))
	x.same("a/x", x.get(x.widgets, key("a", "x")), a)
	x.same("b/x", x.get(x.widgets, key("b", "x")), b)
	x.same("the other kind's a/x", x.get(x.gizmos, key("a", "x")), g)
	x.same("the cluster-scoped x", x.get(x.racks, key("", "x")), r)
	x.delete(x.widgets, key("a", "x"))
	x.same("the other kind's a/x after a/x went", x.get(x.gizmos, key("a", "x")), g)
	if got := x.names(x.widgets, store.ListOptions{}); got != "b/x" {
		x.Errorf("list: %q, want b/x", got)
	}
}

func createGrows(x *trial) {
	last := x.latest()
	grew := func(rev uint64) {
		x.Helper()
		if rev <= last {
			x.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
	}
	grew(x.revision(x.create(x.widgets, object("a", "x"))))
	grew(x.revision(x.patch(x.widgets, key("a", "x"), size(1))))
	grew(x.revision(x.create(x.widgets, object("a", "y"))))
	x.delete(x.widgets, key("a", "x"))
	grew(x.latest())
}

func createAgain(x *trial) {
	first := x.create(x.widgets, object("a", "x"))
	x.delete(x.widgets, key("a", "x"))
	second := x.create(x.widgets, object("a", "x"))
	if first.UID == second.UID {
		x.Errorf("two objects of one name have the UID %s", first.UID)
	}
	if second.Generation != 1 {
		x.Errorf("generation %d, want 1", second.Generation)
	}
	_, err := x.widgets.Update(x.ctx, object("a", "x", uid(first.UID), size(1)))
	x.fails("update of the object that went", err, store.ErrConflict)
}
