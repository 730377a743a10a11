// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"strconv"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func updatePromises() []promise {
	return []promise{
		{name: "Replaces", test: updateReplaces},
		{name: "NotFound", test: updateNotFound},
		{name: "StaleVersionConflicts", test: updateStale},
		{name: "OtherUIDConflicts", test: updateOtherUID},
		{name: "OptionsDemandToo", test: updateOptions},
		{name: "WithoutVersionIsUnconditional", test: updateUnconditional},
		{name: "KeepsTheStoresFields", test: updateKeeps},
		{name: "GenerationCountsSpec", test: updateGeneration},
		{name: "NoChangeKeepsVersion", test: updateNothing},
		{name: "NoChangeWakesNoOne", test: updateWakesNoOne},
	}
}

func updateReplaces(x *trial) {
	first := x.create(x.widgets, object("a", "x", size(1), label("app", "web")))
	up := first.DeepCopy()
	up.Spec.Size, up.Labels = 2, nil
	second := x.update(x.widgets, up)
	if second.Spec.Size != 2 || second.Labels != nil {
		x.Errorf("updated to %+v", second)
	}
	if x.revision(second) <= x.revision(first) {
		x.Errorf("version %s after %s", second.ResourceVersion, first.ResourceVersion)
	}
	x.same("get", x.get(x.widgets, key("a", "x")), second)
	if first.Spec.Size != 1 {
		x.Errorf("the version that was read before has changed: %+v", first)
	}
}

func updateNotFound(x *trial) {
	_, err := x.widgets.Update(x.ctx, object("a", "x"))
	x.fails("update", err, store.ErrNotFound)
	_, err = x.widgets.Patch(x.ctx, key("a", "x"), apply())
	x.fails("patch", err, store.ErrNotFound)
	_, err = x.widgets.Delete(x.ctx, key("a", "x"))
	x.fails("delete", err, store.ErrNotFound)
	x.absent(x.widgets, key("a", "x"))
}

func updateStale(x *trial) {
	first := x.create(x.widgets, object("a", "x"))
	second := x.patch(x.widgets, key("a", "x"), size(2))
	stale := first.DeepCopy()
	stale.Spec.Size = 3
	_, err := x.widgets.Update(x.ctx, stale)
	x.fails("update of a stale version", err, store.ErrConflict)
	x.same("the object", x.get(x.widgets, key("a", "x")), second)
	_, err = x.widgets.Update(x.ctx, object("a", "x", version(store.FormatRevision(x.latest()+10))))
	x.fails("update of a version that is not reached", err, store.ErrConflict)
}

func updateOtherUID(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	_, err := x.widgets.Update(x.ctx, object("a", "x", uid("another"), size(2)))
	x.fails("update with another UID", err, store.ErrConflict)
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
	if got := x.update(x.widgets, object("a", "x", uid(o.UID), size(2))); got.Spec.Size != 2 {
		x.Errorf("updated to %+v", got)
	}
}

func updateOptions(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	k := store.KeyOf(o)
	other := store.FormatRevision(x.revision(o) + 1)
	for _, opts := range []store.WriteOptions{{ResourceVersion: other}, {UID: "another"}} {
		_, err := x.widgets.Update(x.ctx, object("a", "x", size(2)), opts)
		x.fails("update", err, store.ErrConflict)
		_, err = x.widgets.Patch(x.ctx, k, apply(size(2)), opts)
		x.fails("patch", err, store.ErrConflict)
		_, err = x.widgets.Delete(x.ctx, k, opts)
		x.fails("delete", err, store.ErrConflict)
	}
	x.same("the object", x.get(x.widgets, k), o)
	right := store.WriteOptions{ResourceVersion: o.ResourceVersion, UID: o.UID}
	o, err := x.widgets.Patch(x.ctx, k, apply(size(2)), right)
	x.ok(err)
	o = x.update(x.widgets, object("a", "x", size(3)), store.WriteOptions{ResourceVersion: o.ResourceVersion, UID: o.UID})
	x.delete(x.widgets, k, store.WriteOptions{ResourceVersion: o.ResourceVersion, UID: o.UID})
	x.absent(x.widgets, k)
}

func updateUnconditional(x *trial) {
	x.create(x.widgets, object("a", "x"))
	x.patch(x.widgets, key("a", "x"), size(2))
	if o := x.update(x.widgets, object("a", "x", size(3))); o.Spec.Size != 3 {
		x.Errorf("updated to %+v", o)
	}
}

func updateKeeps(x *trial) {
	first := x.create(x.widgets, object("a", "x"))
	x.wait(2 * time.Second)
	spoil := func(w *widget) {
		w.CreationTimestamp = store.Time{Time: time.Unix(1, 0)}
		w.DeletionTimestamp = &store.Time{Time: time.Now()}
		w.Generation = 99
	}
	check := func(o *widget) {
		x.Helper()
		if o.UID != first.UID || !o.CreationTimestamp.Equal(first.CreationTimestamp.Time) || o.DeletionTimestamp != nil || o.Generation != 1 {
			x.Errorf("UID, creation, deletion or generation changed: from %+v to %+v", first.Meta, o.Meta)
		}
	}
	check(x.update(x.widgets, object("a", "x", phase("Up"), spoil)))
	o, err := x.widgets.Patch(x.ctx, key("a", "x"), apply(phase("Down"), uid("mine"), version("12"), spoil))
	x.ok(err)
	check(o)
}

