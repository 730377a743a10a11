// SPDX-License-Identifier: Apache-2.0

package kubetypes

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

// Pods are indexed by node and by phase: ask with [OnNode] and [InPhase].
func Pods() store.Kind[*corev1.Pod] {
	return store.Kind[*corev1.Pod]{
		Name:      "Pod",
		Version:   "v1",
		Accessors: store.InferAccessors[*corev1.Pod](),
		Indexes:   []*store.Index[*corev1.Pod]{podNode, podPhase},
		Equal:     semantic[*corev1.Pod],
	}
}

var (
	podNode  = store.NewIndex("spec.nodeName", func(p *corev1.Pod) string { return p.Spec.NodeName })
	podPhase = store.NewIndex("status.phase", func(p *corev1.Pod) string { return string(p.Status.Phase) })
)

// OnNode selects the pods that are bound to the node; "" selects those that are
// bound to none.
func OnNode(name string) store.FieldSelector { return podNode.Is(name) }

// InPhase selects the pods in the phase.
func InPhase(phase corev1.PodPhase) store.FieldSelector { return podPhase.Is(string(phase)) }

// Nodes are cluster-scoped: their keys have no namespace.
func Nodes() store.Kind[*corev1.Node] {
	return store.Kind[*corev1.Node]{
		Name:      "Node",
		Version:   "v1",
		Scope:     store.Cluster,
		Accessors: store.InferAccessors[*corev1.Node](),
		Equal:     semantic[*corev1.Node],
	}
}

// ConfigMaps have no spec: their generation counts changes of the data.
func ConfigMaps() store.Kind[*corev1.ConfigMap] {
	return store.Kind[*corev1.ConfigMap]{
		Name:      "ConfigMap",
		Version:   "v1",
		Accessors: store.InferAccessors[*corev1.ConfigMap](),
	}
}

// Deployments refuse a change of their selector, as Kubernetes' API server does.
func Deployments() store.Kind[*appsv1.Deployment] {
	return store.Kind[*appsv1.Deployment]{
		Name:      "Deployment",
		Group:     "apps",
		Version:   "v1",
		Accessors: store.InferAccessors[*appsv1.Deployment](),
		Equal:     semantic[*appsv1.Deployment],
		Immutable: []store.Field[*appsv1.Deployment]{{
			Name: "spec.selector",
			Get:  func(d *appsv1.Deployment) any { return d.Spec.Selector },
		}},
	}
}

// ReplicaSets are usually owned: the store checks that the owner exists.
func ReplicaSets() store.Kind[*appsv1.ReplicaSet] {
	return store.Kind[*appsv1.ReplicaSet]{
		Name:      "ReplicaSet",
		Group:     "apps",
		Version:   "v1",
		Accessors: store.InferAccessors[*appsv1.ReplicaSet](),
		Equal:     semantic[*appsv1.ReplicaSet],
	}
}

// Resources returns a kind whose Go type is not known when the program is built:
// a custom resource. Any number of them share the Go type.
func Resources(gvk schema.GroupVersionKind, scope store.Scope) store.Kind[*unstructured.Unstructured] {
	return store.Kind[*unstructured.Unstructured]{
		Name:      gvk.Kind,
		Group:     gvk.Group,
		Version:   gvk.Version,
		Scope:     scope,
		Accessors: store.InferAccessors[*unstructured.Unstructured](),
		Spec:      func(u *unstructured.Unstructured) any { return u.Object["spec"] },
	}
}

// semantic compares quantities by value, and nil and empty as equal, which is
// what they are in JSON.
func semantic[T any](a, b T) bool { return equality.Semantic.DeepEqual(a, b) }
