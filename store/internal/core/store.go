// SPDX-License-Identifier: Apache-2.0

package core

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/slipway-dev/slipway/store"
)

// Store implements the contract over tables.
type Store struct {
	newTable func(*store.Schema) Table
	opts     store.Options

	revision atomic.Uint64            // the latest committed
	kinds    atomic.Pointer[registry] // the registered kinds
	floor    atomic.Uint64            // the oldest revision that can be read
	closed   atomic.Bool
	done     chan struct{} // closed by Close
	running  sync.WaitGroup

	// mu is the commit mutex: it guards all that follows, and every change of what
	// stands above.
	mu       sync.Mutex
	tables   []*table                  // unregistered ones included
	dormant  map[store.KindName]*table // unregistered kinds with their objects
	history  history
	leases   leases
	mutation *detector // nil: off
	touched  []*table  // by the commit in progress
}

// registry is the set of registered kinds. It never changes: registering
// replaces it.
type registry struct {
	bySchema map[*store.Schema]*table
	byName   map[store.KindName]*table
}

// table is one kind in one store.
type table struct {
	schema  *store.Schema
	since   uint64 // the revision at which the kind was registered
	rows    Table
	log     *log
	hub     hub
	removed atomic.Bool          // the kind was unregistered
	changed atomic.Uint64        // the last revision that changed the table, set before anything is changed
	recent  atomic.Pointer[past] // the newest view that was asked for; replaced under the commit mutex

	// Of the commit in progress, under the commit mutex: whether it changes the
	// table, and the position of its first event in the log.
	touched bool
	first   uint64
}

// New returns an empty store whose tables are made by newTable.
func New(newTable func(*store.Schema) Table, opts store.Options) *Store {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.History.Revisions == 0 {
		opts.History.Revisions = defaultRevisions
	}
	s := &Store{
		newTable: newTable,
		opts:     opts,
		done:     make(chan struct{}),
		dormant:  map[store.KindName]*table{},
		history:  history{limits: opts.History},
		leases:   newLeases(),
		mutation: newDetector(opts.Mutations),
	}
	// An empty store is at revision 1: a list of revision 0 could not be watched
	// from, because that asks for the present.
	s.revision.Store(1)
	s.floor.Store(1)
	s.kinds.Store(&registry{})
	return s
}

