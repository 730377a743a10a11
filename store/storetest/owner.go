// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"

	"github.com/slipway-dev/slipway/store"
)

func ownerPromises() []promise {
	return []promise{
		{name: "MustExist", test: ownerExists},
		{name: "Scope", test: ownerScope},
		{name: "CheckedWhenWritten", test: ownerWhenWritten},
		{name: "InOneTransaction", test: ownerTxn},
		{name: "GoneInBetween", test: ownerConflict},
		{name: "DanglingWhereAllowed", test: ownerDangling},
	}
}

func ownerExists(x *trial) {
	owner := x.create(x.gizmos, object("a", "owner"))
	o := x.create(x.widgets, object("a", "x", ownedBy("Gizmo", owner)))
	if len(o.OwnerReferences) != 1 || o.OwnerReferences[0].UID != owner.UID {
		x.Errorf("owners %+v", o.OwnerReferences)
	}
	refused := func(what string, c change) {
		x.Helper()
		_, err := x.widgets.Create(x.ctx, object("a", "y", c))
		x.fails("create: "+what, err, store.ErrInvalid)
		_, err = x.widgets.Patch(x.ctx, key("a", "x"), apply(c))
		x.fails("patch: "+what, err, store.ErrInvalid)
	}
	refused("no such object", ownedBy("Gizmo", object("a", "none", uid(owner.UID))))
	refused("another UID", ownedBy("Gizmo", object("a", "owner", uid("another"))))
	refused("another kind", ownedBy("Widget", owner))
	refused("an unknown kind", ownedBy("Gadget", owner))
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
	x.absent(x.widgets, key("a", "y"))
}

func ownerScope(x *trial) {
	gizmo := x.create(x.gizmos, object("a", "owner"))
	rack := x.create(x.racks, object("", "owner"))
	x.create(x.widgets, object("b", "x", ownedBy("Rack", rack)))
	_, err := x.widgets.Create(x.ctx, object("b", "y", ownedBy("Gizmo", gizmo)))
	x.fails("an owner in another namespace", err, store.ErrInvalid)
	_, err = x.racks.Create(x.ctx, object("", "y", ownedBy("Gizmo", gizmo)))
	x.fails("a namespaced owner of a cluster-scoped object", err, store.ErrInvalid)
	x.create(x.racks, object("", "z", ownedBy("Rack", rack)))
}

func ownerWhenWritten(x *trial) {
	owner := x.create(x.gizmos, object("a", "owner"))
	x.create(x.widgets, object("a", "x", ownedBy("Gizmo", owner)))
	x.delete(x.gizmos, key("a", "owner"))
	x.patch(x.widgets, key("a", "x"), size(1)) // the reference is not new
	_, err := x.widgets.Create(x.ctx, object("a", "y", ownedBy("Gizmo", owner)))
	x.fails("an owner that has gone", err, store.ErrInvalid)
	again := x.create(x.gizmos, object("a", "owner"))
	_, err = x.widgets.Create(x.ctx, object("a", "y", ownedBy("Gizmo", owner)))
	x.fails("an owner that is another now", err, store.ErrInvalid)
	x.create(x.widgets, object("a", "y", ownedBy("Gizmo", again)))
}

func ownerTxn(x *trial) {
	t := x.transactor()
	x.txn(func(tx store.Tx) error {
		owner, err := x.gizmos.In(tx).Create(object("a", "owner"))
		if err != nil {
			return err
		}
		_, err = x.widgets.In(tx).Create(object("a", "x", ownedBy("Gizmo", owner)))
		return err
	})
	owner := x.get(x.gizmos, key("a", "owner"))
	if o := x.get(x.widgets, key("a", "x")); o.OwnerReferences[0].UID != owner.UID {
		x.Errorf("owned by %+v, and the owner is %s", o.OwnerReferences, owner.UID)
	}
	_, err := t.Txn(x.ctx, func(tx store.Tx) error {
		if _, err := x.gizmos.In(tx).Delete(key("a", "owner")); err != nil {
			return err
		}
		_, err := x.widgets.In(tx).Create(object("a", "y", ownedBy("Gizmo", owner)))
		return err
	})
	x.fails("an owner that goes in the same transaction", err, store.ErrInvalid)
	x.get(x.gizmos, key("a", "owner"))
}

func ownerConflict(x *trial) {
	t := x.transactor()
	owner := x.create(x.gizmos, object("a", "owner"))
	runs := 0
	_, err := t.Txn(x.ctx, func(tx store.Tx) error {
		runs++
		_, err := x.widgets.In(tx).Create(object("a", "x", ownedBy("Gizmo", owner)))
		if runs == 1 {
			_, gone := x.gizmos.Delete(x.ctx, key("a", "owner"))
			err = errors.Join(err, gone)
		}
		return err
	})
	x.fails("an owner that went before the commit", err, store.ErrInvalid)
	x.absent(x.widgets, key("a", "x"))
}

func ownerDangling(x *trial) {
	k := kind("Dangling", store.Namespaced)
	k.DanglingOwners = true
	h := x.register(k)
	x.create(h, object("a", "x", ownedBy("Gadget", object("a", "none", uid("u")))))
}
