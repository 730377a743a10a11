// SPDX-License-Identifier: Apache-2.0

package userspace

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// balancer chooses endpoints for one route.
type balancer struct {
	mu      sync.Mutex
	route   *netproxy.Route
	nodeIPs []netip.Addr
	clients map[netip.Addr]visit // of routes with affinity
	swept   time.Time
}

// visit is where a client was sent last.
type visit struct {
	to netip.AddrPort
	at time.Time
}

func newBalancer(r *netproxy.Route, nodeIPs []netip.Addr) *balancer {
	return &balancer{route: r, nodeIPs: nodeIPs, clients: map[netip.Addr]visit{}}
}

func (b *balancer) set(r *netproxy.Route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.route = r
	if r.Affinity == 0 {
		clear(b.clients)
	}
}

func (b *balancer) current() *netproxy.Route {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.route
}

// candidates returns the endpoints for a client of a listener; none if the
// client may not come in, or there are none.
func (b *balancer) candidates(kind Kind, client netip.Addr) []netproxy.Destination {
	r := b.route
	if kind == Internal {
		return r.Internal()
	}
	if kind == LoadBalancer && !b.allowed(client) {
		return nil
	}
	if client.IsLoopback() {
		return r.Cluster
	}
	return r.FromOutside()
}

// allowed says whether the client may use the load balancers.
func (b *balancer) allowed(client netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(client) }
	ranges := b.route.SourceRanges
	return len(ranges) == 0 || slices.ContainsFunc(ranges, contains) ||
		slices.ContainsFunc(b.nodeIPs, func(a netip.Addr) bool {
			return slices.ContainsFunc(b.route.AllowedSources(a), contains)
		})
}

// choose returns the endpoint for a new connection of a client, other than those
// tried already; false if there is none left.
func (b *balancer) choose(kind Kind, client netip.Addr, tried []netip.AddrPort) (netip.AddrPort, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.candidates(kind, client)
	now := time.Now()
	has := func(a netip.AddrPort) bool {
		return slices.ContainsFunc(list, func(d netproxy.Destination) bool { return d.Addr == a })
	}
	affinity := b.route.Affinity
	if v, ok := b.clients[client]; ok && affinity > 0 && now.Sub(v.at) < affinity && has(v.to) && !slices.Contains(tried, v.to) {
		b.clients[client] = visit{v.to, now}
		return v.to, true
	}
	n := 0
	var to netip.AddrPort
	for _, d := range list { // each of those not tried with the same probability
		if !slices.Contains(tried, d.Addr) {
			if n++; rand.IntN(n) == 0 {
				to = d.Addr
			}
		}
	}
	if n > 0 && affinity > 0 {
		b.sweep(now, affinity)
		b.clients[client] = visit{to, now}
	}
	return to, n > 0
}

// sweep forgets clients that have not come back in time, now and then.
func (b *balancer) sweep(now time.Time, affinity time.Duration) {
	if now.Sub(b.swept) < affinity {
		return
	}
	b.swept = now
	for c, v := range b.clients {
		if now.Sub(v.at) >= affinity {
			delete(b.clients, c)
		}
	}
}

// leads says whether a client may still be sent to an endpoint.
func (b *balancer) leads(kind Kind, client netip.Addr, to netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.candidates(kind, client), func(d netproxy.Destination) bool { return d.Addr == to })
}
