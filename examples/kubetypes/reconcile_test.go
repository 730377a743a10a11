// SPDX-License-Identifier: Apache-2.0

package kubetypes_test

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/examples/kubetypes"
	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// TestReconcileConditions sets Kubernetes' own conditions, and has its helpers
// read them.
func TestReconcileConditions(t *testing.T) {
	var conditions []metav1.Condition
	set := func(status metav1.ConditionStatus, reason string) bool {
		t.Helper()
		changed, err := reconcile.SetCondition(&conditions, metav1.Condition{Type: "Ready", Status: status, Reason: reason, ObservedGeneration: 3})
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	set(metav1.ConditionFalse, "Starting")
	first := conditions[0].LastTransitionTime
	if set(metav1.ConditionFalse, "Starting") || !set(metav1.ConditionFalse, "Waiting") || conditions[0].LastTransitionTime != first {
		t.Errorf("the same status: %+v", conditions)
	}
	given := metav1.NewTime(time.Unix(1e9, 0))
	if _, err := reconcile.SetCondition(&conditions, metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Done", LastTransitionTime: given}); err != nil {
		t.Fatal(err)
	}
	if !meta.IsStatusConditionTrue(conditions, "Ready") || !reconcile.IsTrue(conditions, "Ready") || !conditions[0].LastTransitionTime.Equal(&given) {
		t.Errorf("%+v", conditions)
	}
	theirs, err := json.Marshal(conditions)
	if err != nil {
		t.Fatal(err)
	}
	var ours []reconcile.Condition
	if err := json.Unmarshal(theirs, &ours); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(ours); err != nil || string(again) != string(theirs) {
		t.Errorf("JSON %s, %v\nwant %s", again, err, theirs)
	}
}

// TestReconcileApply applies a Deployment over what a server has filled in and
// others have added, without a fight.
func TestReconcileApply(t *testing.T) {
	ctx := t.Context()
	st := memory.New(memory.Options{})
	defer st.Close()
	deployments := register(t, st, kubetypes.Deployments())
	desired := func() *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(2)),
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
					Spec: corev1.PodSpec{Containers: []corev1.Container{{
						Name: "web", Image: "web:1",
						Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("500m")}},
						Env:       []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
					}}},
				},
			},
		}
	}
	if _, err := reconcile.Apply(ctx, deployments, desired()); err != nil {
		t.Fatal(err)
	}
	patched, err := deployments.Patch(ctx, store.NewKey("default", "web"), func(d *appsv1.Deployment) error {
		spec := &d.Spec.Template.Spec
		spec.RestartPolicy = corev1.RestartPolicyAlways
		spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent
		spec.Containers[0].Env = append(spec.Containers[0].Env, corev1.EnvVar{Name: "INJECTED", Value: "x"})
		spec.Containers[0].Resources.Limits["cpu"] = resource.MustParse("0.5") // the same
		spec.Containers = append(spec.Containers, corev1.Container{Name: "sidecar", Image: "proxy"})
		d.Spec.Template.Annotations = map[string]string{"restarted": "today"}
		d.Status.Replicas = 2
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	done, err := reconcile.Apply(ctx, deployments, desired())
	if err != nil {
		t.Fatal(err)
	}
	if done.Action != reconcile.ActionUnchanged || done.Object.ResourceVersion != patched.ResourceVersion {
		t.Errorf("%s: %s", done.Action, done.Diff)
	}
	next := desired()
	next.Spec.Replicas = new(int32(0))
	next.Spec.Template.Spec.Containers[0].Image = "web:2"
	next.Spec.Template.Spec.Containers[0].Env = next.Spec.Template.Spec.Containers[0].Env[:1]
	done, err = reconcile.Apply(ctx, deployments, next)
	if err != nil {
		t.Fatal(err)
	}
	want := patched.DeepCopy()
	want.Spec.Replicas = new(int32(0))
	c := &want.Spec.Template.Spec.Containers[0]
	c.Image, c.Env = "web:2", []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "INJECTED", Value: "x"}}
	if !reflect.DeepEqual(done.Object.Spec.Template.Spec.Containers[0].Env, c.Env) || reconcile.Diff(want, done.Object) != "" || *done.Object.Spec.Replicas != 0 {
		t.Errorf("%s: %s\nit differs from what it should be by %s", done.Action, done.Diff, reconcile.Diff(want, done.Object))
	}
}

