// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"

	"github.com/slipway-dev/slipway/store"
)

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, schema *store.Schema, key store.Key, opts store.ReadOptions) (store.Object, error) {
	t, err := s.table("get", schema)
	if err != nil {
		return nil, err
	}
	if err := s.usable(ctx); err != nil {
		return nil, &store.Error{Op: "get", Kind: schema.KindName.String(), Key: key, Err: err}
	}
	var e *Entry
	if opts == (store.ReadOptions{}) {
		e = s.latest(t, key)
	} else {
		e, err = s.read(t, key, opts)
	}
	if err == nil && e == nil {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, &store.Error{Op: "get", Kind: schema.KindName.String(), Key: key, Err: err}
	}
	return e.Object, nil
}

// read returns the entry of the key at the revision that the options ask for,
// or nil.
func (s *Store) read(t *table, key store.Key, opts store.ReadOptions) (*Entry, error) {
	revision, err := s.resolve(opts)
	if err != nil {
		return nil, err
	}
	if opts.Exact == 0 {
		return s.latest(t, key), nil
	}
	return s.get(t, key, revision)
}

// resolve returns the revision that the options ask for.
func (s *Store) resolve(opts store.ReadOptions) (uint64, error) {
	latest := s.revision.Load()
	if asked := max(opts.AtLeast, opts.Exact); asked > latest {
		return 0, future(asked, latest)
	}
	if opts.Exact == 0 {
		return latest, nil
	}
	if opts.AtLeast > opts.Exact {
		return 0, store.Invalidf("revision %d exactly can't be at least %d", opts.Exact, opts.AtLeast)
	}
	if oldest := s.floor.Load(); opts.Exact < oldest {
		return 0, tooOld(opts.Exact, oldest)
	}
	return opts.Exact, nil
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	meta, err := s.list(ctx, schema, opts, yield)
	return meta, wrap(err, "list", schema, store.Key{Namespace: opts.Namespace})
}

func (s *Store) list(ctx context.Context, schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	t, err := s.table("list", schema)
	if err != nil {
		return store.ListMeta{}, err
	}
	if err := s.usable(ctx); err != nil {
		return store.ListMeta{}, err
	}
	q, err := newQuery(schema, opts)
	if err != nil {
		return store.ListMeta{}, err
	}
	revision, err := s.resolve(q.opts.ReadOptions)
	if err != nil {
		return store.ListMeta{}, err
	}
	var view View
	if q.opts.Exact != 0 {
		view, err = s.view(t, revision)
	} else {
		view, revision = s.present(t)
	}
	if err != nil {
		return store.ListMeta{}, err
	}
	return q.run(view, revision, func(e *Entry) bool { return yield(e.Object) })
}

// query is a list, checked: what to select, from where, and how much.
type query struct {
	schema    *store.Schema
	opts      store.ListOptions // with the revision that the token demands
	filter    filter
	none      bool      // the conditions contradict each other
	from      store.Key // where the page begins
	remaining int       // objects that the page before said were left, -1: unknown
}

func newQuery(schema *store.Schema, opts store.ListOptions) (q query, err error) {
	q = query{schema: schema, opts: opts, remaining: -1}
	if opts.Limit < 0 {
		return q, store.Invalidf("limit %d: want 0, for none, or more", opts.Limit)
	}
	if q.filter, q.none, err = newFilter(schema, opts.Namespace, "", opts.Labels, opts.Fields); err != nil {
		return q, err
	}
	if opts.Continue == "" {
		return q, nil
	}
	token, err := parseToken(opts.Continue, schema, &opts)
	if err != nil {
		return q, err
	}
	if opts.Exact != 0 && opts.Exact != token.Revision {
		return q, store.Invalidf("the continue token is of revision %d, and revision %d was asked for exactly", token.Revision, opts.Exact)
	}
	q.opts.ReadOptions = store.ReadOptions{Exact: token.Revision}
	q.from = store.Key{Namespace: token.Namespace, Name: token.Name + "\x00"} // just after the last
	q.remaining = token.Remaining
	return q, nil
}

// run lists from the view.
func (q *query) run(view View, revision uint64, yield func(*Entry) bool) (store.ListMeta, error) {
	meta := store.ListMeta{Revision: revision}
	if q.none {
		return meta, nil
	}
	limit := q.opts.Limit
	if limit == 0 {
		q.filter.ascend(view, q.from, yield)
		return meta, nil
	}
	n, more := 0, false
	var last store.Key
	q.filter.ascend(view, q.from, func(e *Entry) bool {
		if n == limit {
			more = true
			return false
		}
		n, last = n+1, e.Key
		return yield(e)
	})
	if !more {
		return meta, nil
	}
	meta.Remaining = q.left(view, n)
	meta.Continue = token{Revision: revision, Namespace: last.Namespace, Name: last.Name, Remaining: meta.Remaining}.String(q.schema, &q.opts)
	return meta, nil
}

// left returns how many objects come after a page of n, or -1 where only a scan
// could tell.
func (q *query) left(view View, n int) int {
	switch {
	case !q.filter.everything():
		return -1
	case q.remaining >= 0:
		return q.remaining - n
	case q.opts.Continue == "":
		return view.Len() - n
	}
	return -1
}

func future(asked, have uint64) error {
	return &revisionError{store.ErrFuture, asked, "the latest", have}
}

func tooOld(asked, oldest uint64) error {
	return &revisionError{store.ErrTooOld, asked, "the oldest", oldest}
}

// revisionError says which revision was asked for and which there are.
type revisionError struct {
	err   error
	asked uint64
	what  string
	have  uint64
}

func (e *revisionError) Error() string {
	return e.err.Error() + ": asked for " + store.FormatRevision(e.asked) + ", " + e.what + " is " + store.FormatRevision(e.have)
}

func (e *revisionError) Unwrap() error { return e.err }

// wrap says what was being done, unless err says so already.
func wrap(err error, op string, schema *store.Schema, key store.Key) error {
	if err == nil {
		return nil
	}
	if _, done := err.(*store.Error); done {
		return err
	}
	kind := ""
	if schema != nil {
		kind = schema.KindName.String()
	}
	return &store.Error{Op: op, Kind: kind, Key: key, Err: err}
}
