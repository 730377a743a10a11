// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// candidate is an endpoint that offers the port in question.
type candidate struct {
	addr netip.AddrPort
	*Endpoint
}

// resolver turns one service and its slices into routes. The scratch slices
// make resolving a service cost no more allocations than its result.
type resolver struct {
	node       Node
	candidates []candidate
	selected   []candidate
}

// routes appends the service's routes on r.node to out. A service without a
// cluster IP has none.
func (r *resolver) routes(out []*Route, s *Service, eps []*EndpointSlice) []*Route {
	for _, ip := range s.ClusterIPs {
		family := FamilyOf(ip)
		external := ofFamily(s.ExternalIPs, family)
		balancers := balancersOf(s.LoadBalancers, family)
		ranges := rangesOf(s.SourceRanges, family)
		ready := 0
		if s.HealthCheckNodePort != 0 {
			ready = r.localReady(eps, family)
		}
		for i := range s.Ports {
			p := &s.Ports[i]
			rt := &Route{
				Name:          PortName{s.Namespace, s.Name, p.Name},
				Family:        family,
				Protocol:      p.Protocol,
				Port:          uint16(p.Port),
				NodePort:      uint16(p.NodePort),
				ClusterIP:     ip,
				ExternalIPs:   external,
				LoadBalancers: balancers,
				SourceRanges:  ranges,

				Affinity:            s.Affinity.Truncate(time.Second),
				InternalPolicy:      s.InternalPolicy,
				ExternalPolicy:      s.ExternalPolicy,
				HealthCheckNodePort: uint16(s.HealthCheckNodePort),
				LocalReady:          ready,
			}
			r.fill(rt, s.Distribution, eps)
			out = append(out, rt)
		}
	}
	return out
}

// fill selects the route's endpoints.
func (r *resolver) fill(rt *Route, d Distribution, eps []*EndpointSlice) {
	r.collect(rt, eps)
	rt.HasEndpoints = slices.ContainsFunc(r.candidates, func(c candidate) bool {
		return c.State == Ready || c.State == ServingTerminating
	})
	external := rt.External()
	// External traffic that starts on this node or in one of its pods counts
	// as internal even under the policy Local, so it needs all endpoints.
	if rt.InternalPolicy == Cluster || external {
		ready := r.pick(Ready, false)
		if len(ready) > 0 {
			ready = prefer(ready, r.node, d)
		} else {
			ready = r.pick(ServingTerminating, false)
		}
		rt.Cluster = r.destinations(ready)
	}
	if rt.InternalPolicy == Local || (external && rt.ExternalPolicy == Local) {
		local := r.pick(Ready, true)
		if len(local) == 0 {
			local = r.pick(ServingTerminating, true)
		}
		rt.Local = r.destinations(local)
	}
}

// collect gathers the endpoints that offer the route's port, in order of
// address. Of two entries for one address, as there are while an endpoint moves
// between slices, the better state counts, and then the first slice.
func (r *resolver) collect(rt *Route, eps []*EndpointSlice) {
	r.candidates = r.candidates[:0]
	for _, s := range eps {
		for _, p := range s.Ports {
			if p.Name != rt.Name.Port || p.Protocol != rt.Protocol || p.fault() != "" {
				continue
			}
			for i := range s.Endpoints {
				e := &s.Endpoints[i]
				if FamilyOf(e.Addr) == rt.Family && e.fault() == "" {
					r.candidates = append(r.candidates, candidate{netip.AddrPortFrom(e.Addr, uint16(p.Port)), e})
				}
			}
		}
	}
	slices.SortStableFunc(r.candidates, func(a, b candidate) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.State.rank(), b.State.rank()))
	})
	r.candidates = slices.CompactFunc(r.candidates, func(a, b candidate) bool { return a.addr == b.addr })
}

// rank orders states by how much an endpoint in them is worth.
func (s EndpointState) rank() int {
	return [...]int{Ready: 0, ServingTerminating: 1, NotReady: 2, Terminating: 3}[s]
}

func (r *resolver) pick(state EndpointState, local bool) []candidate {
	r.selected = r.selected[:0]
	for _, c := range r.candidates {
		if c.State == state && (!local || c.Node == r.node.Name) {
			r.selected = append(r.selected, c)
		}
	}
	return r.selected
}

func (r *resolver) destinations(cs []candidate) []Destination {
	if len(cs) == 0 {
		return nil
	}
	out := make([]Destination, len(cs))
	for i, c := range cs {
		out[i] = Destination{c.addr, c.Node == "" || c.Node == r.node.Name}
	}
	return out
}

// prefer narrows ready endpoints to those that topology prefers, or returns all
// of them if none fits. It reuses the slice.
func prefer(ready []candidate, node Node, d Distribution) []candidate {
	hintedNode := func(c candidate) bool { return len(c.ForNodes) > 0 }
	hintedZone := func(c candidate) bool { return len(c.ForZones) > 0 }
	if all(ready, hintedNode) {
		if fit := keep(ready, func(c candidate) bool { return slices.Contains(c.ForNodes, node.Name) }); len(fit) > 0 {
			return fit
		}
	}
	if node.Zone != "" && all(ready, hintedZone) {
		if fit := keep(ready, func(c candidate) bool { return slices.Contains(c.ForZones, node.Zone) }); len(fit) > 0 {
			return fit
		}
	}
	if d == Anywhere || slices.ContainsFunc(ready, hintedNode) || slices.ContainsFunc(ready, hintedZone) {
		return ready
	}
	if d == PreferSameNode && node.Name != "" {
		if fit := keep(ready, func(c candidate) bool { return c.Node == node.Name }); len(fit) > 0 {
			return fit
		}
	}
	if node.Zone != "" {
		if fit := keep(ready, func(c candidate) bool { return c.Zone == node.Zone }); len(fit) > 0 {
			return fit
		}
	}
	return ready
}

func all(cs []candidate, f func(candidate) bool) bool {
	return !slices.ContainsFunc(cs, func(c candidate) bool { return !f(c) })
}

// keep returns the candidates that fit. cs is left as it is if none does.
func keep(cs []candidate, f func(candidate) bool) []candidate {
	if !slices.ContainsFunc(cs, f) {
		return nil
	}
	return slices.DeleteFunc(cs, func(c candidate) bool { return !f(c) })
}

// localReady counts the ready endpoints on this node, each address once.
func (r *resolver) localReady(eps []*EndpointSlice, f Family) int {
	seen := map[netip.Addr]bool{}
	for _, s := range eps {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.State == Ready && e.Node == r.node.Name && FamilyOf(e.Addr) == f && e.fault() == "" {
				seen[e.Addr] = true
			}
		}
	}
	return len(seen)
}

func ofFamily(as []netip.Addr, f Family) []netip.Addr {
	var out []netip.Addr
	for _, a := range as {
		if FamilyOf(a) == f && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func balancersOf(lbs []LoadBalancer, f Family) []netip.Addr {
	var out []netip.Addr
	for _, lb := range lbs {
		if lb.Mode == VIP && FamilyOf(lb.Addr) == f && !slices.Contains(out, lb.Addr) {
			out = append(out, lb.Addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// rangesOf returns the ranges of a family without those that lie in another one.
// A range of all addresses restricts nothing, so it is the same as none.
func rangesOf(ps []netip.Prefix, f Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		if FamilyOf(p.Addr()) == f {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { // wider ranges first
		return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
	})
	kept := out[:0]
	for _, p := range out {
		if p.Bits() == 0 {
			return nil
		}
		if n := len(kept); n == 0 || !kept[n-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}
