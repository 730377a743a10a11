// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"github.com/slipway-dev/slipway/store"
)

// widget is the Go type of the kinds under test.
type widget struct {
	store.Meta `json:"metadata"`
	Spec       widgetSpec   `json:"spec"`
	Status     widgetStatus `json:"status,omitzero"`
}

type widgetSpec struct {
	Node string   `json:"node,omitempty"`
	Tags []string `json:"tags,omitempty"`
	Size int      `json:"size,omitempty"`
}

type widgetStatus struct {
	Phase string `json:"phase,omitempty"`
}

func (w *widget) DeepCopy() *widget {
	c := *w
	c.Meta = w.Meta.Clone()
	c.Spec.Tags = append([]string(nil), w.Spec.Tags...)
	return &c
}

// The indexes of every kind under test.
const (
	indexNode = "spec.node"
	indexTag  = "spec.tags"
)

func onNode(node string) store.FieldSelector {
	return store.FieldSelector{{Name: indexNode, Value: node}}
}

func tagged(tag string) store.FieldSelector {
	return store.FieldSelector{{Name: indexTag, Value: tag}}
}

const group = "storetest.example"

func kind(name string, scope store.Scope) store.Kind[*widget] {
	return store.Kind[*widget]{
		Name: name, Group: group, Version: "v1", Scope: scope,
		Indexes: []*store.Index[*widget]{
			store.NewIndex(indexNode, func(w *widget) string { return w.Spec.Node }),
			store.NewMultiIndex(indexTag, func(w *widget) []string { return w.Spec.Tags }),
		},
	}
}

func widgetKind() store.Kind[*widget] { return kind("Widget", store.Namespaced) }
func gizmoKind() store.Kind[*widget]  { return kind("Gizmo", store.Namespaced) }
func rackKind() store.Kind[*widget]   { return kind("Rack", store.Cluster) }

// change alters an object that a test makes.
type change func(*widget)

// object returns a new object; namespace "" is for cluster-scoped kinds.
func object(namespace, name string, changes ...change) *widget {
	w := &widget{Meta: store.Meta{Namespace: namespace, Name: name}}
	for _, c := range changes {
		c(w)
	}
	return w
}

func node(n string) change     { return func(w *widget) { w.Spec.Node = n } }
func tags(t ...string) change  { return func(w *widget) { w.Spec.Tags = t } }
func size(n int) change        { return func(w *widget) { w.Spec.Size = n } }
func phase(p string) change    { return func(w *widget) { w.Status.Phase = p } }
func version(rv string) change { return func(w *widget) { w.ResourceVersion = rv } }
func uid(u string) change      { return func(w *widget) { w.UID = u } }
func finalizers(f ...string) change {
	return func(w *widget) { w.Finalizers = f }
}

func label(key, value string) change {
	return func(w *widget) {
		if w.Labels == nil {
			w.Labels = map[string]string{}
		}
		w.Labels[key] = value
	}
}

// ownedBy adds a reference to the owner, an object of a kind with that name.
func ownedBy(kind string, owner *widget) change {
	return func(w *widget) {
		w.OwnerReferences = append(w.OwnerReferences, store.OwnerReference{
			APIVersion: group + "/v1", Kind: kind, Name: owner.Name, UID: owner.UID,
		})
	}
}
