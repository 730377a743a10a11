// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// Txn implements [store.Transactor].
func (s *Store) Txn(ctx context.Context, f func(store.Tx) error) (uint64, error) {
	fail := func(err error) (uint64, error) { return 0, &store.Error{Op: "transaction", Err: err} }
	if f == nil {
		return fail(store.Invalidf("the function is nil"))
	}
	for attempt := 0; ; attempt++ {
		if err := s.usable(ctx); err != nil {
			return fail(err)
		}
		x := &tx{snapshot: snapshot{state: s.state.Load(), kinds: s.kinds.Load()}, s: s}
		err := f(x)
		x.over = true
		if err != nil {
			return 0, err // the caller's own, or one of ours that says what it was about
		}
		revision, err := x.commit()
		if err == errStale {
			pause(ctx, attempt)
			continue
		}
		if err != nil {
			return fail(err)
		}
		return revision, nil
	}
}

// tx is one run of a transaction's function: a snapshot, what was read of it,
// and the writes on top.
type tx struct {
	snapshot
	s      *Store
	over   bool
	writes map[place]*pending
	order  []*pending // of first writes: the order of the events
	reads  map[place]*Entry
	lists  []listed
	fences []store.LeaseID
}

// pending is what a transaction makes of one object.
type pending struct {
	place
	base    *Entry // in the snapshot, or nil
	now     *Entry // as the transaction sees it; nil: there is none
	removed *Entry // the removal of base, if now is another object or none
	lease   store.LeaseID
}

var errOver = errors.New("the transaction is over: its function has returned")

// table returns the kind's table, if the transaction can use it.
func (x *tx) table(schema *store.Schema) (*table, error) {
	if x.over {
		return nil, &invalid{errOver}
	}
	t := x.kinds.bySchema[schema]
	if t == nil || x.state.view(t) == nil {
		return nil, store.ErrUnknownKind
	}
	return t, nil
}

// invalid makes an error match ErrInvalid.
type invalid struct{ error }

func (e *invalid) Is(target error) bool { return target == store.ErrInvalid }

func (x *tx) Fence(id store.LeaseID) { x.fences = append(x.fences, id) }

func (x *tx) Get(schema *store.Schema, key store.Key) (store.Object, error) {
	t, err := x.table(schema)
	if err != nil {
		return nil, wrap(err, "get", schema, key)
	}
	if e := x.entry(t, key); e != nil {
		return e.Object, nil
	}
	return nil, wrap(store.ErrNotFound, "get", schema, key)
}

// entry returns the object as the transaction sees it, or nil, and remembers
// that it depends on it.
func (x *tx) entry(t *table, key store.Key) *Entry {
	at := place{t, key}
	if p := x.writes[at]; p != nil {
		return p.now
	}
	e := x.state.get(t, key)
	x.depend(at, e)
	return e
}

// depend remembers what was read of the snapshot.
func (x *tx) depend(at place, e *Entry) {
	if x.reads == nil {
		x.reads = map[place]*Entry{}
	}
	x.reads[at] = e
}

func (x *tx) List(schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	meta, err := x.list(schema, opts, yield)
	return meta, wrap(err, "list", schema, store.Key{Namespace: opts.Namespace})
}

func (x *tx) list(schema *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	t, err := x.table(schema)
	if err != nil {
		return store.ListMeta{}, err
	}
	q, err := newQuery(schema, opts)
	if err != nil {
		return store.ListMeta{}, err
	}
	if opts.Continue != "" && q.opts.Exact != x.state.revision {
		return store.ListMeta{}, store.Invalidf("the continue token is of revision %d, and the transaction reads %d", q.opts.Exact, x.state.revision)
	}
	x.lists = append(x.lists, listed{t, q.filter})
	return q.run(x.merged(t), x.state.revision, func(e *Entry) bool { return yield(e.Object) })
}

// view returns the table with the transaction's writes: its content in the
// snapshot, with what was written in the place of what was there.
func (x *tx) merged(t *table) View {
	v := &pastView{base: x.state.view(t), changed: map[store.Key]*Entry{}, schema: t.schema}
	for _, p := range x.order {
		if p.table != t {
			continue
		}
		v.changed[p.key] = p.now
		if p.now != nil {
			v.was = append(v.was, p.now)
		}
	}
	if len(v.changed) == 0 {
		return v.base
	}
	slices.SortFunc(v.was, func(a, b *Entry) int { return a.Key.Compare(b.Key) })
	return v
}

func (x *tx) Write(schema *store.Schema, w store.Write) (store.Object, error) {
	o, key, err := x.write(schema, &w)
	if err != nil {
		return nil, wrap(err, w.Op.String(), schema, key)
	}
	return o, nil
}

func (x *tx) write(schema *store.Schema, w *store.Write) (store.Object, store.Key, error) {
	t, err := x.table(schema)
	if err != nil {
		return nil, w.Key, err
	}
	in, err := newIntent(schema, w)
	if err != nil {
		return nil, in.key, err
	}
	at := place{t, in.attemptKey()}
	for in.prefix != "" && x.entry(t, at.key) != nil {
		at.key = in.attemptKey()
	}
	p, known := x.writes[at]
	if !known {
		base := x.state.get(t, at.key)
		p = &pending{place: at, base: base, now: base}
	}
	prep := preparer{s: x.s, t: t, owner: x.entry}
	c, err := prep.prepare(&in, at.key, p.now)
	if err != nil {
		x.refused(p, known)
		return nil, at.key, err
	}
	if w.Options.Fence != 0 {
		x.fences = append(x.fences, w.Options.Fence)
	}
	if c.next == nil && !c.binds() { // nothing changes, which depends on what was there
		x.refused(p, known)
		return p.now.Object, at.key, nil
	}
	if !known {
		if x.writes == nil {
			x.writes = map[place]*pending{}
		}
		x.writes[at] = p
		x.order = append(x.order, p)
	}
	if c.binds() {
		p.lease = c.lease
	}
	if c.next == nil {
		return p.now.Object, at.key, nil
	}
	return p.put(c.next), at.key, nil
}

// refused remembers that a write that left no trace depends on what it saw.
func (x *tx) refused(p *pending, known bool) {
	if !known {
		x.depend(p.place, p.base)
	}
}

// put makes next what the transaction sees of the object.
func (p *pending) put(next *Entry) store.Object {
	if !next.Gone {
		p.now = next
		return next.Object
	}
	if p.base != nil && p.removed == nil {
		p.removed = next
	}
	p.now, p.lease = nil, 0
	return next.Object
}

// changes returns what the transaction does to the objects it wrote.
func (x *tx) changes() []change {
	out := make([]change, 0, len(x.order))
	for _, p := range x.order {
		c := change{table: p.table, key: p.key, old: p.base, lease: p.lease}
		switch {
		case p.now == nil && p.removed == nil: // made and removed here: it never was
			x.depend(p.place, nil)
			continue
		case p.now == nil:
			c.next = p.removed
		case p.now == p.base: // only attached to a lease
		default:
			c.next, c.before = p.now, p.removed
		}
		out = append(out, c)
	}
	return out
}

// commit carries out what the function did.
func (x *tx) commit() (uint64, error) {
	c := commit{changes: x.changes(), lists: x.lists, since: x.state.revision, fences: x.fences}
	if len(c.changes) == 0 && len(c.fences) == 0 {
		return x.state.revision, nil // it only read, and all of one state
	}
	for at, e := range x.reads {
		c.reads = append(c.reads, read{at.table, at.key, e})
	}
	return x.s.commit(&c)
}
