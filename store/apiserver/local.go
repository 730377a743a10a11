// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// Store returns the server's store as the user may use it: each call passes the
// same gates as a request by HTTP, without HTTP. Handles from store.Lookup, and
// everything built on them, work on it.
//
//   - Reads and watches need the right to get, list or watch, and return the
//     stored objects themselves.
//   - Writes pass authorization, admission and validation, and keep account of the
//     fields' managers. An update may change an object and its status at once;
//     it needs the right to update each that it changes.
//   - A delete is graceful where the kind is; see [WithDeleteOptions].
//   - Errors are of type [*StatusError] and match the store's.
//   - Kinds are registered with the server, not here: Register is ErrUnsupported.
//     Close does nothing.
//
// Where the server's store is a store.Transactor, so is this one: a transaction's
// writes pass the gates one by one and are committed together.
func (s *Server) Store(user *authn.User) store.Store {
	l := &local{s, user}
	if t, ok := s.store.(store.Transactor); ok {
		return &localTransactor{l, t}
	}
	return l
}

type deleteOptionsKey struct{}

// WithDeleteOptions returns a context in which deletes through [Server.Store]
// take these options: a grace period, or a propagation policy.
func WithDeleteOptions(ctx context.Context, opts metav1.DeleteOptions) context.Context {
	return context.WithValue(ctx, deleteOptionsKey{}, &opts)
}

// local is a user's view of the store.
type local struct {
	server *Server
	user   *authn.User
}

// localTransactor is a local on a store with transactions.
type localTransactor struct {
	*local
	store store.Transactor
}

// op returns a request of the user to a kind, or ErrUnknownKind.
func (l *local) op(verb string, sch *store.Schema, key store.Key, b backend) (*op, error) {
	var res *resource
	if sch != nil {
		res = l.server.registry.Load().byKind[sch.KindName]
	}
	if res == nil || res.schema != sch {
		name := ""
		if sch != nil {
			name = sch.KindName.String()
		}
		return nil, &store.Error{Op: verb, Kind: name, Err: store.ErrUnknownKind}
	}
	return &op{server: l.server, res: res, user: l.user, verb: verb, key: key, backend: b, manager: managerName(l.user.Name, ""), warn: func(string) {}, whole: true}, nil
}

// may returns the request, if the user has the right to it.
func (l *local) may(ctx context.Context, verb string, sch *store.Schema, key store.Key) (*op, error) {
	o, err := l.op(verb, sch, key, nil)
	if err != nil {
		return nil, err
	}
	return o, o.status(o.authorize(ctx))
}

func (l *local) Register(*store.Schema) error {
	return fmt.Errorf("apiserver: register a kind with the server, by Register: %w", store.ErrUnsupported)
}

func (l *local) Unregister(*store.Schema) error {
	return fmt.Errorf("apiserver: unregister a kind with the server: %w", store.ErrUnsupported)
}

func (l *local) Kind(name store.KindName) *store.Schema { return l.server.store.Kind(name) }

func (l *local) Kinds() []*store.Schema { return l.server.store.Kinds() }

func (l *local) Revision(ctx context.Context) (uint64, error) { return l.server.store.Revision(ctx) }

func (l *local) Get(ctx context.Context, sch *store.Schema, key store.Key, opts store.ReadOptions) (store.Object, error) {
	o, err := l.may(ctx, "get", sch, key)
	if err != nil {
		return nil, err
	}
	obj, err := l.server.store.Get(ctx, sch, key, opts)
	return obj, o.status(err)
}

func (l *local) List(ctx context.Context, sch *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	o, err := l.may(ctx, "list", sch, listKey(opts.Namespace, opts.Fields))
	if err != nil {
		return store.ListMeta{}, err
	}
	meta, err := l.server.store.List(ctx, sch, opts, yield)
	return meta, o.status(err)
}

