// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
)

// backend is where requests are carried out: the store, each request by itself,
// or a transaction that a caller of [Server.Store] has begun.
type backend interface {
	get(context.Context, *store.Schema, store.Key) (store.Object, error)
	list(context.Context, *store.Schema, store.ListOptions, func(store.Object) bool) error
	kind(store.KindName) *store.Schema
	// write carries out one write that needs no transaction.
	write(context.Context, *store.Schema, store.Write) (store.Object, error)
	// txn runs f in a transaction.
	txn(context.Context, func(store.Tx) error) error
	// atomic reports whether txn is one, that can be taken back.
	atomic() bool
}

// direct is the store.
type direct struct{ store.Store }

func (d direct) get(ctx context.Context, s *store.Schema, key store.Key) (store.Object, error) {
	return d.Store.Get(ctx, s, key, store.ReadOptions{})
}

func (d direct) list(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) error {
	_, err := d.Store.List(ctx, s, opts, yield)
	return err
}

func (d direct) kind(name store.KindName) *store.Schema { return d.Store.Kind(name) }

func (d direct) write(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
	return d.Store.Write(ctx, s, w)
}

func (d direct) txn(ctx context.Context, f func(store.Tx) error) error {
	if t, ok := d.Store.(store.Transactor); ok {
		_, err := t.Txn(ctx, f)
		return err
	}
	return f(single{ctx, d.Store})
}

func (d direct) atomic() bool {
	_, ok := d.Store.(store.Transactor)
	return ok
}

// single makes do without transactions, on a store that has none: each write is
// carried out as it comes, so that what a [admission.Transactional] plugin wrote
// stays if the request then fails.
type single struct {
	ctx   context.Context
	store store.Store
}

func (s single) Get(sch *store.Schema, key store.Key) (store.Object, error) {
	return s.store.Get(s.ctx, sch, key, store.ReadOptions{})
}

func (s single) List(sch *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	return s.store.List(s.ctx, sch, opts, yield)
}

func (s single) Write(sch *store.Schema, w store.Write) (store.Object, error) {
	return s.store.Write(s.ctx, sch, w)
}

func (s single) Fence(store.LeaseID) {}

// within is a transaction in progress.
type within struct {
	tx     store.Tx
	server *Server
}

func (w within) get(_ context.Context, s *store.Schema, key store.Key) (store.Object, error) {
	return w.tx.Get(s, key)
}

func (w within) list(_ context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) error {
	_, err := w.tx.List(s, opts, yield)
	return err
}

func (w within) kind(name store.KindName) *store.Schema { return w.server.store.Kind(name) }

func (w within) write(_ context.Context, s *store.Schema, wr store.Write) (store.Object, error) {
	return w.tx.Write(s, wr)
}

func (w within) txn(_ context.Context, f func(store.Tx) error) error { return f(w.tx) }

func (w within) atomic() bool { return true }

// reader shows a backend to admission plugins.
type reader struct {
	ctx context.Context
	b   backend
}

var _ admission.Reader = reader{}

func (r reader) Get(kind store.KindName, key store.Key) (store.Object, error) {
	s := r.b.kind(kind)
	if s == nil {
		return nil, unknownKind(kind)
	}
	return r.b.get(r.ctx, s, key)
}

func (r reader) List(kind store.KindName, opts store.ListOptions, yield func(store.Object) bool) error {
	s := r.b.kind(kind)
	if s == nil {
		return unknownKind(kind)
	}
	return r.b.list(r.ctx, s, opts, yield)
}

func unknownKind(kind store.KindName) error {
	return fmt.Errorf("kind %s: %w", kind, store.ErrUnknownKind)
}

// transaction shows a transaction to admission plugins.
type transaction struct {
	tx     store.Tx
	server *Server
}

var _ admission.Tx = transaction{}

func (t transaction) Get(kind store.KindName, key store.Key) (store.Object, error) {
	s := t.server.store.Kind(kind)
	if s == nil {
		return nil, unknownKind(kind)
	}
	return t.tx.Get(s, key)
}

func (t transaction) List(kind store.KindName, opts store.ListOptions, yield func(store.Object) bool) error {
	s := t.server.store.Kind(kind)
	if s == nil {
		return unknownKind(kind)
	}
	_, err := t.tx.List(s, opts, yield)
	return err
}

func (t transaction) Update(kind store.KindName, o store.Object) error {
	s := t.server.store.Kind(kind)
	if s == nil {
		return unknownKind(kind)
	}
	_, err := t.tx.Write(s, store.Write{Op: store.Update, Object: o, Options: store.WriteOptions{TakeOver: true}})
	return err
}

// errDryRun ends a transaction that is not to be committed.
var errDryRun = errors.New("dry run")
