// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
)

// selectorText is a scale's selector.
func selectorText(s *metav1.LabelSelector) string {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return sel.String()
}

// validateTemplate checks what a workload makes pods from.
func validateTemplate(selector *metav1.LabelSelector, t *corev1.PodTemplateSpec, replicas *int32) error {
	path := field.NewPath("spec")
	errs := selects(selector, t.Labels, path)
	errs = append(errs, notNegative(replicas, path.Child("replicas"))...)
	errs = append(errs, validatePodSpec(&t.Spec, path.Child("template", "spec"))...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("template", "spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	return result(errs)
}

// Deployments returns the kind Deployment of apps/v1, to be registered, with
// its defaults and validation and its scale subresource.
func Deployments() apiserver.Resource[*appsv1.Deployment] {
	k := kind[*appsv1.Deployment](appsv1.GroupName, "v1", "Deployment")
	k.Default = defaultDeployment
	k.Validate = func(_, d *appsv1.Deployment) error {
		return validateTemplate(d.Spec.Selector, &d.Spec.Template, d.Spec.Replicas)
	}
	k.Immutable = []store.Field[*appsv1.Deployment]{{Name: "spec.selector", Get: func(d *appsv1.Deployment) any { return d.Spec.Selector }}}
	return apiserver.Resource[*appsv1.Deployment]{
		Kind: k, ShortNames: []string{"deploy"}, Categories: []string{"all"},
		Columns: columns([]apiserver.Column[*appsv1.Deployment]{
			column("Ready", func(d *appsv1.Deployment) any {
				return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, deref(d.Spec.Replicas))
			}),
			number("Up-to-date", func(d *appsv1.Deployment) any { return int64(d.Status.UpdatedReplicas) }),
			number("Available", func(d *appsv1.Deployment) any { return int64(d.Status.AvailableReplicas) }),
			apiserver.Age[*appsv1.Deployment](),
		}, workload(func(d *appsv1.Deployment) *corev1.PodTemplateSpec { return &d.Spec.Template },
			func(d *appsv1.Deployment) *metav1.LabelSelector { return d.Spec.Selector })),
		Scale: &apiserver.Scale[*appsv1.Deployment]{
			Replicas:    func(d *appsv1.Deployment) int32 { return deref(d.Spec.Replicas) },
			SetReplicas: func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
			Status:      func(d *appsv1.Deployment) int32 { return d.Status.Replicas },
			Selector:    func(d *appsv1.Deployment) string { return selectorText(d.Spec.Selector) },
		},
	}
}

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	setPointer(&s.Replicas, 1)
	setPointer(&s.RevisionHistoryLimit, 10)
	setPointer(&s.ProgressDeadlineSeconds, 600)
	setDefault(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if s.Strategy.RollingUpdate == nil {
			s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		setPointer(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setPointer(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	defaultPodSpec(&s.Template.Spec)
}

// ReplicaSets returns the kind ReplicaSet of apps/v1, to be registered, with
// its defaults and validation and its scale subresource.
func ReplicaSets() apiserver.Resource[*appsv1.ReplicaSet] {
	k := kind[*appsv1.ReplicaSet](appsv1.GroupName, "v1", "ReplicaSet")
	k.Default = func(r *appsv1.ReplicaSet) {
		setPointer(&r.Spec.Replicas, 1)
		defaultPodSpec(&r.Spec.Template.Spec)
	}
	k.Validate = func(_, r *appsv1.ReplicaSet) error {
		return validateTemplate(r.Spec.Selector, &r.Spec.Template, r.Spec.Replicas)
	}
	k.Immutable = []store.Field[*appsv1.ReplicaSet]{{Name: "spec.selector", Get: func(r *appsv1.ReplicaSet) any { return r.Spec.Selector }}}
	return apiserver.Resource[*appsv1.ReplicaSet]{
		Kind: k, ShortNames: []string{"rs"}, Categories: []string{"all"},
		Columns: columns([]apiserver.Column[*appsv1.ReplicaSet]{
			number("Desired", func(r *appsv1.ReplicaSet) any { return int64(deref(r.Spec.Replicas)) }),
			number("Current", func(r *appsv1.ReplicaSet) any { return int64(r.Status.Replicas) }),
			number("Ready", func(r *appsv1.ReplicaSet) any { return int64(r.Status.ReadyReplicas) }),
			apiserver.Age[*appsv1.ReplicaSet](),
		}, workload(func(r *appsv1.ReplicaSet) *corev1.PodTemplateSpec { return &r.Spec.Template },
			func(r *appsv1.ReplicaSet) *metav1.LabelSelector { return r.Spec.Selector })),
		Scale: &apiserver.Scale[*appsv1.ReplicaSet]{
			Replicas:    func(r *appsv1.ReplicaSet) int32 { return deref(r.Spec.Replicas) },
			SetReplicas: func(r *appsv1.ReplicaSet, n int32) { r.Spec.Replicas = &n },
			Status:      func(r *appsv1.ReplicaSet) int32 { return r.Status.Replicas },
			Selector:    func(r *appsv1.ReplicaSet) string { return selectorText(r.Spec.Selector) },
		},
	}
}

// StatefulSets returns the kind StatefulSet of apps/v1, to be registered, with
// its defaults and validation and its scale subresource.
func StatefulSets() apiserver.Resource[*appsv1.StatefulSet] {
	k := kind[*appsv1.StatefulSet](appsv1.GroupName, "v1", "StatefulSet")
	k.Default = func(s *appsv1.StatefulSet) {
		setPointer(&s.Spec.Replicas, 1)
		setPointer(&s.Spec.RevisionHistoryLimit, 10)
		setDefault(&s.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
		setDefault(&s.Spec.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
		if s.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
			if s.Spec.UpdateStrategy.RollingUpdate == nil {
				s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
			}
			setPointer(&s.Spec.UpdateStrategy.RollingUpdate.Partition, 0)
		}
		defaultPodSpec(&s.Spec.Template.Spec)
	}
	k.Validate = func(_, s *appsv1.StatefulSet) error {
		return validateTemplate(s.Spec.Selector, &s.Spec.Template, s.Spec.Replicas)
	}
	k.Immutable = []store.Field[*appsv1.StatefulSet]{
		{Name: "spec.selector", Get: func(s *appsv1.StatefulSet) any { return s.Spec.Selector }},
		{Name: "spec.serviceName", Get: func(s *appsv1.StatefulSet) any { return s.Spec.ServiceName }},
	}
	return apiserver.Resource[*appsv1.StatefulSet]{
		Kind: k, ShortNames: []string{"sts"}, Categories: []string{"all"},
		Columns: columns([]apiserver.Column[*appsv1.StatefulSet]{
			column("Ready", func(s *appsv1.StatefulSet) any {
				return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, deref(s.Spec.Replicas))
			}),
			apiserver.Age[*appsv1.StatefulSet](),
		}, workload(func(s *appsv1.StatefulSet) *corev1.PodTemplateSpec { return &s.Spec.Template }, nil)),
		Scale: &apiserver.Scale[*appsv1.StatefulSet]{
			Replicas:    func(s *appsv1.StatefulSet) int32 { return deref(s.Spec.Replicas) },
			SetReplicas: func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
			Status:      func(s *appsv1.StatefulSet) int32 { return s.Status.Replicas },
			Selector:    func(s *appsv1.StatefulSet) string { return selectorText(s.Spec.Selector) },
		},
	}
}

// DaemonSets returns the kind DaemonSet of apps/v1, to be registered, with its
// defaults and validation.
func DaemonSets() apiserver.Resource[*appsv1.DaemonSet] {
	k := kind[*appsv1.DaemonSet](appsv1.GroupName, "v1", "DaemonSet")
	k.Default = func(d *appsv1.DaemonSet) {
		setPointer(&d.Spec.RevisionHistoryLimit, 10)
		setDefault(&d.Spec.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
		if d.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
			if d.Spec.UpdateStrategy.RollingUpdate == nil {
				d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
			}
			setPointer(&d.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
			setPointer(&d.Spec.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
		}
		defaultPodSpec(&d.Spec.Template.Spec)
	}
	k.Validate = func(_, d *appsv1.DaemonSet) error { return validateTemplate(d.Spec.Selector, &d.Spec.Template, nil) }
	k.Immutable = []store.Field[*appsv1.DaemonSet]{{Name: "spec.selector", Get: func(d *appsv1.DaemonSet) any { return d.Spec.Selector }}}
	count := func(name string, f func(*appsv1.DaemonSetStatus) int32) apiserver.Column[*appsv1.DaemonSet] {
		return number(name, func(d *appsv1.DaemonSet) any { return int64(f(&d.Status)) })
	}
	return apiserver.Resource[*appsv1.DaemonSet]{
		Kind: k, ShortNames: []string{"ds"}, Categories: []string{"all"},
		Columns: columns([]apiserver.Column[*appsv1.DaemonSet]{
			count("Desired", func(s *appsv1.DaemonSetStatus) int32 { return s.DesiredNumberScheduled }),
			count("Current", func(s *appsv1.DaemonSetStatus) int32 { return s.CurrentNumberScheduled }),
			count("Ready", func(s *appsv1.DaemonSetStatus) int32 { return s.NumberReady }),
			count("Up-to-date", func(s *appsv1.DaemonSetStatus) int32 { return s.UpdatedNumberScheduled }),
			count("Available", func(s *appsv1.DaemonSetStatus) int32 { return s.NumberAvailable }),
			column("Node Selector", func(d *appsv1.DaemonSet) any { return or(labelText(d.Spec.Template.Spec.NodeSelector), "<none>") }),
			apiserver.Age[*appsv1.DaemonSet](),
		}, workload(func(d *appsv1.DaemonSet) *corev1.PodTemplateSpec { return &d.Spec.Template },
			func(d *appsv1.DaemonSet) *metav1.LabelSelector { return d.Spec.Selector })),
	}
}

// ControllerRevisions returns the kind ControllerRevision of apps/v1, to be
// registered.
func ControllerRevisions() apiserver.Resource[*appsv1.ControllerRevision] {
	return apiserver.Resource[*appsv1.ControllerRevision]{
		Kind: kind[*appsv1.ControllerRevision](appsv1.GroupName, "v1", "ControllerRevision"),
		Columns: []apiserver.Column[*appsv1.ControllerRevision]{
			column("Controller", func(r *appsv1.ControllerRevision) any {
				if o := metav1.GetControllerOf(r); o != nil {
					return o.Kind + "/" + o.Name
				}
				return "<none>"
			}),
			number("Revision", func(r *appsv1.ControllerRevision) any { return r.Revision }),
			apiserver.Age[*appsv1.ControllerRevision](),
		},
	}
}
