// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
)

// Running describes the reconcile that a context belongs to.
type Running struct {
	Controller string
	Key        string
	// Causes are why it runs, the oldest first; there may have been more.
	Causes []Cause
	// Attempts is how often it has failed in a row before.
	Attempts int
}

// Current returns the reconcile that the context belongs to, for logs and traces.
func Current(ctx context.Context) (Running, bool) {
	if a := activityOf(ctx); a != nil {
		return a.running, true
	}
	return Running{}, false
}

// Written names one write of a reconcile.
type Written struct {
	Op       store.Op
	Kind     store.KindName
	Key      store.Key
	Revision uint64
}

// activity is one reconcile in progress: what its reads see and what it wrote.
// It is what a [Manager.Store] finds in the context.
type activity struct {
	in      *Manager
	base    store.Store
	cache   *watch.Cache
	running Running
	begun   time.Time
	fence   store.LeaseID
	lasting bool // read from a snapshot: the attempt before was overtaken by the history window

	release func() // the right to work on the key
	ended   atomic.Bool

	mu    sync.Mutex
	view  sight  // what reads see; nil: to be taken
	read  uint64 // the revision of the latest view
	needs watch.Versions
	wrote []Written
	blind []Written // of these, those on top of another's change that was not read
}

type activityKey struct{}

func activityOf(ctx context.Context) *activity {
	a, _ := ctx.Value(activityKey{}).(*activity)
	return a
}

// sight is one state of the store, as far as the store has such a thing.
type sight interface {
	get(context.Context, *store.Schema, store.Key) (store.Object, error)
	list(context.Context, *store.Schema, store.ListOptions, func(store.Object) bool) (store.ListMeta, error)
	// revision of the state of this kind
	revision() uint64
}

// errEnded is the failure of a call in a context whose reconcile is over.
var errEnded = errors.New("reconcile: this reconcile has ended: do not keep its context")

// look returns what the reads of this reconcile see: one state from the first
// read on, and after each write the state at the next read, which has the write.
func (a *activity) look(ctx context.Context, s *store.Schema, atLeast uint64) (sight, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended.Load() {
		return nil, errEnded
	}
	if a.view != nil && a.view.revision() >= atLeast {
		return a.view, nil
	}
	if atLeast > 0 {
		a.needs = maps.Clone(a.needs)
		if a.needs == nil {
			a.needs = watch.Versions{}
		}
		a.needs[s.KindName] = max(a.needs[s.KindName], atLeast)
	}
	v, err := a.take(ctx)
	if err != nil {
		return nil, err
	}
	a.view, a.read = v, v.revision()
	return v, nil
}

// joint reports whether the store has one revision over all kinds.
func (a *activity) joint() bool {
	_, ok := a.base.(store.Snapshotter)
	return ok
}

// take takes a view of the present. In a store with one revision over all kinds
// that is a number, at which everything is then read; elsewhere it is what the
// informers hold.
func (a *activity) take(ctx context.Context) (sight, error) {
	if a.joint() && !a.lasting {
		rev, err := a.base.Revision(ctx)
		if err != nil {
			return nil, err
		}
		for _, need := range a.needs {
			if need > rev {
				return nil, &store.Error{Op: "read", Err: store.ErrFuture}
			}
		}
		return exact{a.base, rev}, nil
	}
	s, err := a.cache.View(ctx, a.needs)
	if errors.Is(err, watch.ErrNoInformer) { // of a kind that was written: that is read from the store
		a.needs = a.cachedNeeds(ctx)
		s, err = a.cache.View(ctx, a.needs)
	}
	if err != nil {
		return nil, err
	}
	return cached{a.base, s}, nil
}

// cachedNeeds returns the needs of kinds that have an informer.
func (a *activity) cachedNeeds(ctx context.Context) watch.Versions {
	out := watch.Versions{}
	for kind, revision := range a.needs {
		if _, err := a.cache.View(ctx, watch.Versions{kind: revision}); !errors.Is(err, watch.ErrNoInformer) {
			out[kind] = revision // another error comes again
		}
	}
	return out
}

