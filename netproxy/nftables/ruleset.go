// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/slipway-dev/slipway/netproxy"
)

// RuleSet is the nftables table for a set of routes, as a value: nothing in it
// touches the kernel. It is for one goroutine at a time.
//
// Endpoints are numbered in order of address when a route is new; later each
// keeps its number as long as it can, so that a change moves few elements.
type RuleSet struct {
	config  netproxy.Config
	dialect dialect
	routes  map[netproxy.PortName]*service
	hairpin map[netip.Addr]int // how many endpoints have the address
	picks   map[pick]int       // how many destinations use the chain
	holders map[frontKey]*service

	started bool
	dirty   map[*service]*service // what the last diff said of it, before it was changed
	// What the last diff said of the things that routes share.
	oldHairpin map[netip.Addr]bool
	created    map[pick]bool

	buf []front // reused, so that listing the fronts of a route allocates nothing
}

// pick names a chain that chooses among n endpoints.
type pick struct {
	space int
	n     int
}

// service is a route with the numbers of its endpoints.
type service struct {
	route *netproxy.Route
	slots [2][]netproxy.Destination // by policy
}

// chain is a chain of the table.
type chain struct {
	name  string
	hook  string // of a base chain: type, hook and priority
	rules []string
}

// New returns a rule set without routes. The error is made of FieldErrors.
func New(c netproxy.Config) (*RuleSet, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &RuleSet{
		config: c, dialect: dialectOf(c.Family),
		routes:  map[netproxy.PortName]*service{},
		hairpin: map[netip.Addr]int{}, picks: map[pick]int{}, holders: map[frontKey]*service{},
		dirty:      map[*service]*service{},
		oldHairpin: map[netip.Addr]bool{}, created: map[pick]bool{},
	}, nil
}

// Config returns what the rule set was made with.
func (rs *RuleSet) Config() netproxy.Config { return rs.config }

// Len returns the number of routes.
func (rs *RuleSet) Len() int { return len(rs.routes) }

