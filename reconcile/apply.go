// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/slipway-dev/slipway/internal/labels"
	"github.com/slipway-dev/slipway/store"
)

// ErrBeingDeleted is returned by [Apply] for an object that is being deleted: it
// can't be made so. Apply again once it has gone.
var ErrBeingDeleted = errors.New("is being deleted")

// ApplyOptions refine [Apply]. The zero value works where one controller applies
// to an object.
type ApplyOptions struct {
	// Manager names who applies, as a label key's name. Two who apply to the same
	// object need names of their own: else each would take back what the other
	// set. "" is "default".
	Manager string
	// Own names fields, such as "spec.paused", that desired decides even where it
	// leaves them empty: they are replaced as a whole. nil names none.
	Own []string
}

// ApplyAction is what [Apply] did.
type ApplyAction string

// What an apply can do.
const (
	ActionCreated   ApplyAction = "created"
	ActionPatched   ApplyAction = "patched"
	ActionUnchanged ApplyAction = "unchanged"
)

// Applied is the result of an [Apply].
type Applied[T any] struct {
	// Object is the object as stored now. It is shared and must not be changed.
	Object T
	Action ApplyAction
	// Diff says what a patch changed, in one line: see [Diff]. It is "" where only
	// the record of the fields was renewed.
	Diff string
}

// Apply makes it so: it creates the object, or patches what differs from desired
// and nothing else. Where nothing differs it writes nothing. Conflicts are
// retried on the newer object, until the context ends.
//
// What desired says nothing about stays as it is: what the store has filled in,
// the status, the fields of others. In detail:
//
//   - A field that desired leaves zero or empty is none of its business, except
//     one that the last Apply of the same manager set and this one does not:
//     that is emptied (and then filled in anew, where the kind has a default).
//     So a label, a key of a map or an element that is left out goes, and an
//     empty field that nobody set costs nothing. A pointer to zero, unlike zero,
//     says something. To force an empty field from the first, name it in
//     [ApplyOptions.Own].
//   - Structs and maps are merged field by field and key by key. A slice is
//     replaced as a whole, except where its field has Kubernetes' tags
//     `patchStrategy:"merge" patchMergeKey:"name"`: then element by element.
//   - Labels, annotations, finalizers and owner references are merged. All
//     other metadata is the store's, and what desired has of it is ignored.
//   - The top-level field status is left alone unless Own names it. Create
//     stores it as it is in desired.
//   - Of two managers that set the same field the last wins. Each forgets a field that
//     it no longer sets by emptying it, whoever set it besides.
//
// Which fields were set is kept in an annotation for each manager
// (applied.slipway.dev/…), in the form of Kubernetes' managed fields. One that was
// damaged counts as absent: nothing is emptied then.
//
// An object whose controller is not that of desired is an [*OwnedError], which
// names both; where desired has no controller, or the object none, that is no
// obstacle. An object that is being deleted is [ErrBeingDeleted].
func Apply[T store.Copier[T]](ctx context.Context, h *store.Handle[T], desired T, opts ...ApplyOptions) (Applied[T], error) {
	a, err := newApply(h.Schema(), desired, opts)
	if err != nil {
		return Applied[T]{}, err
	}
	return applyTo(a, handleTarget[T]{ctx, h})
}

// ApplyIn is [Apply] within a transaction of the handle's store.
func ApplyIn[T store.Copier[T]](tx store.Tx, h *store.Handle[T], desired T, opts ...ApplyOptions) (Applied[T], error) {
	a, err := newApply(h.Schema(), desired, opts)
	if err != nil {
		return Applied[T]{}, err
	}
	return applyTo(a, txTarget[T]{h.In(tx)})
}

// applyTarget is what an apply needs of a handle or of a transaction's view.
type applyTarget[T any] interface {
	get(store.Key) (T, error)
	create(T) (T, error)
	patch(store.Key, func(T) error) (T, error)
}

type handleTarget[T store.Copier[T]] struct {
	ctx context.Context
	h   *store.Handle[T]
}

func (t handleTarget[T]) get(key store.Key) (T, error) { return t.h.Get(t.ctx, key) }
func (t handleTarget[T]) create(o T) (T, error)        { return t.h.Create(t.ctx, o) }
func (t handleTarget[T]) patch(key store.Key, f func(T) error) (T, error) {
	return t.h.Patch(t.ctx, key, f)
}

type txTarget[T store.Copier[T]] struct{ v store.TxView[T] }

func (t txTarget[T]) get(key store.Key) (T, error) { return t.v.Get(key) }
func (t txTarget[T]) create(o T) (T, error)        { return t.v.Create(o) }
func (t txTarget[T]) patch(key store.Key, f func(T) error) (T, error) {
	return t.v.Patch(key, f)
}

// apply is one Apply. The desired object is a copy of the caller's.
type apply[T store.Copier[T]] struct {
	schema  *store.Schema
	key     store.Key
	desired T
	record  string // the annotation's key
	own     []string
}