// TestReconcileApplyUnstructured is the same for an object whose type is not
// known to the program. There a zero that is written down says something.
func TestReconcileApplyUnstructured(t *testing.T) {
	ctx := t.Context()
	st := memory.New(memory.Options{})
	defer st.Close()
	gvk := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Backup"}
	backups := register(t, st, kubetypes.Resources(gvk, store.Namespaced))
	desired := func(spec map[string]any) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		u.SetGroupVersionKind(gvk)
		u.SetNamespace("default")
		u.SetName("db")
		u.SetLabels(map[string]string{"app": "db"})
		return u
	}
	apply := func(spec map[string]any) reconcile.Applied[*unstructured.Unstructured] {
		t.Helper()
		done, err := reconcile.Apply(ctx, backups, desired(spec))
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	apply(map[string]any{"keep": int64(3), "target": map[string]any{"host": "a", "port": int64(1)}})
	_, err := backups.Patch(ctx, store.NewKey("default", "db"), func(u *unstructured.Unstructured) error {
		u.Object["status"] = map[string]any{"phase": "Done"}
		u.SetLabels(map[string]string{"app": "db", "theirs": "x"})
		return unstructured.SetNestedField(u.Object, "theirs", "spec", "target", "note")
	})
	if err != nil {
		t.Fatal(err)
	}
	if done := apply(map[string]any{"keep": int64(3), "target": map[string]any{"host": "a", "port": int64(1)}}); done.Action != reconcile.ActionUnchanged {
		t.Errorf("%s: %s", done.Action, done.Diff)
	}
	done := apply(map[string]any{"keep": int64(0), "target": map[string]any{"host": "b"}})
	if want := `spec.keep: 3 -> 0, spec.target.host: "a" -> "b", spec.target.port: 1 -> none`; done.Diff != want {
		t.Errorf("diff %s\nwant %s", done.Diff, want)
	}
	done = apply(map[string]any{"keep": int64(0)})
	want := map[string]any{"keep": int64(0), "target": map[string]any{"note": "theirs"}}
	if got := done.Object.Object["spec"]; !reflect.DeepEqual(got, want) {
		t.Errorf("spec %v, want %v", got, want)
	}
	if phase, _, _ := unstructured.NestedString(done.Object.Object, "status", "phase"); phase != "Done" {
		t.Errorf("the status is %v", done.Object.Object["status"])
	}
	if want := map[string]string{"app": "db", "theirs": "x"}; !reflect.DeepEqual(done.Object.GetLabels(), want) {
		t.Errorf("labels %v, want %v", done.Object.GetLabels(), want)
	}
}

// TestReconcileOwners has metav1 read the references that reconcile makes, and a
// collector follow them.
func TestReconcileOwners(t *testing.T) {
	st := memory.New(memory.Options{})
	defer st.Close()
	deployments, sets := register(t, st, kubetypes.Deployments()), register(t, st, kubetypes.ReplicaSets())
	ctx, cancel := context.WithCancel(t.Context())
	collector := reconcile.NewCollector(st, reconcile.CollectorOptions{Interval: 10 * time.Millisecond})
	ended := make(chan error)
	go func() { ended <- collector.Run(ctx) }()
	web, err := deployments.Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1"}}
	if err := reconcile.SetController(sets, set, deployments, web); err != nil {
		t.Fatal(err)
	}
	if !metav1.IsControlledBy(set, web) || !reflect.DeepEqual(set.OwnerReferences[0], *metav1.NewControllerRef(web, appsv1.SchemeGroupVersion.WithKind("Deployment"))) {
		t.Errorf("owners %+v", set.OwnerReferences)
	}
	if _, err := sets.Create(ctx, set); err != nil {
		t.Fatal(err)
	}
	deleted := make(chan error)
	go func() {
		for ev, err := range sets.Watch(ctx, store.WatchOptions{Initial: true}) {
			if err != nil || ev.Type == store.Deleted {
				deleted <- err
				return
			}
		}
	}()
	if _, err := reconcile.DeleteForeground(ctx, deployments, store.KeyOf(web)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-deleted:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the ReplicaSet is still there")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestReconcileEvents reads what the recorder writes as Kubernetes' own events.
func TestReconcileEvents(t *testing.T) {
	ctx := t.Context()
	st := memory.New(memory.Options{})
	defer st.Close()
	pods, events := register(t, st, kubetypes.Pods()), register(t, st, reconcile.EventKind())
	pod, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	recorder := reconcile.NewRecorder(events, reconcile.RecorderOptions{Component: "kubelet", Host: "node-1"})
	recorder.Warning(pods.Schema(), pod, "BackOff", "restarting %s", "web")
	if err := recorder.Close(ctx); err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range events.List(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var theirs corev1.Event
		if err := json.Unmarshal(text, &theirs); err != nil {
			t.Fatal(err)
		}
		want := corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "default", Name: "web", UID: pod.UID, ResourceVersion: pod.ResourceVersion}
		if theirs.InvolvedObject != want || theirs.Type != corev1.EventTypeWarning || theirs.Reason != "BackOff" || theirs.Count != 1 ||
			theirs.Source != (corev1.EventSource{Component: "kubelet", Host: "node-1"}) || theirs.LastTimestamp.IsZero() {
			t.Errorf("%+v", theirs)
		}
	}
	if n != 1 {
		t.Errorf("%d events", n)
	}
}
