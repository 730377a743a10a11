// SPDX-License-Identifier: Apache-2.0

package netproxy

import "net/netip"

// EndpointSlice is some of the endpoints of one service. A service may have any
// number of slices; an endpoint that is in two of them counts once.
//
// The slices in an EndpointSlice that was given to a [Tracker] belong to the
// Tracker, and must not be changed afterwards.
type EndpointSlice struct {
	Namespace string
	Name      string // of the slice
	Service   string // the name of the service, in the same namespace
	Ports     []EndpointPort
	Endpoints []Endpoint
}

// EndpointPort is a port that all endpoints of a slice offer.
type EndpointPort struct {
	Name     string // the name of the service port that leads here
	Protocol Protocol
	Port     int // at the endpoint's address; 1 to 65535
}

// Endpoint is one backend: usually a pod.
type Endpoint struct {
	Addr  netip.Addr
	State EndpointState
	Node  string // the node that it runs on; empty means not known
	Zone  string // the zone of that node; empty means not known

	// ForZones and ForNodes are topology hints: the zones and nodes whose
	// clients should use this endpoint. They are obeyed only when every ready
	// endpoint of the service has one (KEP-2433).
	ForZones, ForNodes []string
}

// EndpointState is what the conditions ready, serving and terminating of an
// endpoint amount to (KEP-1669). The zero value is Ready.
type EndpointState uint8

const (
	// Ready endpoints get traffic.
	Ready EndpointState = iota
	// NotReady endpoints get none.
	NotReady
	// ServingTerminating endpoints are going away but still answer: they get
	// traffic when no endpoint is ready.
	ServingTerminating
	// Terminating endpoints are going away and get none.
	Terminating
)

// StateOf returns the state that an endpoint with these conditions is in.
func StateOf(ready, serving, terminating bool) EndpointState {
	switch {
	case ready:
		return Ready
	case terminating && serving:
		return ServingTerminating
	case terminating:
		return Terminating
	}
	return NotReady
}

func (s EndpointState) String() string {
	return [...]string{"Ready", "NotReady", "ServingTerminating", "Terminating"}[s]
}

// Node is the machine that the rules are for.
type Node struct {
	Name string
	Zone string // empty means not known; zone preferences are ignored then
}
