// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func hookPromises() []promise {
	return []promise{
		{name: "Default", test: hookDefault},
		{name: "Validate", test: hookValidate},
		{name: "ValidateSeesOldAndNew", test: hookValidateArguments},
		{name: "ValidateInATransaction", test: hookValidateTxn},
		{name: "Immutable", test: hookImmutable},
		{name: "ValidateName", test: hookName},
		{name: "ValidateNameOnCreateOnly", test: hookNameLater},
		{name: "Spec", test: hookSpec},
		{name: "Equal", test: hookEqual},
		{name: "Keep", test: hookKeep},
		{name: "PanicIsAnError", test: hookPanics},
		{name: "IndexPanicIsAnError", test: hookIndexPanics},
		{name: "RenameIsRefused", test: hookRename},
	}
}

// hooked returns a handle to a kind with those hooks.
func (x *trial) hooked(set func(*store.Kind[*widget])) handle {
	x.Helper()
	k := kind("Hooked", store.Namespaced)
	set(&k)
	return x.register(k)
}

func hookDefault(x *trial) {
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.Default = func(w *widget) {
			if w.Spec.Node == "" {
				w.Spec.Node = "default"
			}
		}
		k.Validate = func(_, w *widget) error {
			if w.Spec.Node == "" {
				return store.Invalidf("validated before the defaults")
			}
			return nil
		}
	})
	in := object("a", "x")
	o := x.create(h, in)
	if o.Spec.Node != "default" || in.Spec.Node != "" {
		x.Errorf("created on node %q, and the caller's object says %q", o.Spec.Node, in.Spec.Node)
	}
	if got := x.names(h, store.ListOptions{Fields: onNode("default")}); got != "a/x" {
		x.Errorf("list by the default: %q, want a/x", got)
	}
	x.same("an update without the field", x.update(h, object("a", "x")), o)
	x.patch(h, key("a", "x"), node("n1"))
	if o := x.patch(h, key("a", "x"), node("")); o.Spec.Node != "default" {
		x.Errorf("patched to node %q, want the default", o.Spec.Node)
	}
}

func small(_, w *widget) error {
	if w.Spec.Size > 10 {
		return errMine
	}
	return nil
}

func hookValidate(x *trial) {
	h := x.hooked(func(k *store.Kind[*widget]) { k.Validate = small })
	_, err := h.Create(x.ctx, object("a", "y", size(11)))
	x.fails("create", err, store.ErrInvalid)
	x.fails("create", err, errMine)
	x.absent(h, key("a", "y"))
	o := x.create(h, object("a", "x", size(10)))
	_, err = h.Update(x.ctx, object("a", "x", size(11)))
	x.fails("update", err, store.ErrInvalid)
	_, err = h.Patch(x.ctx, key("a", "x"), apply(size(12)))
	x.fails("patch", err, store.ErrInvalid)
	x.same("the object", x.get(h, key("a", "x")), o)
}

func hookValidateArguments(x *trial) {
	var calls []string // the hook runs in the calls below, in this goroutine or while it waits
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.Validate = func(old, w *widget) error {
			if old == nil {
				calls = append(calls, "create "+w.Name)
			} else if old.Spec.Size == 1 && w.Spec.Size == 2 && old.Generation == 1 {
				calls = append(calls, "update "+w.Name)
			}
			return nil
		}
	})
	x.create(h, object("a", "x", size(1)))
	x.update(h, object("a", "x", size(2)))
	if got := strings.Join(calls, ", "); got != "create x, update x" {
		x.Errorf("the hook saw %q, want a create without and an update with the old object", got)
	}
}

func hookValidateTxn(x *trial) {
	t := x.transactor()
	h := x.hooked(func(k *store.Kind[*widget]) { k.Validate = small })
	before := x.latest()
	_, err := t.Txn(x.ctx, func(tx store.Tx) error {
		if _, err := x.widgets.In(tx).Create(object("a", "x")); err != nil {
			return err
		}
		_, err := h.In(tx).Create(object("a", "x", size(11)))
		return err
	})
	x.fails("transaction", err, store.ErrInvalid)
	x.absent(x.widgets, key("a", "x"))
	if x.latest() != before {
		x.Error("a refused transaction has a revision")
	}
}

