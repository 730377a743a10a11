// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-dev/slipway/store"
)

// semantic compares quantities and times by value, and nil and empty as equal.
var semantic = equality.Semantic

// storeManaged is what store.Meta gives to a type, in the place of metav1's.
type storeManaged interface {
	GetManagedFields() []store.ManagedFieldsEntry
	SetManagedFields([]store.ManagedFieldsEntry)
}

// metaOf returns the object's metadata in Kubernetes' form: the object itself if
// it is of one of Kubernetes' types, else a copy. It is for reading only.
func metaOf(r *resource, o store.Object) metav1.Object {
	if m, ok := o.(metav1.Object); ok {
		return m
	}
	m := &metav1.ObjectMeta{
		Name:            o.GetName(),
		GenerateName:    o.GetGenerateName(),
		Namespace:       o.GetNamespace(),
		ResourceVersion: o.GetResourceVersion(),
		Generation:      o.GetGeneration(),
		Labels:          o.GetLabels(),
		Annotations:     o.GetAnnotations(),
		Finalizers:      o.GetFinalizers(),
		ManagedFields:   managedFields(o),
	}
	acc := &r.schema.Accessors
	if acc.UID != nil {
		m.UID = types.UID(acc.UID(o))
	}
	if acc.CreationTime != nil {
		m.CreationTimestamp = metav1.NewTime(acc.CreationTime(o))
	}
	if acc.DeletionTime != nil {
		if at := acc.DeletionTime(o); !at.IsZero() {
			m.DeletionTimestamp = new(metav1.NewTime(at))
		}
	}
	if acc.Owners != nil {
		for _, ref := range acc.Owners(o) {
			m.OwnerReferences = append(m.OwnerReferences, metav1.OwnerReference{
				APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, UID: types.UID(ref.UID),
				Controller: ref.Controller, BlockOwnerDeletion: ref.BlockOwnerDeletion,
			})
		}
	}
	if g, ok := o.(interface{ GetDeletionGracePeriodSeconds() *int64 }); ok {
		m.DeletionGracePeriodSeconds = g.GetDeletionGracePeriodSeconds()
	}
	return m
}

// partial returns the object's metadata as a value of its own.
func partial(r *resource, o store.Object) *metav1.ObjectMeta {
	m := metaOf(r, o)
	if own, ok := m.(*metav1.ObjectMeta); ok {
		return own
	}
	return &metav1.ObjectMeta{
		Name:                       m.GetName(),
		GenerateName:               m.GetGenerateName(),
		Namespace:                  m.GetNamespace(),
		UID:                        m.GetUID(),
		ResourceVersion:            m.GetResourceVersion(),
		Generation:                 m.GetGeneration(),
		CreationTimestamp:          m.GetCreationTimestamp(),
		DeletionTimestamp:          m.GetDeletionTimestamp(),
		DeletionGracePeriodSeconds: m.GetDeletionGracePeriodSeconds(),
		Labels:                     m.GetLabels(),
		Annotations:                m.GetAnnotations(),
		OwnerReferences:            m.GetOwnerReferences(),
		Finalizers:                 m.GetFinalizers(),
		ManagedFields:              m.GetManagedFields(),
	}
}

// managedFields returns which manager owns which of the object's fields.
func managedFields(o store.Object) []metav1.ManagedFieldsEntry {
	switch m := o.(type) {
	case metav1.Object:
		return m.GetManagedFields()
	case storeManaged:
		in := m.GetManagedFields()
		if in == nil {
			return nil
		}
		out := make([]metav1.ManagedFieldsEntry, len(in))
		for i, e := range in {
			out[i] = metav1.ManagedFieldsEntry{Manager: e.Manager, Operation: metav1.ManagedFieldsOperationType(e.Operation),
				APIVersion: e.APIVersion, FieldsType: e.FieldsType, Subresource: e.Subresource}
			if e.Time != nil {
				out[i].Time = new(metav1.NewTime(e.Time.Time))
			}
			if e.FieldsV1 != nil {
				out[i].FieldsV1 = fieldsV1(*e.FieldsV1)
			}
		}
		return out
	}
	return nil
}

func setManagedFields(o store.Object, entries []metav1.ManagedFieldsEntry) {
	switch m := o.(type) {
	case metav1.Object:
		m.SetManagedFields(entries)
	case storeManaged:
		var out []store.ManagedFieldsEntry
		for _, e := range entries {
			s := store.ManagedFieldsEntry{Manager: e.Manager, Operation: string(e.Operation),
				APIVersion: e.APIVersion, FieldsType: e.FieldsType, Subresource: e.Subresource}
			if e.Time != nil {
				s.Time = &store.Time{Time: e.Time.Time}
			}
			if e.FieldsV1 != nil {
				s.FieldsV1 = new(json.RawMessage(e.FieldsV1.GetRawBytes()))
			}
			out = append(out, s)
		}
		m.SetManagedFields(out)
	}
}

// clearTypeMeta empties kind and apiVersion where the type has them as fields:
// what is stored has none, so that every answer can be given the right ones.
func clearTypeMeta(r *resource, o store.Object) {
	if r.untyped {
		content := o.(unstructuredObject).UnstructuredContent()
		content["apiVersion"], content["kind"] = r.gvk.GroupVersion().String(), r.gvk.Kind
		return
	}
	if k, ok := o.(interface{ SetGroupVersionKind(gvk) }); ok {
		k.SetGroupVersionKind(gvk{})
		return
	}
	if k, ok := o.(hasObjectKind); ok {
		k.GetObjectKind().SetGroupVersionKind(gvk{})
	}
}
