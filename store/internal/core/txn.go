// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"

	"github.com/slipway-dev/slipway/store"
)

// Txn implements [store.Transactor].
func (s *Store) Txn(ctx context.Context, f func(store.Tx) error) (uint64, error) {
	if f == nil {
		return 0, &store.Error{Op: "transaction", Err: store.Invalidf("the function is nil")}
	}
	for attempt := 0; ; attempt++ {
		revision, err := s.tryTxn(ctx, f)
		if err != errStale {
			return revision, err
		}
		pause(ctx, attempt)
	}
}

// tryTxn is one run of the function: errStale asks for another.
func (s *Store) tryTxn(ctx context.Context, f func(store.Tx) error) (revision uint64, err error) {
	if err := s.usable(ctx); err != nil {
		return 0, &store.Error{Op: "transaction", Err: err}
	}
	kinds := s.kinds.Load() // first: a kind is no newer than the revision
	x := &tx{snapshot: snapshot{s: s, kinds: kinds, revision: s.revision.Load()}}
	err = f(x)
	x.over = true
	switch {
	case x.stale:
		err = errStale
	case err != nil:
		return 0, err // the caller's own, or one of ours that says what it was about
	default:
		if err = s.usable(ctx); err == nil { // it may have ended while f ran
			revision, err = x.commit()
		}
	}
	if err == errStale {
		x.giveBack()
		return 0, err
	}
	return revision, wrap(err, "transaction", nil, store.Key{})
}

// tx is one run of a transaction's function: a snapshot, what was read of it,
// and the writes on top.
type tx struct {
	snapshot
	over   bool
	stale  bool // the history window has left the snapshot behind: begin anew
	writes map[place]*pending
	order  []*pending // of first writes: the order of the events
	block  []pending  // where the next come from
	taken  []taken
	reads  map[place]*Entry
	lists  []listed
	fences []store.LeaseID
}

// taken is an object that an update handed over, and what it demanded before it
// was stamped.
type taken struct {
	schema       *store.Schema
	object       store.Object
	version, uid string
}

// giveBack takes the stamps off the objects that were handed over, because the
// function may hand them over again in its next run.
func (x *tx) giveBack() {
	for _, t := range x.taken {
		t.object.SetResourceVersion(t.version)
		if t.schema.Accessors.SetUID != nil {
			t.schema.Accessors.SetUID(t.object, t.uid)
		}
	}
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
	return x.snapshot.table(schema)
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
	e, err := x.entry(t, key)
	if err == nil && e == nil {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "get", schema, key)
	}
	return e.Object, nil
}

// entry returns the object as the transaction sees it, or nil, and remembers
// that it depends on it.
func (x *tx) entry(t *table, key store.Key) (*Entry, error) {
	at := place{t, key}
	if p := x.writes[at]; p != nil {
		return p.now, nil
	}
	e, err := x.base(t, key)
	if err == nil {
		x.depend(at, e)
	}
	return e, err
}

// base returns the object as it is in the snapshot, or nil.
func (x *tx) base(t *table, key store.Key) (*Entry, error) {
	e, err := x.s.get(t, key, x.revision)
	x.stale = x.stale || err != nil
	return e, err
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
	if opts.Continue != "" && q.opts.Exact != x.revision {
		return store.ListMeta{}, store.Invalidf("the continue token is of revision %d, and the transaction reads %d", q.opts.Exact, x.revision)
	}
	v, err := x.merged(t)
	if err != nil {
		x.stale = true
		return store.ListMeta{}, err
	}
	x.lists = append(x.lists, listed{t, q.filter})
	return q.run(v, x.revision, func(e *Entry) bool { return yield(e.Object) })
}

// merged returns the table with the transaction's writes in the place of what
// is in the snapshot.
func (x *tx) merged(t *table) (View, error) {
	base, err := x.s.view(t, x.revision)
	if err != nil {
		return nil, err
	}
	v := newOverlay(t.schema, base)
	for _, p := range x.order {
		if p.table == t {
			v.put(p.key, p.now)
		}
	}
	return v.sorted(), nil
}

func (x *tx) Write(schema *store.Schema, w store.Write) (store.Object, error) {
	o, key, err := x.write(schema, w)
	if err != nil {
		return nil, wrap(err, w.Op.String(), schema, key)
	}
	return o, nil
}

func (x *tx) write(schema *store.Schema, w store.Write) (store.Object, store.Key, error) {
	t, err := x.table(schema)
	if err != nil {
		return nil, w.Key, err
	}
	in, err := newIntent(schema, w)
	if err != nil {
		return nil, in.key, err
	}
	at, err := x.free(t, &in)
	if err != nil {
		return nil, at.key, err
	}
	p, known := x.writes[at]
	if !known {
		base, err := x.base(t, at.key)
		if err != nil {
			return nil, at.key, err
		}
		p = x.newPending()
		*p = pending{place: at, base: base, now: base}
	}
	if w.Options.TakeOver && w.Op == store.Update {
		x.taken = append(x.taken, taken{schema, w.Object, in.version, in.uid})
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

// free returns the place to write to: one that nothing stands in where the name
// is generated.
func (x *tx) free(t *table, in *intent) (place, error) {
	for {
		at := place{t, in.attemptKey()}
		if in.prefix == "" {
			return at, nil
		}
		if e, err := x.entry(t, at.key); e == nil || err != nil {
			return at, err
		}
	}
}

// newPending returns a zero pending. They are made by the block, because a
// transaction of many objects makes many.
func (x *tx) newPending() *pending {
	if len(x.block) == cap(x.block) {
		x.block = make([]pending, 0, min(max(4, 2*cap(x.block)), 128))
	}
	x.block = append(x.block, pending{})
	return &x.block[len(x.block)-1]
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
	c := commit{changes: x.changes(), lists: x.lists, since: x.revision, fences: x.fences}
	if len(c.changes) == 0 && len(c.fences) == 0 {
		return x.revision, nil // it only read, and all of one state
	}
	for at, e := range x.reads {
		c.reads = append(c.reads, read{at.table, at.key, e})
	}
	return x.s.commit(&c)
}
