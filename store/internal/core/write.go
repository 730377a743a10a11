// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
	"unique"

	"github.com/slipway-dev/slipway/store"
)

// Write implements [store.Store]: it prepares the write on the latest state
// and commits it, again and again where another write came in between.
func (s *Store) Write(ctx context.Context, schema *store.Schema, w store.Write) (store.Object, error) {
	op := w.Op.String()
	t, err := s.table(op, schema)
	if err != nil {
		return nil, err
	}
	in, err := newIntent(schema, w)
	if err != nil {
		return nil, wrap(err, op, schema, in.key)
	}
	for attempt := 0; ; attempt++ {
		o, key, err := s.tryWrite(ctx, t, &in)
		if err == errStale {
			pause(ctx, attempt)
			continue
		}
		return o, wrap(err, op, schema, key)
	}
}

// tryWrite is one attempt: errStale asks for another.
func (s *Store) tryWrite(ctx context.Context, t *table, in *intent) (store.Object, store.Key, error) {
	if err := s.usable(ctx); err != nil {
		return nil, in.key, err
	}
	key := in.attemptKey()
	base := s.latest(t, key)
	if in.prefix != "" && base != nil {
		return nil, key, errStale // the generated name is taken: another one
	}
	p := preparer{s: s, t: t, owner: s.owner}
	c, err := p.prepare(in, key, base)
	if err != nil {
		return nil, key, err
	}
	txn := commit{changes: []change{c}, reads: p.reads}
	if fence := in.Options.Fence; fence != 0 {
		txn.fences = []store.LeaseID{fence}
	}
	if c.next != nil || c.binds() || txn.fences != nil { // else nothing changes
		if _, err := s.commit(&txn); err != nil {
			return nil, key, err
		}
	}
	if c.next == nil {
		return base.Object, key, nil
	}
	return c.next.Object, key, nil
}

// errStale says that what a write was based on is no longer so. It never leaves
// this package.
var errStale = errors.New("the state has changed meanwhile")

