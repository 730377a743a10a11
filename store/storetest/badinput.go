// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func badInputPromises() []promise {
	return []promise{
		{name: "Names", test: badNames},
		{name: "Scope", test: badScope},
		{name: "NilObject", test: badNil},
		{name: "ObjectOfAnotherType", test: badType},
		{name: "VersionThatIsNoNumber", test: badVersion},
		{name: "NilFunctions", test: badFunctions},
		{name: "UnknownOperation", test: badOperation},
		{name: "UnknownField", test: badField},
		{name: "NegativeNumbers", test: badNumbers},
		{name: "NilSchema", test: badSchema},
		{name: "EndedContext", test: badContext},
		{name: "ErrorsSayWhatAndWhere", test: badTexts},
	}
}

// unchanged demands that f changes nothing.
func (x *trial) unchanged(f func()) {
	x.Helper()
	x.create(x.widgets, object("a", "there"))
	before, names := x.latest(), x.names(x.widgets, store.ListOptions{})
	f()
	if after := x.latest(); after != before {
		x.Errorf("the revision went from %d to %d", before, after)
	}
	if after := x.names(x.widgets, store.ListOptions{}); after != names {
		x.Errorf("the objects were %q and are %q", names, after)
	}
}

func badNames(x *trial) {
	x.unchanged(func() {
		for _, name := range []string{"", ".", "..", "a/b", "a%b", "a b", "a\x00", "a\n", "\x7f", "\xff", strings.Repeat("n", 254)} {
			_, err := x.widgets.Create(x.ctx, object("a", name))
			x.fails(fmt.Sprintf("create of name %q", name), err, store.ErrInvalid)
			_, err = x.widgets.Create(x.ctx, object(name, "x"))
			x.fails(fmt.Sprintf("create in namespace %q", name), err, store.ErrInvalid)
			_, err = x.racks.Create(x.ctx, object("", name))
			x.fails(fmt.Sprintf("create of cluster-scoped name %q", name), err, store.ErrInvalid)
		}
		long := object("a", "")
		long.GenerateName = strings.Repeat("n", 253)
		_, err := x.widgets.Create(x.ctx, long)
		x.fails("create of a generated name that is too long", err, store.ErrInvalid)
	})
	x.create(x.widgets, object("a", strings.Repeat("n", 253)))
}

func badScope(x *trial) {
	x.unchanged(func() {
		_, err := x.widgets.Create(x.ctx, object("", "x"))
		x.fails("create without namespace", err, store.ErrInvalid)
		_, err = x.racks.Create(x.ctx, object("a", "x"))
		x.fails("create of a cluster-scoped kind in a namespace", err, store.ErrInvalid)
		_, err = x.racks.Page(x.ctx, store.ListOptions{Namespace: "a"})
		x.fails("list of a cluster-scoped kind in a namespace", err, store.ErrInvalid)
		x.watch(x.racks, store.WatchOptions{Namespace: "a"}).fails(store.ErrInvalid)
	})
}

func badNil(x *trial) {
	x.unchanged(func() {
		_, err := x.widgets.Create(x.ctx, nil)
		x.fails("create of nil", err, store.ErrInvalid)
		_, err = x.widgets.Update(x.ctx, nil)
		x.fails("update to nil", err, store.ErrInvalid)
		for _, o := range []store.Object{nil, (*widget)(nil)} {
			_, err = x.st.Write(x.ctx, x.widgets.Schema(), store.Write{Op: store.Create, Object: o})
			x.fails(fmt.Sprintf("create of a nil %T", o), err, store.ErrInvalid)
		}
	})
}

func badType(x *trial) {
	x.unchanged(func() {
		o := &other{Meta: store.Meta{Namespace: "a", Name: "there"}}
		for _, op := range []store.Op{store.Create, store.Update} {
			_, err := x.st.Write(x.ctx, x.widgets.Schema(), store.Write{Op: op, Object: o})
			x.fails(op.String()+" of another type", err, store.ErrInvalid)
		}
		if t, ok := x.st.(store.Transactor); ok {
			_, err := t.Txn(x.ctx, func(tx store.Tx) error {
				_, err := tx.Write(x.widgets.Schema(), store.Write{Op: store.Create, Object: o})
				return err
			})
			x.fails("create of another type in a transaction", err, store.ErrInvalid)
		}
	})
}