func hookImmutable(x *trial) {
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.Immutable = []store.Field[*widget]{
			{Name: "spec.node", Get: func(w *widget) any { return w.Spec.Node }},
			{Name: "spec.tags", Get: func(w *widget) any { return w.Spec.Tags }},
		}
	})
	o := x.create(h, object("a", "x", node("n1"), tags("t")))
	for what, c := range map[string]change{"spec.node": node("n2"), "spec.tags": tags("t", "u")} {
		_, err := h.Patch(x.ctx, key("a", "x"), apply(c))
		x.fails("patch of "+what, err, store.ErrInvalid)
		if !strings.Contains(err.Error(), what) {
			x.Errorf("error %v: want it to name %s", err, what)
		}
	}
	x.same("the object", x.get(h, key("a", "x")), o)
	x.patch(h, key("a", "x"), size(2), phase("Up"))
}

func hookName(x *trial) {
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.ValidateName = func(name string) error {
			if strings.HasPrefix(name, "x") {
				return nil
			}
			return errMine
		}
	})
	x.create(h, object("a", "x1"))
	_, err := h.Create(x.ctx, object("a", "y"))
	x.fails("create of y", err, store.ErrInvalid)
	x.fails("create of y", err, errMine)
	generated := object("a", "")
	generated.GenerateName = "y-"
	_, err = h.Create(x.ctx, generated)
	x.fails("create of y-…", err, store.ErrInvalid)
}

// hookNameLater: objects from before the rule for names can be changed and deleted.
func hookNameLater(x *trial) {
	x.create(x.widgets, object("a", "x"))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	k := widgetKind()
	k.ValidateName = func(string) error { return errMine }
	x.widgets = x.register(k)
	x.patch(x.widgets, key("a", "x"), size(1))
	x.update(x.widgets, object("a", "x", size(2)))
	x.delete(x.widgets, key("a", "x"))
}

func hookSpec(x *trial) {
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.Spec = func(w *widget) any { return w.Status.Phase }
	})
	x.create(h, object("a", "x"))
	if o := x.patch(h, key("a", "x"), size(1)); o.Generation != 1 {
		x.Errorf("generation %d after a change beside the spec part, want 1", o.Generation)
	}
	if o := x.patch(h, key("a", "x"), phase("Up")); o.Generation != 2 {
		x.Errorf("generation %d after a change of the spec part, want 2", o.Generation)
	}
}

func hookEqual(x *trial) {
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.Equal = func(a, b *widget) bool { return a.Spec.Size/10 == b.Spec.Size/10 }
	})
	o := x.create(h, object("a", "x", size(11)))
	x.same("patch that the hook calls no change", x.patch(h, key("a", "x"), size(12)), o)
	if o = x.patch(h, key("a", "x"), size(21)); o.Spec.Size != 21 {
		x.Errorf("patched to %+v", o.Spec)
	}
}

// hookPanics: each hook panics for objects of size 13.
func hookPanics(x *trial) {
	unlucky := func(w *widget) {
		if w.Spec.Size == 13 {
			panic("size 13")
		}
	}
	for what, set := range map[string]func(*store.Kind[*widget]){
		"Default":  func(k *store.Kind[*widget]) { k.Default = unlucky },
		"Validate": func(k *store.Kind[*widget]) { k.Validate = func(_, w *widget) error { unlucky(w); return nil } },
		"ValidateName": func(k *store.Kind[*widget]) {
			k.ValidateName = func(name string) error {
				if name == "y" {
					panic("y")
				}
				return nil
			}
		},
		"Immutable": func(k *store.Kind[*widget]) {
			k.Immutable = []store.Field[*widget]{{Name: "it", Get: func(w *widget) any { unlucky(w); return 0 }}}
		},
		"Spec":  func(k *store.Kind[*widget]) { k.Spec = func(w *widget) any { unlucky(w); return w.Spec } },
		"Equal": func(k *store.Kind[*widget]) { k.Equal = func(_, w *widget) bool { unlucky(w); return false } },
		"Index": func(k *store.Kind[*widget]) {
			k.Indexes = append(k.Indexes, store.NewIndex("unlucky", func(w *widget) string { unlucky(w); return "" }))
		},
		"MultiIndex": func(k *store.Kind[*widget]) {
			k.Indexes = append(k.Indexes, store.NewMultiIndex("unlucky", func(w *widget) []string { unlucky(w); return nil }))
		},
	} {
		h := x.hooked(set)
		o := x.create(h, object("a", "x"))
		panics := func(op string, write func() error) {
			x.Helper()
			defer func() {
				if r := recover(); r != nil {
					x.Errorf("%s that panics in %s: the panic %v came out, want ErrHookPanic", what, op, r)
				}
			}()
			x.fails(what+" that panics in "+op, write(), store.ErrHookPanic)
		}
		create := what != "Immutable" && what != "Spec" && what != "Equal" // these compare with an old object
		if create {
			panics("create", func() error { _, err := h.Create(x.ctx, object("a", "y", size(13))); return err })
		}
		if what != "ValidateName" {
			panics("update", func() error { _, err := h.Update(x.ctx, object("a", "x", size(13))); return err })
			panics("patch", func() error { _, err := h.Patch(x.ctx, key("a", "x"), apply(size(13))); return err })
		}
		if t, ok := x.st.(store.Transactor); ok && create {
			panics("a transaction", func() error {
				_, err := t.Txn(x.ctx, func(tx store.Tx) error {
					_, err := h.In(tx).Create(object("a", "y", size(13)))
					return err
				})
				return err
			})
		}
		x.same(what+": the object", x.get(h, key("a", "x")), o)
		x.absent(h, key("a", "y"))
		x.patch(h, key("a", "x"), size(1)) // and nothing is locked
		x.delete(h, key("a", "x"))
		x.ok(x.st.Unregister(h.Schema()))
	}
}

