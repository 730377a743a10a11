// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"iter"

	"github.com/slipway-dev/slipway/store"
)

// Get returns the object of the key, which is shared and must not be changed.
// It is false where there is none that the informer selects; of a store in this
// process, also where that is closed.
func (i *Informer[T]) Get(key store.Key) (T, bool) {
	if i.direct != nil {
		return i.getDirect(key)
	}
	i.read.RLock()
	defer i.read.RUnlock()
	return i.contents.get(key)
}

// List returns an iterator over the objects that the options select, by
// namespace and name, all of one revision. It is taken when the iteration
// begins; the objects are shared and must not be changed. A list that can't be
// (a field that is no index, say) yields one error. Of the options, Continue is
// not for it.
func (i *Informer[T]) List(opts ...store.ListOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		objects, err := i.list(first(opts))
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
		if err != nil {
			var zero T
			yield(zero, err)
		}
	}
}

func (i *Informer[T]) list(opts store.ListOptions) ([]T, error) {
	if i.direct != nil {
		return i.listDirect(opts)
	}
	i.read.RLock()
	defer i.read.RUnlock()
	q, err := i.contents.query(opts)
	if err == nil {
		err = i.contents.readable(opts.ReadOptions)
	}
	if err != nil {
		return nil, &store.Error{Op: "list", Kind: i.kindName(), Key: store.Key{Namespace: opts.Namespace}, Err: err}
	}
	objects, _ := i.contents.list(&q)
	return objects, nil
}

func (i *Informer[T]) kindName() string {
	if i.schema == nil {
		return ""
	}
	return i.schema.KindName.String()
}

// direct reads

func (i *Informer[T]) getDirect(key store.Key) (T, bool) {
	var zero T
	if i.opts.Namespace != "" && key.Namespace != i.opts.Namespace {
		return zero, false
	}
	o, err := i.direct.Get(context.Background(), i.schema, key, store.ReadOptions{})
	if err != nil || !i.selects(o) {
		return zero, false
	}
	return o.(T), true
}

// selects reports whether the informer's label and field selectors match.
func (i *Informer[T]) selects(o store.Object) bool {
	if !i.opts.Labels.Empty() && !i.opts.Labels.Matches(o.GetLabels()) {
		return false
	}
	for _, f := range i.opts.Fields {
		if !i.hasField(o, f) {
			return false
		}
	}
	return true
}

func (i *Informer[T]) hasField(o store.Object, f store.FieldCondition) bool {
	switch f.Name {
	case store.FieldName:
		return (o.GetName() == f.Value) != f.Not
	case store.FieldNamespace:
		return (o.GetNamespace() == f.Value) != f.Not
	}
	for n := range i.schema.Indexes {
		if x := &i.schema.Indexes[n]; x.Name == f.Name {
			return x.Has(o, f.Value) != f.Not
		}
	}
	return false
}

func (i *Informer[T]) listDirect(opts store.ListOptions) ([]T, error) {
	opts, none, err := i.narrow(opts)
	if none || err != nil {
		return nil, err
	}
	var objects []T
	_, err = i.direct.List(context.Background(), i.schema, opts, func(o store.Object) bool {
		objects = append(objects, o.(T))
		return true
	})
	return objects, err
}

// narrow adds the informer's own selectors to the options of a list.
func (i *Informer[T]) narrow(opts store.ListOptions) (out store.ListOptions, none bool, err error) {
	if own := i.opts.Namespace; own != "" {
		if opts.Namespace != "" && opts.Namespace != own {
			return opts, true, nil
		}
		opts.Namespace = own
	}
	switch {
	case opts.Labels.Empty():
		opts.Labels = i.opts.Labels
	case !i.opts.Labels.Empty():
		if opts.Labels, err = store.ParseSelector(opts.Labels.String() + "," + i.opts.Labels.String()); err != nil {
			return opts, false, err
		}
	}
	opts.Fields = opts.Fields.And(i.opts.Fields)
	return opts, false, nil
}