func newApply[T store.Copier[T]](s *store.Schema, desired T, opts []ApplyOptions) (*apply[T], error) {
	if len(opts) > 1 {
		panic("reconcile: more than one options value given to one call: set the fields of one")
	}
	var o ApplyOptions
	if len(opts) == 1 {
		o = opts[0]
	}
	if !s.Is(desired) {
		return nil, store.Invalidf("apply %s: the desired object is nil", s.KindName)
	}
	a := &apply[T]{schema: s, key: store.KeyOf(desired), own: o.Own}
	fail := func(format string, args ...any) (*apply[T], error) {
		return nil, store.Invalidf("apply %s %s: %w", s.KindName, a.key, fmt.Errorf(format, args...))
	}
	if a.key.Name == "" {
		return fail("the desired object has no name: only one with a name can be found again")
	}
	a.record = recordPrefix + cmp.Or(o.Manager, "default")
	if labels.ValidateKey(a.record) != nil {
		return fail("manager %q: want at most 63 letters, digits, '-', '_' or '.'", o.Manager)
	}
	for _, path := range o.Own {
		if err := checkPath(s.Type, path); err != nil {
			return fail("own field %q: %w", path, err)
		}
	}
	a.desired = desired.DeepCopy()
	a.desired.SetResourceVersion("")
	if notes := a.desired.GetAnnotations(); notes[a.record] != "" { // a copy of what is stored
		delete(notes, a.record)
		a.desired.SetAnnotations(notes)
	}
	return a, nil
}

// maxApplyTries is how often an object may come and go under an apply before it
// is given up: more than that is no coincidence.
const maxApplyTries = 10

// applyTo creates or patches. What it reads may come from a cache; whether the
// object is there is for the write to say.
func applyTo[T store.Copier[T]](a *apply[T], target applyTarget[T]) (Applied[T], error) {
	present, err := target.get(a.key)
	there := err == nil
	if there {
		same, err := a.holds(present)
		if err != nil {
			return Applied[T]{}, err
		}
		if same {
			return Applied[T]{Object: present, Action: ActionUnchanged}, nil
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return Applied[T]{}, err
	}
	for try := 0; ; try++ {
		write := createDesired[T]
		if there {
			write = patchDesired[T]
		}
		done, err := write(a, target)
		switch again := try < maxApplyTries; {
		case again && !there && errors.Is(err, store.ErrAlreadyExists):
			there = true
		case again && there && errors.Is(err, store.ErrNotFound):
			there = false
		default:
			return done, err
		}
	}
}

func patchDesired[T store.Copier[T]](a *apply[T], target applyTarget[T]) (Applied[T], error) {
	var before T
	var diff string
	stored, err := target.patch(a.key, func(o T) error {
		before = o.DeepCopy()
		err := a.merge(o)
		diff = Diff(before, o)
		return err
	})
	if err != nil {
		return Applied[T]{}, err
	}
	// Another made it so since it was read. In a transaction the version, which
	// Equal looks at, too, is still the old one.
	if a.equal(before, stored) {
		return Applied[T]{Object: stored, Action: ActionUnchanged}, nil
	}
	return Applied[T]{Object: stored, Action: ActionPatched, Diff: diff}, nil
}

func createDesired[T store.Copier[T]](a *apply[T], target applyTarget[T]) (Applied[T], error) {
	o := a.desired.DeepCopy()
	if err := a.merge(o); err != nil { // with itself: for the record
		return Applied[T]{}, err
	}
	stored, err := target.create(o)
	if err != nil {
		return Applied[T]{}, err
	}
	return Applied[T]{Object: stored, Action: ActionCreated}, nil
}

// holds reports whether the present object is as desired already, hooks
// included. What the hooks refuse does not hold: the write will say why.
func (a *apply[T]) holds(present T) (same bool, err error) {
	merged := present.DeepCopy()
	if err := a.merge(merged); err != nil {
		return false, err
	}
	if a.schema.Prepare(present, merged) != nil {
		return false, nil
	}
	return a.equal(present, merged), nil
}

// equal asks the kind's comparing hook. Where that panics they are not equal: the
// write will report it.
func (a *apply[T]) equal(x, y T) (same bool) {
	defer func() {
		if recover() != nil {
			same = false
		}
	}()
	return a.schema.Equal(x, y)
}

// merge puts desired into the object, which is a copy of the present one, and
// renews the record of what was put there.
func (a *apply[T]) merge(o T) error {
	if IsDeleted(a.schema, o) {
		return fmt.Errorf("apply %s %s: %w", a.schema.KindName, a.key, ErrBeingDeleted)
	}
	if has, ok := controllerOf(a.schema, o); ok {
		if wanted, ok := controllerOf(a.schema, a.desired); ok && wanted.UID != has.UID {
			return &OwnedError{Kind: a.schema.KindName, Key: a.key, Has: has, Wanted: wanted}
		}
	}
	m := merger{own: a.own}
	now := m.object(a.schema, o, a.desired, parseRecord(o.GetAnnotations()[a.record]))
	notes := cloneMap(o.GetAnnotations())
	notes[a.record] = now.String()
	o.SetAnnotations(notes)
	return nil
}
