// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
)

// delete removes an object, or marks it where something holds it back. gone
// tells which.
func (o *op) delete(ctx context.Context, opts *metav1.DeleteOptions) (out store.Object, gone bool, err error) {
	if err := checkDeleteOptions(opts); err != nil {
		return nil, false, err
	}
	o.dryRun = o.dryRun || len(opts.DryRun) > 0
	for {
		live, err := o.backend.get(ctx, o.res.schema, o.key)
		if err != nil {
			return nil, false, err
		}
		out, gone, err = o.deleteOnce(ctx, live, opts)
		if !errors.Is(err, store.ErrConflict) || isAPIStatus(err) || ctx.Err() != nil {
			return out, gone, err
		}
	}
}

func isAPIStatus(err error) bool {
	var known apierrors.APIStatus
	return errors.As(err, &known)
}

func (o *op) deleteOnce(ctx context.Context, live store.Object, opts *metav1.DeleteOptions) (store.Object, bool, error) {
	if err := o.preconditions(opts.Preconditions, live); err != nil {
		return nil, false, err
	}
	r := o.request(ctx, admission.Delete, live, nil)
	if err := o.mutate(ctx, r); err != nil {
		return nil, false, err
	}
	if err := o.validate(ctx, r); err != nil {
		return nil, false, err
	}
	at := store.WriteOptions{ResourceVersion: live.GetResourceVersion()}
	var writes []store.Write
	removes := false
	target := live
	if mark := o.mark(live, opts); mark != nil {
		target = mark
		removes = o.deleting(live) && len(mark.GetFinalizers()) == 0 && (o.res.schema.Keep == nil || !o.res.schema.Keep(mark))
		writes = append(writes, store.Write{Op: store.Update, Object: mark, Options: at})
		at = store.WriteOptions{}
	}
	if !o.deleting(live) {
		writes = append(writes, store.Write{Op: store.Delete, Key: o.key, Options: at})
		if keep := o.res.schema.Keep; keep != nil && keep(target) {
			// The kind's defaults may say of what is being deleted that it is: a
			// namespace's phase.
			writes = append(writes, store.Write{Op: store.Patch, Key: o.key, Patch: func(store.Object) error { return nil }})
		}
	}
	if len(writes) == 0 {
		return live, false, nil
	}
	out, err := o.commit(ctx, r, writes...)
	if err != nil {
		return nil, false, err
	}
	return out, removes || !o.deleting(out), nil
}

// deleting reports whether the object carries a deletion timestamp.
func (o *op) deleting(obj store.Object) bool {
	acc := &o.res.schema.Accessors
	return acc.DeletionTime != nil && !acc.DeletionTime(obj).IsZero()
}

// mark returns the object with the finalizer and the grace period that the
// options ask for, or nil where it has them.
func (o *op) mark(live store.Object, opts *metav1.DeleteOptions) store.Object {
	finalizers := o.finalizers(live.GetFinalizers(), opts)
	seconds, graceful := o.graceSeconds(live, opts)
	if slices.Equal(finalizers, live.GetFinalizers()) && !graceful {
		return nil
	}
	next := o.res.schema.Copy(live)
	if !o.deleting(live) { // the store lets no finalizer be added to what is going
		next.SetFinalizers(finalizers)
	}
	if graceful {
		next.(grace).SetDeletionGracePeriodSeconds(&seconds)
	}
	return next
}

// finalizers adds the one of the propagation policy and removes the others'.
func (o *op) finalizers(have []string, opts *metav1.DeleteOptions) []string {
	if o.res.schema.Accessors.DeletionTime == nil {
		return have
	}
	want := ""
	switch {
	case opts.PropagationPolicy != nil && *opts.PropagationPolicy == metav1.DeletePropagationForeground:
		want = metav1.FinalizerDeleteDependents
	case opts.PropagationPolicy != nil && *opts.PropagationPolicy == metav1.DeletePropagationOrphan,
		orphans(opts) != nil && *orphans(opts):
		want = metav1.FinalizerOrphanDependents
	case opts.PropagationPolicy == nil && orphans(opts) == nil:
		return have // as its finalizers say
	}
	out := slices.DeleteFunc(slices.Clone(have), func(f string) bool {
		return f != want && (f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents)
	})
	if want != "" && !slices.Contains(out, want) {
		out = append(out, want)
	}
	return out
}

// orphans returns what old clients say in the place of a propagation policy.
func orphans(opts *metav1.DeleteOptions) *bool {
	//lint:ignore SA1019 old clients use it
	return opts.OrphanDependents
}

// graceSeconds returns the grace period to set, if one is: a delete can only
// shorten it.
func (o *op) graceSeconds(live store.Object, opts *metav1.DeleteOptions) (seconds int64, set bool) {
	g, ok := live.(grace)
	if !ok || o.res.grace == nil {
		return 0, false
	}
	have := g.GetDeletionGracePeriodSeconds()
	asked := opts.GracePeriodSeconds
	if asked == nil && o.deleting(live) {
		return 0, false
	}
	if asked != nil && *asked < 0 {
		asked = new(int64(1)) // as Kubernetes: less than nothing is the least that is graceful
	}
	seconds = max(0, o.res.grace(live, asked))
	if o.deleting(live) && have != nil && *have <= seconds {
		return 0, false
	}
	return seconds, have == nil || *have != seconds
}

func checkDeleteOptions(opts *metav1.DeleteOptions) error {
	var errs field.ErrorList
	if orphans(opts) != nil && opts.PropagationPolicy != nil {
		errs = append(errs, field.Invalid(field.NewPath("propagationPolicy"), *opts.PropagationPolicy, "orphanDependents and deletionPropagation cannot be both set"))
	}
	if p := opts.PropagationPolicy; p != nil {
		known := []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan}
		if !slices.Contains(known, *p) {
			errs = append(errs, field.NotSupported(field.NewPath("propagationPolicy"), *p, known))
		}
	}
	errs = append(errs, checkDryRun(opts.DryRun)...)
	if len(errs) > 0 {
		return apierrors.NewInvalid(gvk{Group: metav1.GroupName, Kind: "DeleteOptions"}.GroupKind(), "", errs)
	}
	return nil
}

func checkDryRun(values []string) (errs field.ErrorList) {
	for _, v := range values {
		if v != metav1.DryRunAll {
			errs = append(errs, field.NotSupported(field.NewPath("dryRun"), v, []string{metav1.DryRunAll}))
		}
	}
	return errs
}

// deleteCollection removes the objects that the options select, one by one, and
// returns them.
func (o *op) deleteCollection(ctx context.Context, list store.ListOptions, opts *metav1.DeleteOptions) ([]store.Object, error) {
	if opts.Preconditions != nil && opts.Preconditions.UID != nil {
		return nil, apierrors.NewBadRequest("a UID can't be demanded of a collection")
	}
	var keys []store.Key
	err := o.backend.list(ctx, o.res.schema, list, func(obj store.Object) bool {
		keys = append(keys, store.KeyOf(obj))
		return true
	})
	if err != nil {
		return nil, err
	}
	var out []store.Object
	for _, key := range keys {
		one := *o
		one.key = key
		obj, _, err := one.delete(ctx, opts)
		if errors.Is(err, store.ErrNotFound) {
			continue // somebody else was faster
		}
		if err != nil {
			return out, fmt.Errorf("delete %s: %w", key, err)
		}
		out = append(out, obj)
	}
	return out, nil
}
