// SPDX-License-Identifier: Apache-2.0

package store

import (
	"reflect"
	"time"
)

// Accessors are the metadata accessors whose types a library can't name without
// importing Kubernetes: functions over predeclared types. A nil pair means that
// the type has no such field, and the store does without it: no UID, no
// creation time, no finalizers (they need a deletion time), no owners.
//
// A [Kind] whose type embeds [Meta] needs none. One of Kubernetes' own types
// takes [InferAccessors]; any other type, functions of one's own.
type Accessors[T any] struct {
	UID             func(T) string
	SetUID          func(T, string)
	CreationTime    func(T) time.Time
	SetCreationTime func(T, time.Time)
	DeletionTime    func(T) time.Time // zero: not being deleted
	SetDeletionTime func(T, time.Time)
	Owners          func(T) []OwnerReference
	SetOwners       func(T, []OwnerReference)
}

// InferAccessors returns the accessors of a type that has Kubernetes' metadata
// methods. Only T is named; the types of UID, time and owner reference are
// inferred from its methods, so that the compiler checks what reflection would
// guess:
//
//	store.Kind[*corev1.Pod]{Name: "Pod", Accessors: store.InferAccessors[*corev1.Pod]()}
func InferAccessors[T kubeMeta[U, TS, OR], U ~string, TS timeStruct, OR ownerStruct[U]]() Accessors[T] {
	return Accessors[T]{
		UID:             func(o T) string { return string(o.GetUID()) },
		SetUID:          func(o T, uid string) { o.SetUID(U(uid)) },
		CreationTime:    func(o T) time.Time { return timeBox(o.GetCreationTimestamp()).Time },
		SetCreationTime: func(o T, t time.Time) { o.SetCreationTimestamp(TS(timeBox{t})) },
		DeletionTime: func(o T) time.Time {
			if p := o.GetDeletionTimestamp(); p != nil {
				return timeBox(*p).Time
			}
			return time.Time{}
		},
		SetDeletionTime: func(o T, t time.Time) {
			if t.IsZero() {
				o.SetDeletionTimestamp(nil)
				return
			}
			o.SetDeletionTimestamp(new(TS(timeBox{t})))
		},
		Owners: func(o T) []OwnerReference {
			in := o.GetOwnerReferences()
			if len(in) == 0 {
				return nil
			}
			out := make([]OwnerReference, len(in))
			for i, ref := range in {
				r := owner[U](ref)
				out[i] = OwnerReference{r.APIVersion, r.Kind, r.Name, string(r.UID), r.Controller, r.BlockOwnerDeletion}
			}
			return out
		},
		SetOwners: func(o T, refs []OwnerReference) {
			out := make([]OR, len(refs))
			for i, r := range refs {
				out[i] = OR(owner[U]{r.APIVersion, r.Kind, r.Name, U(r.UID), r.Controller, r.BlockOwnerDeletion})
			}
			o.SetOwnerReferences(out)
		},
	}
}

// kubeMeta binds each accessor of metav1.Object that names a type of apimachinery.
type kubeMeta[U ~string, TS timeStruct, OR ownerStruct[U]] interface {
	GetUID() U
	SetUID(U)
	GetCreationTimestamp() TS
	SetCreationTimestamp(TS)
	GetDeletionTimestamp() *TS
	SetDeletionTimestamp(*TS)
	GetOwnerReferences() []OR
	SetOwnerReferences([]OR)
}

// timeStruct is metav1.Time's underlying type: a constraint must repeat the tag.
type timeStruct interface {
	~struct {
		time.Time `protobuf:"-"`
	}
}

// ownerStruct is metav1.OwnerReference's underlying type, tags included (they
// have not changed since 2019; a change would show at compile time).
type ownerStruct[U ~string] interface {
	~struct {
		APIVersion         string `json:"apiVersion" protobuf:"bytes,5,opt,name=apiVersion"`
		Kind               string `json:"kind" protobuf:"bytes,1,opt,name=kind"`
		Name               string `json:"name" protobuf:"bytes,3,opt,name=name"`
		UID                U      `json:"uid" protobuf:"bytes,4,opt,name=uid,casttype=k8s.io/apimachinery/pkg/types.UID"`
		Controller         *bool  `json:"controller,omitempty" protobuf:"varint,6,opt,name=controller"`
		BlockOwnerDeletion *bool  `json:"blockOwnerDeletion,omitempty" protobuf:"varint,7,opt,name=blockOwnerDeletion"`
	}
}

// A conversion between struct types ignores tags, so these two suffice inside.
type (
	timeBox          struct{ time.Time }
	owner[U ~string] struct {
		APIVersion         string
		Kind               string
		Name               string
		UID                U
		Controller         *bool
		BlockOwnerDeletion *bool
	}
)

// metaObject is what Meta gives to a type that embeds it.
type metaObject interface {
	GetUID() string
	SetUID(string)
	GetCreationTimestamp() Time
	SetCreationTimestamp(Time)
	GetDeletionTimestamp() *Time
	SetDeletionTimestamp(*Time)
	GetOwnerReferences() []OwnerReference
	SetOwnerReferences([]OwnerReference)
}

// metaAccessors returns the accessors of a type that embeds Meta.
func metaAccessors[T any]() Accessors[T] {
	of := func(o T) metaObject { return any(o).(metaObject) }
	return Accessors[T]{
		UID:             func(o T) string { return of(o).GetUID() },
		SetUID:          func(o T, uid string) { of(o).SetUID(uid) },
		CreationTime:    func(o T) time.Time { return of(o).GetCreationTimestamp().Time },
		SetCreationTime: func(o T, t time.Time) { of(o).SetCreationTimestamp(Time{t}) },
		DeletionTime: func(o T) time.Time {
			if p := of(o).GetDeletionTimestamp(); p != nil {
				return p.Time
			}
			return time.Time{}
		},
		SetDeletionTime: func(o T, t time.Time) {
			if t.IsZero() {
				of(o).SetDeletionTimestamp(nil)
				return
			}
			of(o).SetDeletionTimestamp(new(Time{t})) // not a pointer to t, which would make t escape above, too
		},
		Owners:    func(o T) []OwnerReference { return of(o).GetOwnerReferences() },
		SetOwners: func(o T, refs []OwnerReference) { of(o).SetOwnerReferences(refs) },
	}
}

// complete returns the accessors to use for T: those given, or Meta's. A type
// with metadata methods that nobody bound is refused: its objects would
// silently go without UIDs.
func (a Accessors[T]) complete() (Accessors[T], error) {
	if a.given() {
		if (a.UID == nil) != (a.SetUID == nil) || (a.CreationTime == nil) != (a.SetCreationTime == nil) ||
			(a.DeletionTime == nil) != (a.SetDeletionTime == nil) || (a.Owners == nil) != (a.SetOwners == nil) {
			return a, Invalidf("accessors: a getter without its setter, or the reverse: give both or neither")
		}
		return a, nil
	}
	t := reflect.TypeFor[T]()
	if t.Implements(reflect.TypeFor[metaObject]()) {
		return metaAccessors[T](), nil
	}
	if _, ok := t.MethodByName("GetUID"); ok {
		return a, Invalidf("type %s has metadata of foreign types: set Accessors: store.InferAccessors[%s]()", t, t)
	}
	return a, nil
}

func (a Accessors[T]) given() bool {
	return a.UID != nil || a.SetUID != nil || a.CreationTime != nil || a.SetCreationTime != nil ||
		a.DeletionTime != nil || a.SetDeletionTime != nil || a.Owners != nil || a.SetOwners != nil
}
