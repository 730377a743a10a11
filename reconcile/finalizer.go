// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/internal/labels"
	"github.com/slipway-dev/slipway/store"
)

// The finalizers of the [Collector], which Kubernetes' garbage collector has,
// too. They alone need no domain.
const (
	// FinalizerForeground keeps an object until its dependents that block it have
	// gone: see [DeleteForeground].
	FinalizerForeground = "foregroundDeletion"
	// FinalizerOrphan keeps an object until its dependents no longer refer to it:
	// see [DeleteOrphan].
	FinalizerOrphan = "orphan"
)

// HasFinalizer reports whether the object has the finalizer.
func HasFinalizer(obj store.Object, name string) bool {
	return slices.Contains(obj.GetFinalizers(), name)
}

// AddFinalizer adds the finalizer to the object in memory and reports whether it
// was missing. The object must be the caller's own: call it in a patch's
// function, or on what is to be created.
//
//	_, err := pods.Patch(ctx, key, func(p *Pod) error {
//		_, err := reconcile.AddFinalizer(p, "example.com/volumes")
//		return err
//	})
//
// A name that is not qualified by a domain is [store.ErrInvalid]. So is, later, the
// write of an object that is being deleted: a store lets nobody prolong that.
func AddFinalizer(obj store.Object, name string) (added bool, err error) {
	if err := validateFinalizer(name); err != nil {
		return false, err
	}
	if HasFinalizer(obj, name) {
		return false, nil
	}
	obj.SetFinalizers(append(slices.Clone(obj.GetFinalizers()), name))
	return true, nil
}

// RemoveFinalizer removes the finalizer from the object in memory and reports
// whether it was there. Writing an object that is being deleted without its
// last finalizer removes it.
func RemoveFinalizer(obj store.Object, name string) (removed bool) {
	have := obj.GetFinalizers()
	left := slices.DeleteFunc(slices.Clone(have), func(f string) bool { return f == name })
	if len(left) == len(have) {
		return false
	}
	obj.SetFinalizers(left)
	return true
}

func validateFinalizer(name string) error {
	if name == FinalizerForeground || name == FinalizerOrphan {
		return nil
	}
	if !strings.Contains(name, "/") || labels.ValidateKey(name) != nil {
		return store.Invalidf("finalizer %q: want a domain, a slash and a name, such as example.com/volumes", name)
	}
	return nil
}

// IsDeleted reports whether the object is being deleted: it has a deletion time,
// and goes when its last finalizer does. The schema is that of its kind.
func IsDeleted(s *store.Schema, obj store.Object) bool {
	return s.Accessors.DeletionTime != nil && !s.Accessors.DeletionTime(obj).IsZero()
}

// Finalize is what a controller does about its finalizer, whole: it adds it to
// an object that lives, before the controller makes anything that would have to
// be cleaned up; of one that is being deleted it calls cleanup and then removes
// the finalizer. Call it first in a reconcile, and go on only if deleted is
// false, with the object it returns:
//
//	backup, deleted, err := reconcile.Finalize(ctx, backups, backup, "example.com/files", removeFiles)
//	if err != nil || deleted {
//		return …
//	}
//
// cleanup must be idempotent: if it fails, or the finalizer can't be removed, it
// runs again next time. Where the finalizer is not there any more it is not
// called. An object that has gone meanwhile is deleted without an error.
func Finalize[T store.Copier[T]](ctx context.Context, h *store.Handle[T], obj T, name string, cleanup func(context.Context, T) error) (now T, deleted bool, err error) {
	s := h.Schema()
	switch {
	case !s.Is(obj):
		return obj, false, store.Invalidf("finalizer %s: the object is nil", name)
	case cleanup == nil:
		return obj, false, store.Invalidf("finalizer %s: the cleanup function is nil", name)
	case s.Accessors.DeletionTime == nil:
		return obj, false, store.Invalidf("finalizer %s: objects of kind %s have no deletion time", name, s.KindName)
	}
	if err := validateFinalizer(name); err != nil {
		return obj, false, err
	}
	if !IsDeleted(s, obj) {
		return addFinalizer(ctx, h, obj, name)
	}
	if !HasFinalizer(obj, name) {
		return obj, true, nil
	}
	if err := cleanup(ctx, obj); err != nil {
		return obj, true, err
	}
	now, err = h.Patch(ctx, store.KeyOf(obj), func(o T) error {
		RemoveFinalizer(o, name)
		return nil
	}, store.WriteOptions{UID: uidOf(s, obj)})
	if errors.Is(err, store.ErrNotFound) {
		return obj, true, nil
	}
	return now, true, err
}

func addFinalizer[T store.Copier[T]](ctx context.Context, h *store.Handle[T], obj T, name string) (now T, deleted bool, err error) {
	if HasFinalizer(obj, name) {
		return obj, false, nil
	}
	s := h.Schema()
	now, err = h.Patch(ctx, store.KeyOf(obj), func(o T) error {
		if IsDeleted(s, o) {
			return nil // since obj was read
		}
		_, err := AddFinalizer(o, name)
		return err
	}, store.WriteOptions{UID: uidOf(s, obj)})
	if errors.Is(err, store.ErrNotFound) {
		return obj, true, nil
	}
	if err != nil {
		return obj, false, err
	}
	return now, IsDeleted(s, now), nil
}

// uidOf returns the object's UID, "" where the kind has none.
func uidOf(s *store.Schema, obj store.Object) string {
	if s.Accessors.UID == nil {
		return ""
	}
	return s.Accessors.UID(obj)
}
