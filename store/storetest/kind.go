// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func kindPromises() []promise {
	return []promise{
		{name: "NamesAreUnique", test: kindTwice},
		{name: "AreListed", test: kindListed},
		{name: "Lookup", test: kindLookup},
		{name: "UnregisteredIsUnknown", test: kindUnknown},
		{name: "UnregisteredEndsWatches", test: kindEndsWatches},
		{name: "ObjectsSurvive", test: kindSurvives},
		{name: "SameSchemaAgain", test: kindAgain},
		{name: "IndexesAreMadeAnew", test: kindIndexes},
		{name: "HistoryIsNotGuessed", test: kindHistory},
		{name: "Convert", test: kindConvert},
		{name: "ConvertRefuses", test: kindConvertRefuses},
	}
}

func kindTwice(x *trial) {
	_, err := store.Register(x.st, widgetKind())
	x.fails("second kind of that name", err, store.ErrKindExists)
	other := widgetKind()
	other.Group = "other.example"
	h := x.register(other)
	x.create(h, object("a", "x"))
	x.absent(x.widgets, key("a", "x"))
}

func kindListed(x *trial) {
	var got []string
	for _, s := range x.st.Kinds() {
		got = append(got, s.KindName.String())
		if x.st.Kind(s.KindName) != s {
			x.Errorf("Kind(%s) is another than in Kinds", s.KindName)
		}
	}
	want := "Gizmo." + group + " Rack." + group + " Widget." + group
	if text := strings.Join(got, " "); text != want {
		x.Errorf("kinds %s, want %s", text, want)
	}
	x.ok(x.st.Unregister(x.gizmos.Schema()))
	if s := x.st.Kind(x.gizmos.Schema().KindName); s != nil {
		x.Errorf("an unregistered kind is there: %v", s.KindName)
	}
	if n := len(x.st.Kinds()); n != 2 {
		x.Errorf("%d kinds, want 2", n)
	}
}

func kindLookup(x *trial) {
	h, err := store.Lookup[*widget](x.st, store.KindName{Group: group, Name: "Widget"})
	x.ok(err)
	o := x.create(h, object("a", "x"))
	x.same("get", x.get(x.widgets, key("a", "x")), o)
	_, err = store.Lookup[*widget](x.st, store.KindName{Name: "Widget"})
	x.fails("look-up in another group", err, store.ErrUnknownKind)
	_, err = store.Lookup[*other](x.st, store.KindName{Group: group, Name: "Widget"})
	x.fails("look-up as another type", err, store.ErrInvalid)
}

// other is a Go type that the kinds under test do not have.
type other struct {
	store.Meta `json:"metadata"`
	Number     int `json:"number,omitempty"`
}

func (o *other) DeepCopy() *other { return store.DeepCopy(o) }

func kindUnknown(x *trial) {
	x.create(x.widgets, object("a", "x"))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	_, err := x.widgets.Get(x.ctx, key("a", "x"))
	x.fails("get", err, store.ErrUnknownKind)
	_, err = x.widgets.Page(x.ctx)
	x.fails("list", err, store.ErrUnknownKind)
	_, err = x.widgets.Create(x.ctx, object("a", "y"))
	x.fails("create", err, store.ErrUnknownKind)
	_, err = x.widgets.Patch(x.ctx, key("a", "x"), apply(size(1)))
	x.fails("patch", err, store.ErrUnknownKind)
	x.watch(x.widgets, store.WatchOptions{}).fails(store.ErrUnknownKind)
	x.fails("unregister", x.st.Unregister(x.widgets.Schema()), store.ErrUnknownKind)
	if t, ok := x.st.(store.Transactor); ok {
		_, err := t.Txn(x.ctx, func(tx store.Tx) error {
			_, err := x.widgets.In(tx).Create(object("a", "y"))
			return err
		})
		x.fails("transaction", err, store.ErrUnknownKind)
	}
}

func kindEndsWatches(x *trial) {
	x.create(x.widgets, object("a", "x"))
	ends := make(chan error, 1)
	group := x.workers()
	group.Go(func() {
		for _, err := range x.widgets.Watch(x.ctx) {
			ends <- err
		}
	})
	x.wait(50 * time.Millisecond)
	x.ok(x.st.Unregister(x.widgets.Schema()))
	x.fails("watch", <-ends, store.ErrUnknownKind)
	group.Wait()
}

