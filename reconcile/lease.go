// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"github.com/slipway-dev/slipway/store"
)

// Lease says who holds something, and for how long: the leadership of an
// [Elector], or the membership of a replica in a [Sharder]. Its JSON is, byte for
// byte, that of coordination.k8s.io/v1 Lease
// (https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/),
// so that kubectl shows it and client-go's electors respect it.
//
// It is an object like any other, and not to be confused with [store.Lease],
// which some stores have besides, and which fences the writes of its holder.
type Lease struct {
	store.Meta `json:"metadata"`
	Spec       LeaseSpec `json:"spec"`
}

// LeaseSpec is the part of a [Lease] that says who holds it.
type LeaseSpec struct {
	// HolderIdentity names the holder; nil or "": nobody holds it.
	HolderIdentity *string `json:"holderIdentity,omitempty"`
	// LeaseDurationSeconds is how long others must see no renewal before they may
	// take the lease.
	LeaseDurationSeconds *int32 `json:"leaseDurationSeconds,omitempty"`
	// AcquireTime and RenewTime are by the holder's wall clock. They are for people
	// to read, and to tell one renewal from the next: nobody may compare them with
	// a clock of his own.
	AcquireTime *MicroTime `json:"acquireTime,omitempty"`
	RenewTime   *MicroTime `json:"renewTime,omitempty"`
	// LeaseTransitions counts the changes of holder since the object was created.
	LeaseTransitions *int32 `json:"leaseTransitions,omitempty"`
	// Strategy and PreferredHolder belong to Kubernetes' coordinated election, and
	// are kept as they are.
	Strategy        *string `json:"strategy,omitempty"`
	PreferredHolder *string `json:"preferredHolder,omitempty"`
}

// DeepCopy returns a copy that shares nothing with l.
func (l *Lease) DeepCopy() *Lease {
	if l == nil {
		return nil
	}
	s := l.Spec
	return &Lease{Meta: l.Meta.Clone(), Spec: LeaseSpec{
		HolderIdentity:       clone(s.HolderIdentity),
		LeaseDurationSeconds: clone(s.LeaseDurationSeconds),
		AcquireTime:          clone(s.AcquireTime),
		RenewTime:            clone(s.RenewTime),
		LeaseTransitions:     clone(s.LeaseTransitions),
		Strategy:             clone(s.Strategy),
		PreferredHolder:      clone(s.PreferredHolder),
	}}
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// value returns what p points to, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// LeaseKind is the kind of Lease objects, with the rules that Kubernetes has for
// them. Electors and sharders register it where the store does not know a kind of
// that name yet; one whose Go type is another with the same JSON, as
// Kubernetes' own is, serves them as well.
func LeaseKind() store.Kind[*Lease] {
	return store.Kind[*Lease]{
		Name:         "Lease",
		Group:        "coordination.k8s.io",
		Version:      "v1",
		ValidateName: store.DNSSubdomain,
		Validate:     validateLease,
	}
}

func validateLease(_, l *Lease) error {
	if s := l.Spec.LeaseDurationSeconds; s != nil && *s <= 0 {
		return store.Invalidf("spec.leaseDurationSeconds is %d: want more than 0", *s)
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		return store.Invalidf("spec.leaseTransitions is %d: want 0 or more", *n)
	}
	return nil
}