func badVersion(x *trial) {
	x.unchanged(func() {
		for _, v := range []string{"abc", "-1", "1.5", "0x10", "99999999999999999999999"} {
			_, err := x.widgets.Update(x.ctx, object("a", "there", version(v), size(1)))
			x.fails("update of version "+v, err, store.ErrInvalid)
			_, err = x.widgets.Delete(x.ctx, key("a", "there"), store.WriteOptions{ResourceVersion: v})
			x.fails("delete of version "+v, err, store.ErrInvalid)
		}
	})
}

func badFunctions(x *trial) {
	x.unchanged(func() {
		_, err := x.widgets.Patch(x.ctx, key("a", "there"), nil)
		x.fails("patch with no function", err, store.ErrInvalid)
		if t, ok := x.st.(store.Transactor); ok {
			_, err := t.Txn(x.ctx, nil)
			x.fails("transaction with no function", err, store.ErrInvalid)
		}
	})
}

func badOperation(x *trial) {
	x.unchanged(func() {
		for _, op := range []store.Op{0, store.Delete + 1, 255} {
			_, err := x.st.Write(x.ctx, x.widgets.Schema(), store.Write{Op: op, Object: object("a", "x"), Key: key("a", "x")})
			x.fails(fmt.Sprintf("operation %d", op), err, store.ErrInvalid)
		}
	})
}

func badField(x *trial) {
	x.unchanged(func() {
		fields := store.FieldSelector{{Name: "spec.none", Value: "v"}}
		_, err := x.widgets.Page(x.ctx, store.ListOptions{Fields: fields})
		x.fails("list by a field that is no index", err, store.ErrInvalid)
		if err != nil && !strings.Contains(err.Error(), "spec.none") {
			x.Errorf("error %v: want it to name the field", err)
		}
		x.watch(x.widgets, store.WatchOptions{Fields: fields}).fails(store.ErrInvalid)
	})
}

func badNumbers(x *trial) {
	x.unchanged(func() {
		_, err := x.widgets.Page(x.ctx, store.ListOptions{Limit: -1})
		x.fails("list with a negative limit", err, store.ErrInvalid)
		x.watch(x.widgets, store.WatchOptions{Bookmarks: -time.Second}).fails(store.ErrInvalid)
	})
}

func badSchema(x *trial) {
	x.unchanged(func() {
		x.fails("register nil", x.st.Register(nil), store.ErrInvalid)
		x.fails("register an empty schema", x.st.Register(&store.Schema{}), store.ErrInvalid)
		stranger, err := kind("Stranger", store.Namespaced).Schema()
		x.ok(err)
		for _, s := range []*store.Schema{nil, stranger} {
			_, err := x.st.Get(x.ctx, s, key("a", "there"), store.ReadOptions{})
			x.fails("get of a kind that was never registered", err, store.ErrUnknownKind)
			_, err = x.st.Write(x.ctx, s, store.Write{Op: store.Create, Object: object("a", "x")})
			x.fails("create of a kind that was never registered", err, store.ErrUnknownKind)
			x.fails("unregister a kind that was never registered", x.st.Unregister(s), store.ErrUnknownKind)
		}
	})
}

func badContext(x *trial) {
	ctx, cancel := context.WithCancelCause(x.ctx)
	cancel(errMine)
	x.unchanged(func() {
		_, err := x.widgets.Create(ctx, object("a", "x"))
		x.fails("create", err, errMine)
		_, err = x.widgets.Get(ctx, key("a", "there"))
		x.fails("get", err, errMine)
		_, err = x.widgets.Page(ctx)
		x.fails("list", err, errMine)
		if t, ok := x.st.(store.Transactor); ok {
			_, err = t.Txn(ctx, func(tx store.Tx) error {
				_, err := x.widgets.In(tx).Create(object("a", "x"))
				return err
			})
			x.fails("transaction", err, errMine)
		}
	})
}

func badTexts(x *trial) {
	_, err := x.widgets.Get(x.ctx, key("a", "x"))
	for _, part := range []string{"get", "Widget", "a/x"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			x.Errorf("error %v: want it to say %q", err, part)
		}
	}
	if e, ok := errors.AsType[*store.Error](err); !ok || e.Key != key("a", "x") {
		x.Errorf("error %#v: want a *store.Error with the key", err)
	}
	_, err = x.widgets.Create(x.ctx, object("a", "b/c"))
	if !strings.Contains(fmt.Sprint(err), "b/c") {
		x.Errorf("error %v: want it to say which name", err)
	}
}
