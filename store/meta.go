// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"maps"
	"slices"
)

// Meta is the metadata of an object, with the same JSON as Kubernetes'
// ObjectMeta (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/).
// A type of one's own embeds it and so becomes an [Object]:
//
//	type Backup struct {
//		store.Meta `json:"metadata"`
//		Spec       BackupSpec   `json:"spec"`
//		Status     BackupStatus `json:"status,omitzero"`
//	}
//
// The store sets UID, ResourceVersion, Generation, CreationTimestamp and
// DeletionTimestamp; callers set the rest.
type Meta struct {
	Name                       string               `json:"name,omitempty"`
	GenerateName               string               `json:"generateName,omitempty"`
	Namespace                  string               `json:"namespace,omitempty"`
	SelfLink                   string               `json:"selfLink,omitempty"`
	UID                        string               `json:"uid,omitempty"`
	ResourceVersion            string               `json:"resourceVersion,omitempty"`
	Generation                 int64                `json:"generation,omitempty"`
	CreationTimestamp          Time                 `json:"creationTimestamp,omitzero"`
	DeletionTimestamp          *Time                `json:"deletionTimestamp,omitempty"`
	DeletionGracePeriodSeconds *int64               `json:"deletionGracePeriodSeconds,omitempty"`
	Labels                     map[string]string    `json:"labels,omitempty"`
	Annotations                map[string]string    `json:"annotations,omitempty"`
	OwnerReferences            []OwnerReference     `json:"ownerReferences,omitempty"`
	Finalizers                 []string             `json:"finalizers,omitempty"`
	ManagedFields              []ManagedFieldsEntry `json:"managedFields,omitempty"`
}

// OwnerReference names an object that owns this one: when the last owner goes,
// a garbage collector removes the owned. The store checks on every write that
// changes it that the owner exists, in the same namespace or cluster-scoped.
type OwnerReference struct {
	APIVersion         string `json:"apiVersion"`
	Kind               string `json:"kind"`
	Name               string `json:"name"`
	UID                string `json:"uid"`
	Controller         *bool  `json:"controller,omitempty"`
	BlockOwnerDeletion *bool  `json:"blockOwnerDeletion,omitempty"`
}

// ManagedFieldsEntry records which fields a manager owns, for server-side apply.
type ManagedFieldsEntry struct {
	Manager     string           `json:"manager,omitempty"`
	Operation   string           `json:"operation,omitempty"`
	APIVersion  string           `json:"apiVersion,omitempty"`
	Time        *Time            `json:"time,omitempty"`
	FieldsType  string           `json:"fieldsType,omitempty"`
	FieldsV1    *json.RawMessage `json:"fieldsV1,omitempty"` // a pointer, so that null is read as absent
	Subresource string           `json:"subresource,omitempty"`
}

// Clone returns a copy that shares nothing with m: the metadata's part of a
// hand-written DeepCopy.
func (m *Meta) Clone() Meta {
	c := *m
	c.DeletionTimestamp = clonePointer(m.DeletionTimestamp)
	c.DeletionGracePeriodSeconds = clonePointer(m.DeletionGracePeriodSeconds)
	c.Labels = maps.Clone(m.Labels)
	c.Annotations = maps.Clone(m.Annotations)
	c.Finalizers = slices.Clone(m.Finalizers)
	c.OwnerReferences = slices.Clone(m.OwnerReferences)
	for i := range c.OwnerReferences {
		r := &c.OwnerReferences[i]
		r.Controller, r.BlockOwnerDeletion = clonePointer(r.Controller), clonePointer(r.BlockOwnerDeletion)
	}
	c.ManagedFields = slices.Clone(m.ManagedFields)
	for i := range c.ManagedFields {
		f := &c.ManagedFields[i]
		f.Time = clonePointer(f.Time)
		if f.FieldsV1 != nil {
			f.FieldsV1 = new(slices.Clone(*f.FieldsV1))
		}
	}
	return c
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// The accessors that make a type which embeds Meta an Object.

func (m *Meta) GetName() string                          { return m.Name }
func (m *Meta) SetName(s string)                         { m.Name = s }
func (m *Meta) GetGenerateName() string                  { return m.GenerateName }
func (m *Meta) SetGenerateName(s string)                 { m.GenerateName = s }
func (m *Meta) GetNamespace() string                     { return m.Namespace }
func (m *Meta) SetNamespace(s string)                    { m.Namespace = s }
func (m *Meta) GetUID() string                           { return m.UID }
func (m *Meta) SetUID(s string)                          { m.UID = s }
func (m *Meta) GetResourceVersion() string               { return m.ResourceVersion }
func (m *Meta) SetResourceVersion(s string)              { m.ResourceVersion = s }
func (m *Meta) GetGeneration() int64                     { return m.Generation }
func (m *Meta) SetGeneration(n int64)                    { m.Generation = n }
func (m *Meta) GetCreationTimestamp() Time               { return m.CreationTimestamp }
func (m *Meta) SetCreationTimestamp(t Time)              { m.CreationTimestamp = t }
func (m *Meta) GetDeletionTimestamp() *Time              { return m.DeletionTimestamp }
func (m *Meta) SetDeletionTimestamp(t *Time)             { m.DeletionTimestamp = t }
func (m *Meta) GetDeletionGracePeriodSeconds() *int64    { return m.DeletionGracePeriodSeconds }
func (m *Meta) SetDeletionGracePeriodSeconds(n *int64)   { m.DeletionGracePeriodSeconds = n }
func (m *Meta) GetLabels() map[string]string             { return m.Labels }
func (m *Meta) SetLabels(l map[string]string)            { m.Labels = l }
func (m *Meta) GetAnnotations() map[string]string        { return m.Annotations }
func (m *Meta) SetAnnotations(a map[string]string)       { m.Annotations = a }
func (m *Meta) GetFinalizers() []string                  { return m.Finalizers }
func (m *Meta) SetFinalizers(f []string)                 { m.Finalizers = f }
func (m *Meta) GetOwnerReferences() []OwnerReference     { return m.OwnerReferences }
func (m *Meta) SetOwnerReferences(refs []OwnerReference) { m.OwnerReferences = refs }
func (m *Meta) GetManagedFields() []ManagedFieldsEntry   { return m.ManagedFields }
func (m *Meta) SetManagedFields(f []ManagedFieldsEntry)  { m.ManagedFields = f }