// listKey is what a list asks for, for the authorizer.
func listKey(namespace string, f store.FieldSelector) store.Key {
	key := store.Key{Namespace: namespace}
	for _, c := range f {
		if c.Name == store.FieldName && !c.Not {
			key.Name = c.Value
		}
	}
	return key
}

func (l *local) Watch(ctx context.Context, sch *store.Schema, opts store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return func(yield func(store.Event[store.Object], error) bool) {
		key := listKey(opts.Namespace, opts.Fields)
		if opts.Name != "" {
			key.Name = opts.Name
		}
		o, err := l.may(ctx, "watch", sch, key)
		if err != nil {
			yield(store.Event[store.Object]{}, err)
			return
		}
		for ev, err := range l.server.store.Watch(ctx, sch, opts) {
			if err != nil && ctx.Err() == nil { // else it is the context's own
				err = o.status(err)
			}
			if !yield(ev, err) {
				return
			}
		}
	}
}

func (l *local) Write(ctx context.Context, sch *store.Schema, w store.Write) (store.Object, error) {
	return l.write(ctx, sch, w, direct{l.server.store})
}

// Close does nothing: the store is the server's owner's to close.
func (l *local) Close() error { return nil }

func (l *local) write(ctx context.Context, sch *store.Schema, w store.Write, b backend) (store.Object, error) {
	key := w.Key
	if w.Op == store.Create || w.Op == store.Update {
		if w.Object == nil || sch != nil && !sch.Is(w.Object) {
			return nil, &store.Error{Op: w.Op.String(), Err: store.Invalidf("the object is a %T: want one of the kind's", w.Object)}
		}
		key = store.KeyOf(w.Object)
	}
	verb := w.Op.String()
	if w.Op == store.Patch {
		verb = "update"
	}
	o, err := l.op(verb, sch, key, b)
	if err != nil {
		return nil, err
	}
	o.lease = store.WriteOptions{Lease: w.Options.Lease, Fence: w.Options.Fence}
	obj, err := l.carryOut(ctx, o, w)
	if own, ok := errors.AsType[*patchError](err); ok {
		return nil, own.err
	}
	return obj, o.status(err)
}

// patchError is what a patch's function returned: the caller gets it back as it
// is.
type patchError struct{ err error }

func (e *patchError) Error() string { return e.err.Error() }

func (l *local) carryOut(ctx context.Context, o *op, w store.Write) (store.Object, error) {
	switch w.Op {
	case store.Create:
		return l.create(ctx, o, w)
	case store.Update:
		return o.update(ctx, l.checked(ctx, o, w, func(store.Object) (store.Object, error) { return o.res.schema.Copy(w.Object), nil }))
	case store.Patch:
		if w.Patch == nil {
			return nil, store.Invalidf("a patch needs a function")
		}
		o.derived = true
		return o.update(ctx, l.checked(ctx, o, w, func(live store.Object) (store.Object, error) {
			next := o.res.schema.Copy(live)
			if err := w.Patch(next); err != nil {
				return nil, &patchError{err}
			}
			return next, nil
		}))
	case store.Delete:
		if err := o.authorize(ctx); err != nil {
			return nil, err
		}
		opts := metav1.DeleteOptions{}
		if given, ok := ctx.Value(deleteOptionsKey{}).(*metav1.DeleteOptions); ok {
			opts = *given.DeepCopy()
		}
		demand(&opts, w.Options)
		obj, _, err := o.delete(ctx, &opts)
		return obj, err
	}
	return nil, store.Invalidf("operation %d: want Create, Update, Patch or Delete", w.Op)
}

func demand(opts *metav1.DeleteOptions, w store.WriteOptions) {
	if w.ResourceVersion == "" && w.UID == "" {
		return
	}
	if opts.Preconditions == nil {
		opts.Preconditions = &metav1.Preconditions{}
	}
	if w.ResourceVersion != "" {
		opts.Preconditions.ResourceVersion = &w.ResourceVersion
	}
	if w.UID != "" {
		p := metav1.NewUIDPreconditions(w.UID)
		opts.Preconditions.UID = p.UID
	}
}

