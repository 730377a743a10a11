// SPDX-License-Identifier: Apache-2.0

package kubetypes_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/examples/kubetypes"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// backup is a type of a user's own.
type backup struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Source string `json:"source,omitempty"`
	} `json:"spec,omitzero"`
	Status struct {
		Phase string `json:"phase,omitempty"`
	} `json:"status,omitzero"`
}

func (b *backup) DeepCopy() *backup { return store.DeepCopy(b) }

var cronTab = schema.GroupVersionKind{Group: "stable.example.com", Version: "v1", Kind: "CronTab"}

// subject is a Go type in the store, and what a test must know of it. An index
// "test" is added to the kind.
type subject[T store.Copier[T]] struct {
	kind      store.Kind[T]
	make      func() T
	setSpec   func(T, string)
	setStatus func(T, string) // nil: the type has no status
	value     func(T) string  // of the index: what setSpec set
}

func TestTypes(t *testing.T) {
	t.Run("Pod", func(t *testing.T) {
		subject[*corev1.Pod]{
			kind:      kubetypes.Pods(),
			make:      func() *corev1.Pod { return &corev1.Pod{} },
			setSpec:   func(p *corev1.Pod, v string) { p.Spec.NodeName = v },
			setStatus: func(p *corev1.Pod, v string) { p.Status.Phase = corev1.PodPhase(v) },
			value:     func(p *corev1.Pod) string { return p.Spec.NodeName },
		}.test(t)
	})
	t.Run("Deployment", func(t *testing.T) {
		subject[*appsv1.Deployment]{
			kind:      kubetypes.Deployments(),
			make:      func() *appsv1.Deployment { return &appsv1.Deployment{} },
			setSpec:   func(d *appsv1.Deployment, v string) { d.Spec.Template.Spec.NodeName = v },
			setStatus: func(d *appsv1.Deployment, v string) { d.Status.Replicas = int32(len(v)) },
			value:     func(d *appsv1.Deployment) string { return d.Spec.Template.Spec.NodeName },
		}.test(t)
	})
	t.Run("Node", func(t *testing.T) {
		subject[*corev1.Node]{
			kind:      kubetypes.Nodes(),
			make:      func() *corev1.Node { return &corev1.Node{} },
			setSpec:   func(n *corev1.Node, v string) { n.Spec.ProviderID = v },
			setStatus: func(n *corev1.Node, v string) { n.Status.Phase = corev1.NodePhase(v) },
			value:     func(n *corev1.Node) string { return n.Spec.ProviderID },
		}.test(t)
	})
	t.Run("ConfigMap", func(t *testing.T) {
		subject[*corev1.ConfigMap]{
			kind:    kubetypes.ConfigMaps(),
			make:    func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
			setSpec: func(c *corev1.ConfigMap, v string) { c.Data = map[string]string{"key": v} },
			value:   func(c *corev1.ConfigMap) string { return c.Data["key"] },
		}.test(t)
	})
	t.Run("Unstructured", func(t *testing.T) {
		set := func(field string) func(*unstructured.Unstructured, string) {
			return func(u *unstructured.Unstructured, v string) {
				if err := unstructured.SetNestedField(u.Object, v, field, "value"); err != nil {
					panic(err)
				}
			}
		}
		subject[*unstructured.Unstructured]{
			kind: kubetypes.Resources(cronTab, store.Namespaced),
			make: func() *unstructured.Unstructured {
				u := &unstructured.Unstructured{}
				u.SetGroupVersionKind(cronTab)
				return u
			},
			setSpec:   set("spec"),
			setStatus: set("status"),
			value: func(u *unstructured.Unstructured) string {
				v, _, _ := unstructured.NestedString(u.Object, "spec", "value")
				return v
			},
		}.test(t)
	})
	t.Run("own", func(t *testing.T) {
		subject[*backup]{
			kind:      store.Kind[*backup]{Name: "Backup"},
			make:      func() *backup { return &backup{} },
			setSpec:   func(b *backup, v string) { b.Spec.Source = v },
			setStatus: func(b *backup, v string) { b.Status.Phase = v },
			value:     func(b *backup) string { return b.Spec.Source },
		}.test(t)
	})
}

