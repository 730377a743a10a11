// SPDX-License-Identifier: Apache-2.0

package kubetypes_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-dev/slipway/examples/kubetypes"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// register makes the kind known or fails the test.
func register[T store.Copier[T]](t *testing.T, st store.Store, k store.Kind[T]) *store.Handle[T] {
	t.Helper()
	h, err := store.Register(st, k)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestOwners has the store check the reference that metav1 itself makes.
func TestOwners(t *testing.T) {
	ctx := t.Context()
	st := memory.New(memory.Options{})
	defer st.Close()
	deployments, sets := register(t, st, kubetypes.Deployments()), register(t, st, kubetypes.ReplicaSets())
	nodes := register(t, st, kubetypes.Nodes())
	web, err := deployments.Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})
	if err != nil {
		t.Fatal(err)
	}

	good := *metav1.NewControllerRef(web, appsv1.SchemeGroupVersion.WithKind("Deployment"))
	with := func(change func(*metav1.OwnerReference)) metav1.OwnerReference {
		ref := good
		change(&ref)
		return ref
	}
	for _, test := range []struct {
		name, namespace string
		ref             metav1.OwnerReference
		want            string // in the error; "": none
	}{
		{"good", "default", good, ""},
		{"of another version", "default", with(func(r *metav1.OwnerReference) { r.APIVersion = "apps/v1beta1" }), ""},
		{"cluster-scoped", "default", *metav1.NewControllerRef(node, corev1.SchemeGroupVersion.WithKind("Node")), ""},
		{"another namespace", "other", good, "there is no Deployment.apps other/web"},
		{"another name", "default", with(func(r *metav1.OwnerReference) { r.Name = "db" }), "there is no Deployment.apps default/db"},
		{"another UID", "default", with(func(r *metav1.OwnerReference) { r.UID = "1" }), `has UID ` + string(web.UID) + `, not "1"`},
		{"no UID", "default", with(func(r *metav1.OwnerReference) { r.UID = "" }), `not ""`},
		{"another group", "default", with(func(r *metav1.OwnerReference) { r.APIVersion = "v1" }), "kind Deployment is not registered"},
		{"another kind", "default", with(func(r *metav1.OwnerReference) { r.Kind = "Job" }), "kind Job.apps is not registered"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
				Namespace: test.namespace, GenerateName: "web-", OwnerReferences: []metav1.OwnerReference{test.ref},
			}}
			got, err := sets.Create(ctx, set)
			if test.want != "" {
				if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want an invalid one with %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := []metav1.OwnerReference{test.ref}; !reflect.DeepEqual(got.OwnerReferences, want) {
				t.Errorf("stored with the owners %+v, want %+v", got.OwnerReferences, want)
			}
		})
	}

	// A reference that stands is not checked again: its owner may be gone.
	owned := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "web-1", OwnerReferences: []metav1.OwnerReference{good},
	}}
	if _, err := sets.Create(ctx, owned); err != nil {
		t.Fatal(err)
	}
	if _, err := deployments.Delete(ctx, store.KeyOf(web)); err != nil {
		t.Fatal(err)
	}
	if _, err := sets.Patch(ctx, store.KeyOf(owned), func(s *appsv1.ReplicaSet) error {
		s.Spec.Replicas = new(int32(3))
		return nil
	}); err != nil {
		t.Errorf("patch of a set whose owner is gone: %v", err)
	}
}

// TestAccessors checks each accessor that InferAccessors binds against the type's
// own methods.
func TestAccessors(t *testing.T) {
	acc := store.InferAccessors[*corev1.Pod]()
	at := metav1.Now()
	p := &corev1.Pod{}
	if !acc.DeletionTime(p).IsZero() || !acc.CreationTime(p).IsZero() || acc.UID(p) != "" || acc.Owners(p) != nil {
		t.Error("an empty pod has metadata")
	}
	acc.SetUID(p, "u")
	acc.SetCreationTime(p, at.Time)
	acc.SetDeletionTime(p, at.Time)
	refs := []store.OwnerReference{{
		APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "x", Controller: new(true), BlockOwnerDeletion: new(false),
	}}
	acc.SetOwners(p, refs)
	if p.UID != types.UID("u") || p.CreationTimestamp != at || *p.DeletionTimestamp != at {
		t.Errorf("the pod has %+v", p.ObjectMeta)
	}
	r := refs[0]
	want := metav1.OwnerReference{
		APIVersion: r.APIVersion, Kind: r.Kind, Name: r.Name, UID: "x", Controller: r.Controller, BlockOwnerDeletion: r.BlockOwnerDeletion,
	}
	if len(p.OwnerReferences) != 1 || p.OwnerReferences[0] != want {
		t.Errorf("the pod has the owners %+v, want %+v", p.OwnerReferences, want)
	}
	if acc.UID(p) != "u" || !acc.CreationTime(p).Equal(at.Time) || !acc.DeletionTime(p).Equal(at.Time) || acc.Owners(p)[0] != r {
		t.Errorf("read back: %q, %v, %v, %+v", acc.UID(p), acc.CreationTime(p), acc.DeletionTime(p), acc.Owners(p))
	}
	acc.SetDeletionTime(p, metav1.Time{}.Time)
	if p.DeletionTimestamp != nil {
		t.Errorf("a zero deletion time left %v", p.DeletionTimestamp)
	}
}
