// SPDX-License-Identifier: Apache-2.0

package fieldset_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/slipway-dev/slipway/store/apiserver/internal/fieldset"
	"github.com/slipway-dev/slipway/store/apiserver/internal/openapi"
)

// oneVersion is what a field manager wants to know of a scheme.
type oneVersion struct{}

func (oneVersion) Convert(_, _, _ any) error { return fmt.Errorf("not asked for") }
func (oneVersion) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (oneVersion) ConvertFieldLabel(_ schema.GroupVersionKind, l, v string) (string, string, error) {
	return l, v, nil
}
func (oneVersion) Default(runtime.Object) {}
func (oneVersion) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u, nil
}

// general returns the set as structured-merge-diff finds it: of an update from
// nothing.
func general(t *testing.T, d *openapi.Definitions, kind schema.GroupVersionKind, o any) *fieldpath.Set {
	t.Helper()
	conv, err := managedfields.NewTypeConverter(d.Schemas(), false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := managedfields.NewDefaultFieldManager(conv, oneVersion{}, oneVersion{}, oneVersion{}, kind, kind.GroupVersion(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(kind)
	empty, err := oneVersion{}.New(kind)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Update(empty, u, "test")
	if err != nil {
		t.Fatal(err)
	}
	entries := out.(metav1.Object).GetManagedFields()
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1", len(entries))
	}
	return parse(t, entries[0].FieldsV1.GetRawBytes())
}

func parse(t *testing.T, raw []byte) *fieldpath.Set {
	t.Helper()
	var s fieldpath.Set
	if err := s.FromJSON(bytes.NewReader(raw)); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return &s
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Namespace: "n", UID: "u", Labels: map[string]string{"app": "x", `odd "key"`: "y"}, Finalizers: []string{"b", "a"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n", UID: "o"}},
		},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"a": "b"},
			Containers: []corev1.Container{
				{
					Name: "main", Image: "i", Command: []string{"x"}, Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "x"}}}},
					Ports:          []corev1.ContainerPort{{ContainerPort: 80}, {ContainerPort: 80, Protocol: "UDP"}},
					Resources:      corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1")}},
					ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}},
					VolumeMounts:   []corev1.VolumeMount{{Name: "v", MountPath: "/v"}},
				},
				{Name: "side", Image: "j"},
			},
			Volumes:                   []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			Tolerations:               []corev1.Toleration{{Key: "k"}},
			SecurityContext:           &corev1.PodSecurityContext{},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "DoNotSchedule", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}},
		},
		Status: corev1.PodStatus{Phase: "Pending", Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True"}}, PodIPs: []corev1.PodIP{{IP: "1.2.3.4"}}},
	}
}

// TestOf compares with the general way.
func TestOf(t *testing.T) {
	for _, c := range []struct {
		kind schema.GroupVersionKind
		o    any
	}{
		{corev1.SchemeGroupVersion.WithKind("Pod"), pod()},
		{corev1.SchemeGroupVersion.WithKind("Pod"), &corev1.Pod{}},
		{appsv1.SchemeGroupVersion.WithKind("Deployment"), &appsv1.Deployment{Spec: appsv1.DeploymentSpec{
			Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod().Spec},
		}}},
		{corev1.SchemeGroupVersion.WithKind("Service"), &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "x", Port: 1}, {Name: "y", Port: 2}}, Selector: map[string]string{}}}},
		{corev1.SchemeGroupVersion.WithKind("ConfigMap"), &corev1.ConfigMap{Data: map[string]string{"a": "b"}, BinaryData: map[string][]byte{"c": {1}}}},
		{corev1.SchemeGroupVersion.WithKind("Node"), &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "k"}}, PodCIDRs: []string{"b", "a"}}}},
	} {
		d := openapi.New()
		typ := reflect.TypeOf(c.o).Elem()
		name := d.Kind(typ, c.kind, "")
		raw := fieldset.New(d, name, typ).Of(c.o)
		got, want := parse(t, raw), general(t, d, c.kind, c.o)
		if !got.Equals(want) {
			t.Errorf("%s: beyond what it should be:\n%s\nlacking:\n%s", c.kind.Kind, got.Difference(want), want.Difference(got))
		}
	}
}

// TestShared: objects with the same fields share one text.
func TestShared(t *testing.T) {
	d := openapi.New()
	typ := reflect.TypeFor[corev1.Pod]()
	w := fieldset.New(d, d.Kind(typ, corev1.SchemeGroupVersion.WithKind("Pod"), ""), typ)
	a, b := w.Of(pod()), w.Of(pod())
	if &a[0] != &b[0] {
		t.Error("two pods of one template have each a text of their own")
	}
}

func BenchmarkOf(b *testing.B) {
	d := openapi.New()
	typ := reflect.TypeFor[corev1.Pod]()
	w := fieldset.New(d, d.Kind(typ, corev1.SchemeGroupVersion.WithKind("Pod"), ""), typ)
	p := pod()
	b.ReportAllocs()
	for b.Loop() {
		w.Of(p)
	}
}