// Update puts changes of the rule set's family into effect; those of the other
// family are skipped. An error is made of *netproxy.ServiceErrors, one for each
// route that was refused: it is left out, and the others take effect.
func (rs *RuleSet) Update(changes []netproxy.Change) error {
	// Addresses may go from one route to another, so all are released first.
	for _, c := range changes {
		if c.Old == nil || c.Old.Family != rs.config.Family {
			continue
		}
		if s := rs.routes[c.Old.Name]; s != nil {
			for _, f := range rs.fronts(s.route) {
				delete(rs.holders, f.frontKey)
			}
		}
	}
	var errs []error
	for _, c := range changes {
		r := c.Route()
		if r == nil || r.Family != rs.config.Family {
			continue
		}
		if err := rs.set(r.Name, c.New); err != nil {
			errs = append(errs, &netproxy.ServiceError{Service: r.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}

// set puts a route in the place of the one of that name; nil removes it. A route
// that is refused is not there afterwards.
func (rs *RuleSet) set(name netproxy.PortName, r *netproxy.Route) error {
	s := rs.routes[name]
	if s == nil {
		if r == nil {
			return nil
		}
		s = &service{}
	}
	var refused error
	if r != nil {
		if refused = rs.vacant(s, r); refused != nil {
			r = nil
		}
	}
	if _, ok := rs.dirty[s]; !ok {
		before := *s
		rs.dirty[s] = &before
	}
	rs.count(s, -1)
	for _, f := range rs.fronts(s.route) {
		if rs.holders[f.frontKey] == s {
			delete(rs.holders, f.frontKey)
		}
	}
	s.route = r
	if r == nil {
		delete(rs.routes, name)
		return refused
	}
	s.slots[netproxy.Cluster] = renumber(s.slots[netproxy.Cluster], r.Cluster)
	s.slots[netproxy.Local] = renumber(s.slots[netproxy.Local], r.Local)
	rs.routes[name] = s
	for _, f := range rs.fronts(r) {
		rs.holders[f.frontKey] = s
	}
	rs.count(s, +1)
	return nil
}

// vacant checks that no other route has one of r's fronts. A Tracker never lets
// that happen.
func (rs *RuleSet) vacant(s *service, r *netproxy.Route) error {
	for _, f := range rs.fronts(r) {
		if h := rs.holders[f.frontKey]; h != nil && h != s {
			return fmt.Errorf("%w: %v has the same address and port", netproxy.ErrConflict, h.route.Name)
		}
	}
	return nil
}

// count adds or takes away what the route shares with others.
func (rs *RuleSet) count(s *service, by int) {
	r := s.route
	if r == nil {
		return
	}
	for i, sp := range spaces {
		if n := len(s.slots[sp.policy]); n > 0 && r.Affinity == 0 && rs.uses(r, sp) {
			add(rs.picks, pick{i, n}, by)
		}
	}
	for _, list := range s.slots {
		for _, e := range list {
			if !e.Local {
				continue
			}
			a := e.Addr.Addr()
			if _, ok := rs.oldHairpin[a]; !ok {
				rs.oldHairpin[a] = rs.hairpin[a] > 0
			}
			add(rs.hairpin, a, by)
		}
	}
}

func add[K comparable](m map[K]int, k K, by int) {
	if m[k] += by; m[k] == 0 {
		delete(m, k)
	}
}

// uses says whether one of the route's fronts looks endpoints up in the space.
func (rs *RuleSet) uses(r *netproxy.Route, sp space) bool {
	return slices.ContainsFunc(rs.fronts(r), func(f front) bool { return f.in(sp) })
}

// renumber returns now in an order in which every endpoint that was in before
// keeps its place, as far as there are so many places.
func renumber(before, now []netproxy.Destination) []netproxy.Destination {
	if len(before) == 0 || slices.Equal(before, now) {
		return now
	}
	out := make([]netproxy.Destination, len(now))
	at := make(map[netip.AddrPort]int, len(before))
	for i, d := range before {
		at[d.Addr] = i
	}
	taken := make([]bool, len(now))
	var homeless []netproxy.Destination
	for _, d := range now {
		if i, ok := at[d.Addr]; ok && i < len(now) {
			out[i], taken[i] = d, true
		} else {
			homeless = append(homeless, d)
		}
	}
	for i := range out {
		if !taken[i] {
			out[i], homeless = homeless[0], homeless[1:]
		}
	}
	return out
}

// frontKey is an address and port; without an address, a node port.
type frontKey struct {
	addr  netip.Addr
	port  uint16
	proto netproxy.Protocol
}

// front is one destination by which clients reach a route.
type front struct {
	frontKey
	chain          string // that serves it; empty: nothing does
	cluster, local bool   // which policies' endpoints that chain may choose from
	refuse         string // the verdict on what was not served; empty: none
	guarded        bool
}

// in says whether the front looks endpoints up in the space.
func (f *front) in(sp space) bool {
	if f.addr.IsValid() == sp.nodePort {
		return false
	}
	if sp.policy == netproxy.Local {
		return f.local
	}
	return f.cluster
}

// fronts lists the route's destinations; of two with one address, the first
// counts. The list is good until the next call.
func (rs *RuleSet) fronts(r *netproxy.Route) []front {
	rs.buf = rs.buf[:0]
	if r == nil {
		return nil
	}
	put := func(f front, a netip.Addr, port uint16) {
		f.frontKey = frontKey{a, port, r.Protocol}
		if !slices.ContainsFunc(rs.buf, func(g front) bool { return g.frontKey == f.frontKey }) {
			rs.buf = append(rs.buf, f)
		}
	}
	refuse := "goto " + chainReject
	if r.HasEndpoints {
		refuse = "drop"
	}
	in := front{chain: chainInternal, cluster: true}
	if r.InternalPolicy == netproxy.Local {
		in = front{chain: chainInternalLocal, local: true}
	}
	if len(r.Internal()) == 0 {
		in = front{refuse: refuse}
	}
	put(in, r.ClusterIP, r.Port)

	out := front{cluster: len(r.Cluster) > 0, local: r.ExternalPolicy == netproxy.Local && len(r.Local) > 0}
	if len(r.FromOutside()) == 0 {
		out.refuse = refuse
	}
	byAddr, byPort, guard := out, out, out
	if out.cluster || out.local {
		byAddr.chain, byPort.chain, guard.chain = chainExternal, chainNodePort, chainGuarded
		if r.ExternalPolicy == netproxy.Local {
			byAddr.chain, byPort.chain, guard.chain = chainExternalLocal, chainNodePortLocal, chainGuardedLocal
		}
	}
	guard.guarded = guard.chain != ""
	for _, a := range r.ExternalIPs {
		put(byAddr, a, r.Port)
	}
	for _, a := range r.LoadBalancers {
		if len(r.SourceRanges) > 0 {
			put(guard, a, r.Port)
		} else {
			put(byAddr, a, r.Port)
		}
	}
	if r.NodePort != 0 {
		put(byPort, netip.Addr{}, r.NodePort)
	}
	return rs.buf
}