func (l *local) create(ctx context.Context, o *op, w store.Write) (store.Object, error) {
	if w.Options.ResourceVersion != "" || w.Options.UID != "" {
		return nil, store.Invalidf("an object to be created has no version and no UID to demand")
	}
	if err := o.authorize(ctx); err != nil {
		return nil, err
	}
	obj := w.Object
	if !w.Options.TakeOver {
		obj = o.res.schema.Copy(obj)
	}
	if o.res.status != nil && !o.res.status.same(obj, o.res.new()) {
		a := o.attributes()
		a.Verb, a.Subresource = "update", "status"
		o.whole = l.server.authorize(ctx, a) == nil // else the status is cleared, as by HTTP
	}
	return o.create(ctx, obj)
}

// checked wraps a change: what the write demands must hold, and the user must
// have the right to each part that it changes.
func (l *local) checked(ctx context.Context, o *op, w store.Write, f change) change {
	return func(live store.Object) (store.Object, error) {
		if v := w.Options.ResourceVersion; v != "" && v != live.GetResourceVersion() {
			return nil, fmt.Errorf("%w: the write demands resource version %s, the object has %s", store.ErrConflict, v, live.GetResourceVersion())
		}
		if uid := o.res.schema.Accessors.UID; w.Options.UID != "" && uid != nil && uid(live) != w.Options.UID {
			return nil, fmt.Errorf("%w: the write demands UID %s, the object has %s", store.ErrConflict, w.Options.UID, uid(live))
		}
		next, err := f(live)
		if err != nil {
			return nil, err
		}
		return next, l.mayChange(ctx, o, live, next)
	}
}

// mayChange checks the right to update the object, its status, or both.
func (l *local) mayChange(ctx context.Context, o *op, live, next store.Object) error {
	a := o.attributes()
	if o.res.status == nil || o.res.status.same(live, next) {
		return l.server.authorize(ctx, a)
	}
	a.Subresource = "status"
	if err := l.server.authorize(ctx, a); err != nil {
		return err
	}
	rest := o.res.schema.Copy(next)
	o.res.status.copy(live, rest)
	rest.SetResourceVersion(live.GetResourceVersion())
	if o.res.schema.Equal(live, rest) {
		return nil
	}
	a.Subresource = ""
	return l.server.authorize(ctx, a)
}

// Txn implements [store.Transactor].
func (l *localTransactor) Txn(ctx context.Context, f func(store.Tx) error) (uint64, error) {
	if f == nil {
		return 0, &store.Error{Op: "transaction", Err: store.Invalidf("the function is nil")}
	}
	return l.store.Txn(ctx, func(tx store.Tx) error { return f(&localTx{l.local, ctx, tx}) })
}

// localTx is a transaction as the user may use it. It lives as long as the call
// whose context it carries.
type localTx struct {
	*local
	ctx context.Context
	tx  store.Tx
}

func (t *localTx) Get(sch *store.Schema, key store.Key) (store.Object, error) {
	o, err := t.may(t.ctx, "get", sch, key)
	if err != nil {
		return nil, err
	}
	obj, err := t.tx.Get(sch, key)
	return obj, o.status(err)
}

func (t *localTx) List(sch *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	o, err := t.may(t.ctx, "list", sch, listKey(opts.Namespace, opts.Fields))
	if err != nil {
		return store.ListMeta{}, err
	}
	meta, err := t.tx.List(sch, opts, yield)
	return meta, o.status(err)
}

func (t *localTx) Write(sch *store.Schema, w store.Write) (store.Object, error) {
	return t.write(t.ctx, sch, w, within{t.tx, t.server})
}

func (t *localTx) Fence(id store.LeaseID) { t.tx.Fence(id) }