// Register implements [store.Store].
func (s *Store) Register(schema *store.Schema) error {
	fail := func(err error) error {
		name := ""
		if schema != nil {
			name = schema.KindName.String()
		}
		return &store.Error{Op: "register", Kind: name, Err: err}
	}
	if schema == nil || schema.Is == nil {
		return fail(store.Invalidf("a schema must come from Kind.Schema"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return fail(store.ErrClosed)
	}
	reg := s.kinds.Load()
	if reg.byName[schema.KindName] != nil {
		return fail(store.ErrKindExists)
	}
	t := &table{schema: schema, rows: s.newTable(schema)}
	if err := s.adopt(t); err != nil {
		return fail(err)
	}
	revision := s.revision.Load()
	t.since = revision
	t.log = newLog(revision)
	t.changed.Store(revision)
	if old := s.dormant[schema.KindName]; old != nil {
		delete(s.dormant, schema.KindName)
		s.history.bytes -= old.log.retained()
		s.tables = slices.DeleteFunc(s.tables, func(t *table) bool { return t == old })
	}
	s.tables = append(s.tables, t)
	s.kinds.Store(reg.with(t))
	return nil
}

// adopt fills a table with the objects of its kind that the store holds from
// before the kind was unregistered, converted where their type is another.
func (s *Store) adopt(t *table) error {
	old := s.dormant[t.schema.KindName]
	if old == nil {
		return nil
	}
	var failed error
	var former, converted []*Entry
	old.rows.View().Ascend("", store.Key{}, func(e *Entry) bool {
		s.mutation.check(e)
		next := &Entry{Object: e.Object, Key: e.Key, Revision: e.Revision}
		if !t.schema.Is(e.Object) {
			next.Object, failed = s.convert(t.schema, e)
		}
		if failed == nil {
			if err := checkScope(t.schema, next.Key); err != nil {
				failed = fmt.Errorf("the store holds %s: %w", next.Key, err)
			}
		}
		former, converted = append(former, e), append(converted, next)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if err := s.fill(t, converted); err != nil {
		return err
	}
	for i, e := range converted {
		s.mutation.forget(former[i])
		s.mutation.record(t.schema, e)
	}
	s.leases.move(old, t)
	return nil
}

// fill puts the entries into the new table. It is the first to call the kind's
// functions on them that a commit relies on not to panic.
func (s *Store) fill(t *table, entries []*Entry) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: on an object that the store holds: %v", store.ErrHookPanic, r)
		}
	}()
	for _, e := range entries {
		if s.history.limits.Bytes > 0 {
			t.schema.Size(e.Object)
		}
		t.rows.Replace(nil, e)
	}
	return nil
}

func (s *Store) convert(schema *store.Schema, e *Entry) (store.Object, error) {
	if schema.Convert == nil {
		return nil, store.Invalidf("the store holds %s as a %T, not a %s: give the kind a Convert function", e.Key, e.Object, schema.Type)
	}
	o, err := schema.Convert(e.Object)
	if err != nil {
		return nil, &store.Error{Op: "convert", Kind: schema.KindName.String(), Key: e.Key, Err: err}
	}
	if store.KeyOf(o) != e.Key {
		return nil, store.Invalidf("the conversion hook made %s of %s", store.KeyOf(o), e.Key)
	}
	o.SetResourceVersion(store.FormatRevision(e.Revision))
	return o, nil
}

// Unregister implements [store.Store].
func (s *Store) Unregister(schema *store.Schema) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.table("unregister", schema)
	if err != nil {
		return err
	}
	s.dormant[schema.KindName] = t
	s.kinds.Store(s.kinds.Load().without(t))
	t.removed.Store(true)
	t.hub.wakeAll()
	return nil
}

// Kind implements [store.Store].
func (s *Store) Kind(name store.KindName) *store.Schema {
	if t := s.kinds.Load().byName[name]; t != nil {
		return t.schema
	}
	return nil
}

// Kinds implements [store.Store].
func (s *Store) Kinds() []*store.Schema {
	return slices.SortedFunc(maps.Keys(s.kinds.Load().bySchema), func(a, b *store.Schema) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Group, b.Group))
	})
}

// Revision implements [store.Store].
func (s *Store) Revision(ctx context.Context) (uint64, error) {
	if err := s.usable(ctx); err != nil {
		return 0, &store.Error{Op: "read the revision", Err: err}
	}
	return s.revision.Load(), nil
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed.Swap(true) {
		s.mu.Unlock()
		return nil
	}
	close(s.done)
	for _, t := range s.tables {
		t.hub.wakeAll()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.mutation.checkAll()
	return nil
}

// usable returns why nothing can be done, or nil.
func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// table returns the table of a registered schema.
func (s *Store) table(op string, schema *store.Schema) (*table, error) {
	if t := s.kinds.Load().bySchema[schema]; t != nil && !s.closed.Load() {
		return t, nil
	}
	err, kind := store.ErrUnknownKind, ""
	if s.closed.Load() {
		err = store.ErrClosed
	}
	if schema != nil {
		kind = schema.KindName.String()
	}
	return nil, &store.Error{Op: op, Kind: kind, Err: err}
}

func (r *registry) with(t *table) *registry {
	next := &registry{maps.Clone(r.bySchema), maps.Clone(r.byName)}
	if next.bySchema == nil {
		next = &registry{map[*store.Schema]*table{}, map[store.KindName]*table{}}
	}
	next.bySchema[t.schema], next.byName[t.schema.KindName] = t, t
	return next
}

func (r *registry) without(t *table) *registry {
	next := &registry{maps.Clone(r.bySchema), maps.Clone(r.byName)}
	delete(next.bySchema, t.schema)
	delete(next.byName, t.schema.KindName)
	return next
}
