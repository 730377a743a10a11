// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"maps"
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// Change is what a [Predicate] judges. The objects are shared and must not be
// changed.
type Change[T any] struct {
	// Type is store.Added, store.Modified or store.Deleted.
	Type store.EventType
	// Old is the object before: its zero for Added. New is the object after: its
	// zero for Deleted.
	Old, New T
	// Resync is true where nothing changed: the trigger was asked to show every
	// object again.
	Resync bool
}

// Object returns New, or Old where the object is gone.
func (c Change[T]) Object() T {
	if c.Type == store.Deleted {
		return c.Old
	}
	return c.New
}

// Predicate says whether a change is worth a reconcile. It must be pure. It
// filters what triggers, not what is cached: every reconcile still reads every
// object.
type Predicate[T any] func(Change[T]) bool

// GenerationChanged passes what changes the specification of an object, or
// begins its deletion: not a status, not a label. What comes, goes or is shown
// again passes.
func GenerationChanged[T store.Object](c Change[T]) bool {
	return always(c) || c.Old.GetGeneration() != c.New.GetGeneration()
}

// LabelsChanged passes what changes the labels; what comes, goes or is shown
// again passes.
func LabelsChanged[T store.Object](c Change[T]) bool {
	return always(c) || !maps.Equal(c.Old.GetLabels(), c.New.GetLabels())
}

// AnnotationsChanged passes what changes the annotations; what comes, goes or is
// shown again passes.
func AnnotationsChanged[T store.Object](c Change[T]) bool {
	return always(c) || !maps.Equal(c.Old.GetAnnotations(), c.New.GetAnnotations())
}

// FinalizersChanged passes what changes the finalizers; what comes, goes or is
// shown again passes.
func FinalizersChanged[T store.Object](c Change[T]) bool {
	return always(c) || !slices.Equal(c.Old.GetFinalizers(), c.New.GetFinalizers())
}

// Any passes what at least one of the predicates passes. (A trigger with several
// predicates wants all of them.)
func Any[T any](ps ...Predicate[T]) Predicate[T] {
	return func(c Change[T]) bool {
		return slices.ContainsFunc(ps, func(p Predicate[T]) bool { return p(c) })
	}
}

// Not passes what the predicate does not.
func Not[T any](p Predicate[T]) Predicate[T] {
	return func(c Change[T]) bool { return !p(c) }
}

func always[T any](c Change[T]) bool { return c.Type != store.Modified || c.Resync }