// before returns the revision before a write, by which a write that changes
// nothing is known: it leaves no echo and needs no wait. 0 where stores have no
// revision over all kinds, or it can't be had.
func (a *activity) before(ctx context.Context) uint64 {
	if !a.joint() {
		return 0
	}
	rev, err := a.base.Revision(ctx)
	if err != nil {
		return 0 // the write will tell
	}
	return rev
}

// write notes a write: what is read from here on has it. Patched is the revision
// that a patch was applied to, 0 for other writes.
func (a *activity) write(w Written, patched uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.overlooked(w, patched) {
		a.blind = append(a.blind, w)
	}
	a.wrote = append(a.wrote, w)
	a.view = nil
	if w.Revision > a.needs[w.Kind] {
		a.needs = maps.Clone(a.needs)
		if a.needs == nil {
			a.needs = watch.Versions{}
		}
		a.needs[w.Kind] = w.Revision
	}
}

// overlooked reports whether a patch was applied to a revision that is newer than
// all that this reconcile has read: another has changed the object meanwhile. The
// echo of the patch is news then, for that change may have become one with it on
// the way. The caller holds a.mu.
func (a *activity) overlooked(w Written, patched uint64) bool {
	if !a.joint() || a.read == 0 || patched <= a.read {
		return false
	}
	return !slices.ContainsFunc(a.wrote, func(mine Written) bool {
		return mine.Kind == w.Kind && mine.Key == w.Key && mine.Revision == patched && !slices.Contains(a.blind, mine)
	})
}

// over reports whether the reconcile has ended: whatever goes on in its context
// may be beside the key's next run, here or on another replica.
func (a *activity) over() bool { return a.ended.Load() }

// end ends the reconcile and returns what it wrote, and what of that is blind.
func (a *activity) end() (wrote, blind []Written) {
	a.ended.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wrote, a.blind
}

// abandon ends a reconcile that goes on: it reads and writes nothing more, and
// nobody waits for it. It doesn't lock, for a read in progress holds the lock.
func (a *activity) abandon() {
	a.ended.Store(true)
	a.release()
}

// exact reads a store at one revision.
type exact struct {
	store store.Store
	at    uint64
}

func (v exact) revision() uint64 { return v.at }

func (v exact) get(ctx context.Context, s *store.Schema, key store.Key) (store.Object, error) {
	return v.store.Get(ctx, s, key, store.ReadOptions{Exact: v.at})
}

func (v exact) list(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	opts.ReadOptions = store.ReadOptions{Exact: v.at}
	return v.store.List(ctx, s, opts, yield)
}

// cached reads a snapshot, and the store itself where there is no informer for
// the kind.
type cached struct {
	store    store.Store
	snapshot store.Snapshot
}

func (v cached) revision() uint64 { return v.snapshot.Revision() }

func (v cached) get(ctx context.Context, s *store.Schema, key store.Key) (store.Object, error) {
	o, err := v.snapshot.Get(s, key)
	if errors.Is(err, watch.ErrNoInformer) {
		return v.store.Get(ctx, s, key, store.ReadOptions{})
	}
	return o, err
}

func (v cached) list(ctx context.Context, s *store.Schema, opts store.ListOptions, yield func(store.Object) bool) (store.ListMeta, error) {
	meta, err := v.snapshot.List(s, opts, yield)
	if errors.Is(err, watch.ErrNoInformer) {
		return v.store.List(ctx, s, opts, yield)
	}
	return meta, err
}

// String returns "update Pod default/web at revision 7".
func (w Written) String() string {
	return w.Op.String() + " " + w.Kind.String() + " " + w.Key.String() + " at revision " + store.FormatRevision(w.Revision)
}