// hookIndexPanics: an index function that panics for what the store itself makes,
// a marked object, or holds already.
func hookIndexPanics(x *trial) {
	panics := func(what string, f func() error) {
		x.Helper()
		defer func() {
			if r := recover(); r != nil {
				x.Errorf("%s: the panic %v came out, want ErrHookPanic", what, r)
			}
		}()
		x.fails(what, f(), store.ErrHookPanic)
	}
	k := widgetKind()
	k.Indexes = append(k.Indexes, store.NewIndex("unlucky", func(w *widget) string {
		if w.Spec.Size == 13 || w.DeletionTimestamp != nil {
			panic("unlucky")
		}
		return ""
	}))
	x.create(x.widgets, object("a", "x", size(13)))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	panics("registering", func() error { _, err := store.Register(x.st, k); return err })
	x.widgets = x.register(widgetKind())
	x.delete(x.widgets, key("a", "x"))
	x.ok(x.st.Unregister(x.widgets.Schema()))

	x.widgets = x.register(k)
	o := x.create(x.widgets, object("a", "x", finalizers("storetest.example/f")))
	panics("marking", func() error { _, err := x.widgets.Delete(x.ctx, key("a", "x")); return err })
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
	x.patch(x.widgets, key("a", "x"), size(1))
}

func hookRename(x *trial) {
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.Default = func(w *widget) {
			if w.Spec.Size == 13 {
				w.Name = "other"
			}
		}
	})
	_, err := h.Create(x.ctx, object("a", "x", size(13)))
	x.fails("create", err, store.ErrInvalid)
	if got := x.names(h, store.ListOptions{}); got != "" {
		x.Errorf("list: %q, want none", got)
	}
}

func hookKeep(x *trial) {
	if x.opts.NoKeep {
		x.Skip("the engine does not ask Kind.Keep")
	}
	h := x.hooked(func(k *store.Kind[*widget]) {
		k.Keep = func(w *widget) bool { return w.Spec.Size > 0 }
	})
	x.create(h, object("a", "small"))
	x.delete(h, key("a", "small"))
	x.absent(h, key("a", "small"))

	grace := int64(3600)
	x.create(h, object("a", "x", size(1), func(w *widget) { w.DeletionGracePeriodSeconds = &grace }))
	w := x.watchNow(h, store.WatchOptions{})
	o := x.delete(h, key("a", "x"))
	if o.DeletionTimestamp == nil || time.Until(o.DeletionTimestamp.Time) < time.Hour-patience {
		x.Errorf("deletion timestamp %v, want one in an hour: the grace period says so", o.DeletionTimestamp)
	}
	x.same("a second delete", x.delete(h, key("a", "x")), o)
	x.patch(h, key("a", "x"), func(w *widget) { w.Status.Phase = "Going" })
	x.patch(h, key("a", "x"), size(0))
	x.absent(h, key("a", "x"))
	w.want("MODIFIED a/x.", "MODIFIED a/x.", "DELETED a/x.")
}
