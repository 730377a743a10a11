// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"net/netip"
	"time"
)

// ServiceName identifies a service.
type ServiceName struct {
	Namespace, Name string
}

func (n ServiceName) String() string { return n.Namespace + "/" + n.Name }

// PortName identifies one port of a service. Port is empty for the only port of
// a service that does not name it.
type PortName struct {
	Namespace, Name, Port string
}

// Service returns the name of the service that the port belongs to.
func (n PortName) Service() ServiceName { return ServiceName{n.Namespace, n.Name} }

// String returns namespace/name:port, or namespace/name for an unnamed port.
func (n PortName) String() string { return string(n.Append(nil)) }

// Append appends the text of String to b, for writers that must not allocate.
func (n PortName) Append(b []byte) []byte {
	b = append(b, n.Namespace...)
	b = append(b, '/')
	b = append(b, n.Name...)
	if n.Port != "" {
		b = append(b, ':')
		b = append(b, n.Port...)
	}
	return b
}

// Service is what a client wants to reach: the addresses and ports under which
// a set of endpoints is offered. Its fields mean what the fields of a
// Kubernetes Service mean.
//
// The slices in a Service that was given to a [Tracker] belong to the Tracker,
// and must not be changed afterwards.
type Service struct {
	Namespace, Name string
	Ports           []ServicePort

	// ClusterIPs are the virtual addresses inside the cluster, at most one of
	// each family. None means a headless service, which has no rules.
	ClusterIPs []netip.Addr

	// ExternalIPs are further addresses whose traffic reaches this node by
	// somebody else's routes.
	ExternalIPs []netip.Addr

	// LoadBalancers are the addresses of load balancers before the cluster.
	LoadBalancers []LoadBalancer

	// SourceRanges, when not empty, are the only sources that may use the
	// load balancers' addresses. A family without a range is not restricted.
	SourceRanges []netip.Prefix

	// Affinity, when not zero, makes a client address return to the endpoint
	// that it used less than this long ago (ClientIP session affinity). It is
	// counted in whole seconds, from 1 second to 24 hours.
	Affinity time.Duration

	// InternalPolicy is for traffic to the cluster IPs, ExternalPolicy for
	// traffic to node ports, external IPs and load balancers.
	InternalPolicy, ExternalPolicy Policy

	// HealthCheckNodePort is where the load balancer asks whether this node
	// has an endpoint of its own. Zero means that it does not ask.
	HealthCheckNodePort int

	// Distribution says which endpoints are preferred when they carry no
	// hints of their own.
	Distribution Distribution
}

// ServiceName returns the identity of the service.
func (s *Service) ServiceName() ServiceName { return ServiceName{s.Namespace, s.Name} }

// ServicePort is one port of a service.
type ServicePort struct {
	Name     string // empty is allowed when the service has only one port
	Protocol Protocol
	Port     int // at the service's addresses; 1 to 65535
	NodePort int // at every node's own addresses; zero means none
}

// LoadBalancer is one address of a load balancer before the cluster.
type LoadBalancer struct {
	Addr netip.Addr
	Mode LoadBalancerMode
}

// LoadBalancerMode says what arrives at the node (KEP-1860).
type LoadBalancerMode uint8

const (
	// VIP load balancers deliver packets that are still addressed to the load
	// balancer; the node's rules answer for that address.
	VIP LoadBalancerMode = iota
	// ProxyMode load balancers deliver packets to the node's own address, and
	// want the traffic of the node and its pods as well: there are no rules.
	ProxyMode
)

// Policy says which endpoints may answer (KEP-2086 and externalTrafficPolicy).
type Policy uint8

const (
	// Cluster means any endpoint in the cluster.
	Cluster Policy = iota
	// Local means endpoints on the node that the packet came to. External
	// traffic keeps its source address then.
	Local
)

func (p Policy) String() string {
	if p == Local {
		return "Local"
	}
	return "Cluster"
}

// Distribution says which endpoints are preferred (KEP-4444, KEP-3015). A
// preference that no endpoint meets is ignored.
type Distribution uint8

const (
	// Anywhere prefers none.
	Anywhere Distribution = iota
	// PreferSameZone prefers endpoints in the zone of the client's node.
	PreferSameZone
	// PreferSameNode prefers endpoints on the client's node, and then
	// endpoints in its zone.
	PreferSameNode
)
