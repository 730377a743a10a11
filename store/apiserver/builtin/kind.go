// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
)

// object is what every type of Kubernetes' is.
type object[T any] interface {
	store.Copier[T]
	metav1.Object
}

// kind returns what all kinds have in common.
func kind[T object[T]](group, version, name string) store.Kind[T] {
	return store.Kind[T]{
		Name: name, Group: group, Version: version,
		Accessors: store.InferAccessors[T](),
		// Quantities cache their text, so that equal ones can differ in memory.
		Equal:          func(a, b T) bool { return equality.Semantic.DeepEqual(a, b) },
		DanglingOwners: true,
	}
}

// cluster is a kind of objects without namespaces.
func cluster[T object[T]](group, version, name string) store.Kind[T] {
	k := kind[T](group, version, name)
	k.Scope = store.Cluster
	return k
}

// Register registers the kinds with the server.
func Register(s *apiserver.Server, kinds ...apiserver.Registration) error {
	for _, k := range kinds {
		if err := k.Register(s); err != nil {
			return err
		}
	}
	return nil
}

// All returns every kind of this package.
func All() []apiserver.Registration {
	return []apiserver.Registration{
		Pods(), Nodes(), Namespaces(), ConfigMaps(), Secrets(), Services(), ServiceAccounts(), Events(),
		PersistentVolumes(), PersistentVolumeClaims(), ResourceQuotas(), LimitRanges(), ReplicationControllers(),
		Deployments(), ReplicaSets(), StatefulSets(), DaemonSets(), ControllerRevisions(),
		Jobs(), CronJobs(), HorizontalPodAutoscalers(), PodDisruptionBudgets(),
		Roles(), RoleBindings(), ClusterRoles(), ClusterRoleBindings(),
		Leases(), EndpointSlices(), PriorityClasses(), StorageClasses(), Ingresses(), NetworkPolicies(),
	}
}

// setDefault sets what is zero.
func setDefault[V comparable](p *V, value V) {
	var zero V
	if *p == zero {
		*p = value
	}
}

// setPointer sets what is nil.
func setPointer[V any](p **V, value V) {
	if *p == nil {
		*p = new(value)
	}
}

// result is what a Validate hook returns: nil where there are no errors.
func result(errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return errs.ToAggregate()
}

// label checks names that must be DNS labels.
func label(name string) error { return named(validation.IsDNS1123Label(name)) }

func named(bad []string) error {
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(bad, ", "))
}

// pathName checks names that may be anything that fits into a URL.
func pathName(string) error { return nil }

// selects checks that a selector is there and selects what its template makes.
func selects(selector *metav1.LabelSelector, template map[string]string, path *field.Path) (errs field.ErrorList) {
	if selector == nil {
		return append(errs, field.Required(path.Child("selector"), ""))
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(path.Child("selector"), selector, err.Error()))
	}
	if s.Empty() {
		errs = append(errs, field.Invalid(path.Child("selector"), selector, "empty selector is invalid for deployment"))
	}
	if !s.Matches(set(template)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), template, "`selector` does not match template `labels`"))
	}
	return errs
}

// set makes a map what selectors match.
type set map[string]string

func (s set) Has(k string) bool              { _, ok := s[k]; return ok }
func (s set) Get(k string) string            { return s[k] }
func (s set) Lookup(k string) (string, bool) { v, ok := s[k]; return v, ok }

// notNegative checks a count.
func notNegative(n *int32, path *field.Path) field.ErrorList {
	if n != nil && *n < 0 {
		return field.ErrorList{field.Invalid(path, *n, "must be greater than or equal to 0")}
	}
	return nil
}

// column and its kin are short forms of apiserver.Column.
func column[T any](name string, value func(T) any) apiserver.Column[T] {
	return apiserver.Column[T]{Name: name, Type: "string", Value: value}
}

func number[T any](name string, value func(T) any) apiserver.Column[T] {
	return apiserver.Column[T]{Name: name, Type: "integer", Value: value}
}

func wide[T any](name string, value func(T) any) apiserver.Column[T] {
	return apiserver.Column[T]{Name: name, Type: "string", Wide: true, Value: value}
}

// or returns text, or what stands for its absence.
func or(text, absent string) string {
	if text == "" {
		return absent
	}
	return text
}

func deref(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

func containerNames(list []corev1.Container) string {
	return join(list, func(c corev1.Container) string { return c.Name })
}

func images(list []corev1.Container) string {
	return join(list, func(c corev1.Container) string { return c.Image })
}

func join[E any](list []E, text func(E) string) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = text(e)
	}
	return strings.Join(parts, ",")
}

// workload are the wide columns of what makes pods.
func workload[T any](template func(T) *corev1.PodTemplateSpec, selector func(T) *metav1.LabelSelector) []apiserver.Column[T] {
	out := []apiserver.Column[T]{
		wide("Containers", func(o T) any { return containerNames(template(o).Spec.Containers) }),
		wide("Images", func(o T) any { return images(template(o).Spec.Containers) }),
	}
	if selector != nil {
		out = append(out, wide("Selector", func(o T) any { return metav1.FormatLabelSelector(selector(o)) }))
	}
	return out
}

func columns[T any](lists ...[]apiserver.Column[T]) []apiserver.Column[T] {
	var out []apiserver.Column[T]
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}
