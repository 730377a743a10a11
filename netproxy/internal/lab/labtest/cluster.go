// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package labtest sends real traffic through a back end of netproxy in a lab.
// All back ends pass the same tests.
package labtest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
)

// NewBackend makes the back end under test.
type NewBackend func(netproxy.Config) (netproxy.Backend, error)

// Cluster is a lab whose two nodes run the back end.
type Cluster struct {
	*lab.Lab
	t     testing.TB
	make  NewBackend
	nodes []*node
}

type node struct {
	host     *lab.Host
	tracker  *netproxy.Tracker
	backends [2]netproxy.Backend // by family
}

// NewCluster makes a lab and empty back ends on its nodes.
func NewCluster(t testing.TB, make NewBackend) *Cluster {
	c := &Cluster{Lab: lab.New(t), t: t, make: make}
	for _, h := range []*lab.Host{c.Node1, c.Node2} {
		n := &node{host: h, tracker: netproxy.NewTracker(netproxy.Node{Name: h.Name})}
		c.start(n)
		c.nodes = append(c.nodes, n)
	}
	return c
}

// start gives the node new back ends, which know of nothing.
func (c *Cluster) start(n *node) {
	c.t.Helper()
	for f, pods := range map[netproxy.Family]string{netproxy.IPv4: "10.244.0.0/16", netproxy.IPv6: "fd44::/16"} {
		b, err := c.make(netproxy.Config{
			Family: f, PodCIDR: netip.MustParsePrefix(pods), LocalhostNodePorts: f == netproxy.IPv4,
			NodeIP: addrOf(n.host, f),
		})
		if err != nil {
			c.t.Fatal(err)
		}
		n.backends[f] = b
	}
}

// Set gives a service with these pods as endpoints to both nodes.
func (c *Cluster) Set(s netproxy.Service, pods ...*lab.Host) {
	c.t.Helper()
	for _, n := range c.nodes {
		if err := n.tracker.SetService(s); err != nil {
			c.t.Fatal(err)
		}
		if err := n.tracker.SetEndpointSlice(c.slice(s, pods)); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *Cluster) slice(s netproxy.Service, pods []*lab.Host) netproxy.EndpointSlice {
	out := netproxy.EndpointSlice{Namespace: s.Namespace, Name: s.Name + "-1", Service: s.Name}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, netproxy.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: 8080})
	}
	for _, p := range pods {
		on := c.Node1.Name
		if p == c.Pod3 {
			on = c.Node2.Name
		}
		for _, a := range []netip.Addr{p.V4, p.V6} {
			out.Endpoints = append(out.Endpoints, netproxy.Endpoint{Addr: a, Node: on})
		}
	}
	return out
}

// Sync puts what was set into effect on both nodes.
func (c *Cluster) Sync() {
	c.t.Helper()
	for _, n := range c.nodes {
		c.sync(n, n.tracker.Changes())
	}
}

func (c *Cluster) sync(n *node, changes []netproxy.Change) {
	c.t.Helper()
	for _, b := range n.backends {
		var err error
		n.host.Do(func() { err = b.Sync(context.Background(), changes) })
		if err != nil {
			c.t.Fatalf("%s: %v", n.host.Name, err)
		}
	}
}

// Restart does what the start of a new process on each node does: new back ends
// over the rules that are in the kernel.
func (c *Cluster) Restart() {
	c.t.Helper()
	for _, n := range c.nodes {
		c.start(n)
		var all []netproxy.Change
		for _, r := range n.tracker.Routes() {
			all = append(all, netproxy.Change{New: r})
		}
		c.sync(n, all)
	}
}

// want is the set of acceptable replies: from these pods, seen from this source.
type want struct {
	pods   []*lab.Host
	source func(pod *lab.Host) netip.Addr
}

// check makes n requests. All replies must be as wanted, and every pod that is
// wanted must have replied if n is large.
func (c *Cluster) check(t *testing.T, from *lab.Host, n int, p netproxy.Protocol, to netip.AddrPort, w want) {
	t.Helper()
	got, err := from.Requests(n, p, to)
	if err != nil {
		t.Error(err)
		return
	}
	answered := map[string]int{}
	for r, count := range got {
		i := slices.IndexFunc(w.pods, func(h *lab.Host) bool { return h.Name == r.Pod })
		if i < 0 {
			t.Errorf("%s to %v/%v: %s answered, which is no endpoint", from.Name, to, p, r.Pod)
			continue
		}
		answered[r.Pod] += count
		if src := w.source(w.pods[i]); src.IsValid() && r.Source != src {
			t.Errorf("%s to %v/%v: %s saw the source %v, want %v", from.Name, to, p, r.Pod, r.Source, src)
		}
	}
	// With 30 requests a third of a third goes missing once in 190,000 times.
	if n >= 30 && len(answered) != len(w.pods) {
		t.Errorf("%s to %v/%v: only %v answered of %d endpoints", from.Name, to, p, answered, len(w.pods))
	}
}

// masqueraded is the source that pods see when node1 has masqueraded.
func (c *Cluster) masqueraded(f netproxy.Family) func(*lab.Host) netip.Addr {
	return func(pod *lab.Host) netip.Addr {
		switch {
		case pod == c.Pod3:
			return addrOf(c.Node1, f)
		case f == netproxy.IPv6:
			return netip.MustParseAddr("fd44:1::1")
		}
		return netip.MustParseAddr("10.244.1.1")
	}
}

func source(a netip.Addr) func(*lab.Host) netip.Addr {
	return func(*lab.Host) netip.Addr { return a }
}

func anySource(*lab.Host) netip.Addr { return netip.Addr{} }

func addrOf(h *lab.Host, f netproxy.Family) netip.Addr {
	if f == netproxy.IPv6 {
		return h.V6
	}
	return h.V4
}

// service returns a service with cluster IPs 10.96.0.n and fd96::n and one TCP
// port, 80.
func service(name string, n int) netproxy.Service {
	return netproxy.Service{
		Namespace: "shop", Name: name,
		ClusterIPs: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.96.0.%d", n)), netip.MustParseAddr(fmt.Sprintf("fd96::%x", n))},
		Ports:      []netproxy.ServicePort{{Name: "http", Port: 80}},
	}
}