// pause waits before a further attempt: not at all at first, then for a random
// time up to 2 ms, so that many writers of one object make progress.
func pause(ctx context.Context, attempt int) {
	if attempt < 4 {
		return
	}
	most := min(time.Duration(1)<<min(attempt, 11), 2000) * time.Microsecond
	timer := time.NewTimer(rand.N(most))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// intent is a write, checked, with what it demands. The object of a write that
// hands it over is stamped by each attempt, so what the caller had put into it
// is read once, before the first.
type intent struct {
	store.Write
	key          store.Key
	version, uid string // demanded by the object of an update
	prefix       string // of the name to generate; "": the key has its name
}

func newIntent(schema *store.Schema, w store.Write) (in intent, err error) {
	in = intent{Write: w, key: w.Key}
	switch w.Op {
	case store.Patch, store.Delete:
		if w.Op == store.Patch && w.Patch == nil {
			return in, store.Invalidf("a patch needs a function")
		}
	case store.Create, store.Update:
		if w.Object == nil {
			return in, store.Invalidf("the object is nil")
		}
		if !schema.Is(w.Object) { // before anything is asked of it: it may be a nil pointer
			return in, store.Invalidf("the object is a %T, or nil: the kind's are %s", w.Object, schema.Type)
		}
		in.key = store.KeyOf(w.Object)
		in.version = w.Object.GetResourceVersion()
		if schema.Accessors.UID != nil {
			in.uid = schema.Accessors.UID(w.Object)
		}
		if w.Op == store.Create && in.key.Name == "" {
			in.prefix = w.Object.GetGenerateName()
		}
	default:
		return in, store.Invalidf("operation %d: want Create, Update, Patch or Delete", w.Op)
	}
	key := in.attemptKey()
	if err := checkKey(schema, key); err != nil {
		return in, err
	}
	if w.Op == store.Create && schema.ValidateName != nil { // objects from before the rule can still be changed and deleted
		return in, schema.ValidateName(key.Name)
	}
	return in, nil
}

// attemptKey returns the key to write to: one of a new random name each time
// where the name is generated.
func (in *intent) attemptKey() store.Key {
	if in.prefix == "" {
		return in.key
	}
	return store.Key{Namespace: in.key.Namespace, Name: in.prefix + randomSuffix()}
}

// preparer makes a write into a change: everything that needs no lock.
type preparer struct {
	s *Store
	t *table
	// owner reads what the write can see, to check owner references.
	owner func(*table, store.Key) (*Entry, error)
	reads []read // the owners that were checked
}

func checkKey(schema *store.Schema, key store.Key) error {
	if err := checkScope(schema, key); err != nil {
		return err
	}
	if err := store.ValidateName("name", key.Name); err != nil {
		return err
	}
	if key.Namespace != "" {
		return store.ValidateName("namespace", key.Namespace)
	}
	return nil
}

func checkScope(schema *store.Schema, key store.Key) error {
	switch {
	case schema.Scope == store.Namespaced && key.Namespace == "":
		return store.Invalidf("the namespace is empty: the kind is namespaced (set one, or give the kind Scope: store.Cluster)")
	case schema.Scope == store.Cluster && key.Namespace != "":
		return store.Invalidf("%s has a namespace: the kind is cluster-scoped", key)
	}
	return nil
}

// prepare makes the change that the write asks for, on top of the entry. A
// change without a next entry changes no object.
func (p *preparer) prepare(w *intent, key store.Key, base *Entry) (change, error) {
	c := change{table: p.t, key: key, old: base, lease: w.Options.Lease}
	if base != nil {
		p.s.mutation.check(base)
	}
	var err error
	switch w.Op {
	case store.Create:
		c.next, err = p.create(w, key, base)
	case store.Update:
		c.next, err = p.update(w, base)
	case store.Patch:
		c.next, err = p.patch(w, base)
	case store.Delete:
		c.next, err = p.delete(w, base)
	}
	return c, err
}

func (p *preparer) create(w *intent, key store.Key, base *Entry) (*Entry, error) {
	if base != nil {
		return nil, store.ErrAlreadyExists
	}
	if version := w.version + w.Options.ResourceVersion; version != "" {
		return nil, store.Invalidf("resource version %q: an object to be created has none", version)
	}
	if w.Options.UID != "" {
		return nil, store.Invalidf("UID %q: an object to be created has none to demand", w.Options.UID)
	}
	o := p.own(w)
	o.SetName(key.Name)
	o.SetGeneration(1)
	acc := &p.t.schema.Accessors
	if acc.SetUID != nil {
		acc.SetUID(o, newUID())
	}
	if acc.SetCreationTime != nil {
		acc.SetCreationTime(o, now())
	}
	if acc.SetDeletionTime != nil {
		acc.SetDeletionTime(o, time.Time{})
	}
	if err := p.check(nil, o, key); err != nil {
		return nil, err
	}
	// One string for each namespace: keys of one namespace, as most that are
	// compared, then compare without a look at its bytes.
	key.Namespace = unique.Make(key.Namespace).Value()
	return &Entry{Object: o, Key: key}, nil
}

// own returns the write's object for the store to keep.
func (p *preparer) own(w *intent) store.Object {
	if w.Options.TakeOver {
		return w.Object
	}
	return p.t.schema.Copy(w.Object)
}

func (p *preparer) update(w *intent, base *Entry) (*Entry, error) {
	if base == nil {
		return nil, store.ErrNotFound
	}
	if w.Object == base.Object {
		return nil, store.Invalidf("the object is the stored one, which is shared and must not be changed: pass a DeepCopy, or use Patch")
	}
	if err := p.demands(w, base); err != nil {
		return nil, err
	}
	if err := p.demand(base, w.version, w.uid); err != nil {
		return nil, err
	}
	return p.replace(p.own(w), base)
}

func (p *preparer) patch(w *intent, base *Entry) (*Entry, error) {
	if base == nil {
		return nil, store.ErrNotFound
	}
	if err := p.demands(w, base); err != nil {
		return nil, err
	}
	o := p.t.schema.Copy(base.Object)
	if err := w.Patch(o); err != nil {
		return nil, &patchError{err}
	}
	if store.KeyOf(o) != base.Key {
		return nil, store.Invalidf("the patch renamed it to %s", store.KeyOf(o))
	}
	return p.replace(o, base)
}

// patchError is what a patch's function returned: the caller's own error, which
// need not match a sentinel.
type patchError struct{ err error }

func (e *patchError) Error() string { return e.err.Error() }
func (e *patchError) Unwrap() error { return e.err }

// replace makes the entry of the object's next version, or nil where nothing
// changes. The object is the store's already.
func (p *preparer) replace(o store.Object, base *Entry) (*Entry, error) {
	schema, old := p.t.schema, base.Object
	acc := &schema.Accessors
	o.SetResourceVersion(old.GetResourceVersion())
	o.SetGeneration(old.GetGeneration())
	if acc.SetUID != nil {
		acc.SetUID(o, acc.UID(old))
	}
	if acc.SetCreationTime != nil {
		acc.SetCreationTime(o, acc.CreationTime(old))
	}
	deleting := false
	if acc.SetDeletionTime != nil {
		at := acc.DeletionTime(old)
		deleting = !at.IsZero()
		acc.SetDeletionTime(o, at)
	}
	if err := p.check(old, o, base.Key); err != nil {
		return nil, err
	}
	same, sameSpec, err := compare(schema, old, o)
	if same || err != nil {
		return nil, err
	}
	if deleting {
		if err := noNewFinalizers(old, o); err != nil {
			return nil, err
		}
	}
	if !sameSpec {
		o.SetGeneration(old.GetGeneration() + 1)
	}
	gone := deleting && !kept(schema, o)
	return &Entry{Object: o, Key: base.Key, Gone: gone}, nil
}

// compare reports whether the two are the same, in all and in what generation
// counts. The kind may have hooks for both.
func compare(schema *store.Schema, old, o store.Object) (same, sameSpec bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the comparing hook: %v", store.ErrHookPanic, r)
		}
	}()
	if schema.Equal(old, o) {
		return true, true, nil
	}
	return false, schema.SameSpec(old, o), nil
}