func kindSurvives(x *trial) {
	x.create(x.widgets, object("a", "x", node("n1")))
	o := x.patch(x.widgets, key("a", "x"), size(2))
	x.create(x.widgets, object("a", "gone"))
	x.delete(x.widgets, key("a", "gone"))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	x.create(x.gizmos, object("a", "meanwhile"))
	h := x.register(widgetKind())
	x.same("get", x.get(h, key("a", "x")), o)
	if got := x.names(h, store.ListOptions{Fields: onNode("n1")}); got != "a/x" {
		x.Errorf("list: %q, want a/x", got)
	}
	w := x.watch(h, store.WatchOptions{Initial: true})
	w.want("ADDED a/x", "SYNCED.")
	up := x.get(h, key("a", "x")).DeepCopy()
	up.Spec.Size = 3
	x.update(h, up)
	w.want("MODIFIED a/x.")
	_, err := x.widgets.Get(x.ctx, key("a", "x"))
	x.fails("get by the schema of before", err, store.ErrUnknownKind)
}

func kindAgain(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	x.ok(x.st.Register(x.widgets.Schema()))
	x.same("get", x.get(x.widgets, key("a", "x")), o)
}

func kindIndexes(x *trial) {
	x.create(x.widgets, object("a", "x", size(7)))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	k := widgetKind()
	bySize := store.NewIndex("spec.size", func(w *widget) string { return store.FormatRevision(uint64(w.Spec.Size)) })
	k.Indexes = []*store.Index[*widget]{bySize}
	h := x.register(k)
	if got := x.names(h, store.ListOptions{Fields: bySize.Is("7")}); got != "a/x" {
		x.Errorf("list by the new index: %q, want a/x", got)
	}
	_, err := h.Page(x.ctx, store.ListOptions{Fields: onNode("")})
	x.fails("list by the index of before", err, store.ErrInvalid)
}

// kindHistory: what happened before the kind was registered again is told
// right, or is too old.
func kindHistory(x *trial) {
	first := x.revision(x.create(x.widgets, object("a", "x", size(1))))
	x.patch(x.widgets, key("a", "x"), size(2))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	x.create(x.gizmos, object("a", "g"))
	x.widgets = x.register(widgetKind())
	x.patch(x.widgets, key("a", "x"), size(3))
	w := x.watch(x.widgets, store.WatchOptions{From: first})
	if ev, err, _ := w.pull(); err != nil {
		x.fails("watch from before", err, store.ErrTooOld)
	} else if ev.Object == nil || ev.Object.Spec.Size != 2 {
		x.Errorf("watch from before begins with %q", eventText(ev))
	}
	if x.opts.NoExact {
		return
	}
	o, err := x.widgets.Get(x.ctx, key("a", "x"), store.ReadOptions{Exact: first})
	if err != nil {
		x.fails("get at a revision of before", err, store.ErrTooOld)
	} else if o.Spec.Size != 1 {
		x.Errorf("get at a revision of before: %+v", o.Spec)
	}
}

// converted is the kind Widget on another Go type.
func converted(convert func(store.Object) (*other, error)) store.Kind[*other] {
	return store.Kind[*other]{Name: "Widget", Group: group, Version: "v2", Convert: convert}
}

func kindConvert(x *trial) {
	o := x.create(x.widgets, object("a", "x", size(7)))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	h, err := store.Register(x.st, converted(func(old store.Object) (*other, error) {
		w := old.(*widget)
		return &other{Meta: w.Meta.Clone(), Number: w.Spec.Size}, nil
	}))
	x.ok(err)
	got, err := h.Get(x.ctx, key("a", "x"))
	x.ok(err)
	if got.Number != 7 || got.UID != o.UID || got.ResourceVersion != o.ResourceVersion {
		x.Errorf("converted to %+v from %+v", got, o)
	}
	_, err = h.Patch(x.ctx, key("a", "x"), func(o *other) error { o.Number++; return nil })
	x.ok(err)
}

func kindConvertRefuses(x *trial) {
	o := x.create(x.widgets, object("a", "x", size(7)))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	for what, c := range map[string]struct {
		convert func(store.Object) (*other, error)
		want    error
	}{
		"none":    {nil, store.ErrInvalid},
		"fails":   {func(store.Object) (*other, error) { return nil, errMine }, errMine},
		"panics":  {func(store.Object) (*other, error) { panic("no") }, store.ErrHookPanic},
		"nil":     {func(store.Object) (*other, error) { return nil, nil }, store.ErrInvalid},
		"renames": {func(store.Object) (*other, error) { return &other{Meta: store.Meta{Name: "y", Namespace: "a"}}, nil }, store.ErrInvalid},
	} {
		_, err := store.Register(x.st, converted(c.convert))
		x.fails("conversion: "+what, err, c.want)
	}
	x.widgets = x.register(widgetKind())
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
}
