// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// op is one request to a resource, whether it came by HTTP or through
// [Server.Store]: everything behind the authentication takes place on it, in
// the same order for both.
type op struct {
	server  *Server
	res     *resource
	user    *authn.User
	verb    string
	sub     string // subresource
	key     store.Key
	backend backend

	dryRun     bool
	manager    string // of fields
	validation fieldValidation
	warn       func(string)
	whole      bool // the object is written with its status: by Server.Store, which checks the right to both
	lease      store.WriteOptions
	// derived: the change makes the next version from the present one, so that the
	// version in it is no demand of the client's.
	derived bool
}

// about names what the request is about, for errors.
func (o *op) about() subject {
	return subject{o.res.groupResource(), o.res.gvk.Kind, o.key.Name, o.verb}
}

// status makes the error of a request what its caller gets.
func (o *op) status(err error) error {
	if err == nil {
		return nil
	}
	return asStatus(err, o.about())
}

// attributes are what the authorizer is asked about.
func (o *op) attributes() authz.Attributes {
	return authz.Attributes{
		User: o.user, Verb: o.verb,
		Group: o.res.gvk.Group, Version: o.res.gvk.Version, Resource: o.res.plural, Subresource: o.sub,
		Namespace: o.key.Namespace, Name: o.key.Name,
	}
}

// authorize refuses what the user may not do.
func (o *op) authorize(ctx context.Context) error { return o.server.authorize(ctx, o.attributes()) }

// request is what admission plugins see.
func (o *op) request(ctx context.Context, operation admission.Operation, old, obj store.Object) *admission.Request {
	return &admission.Request{
		Operation: operation, User: o.user,
		Kind: o.res.gvk, Resource: o.res.gvr(), Subresource: o.sub,
		Namespace: o.key.Namespace, Name: o.key.Name,
		Object: obj, Old: old, DryRun: o.dryRun, Warn: o.warn,
		Reader: reader{ctx, o.backend},
	}
}

// refused makes what a plugin said an answer: a status of its own, or Forbidden.
func (o *op) refused(err error) error {
	var known apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, store.ErrTooOld), errors.Is(err, store.ErrClosed):
		return err
	}
	return apierrors.NewForbidden(o.res.groupResource(), o.key.Name, err)
}

func (o *op) mutate(ctx context.Context, r *admission.Request) error {
	for _, p := range o.server.mutators {
		if p.Handles(r.Operation, o.res.groupResource(), o.sub) {
			if err := p.Mutate(ctx, r); err != nil {
				return o.refused(err)
			}
		}
	}
	return nil
}

func (o *op) validate(ctx context.Context, r *admission.Request) error {
	for _, p := range o.server.validators {
		if p.Handles(r.Operation, o.res.groupResource(), o.sub) {
			if err := p.Validate(ctx, r); err != nil {
				return o.refused(err)
			}
		}
	}
	return nil
}

// commit carries out the writes, with the transactional plugins, all or nothing.
// It returns the object of the last write.
func (o *op) commit(ctx context.Context, r *admission.Request, writes ...store.Write) (out store.Object, err error) {
	var plugins []admission.Transactional
	for _, p := range o.server.transactional {
		if p.Handles(r.Operation, o.res.groupResource(), o.sub) {
			plugins = append(plugins, p)
		}
	}
	for i := range writes {
		writes[i].Options.Lease, writes[i].Options.Fence = o.lease.Lease, o.lease.Fence
	}
	if len(plugins) == 0 && !o.dryRun && len(writes) == 1 {
		return o.backend.write(ctx, o.res.schema, writes[0])
	}
	if o.dryRun && !o.backend.atomic() {
		return nil, apierrors.NewBadRequest("dry run is not supported: the store of this server has no transactions, so what was tried could not be taken back")
	}
	err = o.backend.txn(ctx, func(tx store.Tx) error {
		for _, p := range plugins {
			if err := p.Within(ctx, transaction{tx, o.server}, r); err != nil {
				return o.refused(err)
			}
		}
		for _, w := range writes {
			if out, err = tx.Write(o.res.schema, w); err != nil {
				return err
			}
		}
		if o.dryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return out, err
}