func updateGeneration(x *trial) {
	k := key("a", "x")
	x.create(x.widgets, object("a", "x"))
	for i, step := range []struct {
		change change
		want   int64
	}{
		{phase("Up"), 1}, {label("app", "web"), 1}, {finalizers("f"), 1},
		{size(1), 2}, {tags("t"), 3}, {phase("Down"), 3},
	} {
		o := x.patch(x.widgets, k, step.change)
		if o.Generation != step.want {
			x.Errorf("step %d: generation %d, want %d", i, o.Generation, step.want)
		}
	}
}

func updateNothing(x *trial) {
	o := x.create(x.widgets, object("a", "x", size(1), tags("t"), label("app", "web")))
	before := x.latest()
	x.same("update", x.update(x.widgets, o.DeepCopy()), o)
	x.same("patch", x.patch(x.widgets, store.KeyOf(o)), o)
	x.same("patch with an empty map", x.patch(x.widgets, store.KeyOf(o), func(w *widget) { w.Annotations = map[string]string{} }), o)
	if _, ok := x.st.(store.Transactor); ok {
		x.txn(func(tx store.Tx) error {
			_, err := x.widgets.In(tx).Patch(store.KeyOf(o), apply())
			return err
		})
	}
	x.same("get", x.get(x.widgets, store.KeyOf(o)), o)
	if after := x.latest(); after != before {
		x.Errorf("the store's revision went from %d to %d", before, after)
	}
}

func updateWakesNoOne(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	w := x.watchNow(x.widgets, store.WatchOptions{})
	x.update(x.widgets, o.DeepCopy())
	x.patch(x.widgets, store.KeyOf(o))
	x.create(x.widgets, object("a", "y"))
	w.want("ADDED a/y.")
}

func patchPromises() []promise {
	return []promise{
		{name: "ChangesACopy", test: patchCopy},
		{name: "RetriesOnConflict", test: patchRetries, clock: true},
		{name: "ErrorHasNoEffect", test: patchError},
		{name: "PanicHasNoEffect", test: patchPanic},
		{name: "RenameIsRefused", test: patchRename},
	}
}

func patchCopy(x *trial) {
	first := x.create(x.widgets, object("a", "x", tags("t"), label("app", "web")))
	want := first.DeepCopy()
	second := x.patch(x.widgets, key("a", "x"), func(w *widget) {
		w.Spec.Tags[0], w.Labels["app"] = "u", "db"
	})
	x.same("the version before", first, want)
	if second.Spec.Tags[0] != "u" || second.Labels["app"] != "db" {
		x.Errorf("patched to %+v", second)
	}
	x.same("get", x.get(x.widgets, key("a", "x")), second)
}

func patchRetries(x *trial) {
	const writers, each = 4, 25
	k := key("a", "x")
	x.create(x.widgets, object("a", "x"))
	all := x.workers()
	for range writers {
		all.Go(func() {
			for range each {
				_, err := x.widgets.Patch(x.ctx, k, func(w *widget) error {
					n, _ := strconv.Atoi(w.Status.Phase)
					w.Status.Phase = strconv.Itoa(n + 1)
					return nil
				})
				if err != nil {
					x.Errorf("patch: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := x.get(x.widgets, k).Status.Phase; got != strconv.Itoa(writers*each) {
		x.Errorf("%d increments made %s", writers*each, got)
	}
}

var errMine = errors.New("the caller's own error")

func patchError(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	_, err := x.widgets.Patch(x.ctx, key("a", "x"), func(w *widget) error {
		w.Spec.Size = 9
		return errMine
	})
	x.fails("patch", err, errMine)
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
}

func patchPanic(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	func() {
		defer func() { _ = recover() }() // whether it comes out as a panic is the engine's affair
		_, err := x.widgets.Patch(x.ctx, key("a", "x"), func(w *widget) error {
			w.Spec.Size = 9
			panic("the caller's own panic")
		})
		if err == nil {
			x.Error("a patch that panics: no error")
		}
	}()
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
	x.patch(x.widgets, key("a", "x"), size(1))
}

func patchRename(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	for _, rename := range []change{
		func(w *widget) { w.Name = "y" },
		func(w *widget) { w.Namespace = "b" },
	} {
		_, err := x.widgets.Patch(x.ctx, key("a", "x"), apply(rename))
		x.fails("patch that renames", err, store.ErrInvalid)
	}
	if got := x.names(x.widgets, store.ListOptions{}); got != "a/x" {
		x.Errorf("list: %q", got)
	}
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
}
