// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"iter"
	"reflect"
)

// Handle reads, writes and watches the objects of one kind in one store. It is
// a small value behind a pointer, safe for concurrent use, with nothing to
// close.
type Handle[T Copier[T]] struct {
	store  Store
	schema *Schema
}

// Register makes the kind known to the store and returns a handle to it.
func Register[T Copier[T]](s Store, k Kind[T]) (*Handle[T], error) {
	schema, err := k.Schema()
	if err != nil {
		return nil, err
	}
	if err := s.Register(schema); err != nil {
		return nil, err
	}
	return &Handle[T]{s, schema}, nil
}

// Lookup returns a handle to a kind that is registered already. It is
// [ErrUnknownKind] where it is not, and [ErrInvalid] where its objects are of
// another Go type than T.
func Lookup[T Copier[T]](s Store, name KindName) (*Handle[T], error) {
	schema := s.Kind(name)
	if schema == nil {
		return nil, &Error{Op: "look up", Kind: name.String(), Err: ErrUnknownKind}
	}
	if got := reflect.TypeFor[T](); got != schema.Type {
		return nil, &Error{Op: "look up", Kind: name.String(), Err: Invalidf("its objects are %s, not %s", schema.Type, got)}
	}
	return &Handle[T]{s, schema}, nil
}

// Schema returns the kind without its type parameter, for the methods of
// [Store], [Tx] and [Snapshot] that take one.
func (h *Handle[T]) Schema() *Schema { return h.schema }

// Store returns the store that the handle belongs to.
func (h *Handle[T]) Store() Store { return h.store }

// Get returns the object, which is shared and must not be changed, or
// [ErrNotFound].
func (h *Handle[T]) Get(ctx context.Context, key Key, opts ...ReadOptions) (T, error) {
	o, err := h.store.Get(ctx, h.schema, key, first(opts))
	return cast[T](o), err
}

// List returns an iterator over the objects that the options select, by
// namespace and name, all of one revision. The state is taken when the
// iteration begins, and each object is shared and must not be changed. If the
// list fails, the last pair carries the error. To page, or to learn the
// revision, use [Handle.Page].
func (h *Handle[T]) List(ctx context.Context, opts ...ListOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		list(yield, func(yield func(Object) bool) error {
			_, err := h.store.List(ctx, h.schema, first(opts), yield)
			return err
		})
	}
}

// Page returns the objects that the options select as a slice, at most
// opts.Limit of them, with the revision of the state that they come from and
// the token of the next page.
func (h *Handle[T]) Page(ctx context.Context, opts ...ListOptions) (Page[T], error) {
	return page[T](func(yield func(Object) bool) (ListMeta, error) {
		return h.store.List(ctx, h.schema, first(opts), yield)
	})
}

// Watch returns an iterator over the changes of the objects that the options
// select: see [Store] for what it promises. It runs in the caller's goroutine,
// starts with the iteration and ends when the loop is left, when the context
// ends, or when it can't go on, with the reason as the last pair's error:
// [ErrTooOld] for a consumer too slow for the history window, [ErrClosed],
// [ErrUnknownKind], or the context's cause.
func (h *Handle[T]) Watch(ctx context.Context, opts ...WatchOptions) iter.Seq2[Event[T], error] {
	return func(yield func(Event[T], error) bool) {
		for ev, err := range h.store.Watch(ctx, h.schema, first(opts)) {
			typed := Event[T]{Type: ev.Type, Revision: ev.Revision, Last: ev.Last, More: ev.More}
			if ev.Object != nil {
				typed.Object = ev.Object.(T)
			}
			if ev.Old != nil {
				typed.Old = ev.Old.(T)
			}
			if !yield(typed, err) {
				return
			}
		}
	}
}

// Create adds an object and returns it as stored: with UID, creation timestamp,
// generation 1, resource version, and a name made from GenerateName where it
// has no name. The object must have no resource version.
func (h *Handle[T]) Create(ctx context.Context, obj T, opts ...WriteOptions) (T, error) {
	return h.write(ctx, Write{Op: Create, Object: object(obj), Options: first(opts)})
}

// Update replaces an object and returns it as stored. The resource version and
// the UID in obj, where they are set, must be those of the stored object;
// creation and deletion timestamps are the store's, whatever obj says. Removing
// the last finalizer of an object that is being deleted removes it.
func (h *Handle[T]) Update(ctx context.Context, obj T, opts ...WriteOptions) (T, error) {
	return h.write(ctx, Write{Op: Update, Object: object(obj), Options: first(opts)})
}

// Patch changes an object by a function, which gets a copy of the present
// object and changes it in place. If another write comes in between, the
// function runs again on the newer object, until the context ends: it must have
// no side effects. An error of the function ends the patch and is returned.
func (h *Handle[T]) Patch(ctx context.Context, key Key, change func(T) error, opts ...WriteOptions) (T, error) {
	return h.write(ctx, patch(key, change, opts))
}

// Delete removes an object, or, where it has finalizers, marks it with a
// deletion timestamp. It returns the object as of the revision of that: the
// marked object, or the removed one's last state.
func (h *Handle[T]) Delete(ctx context.Context, key Key, opts ...WriteOptions) (T, error) {
	return h.write(ctx, Write{Op: Delete, Key: key, Options: first(opts)})
}

func (h *Handle[T]) write(ctx context.Context, w Write) (T, error) {
	o, err := h.store.Write(ctx, h.schema, w)
	return cast[T](o), err
}

// patch wraps a typed function; a nil one stays nil, for the engine to refuse.
func patch[T Copier[T]](key Key, change func(T) error, opts []WriteOptions) Write {
	w := Write{Op: Patch, Key: key, Options: first(opts)}
	if change != nil {
		w.Patch = func(o Object) error { return change(o.(T)) }
	}
	return w
}
