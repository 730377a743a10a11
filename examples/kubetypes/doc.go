// SPDX-License-Identifier: Apache-2.0

// Package kubetypes keeps Kubernetes' own Go types in a slipway store, as they
// are: no wrapper, no generated code, no conversion.
//
//	st := memory.New(memory.Options{})
//	defer st.Close()
//	pods, err := store.Register(st, kubetypes.Pods())
//	…
//	pod, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
//
// Each function returns a [store.Kind], to be registered as it is or changed
// first. What they show:
//
//   - The store imports nothing of Kubernetes. [store.InferAccessors] binds the
//     types of UID, timestamps and owner references at compile time.
//   - Generation grows with the field Spec, or, for a type without one, with all
//     but the metadata and Status. An [unstructured.Unstructured] is a single map
//     to Go, so [Resources] says itself what its spec is.
//   - A quantity caches its text, so that "1" and "1" can differ in memory. Kinds
//     that hold quantities compare as Kubernetes does.
package kubetypes
