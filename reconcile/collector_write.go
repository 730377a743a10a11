// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// DeleteForeground deletes an object once its dependents that block it have
// gone: it marks it with the finalizer [FinalizerForeground], and leaves the rest
// to a [Collector]. It returns the marked object. One that is being deleted
// already without that finalizer can't be given it: [store.ErrInvalid].
func DeleteForeground[T store.Copier[T]](ctx context.Context, h *store.Handle[T], key store.Key, opts ...store.WriteOptions) (T, error) {
	return deleteWith(ctx, h, key, FinalizerForeground, opts)
}

// DeleteOrphan deletes an object once its dependents have lost their references
// to it, and lets them live: it marks it with the finalizer [FinalizerOrphan], and
// leaves the rest to a [Collector]. It returns the marked object. One that is
// being deleted already without that finalizer can't be given it:
// [store.ErrInvalid].
func DeleteOrphan[T store.Copier[T]](ctx context.Context, h *store.Handle[T], key store.Key, opts ...store.WriteOptions) (T, error) {
	return deleteWith(ctx, h, key, FinalizerOrphan, opts)
}

func deleteWith[T store.Copier[T]](ctx context.Context, h *store.Handle[T], key store.Key, finalizer string, opts []store.WriteOptions) (T, error) {
	var o store.WriteOptions
	switch len(opts) {
	case 0:
	case 1:
		o = opts[0]
	default:
		panic("reconcile: more than one options value given to one call: set the fields of one")
	}
	var typed T
	obj, err := deleteMarked(ctx, h.Store(), h.Schema(), key, finalizer, o)
	if err != nil {
		return typed, err
	}
	return obj.(T), nil
}

// deleteMarked adds the finalizer and deletes: in one transaction where there
// are transactions, else in two steps, of which the second deletes what the
// first marked or nothing.
func deleteMarked(ctx context.Context, st store.Store, s *store.Schema, key store.Key, finalizer string, opts store.WriteOptions) (store.Object, error) {
	mark := store.Write{Op: store.Patch, Key: key, Options: opts, Patch: func(o store.Object) error {
		_, err := AddFinalizer(o, finalizer)
		return err
	}}
	if t, ok := st.(store.Transactor); ok {
		var obj store.Object
		_, err := t.Txn(ctx, func(tx store.Tx) error {
			if _, err := tx.Write(s, mark); err != nil {
				return err
			}
			var err error
			obj, err = tx.Write(s, store.Write{Op: store.Delete, Key: key, Options: store.WriteOptions{Fence: opts.Fence}})
			return err
		})
		if !errors.Is(err, store.ErrUnsupported) {
			return obj, err
		}
	}
	marked, err := st.Write(ctx, s, mark)
	if err != nil {
		return nil, err
	}
	return st.Write(ctx, s, store.Write{Op: store.Delete, Key: key, Options: store.WriteOptions{UID: uidOf(s, marked), Fence: opts.Fence}})
}

// carryOut does what was decided. That the object has changed or gone since is
// no error: the change is on its way to the graph.
func (r *collection) carryOut(ctx context.Context, a gcAction) error {
	if a.verb == gcNothing {
		return nil
	}
	s := r.st.Kind(a.object.kind)
	if s == nil {
		return nil // its feed is about to end
	}
	var err error
	key, same := a.object.key, store.WriteOptions{UID: a.object.uid}
	exactly := store.WriteOptions{UID: a.object.uid, ResourceVersion: a.object.version}
	switch a.verb {
	case gcDelete:
		_, err = r.st.Write(ctx, s, store.Write{Op: store.Delete, Key: key, Options: exactly})
	case gcDeleteForeground:
		_, err = deleteMarked(ctx, r.st, s, key, FinalizerForeground, exactly)
	case gcDropOwners:
		_, err = r.st.Write(ctx, s, dropOwners(s, key, exactly, func(r store.OwnerReference) bool {
			return slices.ContainsFunc(a.drop, func(o gcOwner) bool { return o.uid == r.UID && o.kind == kindOf(r) && o.name == r.Name })
		}))
	case gcRelease:
		_, err = r.st.Write(ctx, s, dropFinalizer(key, same, FinalizerForeground))
	case gcOrphan:
		err = r.orphan(ctx, s, a)
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		return nil
	}
	if err == nil {
		r.opts.Logger.Debug("garbage collected", "action", a.verb.String(), "kind", a.object.kind.String(), "key", key.String(), "UID", a.object.uid)
	}
	return err
}

func (v gcVerb) String() string {
	return [...]string{"nothing", "delete", "delete in the foreground", "drop owners", "release", "orphan"}[v]
}

// dropOwners removes the owner references that are so.
func dropOwners(s *store.Schema, key store.Key, opts store.WriteOptions, is func(store.OwnerReference) bool) store.Write {
	return store.Write{Op: store.Patch, Key: key, Options: opts, Patch: func(o store.Object) error {
		s.Accessors.SetOwners(o, slices.DeleteFunc(slices.Clone(s.Accessors.Owners(o)), is))
		return nil
	}}
}

func dropFinalizer(key store.Key, opts store.WriteOptions, name string) store.Write {
	return store.Write{Op: store.Patch, Key: key, Options: opts, Patch: func(o store.Object) error {
		RemoveFinalizer(o, name)
		return nil
	}}
}

// orphan takes the owner out of its dependents, one after the other, and then
// lets it go.
func (r *collection) orphan(ctx context.Context, s *store.Schema, a gcAction) error {
	is := func(r store.OwnerReference) bool { return r.UID == a.object.uid }
	for _, d := range a.dependents {
		ds := r.st.Kind(d.kind)
		if ds == nil {
			continue
		}
		_, err := r.st.Write(ctx, ds, dropOwners(ds, d.key, store.WriteOptions{UID: d.uid}, is))
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	if t, ok := r.st.(store.Transactor); ok {
		_, err := t.Txn(ctx, func(tx store.Tx) error { return r.orphanRest(tx, s, a.object) })
		if !errors.Is(err, store.ErrUnsupported) && !errors.Is(err, store.ErrTooLarge) {
			return err
		}
	}
	_, err := r.st.Write(ctx, s, dropFinalizer(a.object.key, store.WriteOptions{UID: a.object.uid}, FinalizerOrphan))
	return err
}

// orphanRest takes the owner out of dependents that were made since the graph
// was asked, and lets it go, at one revision: nothing can come between.
func (r *collection) orphanRest(tx store.Tx, s *store.Schema, owner gcObject) error {
	now, err := tx.Get(s, owner.key)
	if err != nil || uidOf(s, now) != owner.uid || !HasFinalizer(now, FinalizerOrphan) {
		return err // it has gone, or somebody took the finalizer
	}
	is := func(r store.OwnerReference) bool { return r.UID == owner.uid }
	for _, ds := range r.st.Kinds() {
		if ds.Accessors.Owners == nil || s.Scope == store.Namespaced && ds.Scope == store.Cluster {
			continue
		}
		var keys []store.Key
		_, err := tx.List(ds, store.ListOptions{Namespace: owner.key.Namespace}, func(o store.Object) bool {
			if slices.ContainsFunc(ds.Accessors.Owners(o), is) {
				keys = append(keys, store.KeyOf(o))
			}
			return true
		})
		if err != nil {
			return err
		}
		for _, key := range keys {
			if _, err := tx.Write(ds, dropOwners(ds, key, store.WriteOptions{}, is)); err != nil {
				return err
			}
		}
	}
	_, err = tx.Write(s, dropFinalizer(owner.key, store.WriteOptions{UID: owner.uid}, FinalizerOrphan))
	return err
}
