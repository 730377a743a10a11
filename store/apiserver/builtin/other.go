// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"fmt"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
)

// Leases returns the kind Lease of coordination.k8s.io/v1, to be registered.
func Leases() apiserver.Resource[*coordinationv1.Lease] {
	return apiserver.Resource[*coordinationv1.Lease]{
		Kind: kind[*coordinationv1.Lease](coordinationv1.GroupName, "v1", "Lease"),
		Columns: []apiserver.Column[*coordinationv1.Lease]{
			column("Holder", func(l *coordinationv1.Lease) any {
				if l.Spec.HolderIdentity == nil {
					return ""
				}
				return *l.Spec.HolderIdentity
			}),
			apiserver.Age[*coordinationv1.Lease](),
		},
	}
}

// EndpointSlices returns the kind EndpointSlice of discovery.k8s.io/v1, to be
// registered, with its defaults.
func EndpointSlices() apiserver.Resource[*discoveryv1.EndpointSlice] {
	type slice = *discoveryv1.EndpointSlice
	k := kind[slice](discoveryv1.GroupName, "v1", "EndpointSlice")
	k.Immutable = []store.Field[slice]{{Name: "addressType", Get: func(s slice) any { return s.AddressType }}}
	k.Default = func(s slice) {
		for i := range s.Ports {
			setPointer(&s.Ports[i].Name, "")
			setPointer(&s.Ports[i].Protocol, corev1.ProtocolTCP)
		}
	}
	return apiserver.Resource[slice]{
		Kind: k,
		Columns: []apiserver.Column[slice]{
			column("AddressType", func(s slice) any { return string(s.AddressType) }),
			column("Ports", func(s slice) any {
				return or(join(s.Ports, func(p discoveryv1.EndpointPort) string { return fmt.Sprint(deref(p.Port)) }), "<unset>")
			}),
			column("Endpoints", func(s slice) any {
				var all []string
				for _, e := range s.Endpoints {
					all = append(all, e.Addresses...)
				}
				if len(all) > 3 {
					return fmt.Sprintf("%s + %d more...", strings.Join(all[:3], ","), len(all)-3)
				}
				return or(strings.Join(all, ","), "<unset>")
			}),
			apiserver.Age[slice](),
		},
	}
}

// PriorityClasses returns the kind PriorityClass of scheduling.k8s.io/v1, to be
// registered, with its defaults.
func PriorityClasses() apiserver.Resource[*schedulingv1.PriorityClass] {
	type class = *schedulingv1.PriorityClass
	k := cluster[class](schedulingv1.GroupName, "v1", "PriorityClass")
	k.Default = func(c class) { setPointer(&c.PreemptionPolicy, corev1.PreemptLowerPriority) }
	k.Immutable = []store.Field[class]{{Name: "value", Get: func(c class) any { return c.Value }}}
	return apiserver.Resource[class]{
		Kind: k, Plural: "priorityclasses", ShortNames: []string{"pc"},
		Columns: []apiserver.Column[class]{
			number("Value", func(c class) any { return int64(c.Value) }),
			{Name: "Global-Default", Type: "boolean", Value: func(c class) any { return c.GlobalDefault }},
			apiserver.Age[class](),
			column("PreemptionPolicy", func(c class) any { return string(*c.PreemptionPolicy) }),
		},
	}
}

// StorageClasses returns the kind StorageClass of storage.k8s.io/v1, to be
// registered, with its defaults.
func StorageClasses() apiserver.Resource[*storagev1.StorageClass] {
	type class = *storagev1.StorageClass
	k := cluster[class](storagev1.GroupName, "v1", "StorageClass")
	k.Default = func(c class) {
		setPointer(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		setPointer(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	}
	return apiserver.Resource[class]{
		Kind: k, Plural: "storageclasses", ShortNames: []string{"sc"},
		Columns: []apiserver.Column[class]{
			column("Provisioner", func(c class) any { return c.Provisioner }),
			column("ReclaimPolicy", func(c class) any { return string(*c.ReclaimPolicy) }),
			column("VolumeBindingMode", func(c class) any { return string(*c.VolumeBindingMode) }),
			apiserver.Age[class](),
		},
	}
}

// Ingresses returns the kind Ingress of networking.k8s.io/v1, to be registered.
func Ingresses() apiserver.Resource[*networkingv1.Ingress] {
	type ingress = *networkingv1.Ingress
	return apiserver.Resource[ingress]{
		Kind: kind[ingress](networkingv1.GroupName, "v1", "Ingress"), Plural: "ingresses", ShortNames: []string{"ing"},
		Columns: []apiserver.Column[ingress]{
			column("Class", func(i ingress) any {
				if i.Spec.IngressClassName == nil {
					return "<none>"
				}
				return *i.Spec.IngressClassName
			}),
			column("Hosts", func(i ingress) any {
				return or(join(i.Spec.Rules, func(r networkingv1.IngressRule) string { return or(r.Host, "*") }), "*")
			}),
			apiserver.Age[ingress](),
		},
	}
}

// NetworkPolicies returns the kind NetworkPolicy of networking.k8s.io/v1, to be
// registered, with its validation.
func NetworkPolicies() apiserver.Resource[*networkingv1.NetworkPolicy] {
	type policy = *networkingv1.NetworkPolicy
	k := kind[policy](networkingv1.GroupName, "v1", "NetworkPolicy")
	k.Validate = func(_, p policy) error {
		if _, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector); err != nil {
			return field.Invalid(field.NewPath("spec", "podSelector"), p.Spec.PodSelector, err.Error())
		}
		return nil
	}
	return apiserver.Resource[policy]{
		Kind: k, Plural: "networkpolicies", ShortNames: []string{"netpol"},
		Columns: []apiserver.Column[policy]{
			column("Pod-Selector", func(p policy) any { return metav1.FormatLabelSelector(&p.Spec.PodSelector) }),
			apiserver.Age[policy](),
		},
	}
}
