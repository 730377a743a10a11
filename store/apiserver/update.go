// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
)

// change makes the next version of an object from the present one, which it must
// not change. It may run again, on a newer one.
type change func(live store.Object) (next store.Object, err error)

// update changes an object. Where another write comes in between, it begins
// anew, unless the client demands a version.
func (o *op) update(ctx context.Context, f change) (store.Object, error) {
	for {
		live, err := o.backend.get(ctx, o.res.schema, o.key)
		if err != nil {
			return nil, err
		}
		next, err := f(live)
		if err != nil {
			return nil, err
		}
		demanded := next.GetResourceVersion() // before it is set to the live one's
		out, err := o.updateOnce(ctx, live, next)
		again := errors.Is(err, store.ErrConflict) && (demanded == "" || demanded == live.GetResourceVersion() && o.derived)
		if !again || ctx.Err() != nil {
			return out, err
		}
	}
}

func (o *op) updateOnce(ctx context.Context, live, next store.Object) (store.Object, error) {
	if err := o.place(next); err != nil {
		return nil, err
	}
	if err := o.demands(live, next); err != nil {
		return nil, err
	}
	clearTypeMeta(o.res, next)
	next = o.restrict(live, next)
	o.res.defaults(next)
	r := o.request(ctx, admission.Update, live, next)
	if err := o.mutate(ctx, r); err != nil {
		return nil, err
	}
	if o.res.managers.updated(o, live, next) { // nothing but times of managers would change
		return live, nil
	}
	if err := o.validateUpdate(live, next); err != nil {
		return nil, err
	}
	if err := o.validate(ctx, r); err != nil {
		return nil, err
	}
	return o.commit(ctx, r, store.Write{Op: store.Update, Object: next, Options: store.WriteOptions{
		TakeOver: true, ResourceVersion: live.GetResourceVersion(),
	}})
}

// demands checks the version and the UID in the object against the present one.
func (o *op) demands(live, next store.Object) error {
	gr := o.res.groupResource()
	if v := next.GetResourceVersion(); v != "" && v != live.GetResourceVersion() {
		return &StatusError{apierrors.NewConflict(gr, o.key.Name, errModified).ErrStatus, store.ErrConflict}
	}
	next.SetResourceVersion(live.GetResourceVersion())
	acc := &o.res.schema.Accessors
	if acc.UID == nil {
		return nil
	}
	if want, have := acc.UID(next), acc.UID(live); want != "" && want != have {
		//lint:ignore ST1005 as Kubernetes words it
		return apierrors.NewConflict(gr, o.key.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", want, have))
	}
	acc.SetUID(next, acc.UID(live))
	return nil
}

// restrict leaves of the next version what the request may change: the status,
// or all but the status.
func (o *op) restrict(live, next store.Object) store.Object {
	if o.res.status == nil || o.whole {
		return next
	}
	if o.sub == "status" {
		only := o.res.schema.Copy(live)
		o.res.status.copy(next, only)
		setManagedFields(only, managedFields(next))
		return only
	}
	o.res.status.copy(live, next)
	return next
}

// validateUpdate checks what every change of an object must keep.
func (o *op) validateUpdate(live, next store.Object) error {
	o.keep(live, next)
	before, after := metaOf(o.res, live), metaOf(o.res, next)
	errs := apivalidation.ValidateObjectMetaAccessorUpdate(after, before, metadataPath)
	for _, f := range o.res.immutable {
		if a, b := f.Get(live), f.Get(next); !semantic.DeepEqual(a, b) {
			errs = append(errs, field.Invalid(fieldPath(f.Name), b, apivalidation.FieldImmutableErrorMsg))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	for _, e := range errs { // what the kind says of the same field would be said twice
		if e.Detail == apivalidation.FieldImmutableErrorMsg {
			return apierrors.NewInvalid(o.res.gvk.GroupKind(), o.key.Name, errs)
		}
	}
	return o.invalid(errs, live, next)
}

// keep carries over what only the store may change.
func (o *op) keep(live, next store.Object) {
	acc := &o.res.schema.Accessors
	if acc.SetCreationTime != nil {
		acc.SetCreationTime(next, acc.CreationTime(live))
	}
	if acc.SetDeletionTime != nil {
		acc.SetDeletionTime(next, acc.DeletionTime(live))
	}
	next.SetGeneration(live.GetGeneration())
	if g, ok := next.(grace); ok {
		g.SetDeletionGracePeriodSeconds(live.(grace).GetDeletionGracePeriodSeconds())
	}
}

// grace is an object that can be deleted with a grace period.
type grace interface {
	GetDeletionGracePeriodSeconds() *int64
	SetDeletionGracePeriodSeconds(*int64)
}

func fieldPath(name string) *field.Path {
	parts := strings.Split(name, ".")
	return field.NewPath(parts[0], parts[1:]...)
}

// preconditions are what a delete demands.
func (o *op) preconditions(p *metav1.Preconditions, live store.Object) error {
	if p == nil {
		return nil
	}
	fail := func(what, want, have string) error {
		//lint:ignore ST1005 as Kubernetes words it
		err := fmt.Errorf("Precondition failed: %s in precondition: %v, %s in object meta: %v", what, want, what, have)
		return &StatusError{apierrors.NewConflict(o.res.groupResource(), o.key.Name, err).ErrStatus, store.ErrConflict}
	}
	if p.UID != nil && o.res.schema.Accessors.UID != nil {
		if have := o.res.schema.Accessors.UID(live); have != string(*p.UID) {
			return fail("UID", string(*p.UID), have)
		}
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != live.GetResourceVersion() {
		return fail("ResourceVersion", *p.ResourceVersion, live.GetResourceVersion())
	}
	return nil
}
