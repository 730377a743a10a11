// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"net/netip"
	"slices"
	"time"
)

// Route is one port of one service, in one address family, as one node sees it:
// where clients reach it, and which endpoints answer. It is what a [Tracker]
// makes of services and endpoint slices, and all that a back end needs to know.
//
// A Route and what it refers to is never changed once it has been handed out.
type Route struct {
	Name     PortName
	Family   Family
	Protocol Protocol
	Port     uint16
	NodePort uint16 // zero means none

	ClusterIP     netip.Addr
	ExternalIPs   []netip.Addr
	LoadBalancers []netip.Addr   // those of mode VIP
	SourceRanges  []netip.Prefix // of LoadBalancers; empty means no restriction

	Affinity       time.Duration // zero means none; whole seconds
	InternalPolicy Policy
	ExternalPolicy Policy

	HealthCheckNodePort uint16 // zero means none
	LocalReady          int    // endpoints of the whole service that are ready on this node

	// Cluster and Local are the endpoints that answer under the two policies,
	// in order of address, topology and termination considered. They are
	// empty when the service does not need them.
	Cluster, Local []Destination

	// HasEndpoints says that some endpoint could answer somewhere. Without,
	// traffic is rejected; with, but without one for the policy, it is dropped,
	// so that a client tries again while load balancers learn of it.
	HasEndpoints bool
}

// Destination is an endpoint that was selected.
type Destination struct {
	Addr netip.AddrPort
	// Local means that it may run on this node: it is there, or its node is
	// not known. Only such an endpoint can be its own client here (hairpin).
	Local bool
}

// External says whether the route is reachable by anything but its cluster IP.
func (r *Route) External() bool {
	return r.NodePort != 0 || len(r.ExternalIPs) > 0 || len(r.LoadBalancers) > 0
}

// Internal returns the endpoints that answer at the cluster IP.
func (r *Route) Internal() []Destination { return r.destinations(r.InternalPolicy) }

// FromOutside returns the endpoints that answer external traffic.
func (r *Route) FromOutside() []Destination { return r.destinations(r.ExternalPolicy) }

func (r *Route) destinations(p Policy) []Destination {
	if p == Local {
		return r.Local
	}
	return r.Cluster
}

// AllowedSources returns which sources may use the route's load balancers, none
// of them inside another: SourceRanges, and the load balancers' own addresses if
// the node with the address nodeIP is allowed; see Config.NodeIP. None means that
// there is no restriction.
func (r *Route) AllowedSources(nodeIP netip.Addr) []netip.Prefix {
	contains := func(a netip.Addr) bool {
		return slices.ContainsFunc(r.SourceRanges, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	out := r.SourceRanges
	if !contains(nodeIP) {
		return out
	}
	for _, a := range r.LoadBalancers {
		if !contains(a) {
			out = append(slices.Clip(out), netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// Equal says whether two routes are the same in every respect; nil equals nil.
func (r *Route) Equal(o *Route) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.Name == o.Name && r.Family == o.Family && r.Protocol == o.Protocol &&
		r.Port == o.Port && r.NodePort == o.NodePort && r.ClusterIP == o.ClusterIP &&
		slices.Equal(r.ExternalIPs, o.ExternalIPs) &&
		slices.Equal(r.LoadBalancers, o.LoadBalancers) &&
		slices.Equal(r.SourceRanges, o.SourceRanges) &&
		r.Affinity == o.Affinity && r.InternalPolicy == o.InternalPolicy && r.ExternalPolicy == o.ExternalPolicy &&
		r.HealthCheckNodePort == o.HealthCheckNodePort && r.LocalReady == o.LocalReady &&
		slices.Equal(r.Cluster, o.Cluster) && slices.Equal(r.Local, o.Local) &&
		r.HasEndpoints == o.HasEndpoints
}

// Change is one step from what a Tracker said last to what holds now: Old is nil
// for a new route, New is nil for one that is gone. Both have the same Name and
// Family.
type Change struct {
	Old, New *Route
}

// Route returns New, or Old when the route is gone.
func (c Change) Route() *Route {
	if c.New != nil {
		return c.New
	}
	return c.Old
}
