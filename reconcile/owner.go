// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// ErrOwned matches the error of who would control an object that another
// controls. The error is an [*OwnedError].
var ErrOwned = errors.New("controlled by another owner")

// OwnedError says which object has which controller, and which other one wanted
// it.
type OwnedError struct {
	Kind   store.KindName
	Key    store.Key
	Has    store.OwnerReference // its controller
	Wanted store.OwnerReference // who would control it
}

// Error returns "Pod default/web-1 is controlled by ReplicaSet web (UID 1), not
// by Job web (UID 2)".
func (e *OwnedError) Error() string {
	return fmt.Sprintf("%s %s is controlled by %s, not by %s", e.Kind, e.Key, ownerText(e.Has), ownerText(e.Wanted))
}

// Is reports whether the target is [ErrOwned].
func (e *OwnedError) Is(target error) bool { return target == ErrOwned }

func ownerText(r store.OwnerReference) string {
	return fmt.Sprintf("%s %s (UID %s)", r.Kind, r.Name, r.UID)
}

// SetController makes owner the controller of obj, in memory: the one owner that
// manages it. obj goes when owner does (see [Collector]), and owner, deleted in the
// foreground, waits for it. obj must be the caller's own, and have its namespace.
//
//	if err := reconcile.SetController(pods, pod, sets, set); err != nil { … }
//
// An object that another controls, one of the same name but another UID
// included, is an [*OwnedError]. An owner without UID (it has not been created
// yet), in another namespace, or namespaced where obj is not, is
// [store.ErrInvalid].
//
// In a transaction, give the handles that the views were made from.
func SetController[D store.Copier[D], O store.Copier[O]](dependents *store.Handle[D], obj D, owners *store.Handle[O], owner O) error {
	ref, err := referenceFor(dependents.Schema(), obj, owners.Schema(), owner)
	if err != nil {
		return err
	}
	ref.Controller, ref.BlockOwnerDeletion = new(true), new(true)
	if has, ok := ControllerOf(dependents, obj); ok && has.UID != ref.UID {
		return &OwnedError{Kind: dependents.Schema().KindName, Key: store.KeyOf(obj), Has: has, Wanted: ref}
	}
	putOwner(&dependents.Schema().Accessors, obj, ref)
	return nil
}

// SetOwner makes owner an owner of obj, in memory, beside those that it has: obj
// goes when the last of them does. An owner that controls obj remains its
// controller. Errors are those of [SetController], but for another controller,
// which does not matter here.
func SetOwner[D store.Copier[D], O store.Copier[O]](dependents *store.Handle[D], obj D, owners *store.Handle[O], owner O) error {
	ref, err := referenceFor(dependents.Schema(), obj, owners.Schema(), owner)
	if err != nil {
		return err
	}
	acc := &dependents.Schema().Accessors
	if !slices.ContainsFunc(acc.Owners(obj), func(r store.OwnerReference) bool { return r.UID == ref.UID }) {
		putOwner(acc, obj, ref)
	}
	return nil
}

// RemoveOwner removes the references of obj to owner, in memory, and reports whether there
// were any.
func RemoveOwner[D store.Copier[D], O store.Copier[O]](dependents *store.Handle[D], obj D, owners *store.Handle[O], owner O) bool {
	return removeOwner(&dependents.Schema().Accessors, obj, uidOf(owners.Schema(), owner))
}

// ControllerOf returns the reference to the owner that controls obj, if one does.
func ControllerOf[T store.Copier[T]](h *store.Handle[T], obj T) (store.OwnerReference, bool) {
	return controllerOf(h.Schema(), obj)
}

// IsControlledBy reports whether owner controls obj: the object of that UID, not
// one that has its name.
func IsControlledBy[D store.Copier[D], O store.Copier[O]](dependents *store.Handle[D], obj D, owners *store.Handle[O], owner O) bool {
	has, ok := ControllerOf(dependents, obj)
	return ok && has.UID != "" && has.UID == uidOf(owners.Schema(), owner)
}

func controllerOf(s *store.Schema, obj store.Object) (store.OwnerReference, bool) {
	if s.Accessors.Owners == nil {
		return store.OwnerReference{}, false
	}
	refs := s.Accessors.Owners(obj)
	if i := slices.IndexFunc(refs, isController); i >= 0 {
		return refs[i], true
	}
	return store.OwnerReference{}, false
}

func isController(r store.OwnerReference) bool { return r.Controller != nil && *r.Controller }

// referenceFor returns a plain reference to owner for obj to have.
func referenceFor(s *store.Schema, obj store.Object, os *store.Schema, owner store.Object) (store.OwnerReference, error) {
	fail := func(format string, args ...any) (store.OwnerReference, error) {
		return store.OwnerReference{}, store.Invalidf(format, args...)
	}
	switch {
	case !s.Is(obj):
		return fail("the %s to be owned is nil", s.KindName)
	case !os.Is(owner):
		return fail("the %s to own %s %s is nil", os.KindName, s.KindName, store.KeyOf(obj))
	case s.Accessors.Owners == nil:
		return fail("objects of kind %s have no owner references", s.KindName)
	}
	key := store.KeyOf(owner)
	what := fmt.Sprintf("%s %s can't own %s %s", os.KindName, key, s.KindName, store.KeyOf(obj))
	uid := uidOf(os, owner)
	switch {
	case uid == "":
		return fail("%s: it has no UID: create it first, and use the object that create returns", what)
	case os.KindName == s.KindName && key == store.KeyOf(obj):
		return fail("%s: an object can't own itself", what)
	case os.Scope == store.Namespaced && s.Scope == store.Cluster:
		return fail("%s: an owner in a namespace can't own what is in none", what)
	case os.Scope == store.Namespaced && key.Namespace != obj.GetNamespace():
		return fail("%s: an owner must be in the namespace of what it owns, or in none", what)
	}
	return store.OwnerReference{APIVersion: os.APIVersion(), Kind: os.Name, Name: key.Name, UID: uid}, nil
}

// putOwner sets the reference in the place of one of the same UID, else at the
// end.
func putOwner(acc *store.Accessors[store.Object], obj store.Object, ref store.OwnerReference) {
	refs := slices.Clone(acc.Owners(obj))
	if i := slices.IndexFunc(refs, func(r store.OwnerReference) bool { return r.UID == ref.UID }); i >= 0 {
		refs[i] = ref
	} else {
		refs = append(refs, ref)
	}
	acc.SetOwners(obj, refs)
}

func removeOwner(acc *store.Accessors[store.Object], obj store.Object, uid string) bool {
	if acc.Owners == nil {
		return false
	}
	have := acc.Owners(obj)
	left := slices.DeleteFunc(slices.Clone(have), func(r store.OwnerReference) bool { return r.UID == uid })
	if len(left) == len(have) {
		return false
	}
	acc.SetOwners(obj, left)
	return true
}