// test takes an object through its life, in virtual time.
func (s subject[T]) test(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := memory.New(memory.Options{})
		defer st.Close()
		byValue := store.NewIndex("test", s.value)
		s.kind.Indexes = append(s.kind.Indexes, byValue)
		h, err := store.Register(st, s.kind)
		if err != nil {
			t.Fatal(err)
		}
		l := life[T]{t, h, store.Key{Name: "a"}}
		if s.kind.Scope == store.Namespaced {
			l.key.Namespace = "default"
		}
		events := l.watch()

		// Create: the store stamps a copy, in whole seconds.
		time.Sleep(time.Nanosecond)
		start := time.Now().UTC().Truncate(time.Second)
		given := s.make()
		given.SetName(l.key.Name)
		given.SetNamespace(l.key.Namespace)
		given.SetFinalizers([]string{"example.com/hold"})
		s.setSpec(given, "1")
		created, err := h.Create(ctx, given)
		if err != nil {
			t.Fatal(err)
		}
		m := metadata(t, created)
		if len(m.UID) != 36 || !m.CreationTimestamp.Time.Equal(start) || m.Generation != 1 || m.ResourceVersion != "2" {
			t.Errorf("created as %+v", m)
		}
		if got := metadata(t, given); got.UID != "" || got.ResourceVersion != "" || !got.CreationTimestamp.IsZero() {
			t.Errorf("the caller's object was stamped: %+v", got)
		}
		uid := m.UID

		// Updates: generation counts changes of the spec alone.
		time.Sleep(time.Hour)
		l.patch(3, 2, func(o T) { s.setSpec(o, "2") })
		l.patch(4, 2, func(o T) { o.SetLabels(map[string]string{"app": "web"}) })
		if s.setStatus != nil {
			l.patch(5, 2, func(o T) { s.setStatus(o, "Running") })
		} else {
			l.patch(5, 2, func(o T) { o.SetAnnotations(map[string]string{"note": "x"}) })
		}
		l.patch(5, 2, func(o T) { s.setSpec(o, "2") }) // changes nothing
		if _, err := h.Update(ctx, created.DeepCopy()); !errors.Is(err, store.ErrConflict) {
			t.Errorf("update of a stale object: %v, want a conflict", err)
		}
		fresh := l.get().DeepCopy()
		s.setSpec(fresh, "3")
		if _, err := h.Update(ctx, fresh); err != nil {
			t.Fatal(err)
		}
		if m := metadata(t, l.get()); m.Generation != 3 || m.UID != uid || !m.CreationTimestamp.Time.Equal(start) {
			t.Errorf("updated to %+v", m)
		}

		// Lists, by index and by label.
		other := s.make()
		other.SetName("b")
		other.SetNamespace(l.key.Namespace)
		s.setSpec(other, "4")
		if _, err := h.Create(ctx, other); err != nil {
			t.Fatal(err)
		}
		web, err := store.ParseSelector("app in (web)")
		if err != nil {
			t.Fatal(err)
		}
		l.wantNames("all", store.ListOptions{}, "a", "b")
		l.wantNames("index 3", store.ListOptions{Fields: byValue.Is("3")}, "a")
		l.wantNames("index 4", store.ListOptions{Fields: byValue.Is("4")}, "b")
		l.wantNames("index 1", store.ListOptions{Fields: byValue.Is("1")})
		l.wantNames("label", store.ListOptions{Labels: web}, "a")

		// Delete: the finalizer holds the object until it is removed.
		time.Sleep(time.Hour)
		deleted := time.Now().UTC().Truncate(time.Second)
		if _, err := h.Delete(ctx, l.key); err != nil {
			t.Fatal(err)
		}
		if m := metadata(t, l.get()); m.DeletionTimestamp == nil || !m.DeletionTimestamp.Time.Equal(deleted) || m.Generation != 4 {
			t.Errorf("marked as %+v, want the deletion time %v and generation 4", m, deleted)
		}
		if _, err := h.Patch(ctx, l.key, func(o T) error { o.SetFinalizers(nil); return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Get(ctx, l.key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after its last finalizer went: %v, want not found", err)
		}

		// The watch saw it all.
		want := []string{
			"ADDED a 2", "MODIFIED a 3", "MODIFIED a 4", "MODIFIED a 5", "MODIFIED a 6", "ADDED b 7",
			"MODIFIED a 8", "DELETED a 9",
		}
		if got := events(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// life is an object in a store.
type life[T store.Copier[T]] struct {
	t   *testing.T
	h   *store.Handle[T]
	key store.Key
}

func (l life[T]) get() T {
	l.t.Helper()
	o, err := l.h.Get(l.t.Context(), l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	return o
}

// patch changes the object, which must then be of that revision and generation.
func (l life[T]) patch(revision uint64, generation int64, change func(T)) {
	l.t.Helper()
	o, err := l.h.Patch(l.t.Context(), l.key, func(o T) error { change(o); return nil })
	if err != nil {
		l.t.Fatal(err)
	}
	m := metadata(l.t, o)
	if m.ResourceVersion != store.FormatRevision(revision) || m.Generation != generation {
		l.t.Errorf("version %s, generation %d, want %d, %d", m.ResourceVersion, m.Generation, revision, generation)
	}
}

func (l life[T]) wantNames(what string, opts store.ListOptions, want ...string) {
	l.t.Helper()
	var got []string
	for o, err := range l.h.List(l.t.Context(), opts) {
		if err != nil {
			l.t.Fatal(err)
		}
		got = append(got, o.GetName())
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("list of %s: %q, want %q", what, got, want)
	}
}

// watch collects the events of the kind until an object is deleted or the store
// is closed. It watches by the time it returns.
func (l life[T]) watch() (events func() []string) {
	var got []string
	var watching sync.WaitGroup
	watching.Go(func() {
		for ev, err := range l.h.Watch(l.t.Context()) {
			if err != nil {
				got = append(got, err.Error())
				return
			}
			got = append(got, ev.Type.String()+" "+ev.Object.GetName()+" "+ev.Object.GetResourceVersion())
			if ev.Type == store.Deleted {
				return
			}
		}
	})
	synctest.Wait()
	return func() []string {
		watching.Wait()
		return got
	}
}

// TestQuantities writes what is the same amount in other words, which changes
// nothing.
func TestQuantities(t *testing.T) {
	ctx := t.Context()
	st := memory.New(memory.Options{})
	defer st.Close()
	pods := register(t, st, kubetypes.Pods())
	limit := resource.MustParse("1Gi")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
			}}},
			Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}},
		},
	}
	if _, err := pods.Create(ctx, pod); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		cpu, limit  string
		wantVersion string
	}{
		{"1000m", "1024Mi", "2"},
		{"1001m", "1Gi", "3"},
		{"1001m", "1025Mi", "4"},
	} {
		got, err := pods.Patch(ctx, store.KeyOf(pod), func(p *corev1.Pod) error {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(test.cpu)
			limit := resource.MustParse(test.limit)
			_ = limit.String() // which caches its result in the quantity
			p.Spec.Volumes[0].EmptyDir.SizeLimit = &limit
			return nil
		})
		if err != nil || got.ResourceVersion != test.wantVersion {
			t.Errorf("CPU %s, limit %s: version %s, %v, want %s", test.cpu, test.limit, got.ResourceVersion, err, test.wantVersion)
		}
	}
}

// TestImmutableSelector changes what a deployment must keep.
func TestImmutableSelector(t *testing.T) {
	ctx := t.Context()
	st := memory.New(memory.Options{})
	defer st.Close()
	deployments := register(t, st, kubetypes.Deployments())
	web := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	web.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	if _, err := deployments.Create(ctx, web); err != nil {
		t.Fatal(err)
	}
	_, err := deployments.Patch(ctx, store.KeyOf(web), func(d *appsv1.Deployment) error {
		d.Spec.Selector.MatchLabels["app"] = "db"
		return nil
	})
	if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "spec.selector is immutable") {
		t.Errorf("error %v, want an invalid one about spec.selector", err)
	}
}

// metadata reads an object's metadata as any client of Kubernetes would, from
// its JSON.
func metadata(t *testing.T, o any) metav1.ObjectMeta {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	return got.Metadata
}
