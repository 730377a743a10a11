// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

var kindQuota = store.KindName{Name: "ResourceQuota"}

// ResourceQuotas refuses what would take a namespace beyond one of its quotas.
// It counts what there is in the transaction that creates the object, so that no
// two requests can take the last place both, and writes what is used into the
// quota's status in the same transaction. It costs a list of the namespace where
// there is a quota on that kind, and nothing where there is none.
//
// Known are the number of objects of each kind (count/RESOURCE, and the names
// that Kubernetes has for some: pods, services, configmaps, secrets,
// persistentvolumeclaims, replicationcontrollers, resourcequotas), and of pods
// requests.*, limits.*, cpu and memory. Scopes of quotas are not: such a quota
// counts all.
func ResourceQuotas() Plugin { return resourceQuotas{} }

type resourceQuotas struct{}

func (resourceQuotas) Handles(op Operation, _ schema.GroupResource, sub string) bool {
	return (op == Create || op == Delete) && sub == ""
}

func (resourceQuotas) Within(_ context.Context, tx Tx, r *Request) error {
	if r.Namespace == "" {
		return nil
	}
	var quotas []*corev1.ResourceQuota
	err := tx.List(kindQuota, store.ListOptions{Namespace: r.Namespace}, func(o store.Object) bool {
		if q, ok := o.(*corev1.ResourceQuota); ok {
			quotas = append(quotas, q)
		}
		return true
	})
	if errors.Is(err, store.ErrUnknownKind) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, q := range quotas {
		if err := r.charge(tx, q); err != nil {
			return err
		}
	}
	return nil
}

// charge checks one quota and records what is used.
func (r *Request) charge(tx Tx, q *corev1.ResourceQuota) error {
	names := r.counted(q.Spec.Hard)
	if len(names) == 0 || r.Operation == Delete && lingers(r.Old) {
		return nil
	}
	used := corev1.ResourceList{}
	for _, name := range names {
		used[name] = resource.Quantity{}
	}
	err := tx.List(store.KindName{Group: r.Kind.Group, Name: r.Kind.Kind}, store.ListOptions{Namespace: r.Namespace}, func(o store.Object) bool {
		if r.Operation != Delete || o.GetName() != r.Name {
			r.count(used, o)
		}
		return true
	})
	if err != nil {
		return err
	}
	if r.Operation == Create {
		before := used.DeepCopy()
		r.count(used, r.Object)
		if err := exceeds(q, before, used); err != nil {
			return err
		}
	}
	return record(tx, q, used)
}

// lingers reports whether a delete leaves the object for now.
func lingers(o store.Object) bool {
	if len(o.GetFinalizers()) > 0 {
		return true
	}
	p, ok := o.(*corev1.Pod)
	return ok && p.Spec.NodeName != "" && p.DeletionTimestamp == nil
}

// counted returns which of the quota's resources the kind has to do with.
func (r *Request) counted(hard corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for name := range hard {
		if string(name) == r.countName() || r.Resource.Group == "" && string(name) == r.Resource.Resource ||
			r.Resource.GroupResource() == podsResource && computes(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (r *Request) countName() string {
	name := "count/" + r.Resource.Resource
	if r.Resource.Group != "" {
		name += "." + r.Resource.Group
	}
	return name
}

func computes(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage ||
		strings.HasPrefix(string(name), "requests.") || strings.HasPrefix(string(name), "limits.")
}

// count adds what one object uses.
func (r *Request) count(used corev1.ResourceList, o store.Object) {
	p, isPod := o.(*corev1.Pod)
	if isPod && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed) {
		return
	}
	var requests, limits corev1.ResourceList
	if isPod {
		requests, limits = sum(p)
	}
	for name, have := range used {
		switch text := string(name); {
		case !computes(name):
			have.Add(*resource.NewQuantity(1, resource.DecimalSI))
		case strings.HasPrefix(text, "limits."):
			have.Add(limits[corev1.ResourceName(strings.TrimPrefix(text, "limits."))])
		default:
			have.Add(requests[corev1.ResourceName(strings.TrimPrefix(text, "requests."))])
		}
		used[name] = have
	}
}

// exceeds says by how much the quota would be exceeded, as Kubernetes words it.
func exceeds(q *corev1.ResourceQuota, before, after corev1.ResourceList) error {
	var over []corev1.ResourceName
	for name, n := range after {
		if hard := q.Spec.Hard[name]; n.Cmp(hard) > 0 {
			over = append(over, name)
		}
	}
	if len(over) == 0 {
		return nil
	}
	slices.Sort(over)
	text := func(f func(corev1.ResourceName) resource.Quantity) string {
		parts := make([]string, len(over))
		for i, name := range over {
			n := f(name)
			parts[i] = string(name) + "=" + n.String()
		}
		return strings.Join(parts, ",")
	}
	return fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
		text(func(n corev1.ResourceName) resource.Quantity {
			d := after[n].DeepCopy()
			d.Sub(before[n])
			return d
		}),
		text(func(n corev1.ResourceName) resource.Quantity { return before[n] }),
		text(func(n corev1.ResourceName) resource.Quantity { return q.Spec.Hard[n] }))
}

func record(tx Tx, q *corev1.ResourceQuota, used corev1.ResourceList) error {
	next := q.DeepCopy()
	next.Status.Hard = q.Spec.Hard.DeepCopy()
	if next.Status.Used == nil {
		next.Status.Used = corev1.ResourceList{}
	}
	maps.Copy(next.Status.Used, used)
	if equality.Semantic.DeepEqual(q.Status, next.Status) {
		return nil
	}
	return tx.Update(kindQuota, next)
}