func noNewFinalizers(old, o store.Object) error {
	had := map[string]bool{}
	for _, f := range old.GetFinalizers() {
		had[f] = true
	}
	for _, f := range o.GetFinalizers() {
		if !had[f] {
			return store.Invalidf("finalizer %q can't be added: the object is being deleted", f)
		}
	}
	return nil
}

func (p *preparer) delete(w *intent, base *Entry) (*Entry, error) {
	if base == nil {
		return nil, store.ErrNotFound
	}
	if err := p.demands(w, base); err != nil {
		return nil, err
	}
	return p.remove(base)
}

// remove makes the entry that a delete leaves: the object marked where it has
// finalizers, its last state otherwise, or nil where it is marked already.
func (p *preparer) remove(base *Entry) (*Entry, error) {
	acc := &p.t.schema.Accessors
	waits := acc.SetDeletionTime != nil && kept(p.t.schema, base.Object)
	if waits && !acc.DeletionTime(base.Object).IsZero() {
		return nil, nil
	}
	o := p.t.schema.Copy(base.Object)
	if waits {
		acc.SetDeletionTime(o, now().Add(grace(o)))
		o.SetGeneration(o.GetGeneration() + 1)
		if err := tryIndexes(p.t.schema, o); err != nil {
			return nil, err
		}
	}
	return &Entry{Object: o, Key: base.Key, Gone: !waits}, nil
}

// kept reports whether the object stays, marked, when it is deleted.
func kept(schema *store.Schema, o store.Object) bool {
	return len(o.GetFinalizers()) > 0 || schema.Keep != nil && schema.Keep(o)
}

// grace returns how long after its deletion the object says it will go: the
// deletion timestamp is that time, as in Kubernetes.
func grace(o store.Object) time.Duration {
	if g, ok := o.(interface{ GetDeletionGracePeriodSeconds() *int64 }); ok {
		if s := g.GetDeletionGracePeriodSeconds(); s != nil && *s > 0 {
			return time.Duration(min(*s, maxGrace)) * time.Second
		}
	}
	return 0
}

// maxGrace keeps a grace period inside what a duration can say.
const maxGrace = 1 << 32

// tryIndexes calls the kind's index functions on an object that no hook has
// seen, so that one that panics does so before anything is changed.
func tryIndexes(schema *store.Schema, o store.Object) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: an index function, for %s: %v", store.ErrHookPanic, store.KeyOf(o), r)
		}
	}()
	for _, x := range schema.Indexes {
		if x.One != nil {
			x.One(o)
		} else {
			x.Many(o)
		}
	}
	return nil
}

// check runs the kind's hooks on the object and checks what they must not change,
// then its owners.
func (p *preparer) check(old, o store.Object, key store.Key) error {
	if err := p.t.schema.Prepare(old, o); err != nil {
		return err
	}
	if store.KeyOf(o) != key {
		return store.Invalidf("the defaulting hook renamed it to %s", store.KeyOf(o))
	}
	return p.checkOwners(old, o)
}

// demands checks the preconditions in the write's options.
func (p *preparer) demands(w *intent, base *Entry) error {
	return p.demand(base, w.Options.ResourceVersion, w.Options.UID)
}

// demand checks that the entry is at the version and of the UID.
func (p *preparer) demand(base *Entry, version, uid string) error {
	if have := base.Object.GetResourceVersion(); version != "" && version != have {
		if _, err := store.ParseRevision(version); err != nil {
			return err
		}
		return &conflictError{"resource version", version, have}
	}
	if uid == "" {
		return nil
	}
	if p.t.schema.Accessors.UID == nil {
		return store.Invalidf("UID %q: the kind's objects have none", uid)
	}
	if have := p.t.schema.Accessors.UID(base.Object); uid != have {
		return &conflictError{"UID", uid, have}
	}
	return nil
}

// conflictError says what a write demanded and what there is.
type conflictError struct{ what, want, have string }

func (e *conflictError) Error() string {
	return "conflict: the write demands " + e.what + " " + e.want + ", the object has " + e.have
}

func (e *conflictError) Unwrap() error { return store.ErrConflict }

// now returns the time that stamps carry: whole seconds, as Kubernetes' JSON.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
