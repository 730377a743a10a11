// SPDX-License-Identifier: Apache-2.0

package store

import "iter"

// View reads the objects of one kind in a [Snapshot] or a [Tx]: all of one
// state.
type View[T Copier[T]] struct {
	reader Reader
	schema *Schema
}

// At returns the handle's view of a snapshot of the same store.
func (h *Handle[T]) At(s Snapshot) View[T] { return View[T]{s, h.schema} }

// Get returns the object, which is shared and must not be changed, or
// [ErrNotFound].
func (v View[T]) Get(key Key) (T, error) {
	o, err := v.reader.Get(v.schema, key)
	return cast[T](o), err
}

// List returns an iterator over the objects that the options select, by
// namespace and name. If the list fails, the last pair carries the error.
func (v View[T]) List(opts ...ListOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		list(yield, func(yield func(Object) bool) error {
			_, err := v.reader.List(v.schema, first(opts), yield)
			return err
		})
	}
}

// Page returns the objects that the options select as a slice, at most
// opts.Limit of them.
func (v View[T]) Page(opts ...ListOptions) (Page[T], error) {
	return page[T](func(yield func(Object) bool) (ListMeta, error) {
		return v.reader.List(v.schema, first(opts), yield)
	})
}

// TxView reads and writes the objects of one kind in a transaction. Its reads
// see its writes.
type TxView[T Copier[T]] struct {
	View[T]
	tx Tx
}

// In returns the handle's view of a transaction of the same store.
func (h *Handle[T]) In(tx Tx) TxView[T] { return TxView[T]{View[T]{tx, h.schema}, tx} }

// Create is [Handle.Create] within the transaction. The object that it returns
// is the store's already, and must not be changed; it gets its resource version
// at the commit.
func (v TxView[T]) Create(obj T, opts ...WriteOptions) (T, error) {
	return v.write(Write{Op: Create, Object: object(obj), Options: first(opts)})
}

// Update is [Handle.Update] within the transaction.
func (v TxView[T]) Update(obj T, opts ...WriteOptions) (T, error) {
	return v.write(Write{Op: Update, Object: object(obj), Options: first(opts)})
}

// Patch is [Handle.Patch] within the transaction: the function runs once for
// each run of the transaction's.
func (v TxView[T]) Patch(key Key, change func(T) error, opts ...WriteOptions) (T, error) {
	return v.write(patch(key, change, opts))
}

// Delete is [Handle.Delete] within the transaction.
func (v TxView[T]) Delete(key Key, opts ...WriteOptions) (T, error) {
	return v.write(Write{Op: Delete, Key: key, Options: first(opts)})
}

func (v TxView[T]) write(w Write) (T, error) {
	o, err := v.tx.Write(v.schema, w)
	return cast[T](o), err
}

// first returns the options given, or their zero value. More than one is a
// mistake of the programmer's that no rule of merging could make good.
func first[O any](opts []O) O {
	switch len(opts) {
	case 0:
		var zero O
		return zero
	case 1:
		return opts[0]
	}
	panic("store: more than one options value given to one call: set the fields of one")
}

// cast returns the object as a T, nil as T's zero.
func cast[T Copier[T]](o Object) T {
	if o == nil {
		var zero T
		return zero
	}
	return o.(T)
}

// object returns the object as the interface, with a nil pointer as nil.
func object[T Copier[T]](t T) Object {
	if isNil(t) {
		return nil
	}
	return t
}

// list yields what run lists, and then its error, unless the consumer has
// stopped.
func list[T Copier[T]](yield func(T, error) bool, run func(func(Object) bool) error) {
	stopped := false
	err := run(func(o Object) bool {
		stopped = !yield(o.(T), nil)
		return !stopped
	})
	if err != nil && !stopped {
		var zero T
		yield(zero, err)
	}
}

func page[T Copier[T]](list func(func(Object) bool) (ListMeta, error)) (Page[T], error) {
	var p Page[T]
	meta, err := list(func(o Object) bool {
		p.Items = append(p.Items, o.(T))
		return true
	})
	if err != nil {
		return Page[T]{}, err
	}
	p.ListMeta = meta
	return p, nil
}
