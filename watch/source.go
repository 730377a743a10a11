// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"iter"

	"github.com/slipway-dev/slipway/store"
)

// Source is what an informer needs: a list at a revision, and a watch that goes
// on from there. A *store.Handle is one as it is; so are derived collections
// ([Filter], [Map], [Join]) and the test source of package watchtest.
//
// # What a source promises
//
//   - Page returns the objects that the options select at one revision, pages of
//     one list from the same, and says which. With AtLeast, it is that revision
//     or a later one; a source that has not got there returns store.ErrFuture.
//   - Watch from a revision delivers every change after it: in the order of
//     revisions, once, transactions whole, the last event of each marked as Last.
//     Where it can't, because the revision is too old, it ends with
//     store.ErrTooOld. A watch that ends otherwise, with an error or without, can
//     be resumed from the last revision that was complete.
//   - With Bookmarks, a quiet watch says about that often how far it has come.
//   - Objects are shared: nobody changes them after they were handed over. Each
//     has a name and a decimal resource version.
//
// An informer relies on that where the source is a store in this process. From
// every other source it checks what it is told: what is repeated is ignored, and
// what can't be true (an event from the past, a change of an object that it has
// never seen, a version that is no number) makes it list again, with
// [ErrBadSource] from Err until it has succeeded. What it can't find out is an
// event that never arrives, if nothing happens to that object afterwards: see
// Options.Relist for sources of that sort.
type Source[T store.Object] interface {
	Page(ctx context.Context, opts ...store.ListOptions) (store.Page[T], error)
	Watch(ctx context.Context, opts ...store.WatchOptions) iter.Seq2[store.Event[T], error]
}

// Untyped returns the objects of a kind as a source without a type parameter,
// for programs that learn their kinds at run time.
func Untyped(st store.Store, s *store.Schema) Source[store.Object] { return &untyped{st, s} }

type untyped struct {
	st     store.Store
	schema *store.Schema
}

func (u *untyped) Store() store.Store    { return u.st }
func (u *untyped) Schema() *store.Schema { return u.schema }

func (u *untyped) Page(ctx context.Context, opts ...store.ListOptions) (store.Page[store.Object], error) {
	var p store.Page[store.Object]
	meta, err := u.st.List(ctx, u.schema, first(opts), func(o store.Object) bool {
		p.Items = append(p.Items, o)
		return true
	})
	if err != nil {
		return store.Page[store.Object]{}, err
	}
	p.ListMeta = meta
	return p, nil
}

func (u *untyped) Watch(ctx context.Context, opts ...store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return u.st.Watch(ctx, u.schema, first(opts))
}

// first returns the options given, or their zero value.
func first[O any](opts []O) O {
	switch len(opts) {
	case 0:
		var zero O
		return zero
	case 1:
		return opts[0]
	}
	panic("watch: more than one options value given to one call: set the fields of one")
}

// kinded is a source of a kind, whose indexes and accessors an informer then
// uses. The schema may be nil.
type kinded interface{ Schema() *store.Schema }

// stored is a source that reads a kind of a store as it is: a *store.Handle, and
// what Untyped returns.
type stored interface {
	kinded
	Store() store.Store
}

// schemaOf returns the kind of a source, or nil.
func schemaOf(src any) *store.Schema {
	if k, ok := src.(kinded); ok {
		return k.Schema()
	}
	return nil
}
