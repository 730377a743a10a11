// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"time"

	"github.com/slipway-dev/slipway/store"
)

func deletePromises() []promise {
	return []promise{
		{name: "Removes", test: deleteRemoves},
		{name: "ReturnsTheLastState", test: deleteReturns},
		{name: "FinalizersMark", test: deleteMarks},
		{name: "LastFinalizerRemoves", test: deleteFinalizes},
		{name: "NoFinalizerIsAddedThen", test: deleteNoNew},
		{name: "AgainChangesNothing", test: deleteAgain},
	}
}

func deleteRemoves(x *trial) {
	x.create(x.widgets, object("a", "x", node("n1")))
	x.create(x.widgets, object("a", "y", node("n1")))
	x.delete(x.widgets, key("a", "x"))
	x.absent(x.widgets, key("a", "x"))
	if got := x.names(x.widgets, store.ListOptions{}); got != "a/y" {
		x.Errorf("list: %q, want a/y", got)
	}
	if got := x.names(x.widgets, store.ListOptions{Fields: onNode("n1")}); got != "a/y" {
		x.Errorf("list by index: %q, want a/y", got)
	}
}

func deleteReturns(x *trial) {
	o := x.create(x.widgets, object("a", "x", size(3)))
	gone := x.delete(x.widgets, key("a", "x"))
	if gone.UID != o.UID || gone.Spec.Size != 3 {
		x.Errorf("deleted %+v, want the last state", gone)
	}
	if gone.ResourceVersion != "" && x.revision(gone) != x.latest() {
		x.Errorf("the version is %s, and the removal was %d", gone.ResourceVersion, x.latest())
	}
}

// marked makes a/x, which has a finalizer, and deletes it.
func (x *trial) marked() *widget {
	x.Helper()
	x.create(x.widgets, object("a", "x", finalizers("f", "g")))
	return x.delete(x.widgets, key("a", "x"))
}

func deleteMarks(x *trial) {
	o := x.marked()
	if o.DeletionTimestamp == nil || time.Since(o.DeletionTimestamp.Time) > patience {
		x.Errorf("deletion timestamp %v, want now", o.DeletionTimestamp)
	}
	if o.Generation != 2 {
		x.Errorf("generation %d, want 2: that it is to go is part of what is wanted", o.Generation)
	}
	x.same("get", x.get(x.widgets, key("a", "x")), o)
	x.wait(2 * time.Second)
	up := o.DeepCopy()
	up.DeletionTimestamp, up.Status.Phase = nil, "Going"
	if o = x.update(x.widgets, up); o.DeletionTimestamp == nil {
		x.Error("an update has taken the mark away")
	}
}

func deleteFinalizes(x *trial) {
	x.marked()
	w := x.watchNow(x.widgets, store.WatchOptions{})
	if o := x.patch(x.widgets, key("a", "x"), finalizers("g")); len(o.Finalizers) != 1 {
		x.Errorf("finalizers %q, want g", o.Finalizers)
	}
	x.patch(x.widgets, key("a", "x"), func(w *widget) { w.Finalizers = nil })
	x.absent(x.widgets, key("a", "x"))
	events := w.want("MODIFIED a/x.", "DELETED a/x.")
	if rev := x.revision(events[1].Object); events[1].Revision != rev || rev != x.latest() {
		x.Errorf("the removal is event %d with version %d, and the store at %d", events[1].Revision, rev, x.latest())
	}
}

func deleteNoNew(x *trial) {
	o := x.marked()
	_, err := x.widgets.Patch(x.ctx, key("a", "x"), apply(finalizers("f", "g", "h")))
	x.fails("a further finalizer", err, store.ErrInvalid)
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
}

func deleteAgain(x *trial) {
	o := x.marked()
	x.wait(2 * time.Second)
	x.same("second delete", x.delete(x.widgets, key("a", "x")), o)
	x.same("get", x.get(x.widgets, key("a", "x")), o)
}
