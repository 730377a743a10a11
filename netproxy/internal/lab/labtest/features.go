// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// World is the addresses of one family.
type World struct {
	Family             netproxy.Family
	Pods               netip.Prefix
	vip, ext, lb, node netip.Addr
	client, friend     netip.Addr // outside; friend is in the source range
	Friends            netip.Prefix
	eps                [3]netip.Addr // the first is on our node
}

// Worlds returns one for each family.
func Worlds() []World {
	a := netip.MustParseAddr
	p := netip.MustParsePrefix
	return []World{
		{netproxy.IPv4, p("10.244.0.0/16"), a("10.96.0.10"), a("198.51.100.7"), a("203.0.113.5"), a("192.168.1.1"), a("192.168.1.77"), a("172.16.3.4"), p("172.16.0.0/12"),
			[3]netip.Addr{a("10.244.1.11"), a("10.244.2.11"), a("10.244.3.11")}},
		{netproxy.IPv6, p("fd44::/16"), a("fd96::10"), a("2001:db8::7"), a("2001:db8:1::5"), a("fd50::1"), a("fd50::77"), a("2001:db8:9::4"), p("2001:db8:9::/48"),
			[3]netip.Addr{a("fd44:1::11"), a("fd44:2::11"), a("fd44:3::11")}},
	}
}

// fate is what is expected of a packet.
type fate struct {
	verdict trace.Verdict
	to      []int // the endpoints that are equally probable; nil: no translation
	masq    bool
}

// features are the services and packets of the table test. A service is made by
// changing web: TCP port 80, node port 30080, with an external IP, a load
// balancer and the three endpoints.
func features() []struct {
	name   string
	config func(World, *netproxy.Config)
	change func(w World, s *netproxy.Service, eps []netproxy.Endpoint)
	want   map[string]fate
} {
	all := []int{0, 1, 2}
	served := fate{to: all, masq: true}
	return []struct {
		name   string
		config func(World, *netproxy.Config)
		change func(w World, s *netproxy.Service, eps []netproxy.Endpoint)
		want   map[string]fate
	}{
		{
			name: "plain",
			want: map[string]fate{
				"client>vip": served, "client>nodeport": served, "client>ext": served, "client>lb": served,
				"pod>vip": {to: all}, "node>vip": served, "pod>nodeport": served, "node>nodeport": served,
				"client>loopback": {}, "client>other": {}, "client>vip:81": {},
			},
		}, {
			name:   "no endpoints",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { setAll(eps, netproxy.NotReady) },
			want: map[string]fate{
				"client>vip": {verdict: trace.Reject}, "pod>vip": {verdict: trace.Reject}, "node>vip": {verdict: trace.Reject},
				"client>nodeport": {verdict: trace.Reject}, "client>ext": {verdict: trace.Reject}, "client>lb": {verdict: trace.Reject},
			},
		}, {
			name:   "terminating endpoints answer when no other does",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { setAll(eps, netproxy.ServingTerminating) },
			want:   map[string]fate{"client>vip": served, "client>nodeport": served},
		}, {
			name: "terminating endpoints stand back",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				eps[1].State = netproxy.ServingTerminating
				eps[2].State = netproxy.Terminating
			},
			want: map[string]fate{"client>vip": {to: []int{0}, masq: true}},
		}, {
			name:   "external policy Local",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { s.ExternalPolicy = netproxy.Local },
			want: map[string]fate{
				"client>vip": served, "client>nodeport": {to: []int{0}}, "client>ext": {to: []int{0}}, "client>lb": {to: []int{0}},
				"pod>nodeport": {to: all}, "pod>lb": {to: all}, "node>lb": served, "node>nodeport": served,
			},
		}, {
			name: "external policy Local without a local endpoint",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.ExternalPolicy = netproxy.Local
				eps[0].State = netproxy.NotReady
			},
			want: map[string]fate{
				"client>vip": {to: []int{1, 2}, masq: true}, "client>nodeport": {verdict: trace.Drop}, "client>lb": {verdict: trace.Drop},
				"pod>lb": {to: []int{1, 2}}, "node>nodeport": {to: []int{1, 2}, masq: true},
			},
		}, {
			name: "external policy Local, the local endpoint terminating",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.ExternalPolicy = netproxy.Local
				eps[0].State = netproxy.ServingTerminating
			},
			want: map[string]fate{"client>nodeport": {to: []int{0}}, "client>vip": {to: []int{1, 2}, masq: true}},
		}, {
			name:   "internal policy Local",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { s.InternalPolicy = netproxy.Local },
			want:   map[string]fate{"pod>vip": {to: []int{0}}, "client>vip": {to: []int{0}, masq: true}, "client>nodeport": served},
		}, {
			name: "internal policy Local without a local endpoint",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.InternalPolicy = netproxy.Local
				eps[0].Node = "elsewhere"
			},
			want: map[string]fate{"pod>vip": {verdict: trace.Drop}, "client>nodeport": served},
		}, {
			name: "source ranges",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.SourceRanges = []netip.Prefix{w.Friends}
			},
			want: map[string]fate{
				"client>lb": {verdict: trace.Drop}, "friend>lb": served, "client>vip": served, "client>nodeport": served, "client>ext": served,
				"pod>lb": {verdict: trace.Drop}, "node>lb": {verdict: trace.Drop}, "lb>lb": {verdict: trace.Drop},
			},
		}, {
			name:   "source ranges with the node",
			config: func(w World, c *netproxy.Config) { c.NodeIP = w.node },
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.SourceRanges = []netip.Prefix{w.Friends, netip.PrefixFrom(w.node, w.node.BitLen())}
			},
			want: map[string]fate{
				"client>lb": {verdict: trace.Drop}, "friend>lb": served, "node>lb": served,
				// The node has the load balancer's address on an interface.
				"lb>lb": served,
			},
		}, {
			name:   "source ranges without the node",
			config: func(w World, c *netproxy.Config) { c.NodeIP = w.node },
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.SourceRanges = []netip.Prefix{w.Friends}
			},
			want: map[string]fate{"friend>lb": served, "node>lb": {verdict: trace.Drop}, "lb>lb": {verdict: trace.Drop}},
		}, {
			name: "load balancer that proxies",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.LoadBalancers[0].Mode = netproxy.ProxyMode
			},
			want: map[string]fate{"client>lb": {}, "pod>lb": {}, "client>nodeport": served},
		}, {
			name: "zone hints",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				eps[0].ForZones, eps[1].ForZones, eps[2].ForZones = []string{"b"}, []string{"a"}, []string{"a", "b"}
			},
			want: map[string]fate{"pod>vip": {to: []int{1, 2}}},
		}, {
			name: "one endpoint without a hint",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				eps[1].ForZones, eps[2].ForZones = []string{"a"}, []string{"a"}
			},
			want: map[string]fate{"pod>vip": {to: all}},
		}, {
			name: "node hints",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				eps[0].ForNodes, eps[1].ForNodes, eps[2].ForNodes = []string{"n2"}, []string{"n1"}, []string{"n3"}
			},
			want: map[string]fate{"pod>vip": {to: []int{1}}},
		}, {
			name:   "same node preferred",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { s.Distribution = netproxy.PreferSameNode },
			want:   map[string]fate{"pod>vip": {to: []int{0}}},
		}, {
			name: "same zone preferred",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				s.Distribution = netproxy.PreferSameZone
				eps[2].Zone = "a"
			},
			want: map[string]fate{"pod>vip": {to: []int{2}}},
		}, {
			name:   "UDP",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { s.Ports[0].Protocol = netproxy.UDP },
			want:   map[string]fate{"client>vip": {}, "client>vip/udp": served, "client>nodeport/udp": served},
		}, {
			name:   "SCTP",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { s.Ports[0].Protocol = netproxy.SCTP },
			want:   map[string]fate{"client>vip": {}, "client>vip/sctp": served},
		}, {
			name:   "masquerade all",
			config: func(w World, c *netproxy.Config) { c.MasqueradeAll = true },
			want:   map[string]fate{"pod>vip": served},
		}, {
			name:   "pods by interface",
			config: func(w World, c *netproxy.Config) { c.PodCIDR, c.PodInterface = netip.Prefix{}, "veth+" },
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) { s.ExternalPolicy = netproxy.Local },
			want:   map[string]fate{"pod>vip": {to: all}, "client>vip": served, "pod>lb": {to: all}, "client>lb": {to: []int{0}}},
		}, {
			name: "node port addresses",
			config: func(w World, c *netproxy.Config) {
				c.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.168.2.0/24")}
				if c.Family == netproxy.IPv6 {
					c.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("fd51::/64")}
				}
			},
			want: map[string]fate{"client>nodeport": {}, "client>vip": served},
		}, {
			name: "hairpin",
			change: func(w World, s *netproxy.Service, eps []netproxy.Endpoint) {
				eps[1].State, eps[2].State = netproxy.NotReady, netproxy.NotReady
			},
			want: map[string]fate{"ep0>vip": {to: []int{0}, masq: true}, "pod>vip": {to: []int{0}}},
		},
	}
}

func setAll(eps []netproxy.Endpoint, s netproxy.EndpointState) {
	for i := range eps {
		eps[i].State = s
	}
}

// Rules makes a back end's rules, as the tracer reads them.
type Rules func(netproxy.Config, []netproxy.Change) (*trace.RuleSet, error)

// Features follows packets through the rules of one feature at a time, in both
// families.
func Features(t *testing.T, rules Rules) {
	for _, w := range Worlds() {
		for _, f := range features() {
			t.Run(fmt.Sprintf("%v/%s", w.Family, f.name), func(t *testing.T) {
				c := netproxy.Config{Family: w.Family, PodCIDR: w.Pods}
				if f.config != nil {
					f.config(w, &c)
				}
				s, slice := w.Web()
				if f.change != nil {
					f.change(w, &s, slice.Endpoints)
				}
				for i := range slice.Ports {
					slice.Ports[i].Protocol = s.Ports[i].Protocol
				}
				rs := rules.make(t, w, c, s, slice)
				for name, want := range f.want {
					w.check(t, rs, name, want)
				}
			})
		}
		t.Run(fmt.Sprintf("%v/affinity", w.Family), func(t *testing.T) { affinity(t, w, rules) })
	}
	t.Run("IPv4/localhost node ports", func(t *testing.T) { localhostNodePorts(t, Worlds()[0], rules) })
}

// Web is the service that all features start from.
func (w World) Web() (netproxy.Service, netproxy.EndpointSlice) {
	s := netproxy.Service{
		Namespace: "shop", Name: "web", ClusterIPs: []netip.Addr{w.vip}, ExternalIPs: []netip.Addr{w.ext},
		LoadBalancers: []netproxy.LoadBalancer{{Addr: w.lb}},
		Ports:         []netproxy.ServicePort{{Name: "http", Port: 80, NodePort: 30080}},
	}
	slice := netproxy.EndpointSlice{Namespace: "shop", Name: "web-1", Service: "web", Ports: []netproxy.EndpointPort{{Name: "http", Port: 8080}}}
	for i, a := range w.eps {
		slice.Endpoints = append(slice.Endpoints, netproxy.Endpoint{Addr: a, Node: fmt.Sprintf("n%d", i+1)})
	}
	return s, slice
}

// Changes returns the changes that lead to the service alone, on node n1 in
// zone a.
func Changes(t testing.TB, s netproxy.Service, slice netproxy.EndpointSlice) []netproxy.Change {
	t.Helper()
	tr := netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})
	if err := tr.SetService(s); err != nil {
		t.Fatal(err)
	}
	if err := tr.SetEndpointSlice(slice); err != nil {
		t.Fatal(err)
	}
	return tr.Changes()
}

func (r Rules) make(t testing.TB, w World, c netproxy.Config, s netproxy.Service, slice netproxy.EndpointSlice) *trace.RuleSet {
	t.Helper()
	rs, err := r(c, Changes(t, s, slice))
	if err != nil {
		t.Fatal(err)
	}
	rs.Local = []netip.Addr{w.node}
	return rs
}

// packet makes the packet that a name like "client>vip/udp" says.
func (w World) packet(name string) trace.Packet {
	name, proto, _ := strings.Cut(name, "/")
	from, to, _ := strings.Cut(name, ">")
	p := trace.Packet{In: "eth0", Out: "eth9"}
	p.Protocol, _ = netproxy.ParseProtocol(proto)
	src := map[string]netip.Addr{"client": w.client, "friend": w.friend, "node": w.node, "lb": w.lb, "ep0": w.eps[0], "pod": w.eps[0].Next()}[from]
	switch from {
	case "pod", "ep0":
		p.In = "veth7"
	case "node", "lb":
		p.In = ""
	}
	p.Src = netip.AddrPortFrom(src, 40000)
	loopback := netip.MustParseAddr("127.0.0.1")
	if w.Family == netproxy.IPv6 {
		loopback = netip.IPv6Loopback()
	}
	p.Dst = map[string]netip.AddrPort{
		"vip": netip.AddrPortFrom(w.vip, 80), "vip:81": netip.AddrPortFrom(w.vip, 81), "ext": netip.AddrPortFrom(w.ext, 80),
		"lb": netip.AddrPortFrom(w.lb, 80), "nodeport": netip.AddrPortFrom(w.node, 30080),
		"other": netip.AddrPortFrom(w.client.Next(), 80), "loopback": netip.AddrPortFrom(loopback, 30080),
	}[to]
	return p
}

func (w World) check(t *testing.T, rules *trace.RuleSet, name string, want fate) {
	t.Helper()
	p := w.packet(name)
	r := rules.Trace(p)
	spread := map[netip.AddrPort]float64{}
	for _, o := range r.Outcomes {
		if o.Verdict != want.verdict || o.Masquerade != want.masq || len(o.Assumed) > 0 {
			t.Errorf("%s: got %v, masqueraded %v (assuming %v), want %v, masqueraded %v", name, o.Verdict, o.Masquerade, o.Assumed, want.verdict, want.masq)
		}
		if o.Mark != 0 && o.Verdict == trace.Accept {
			t.Errorf("%s: the packet leaves with the mark %#x", name, o.Mark)
		}
		spread[o.Dst] += o.Probability
	}
	wanted := map[netip.AddrPort]bool{}
	for _, i := range want.to {
		wanted[netip.AddrPortFrom(w.eps[i], 8080)] = true
	}
	if want.to == nil {
		wanted[p.Dst] = true
	}
	for to, probability := range spread {
		if !wanted[to] || math.Abs(probability-1/float64(len(wanted))) > 1e-9 {
			t.Errorf("%s: goes to %v with probability %v, want each of %v equally", name, to, probability, slices.Collect(maps.Keys(wanted)))
		}
	}
	if len(spread) != len(wanted) {
		t.Errorf("%s: goes to %v, want %v", name, spread, slices.Collect(maps.Keys(wanted)))
	}
}

// localhostNodePorts needs routes of its own.
func localhostNodePorts(t *testing.T, w World, rules Rules) {
	s, slice := w.Web()
	for _, on := range []bool{false, true} {
		rs := rules.make(t, w, netproxy.Config{PodCIDR: w.Pods, LocalhostNodePorts: on}, s, slice)
		p := trace.Packet{Src: netip.MustParseAddrPort("127.0.0.1:40000"), Dst: netip.MustParseAddrPort("127.0.0.1:30080")}
		if r := rs.Trace(p); (len(r.Outcomes) == 3) != on {
			t.Errorf("LocalhostNodePorts %v: %v", on, &r)
		}
		// From another machine: never.
		p = trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("192.168.1.77:40000"), Dst: netip.MustParseAddrPort("127.0.0.1:22")}
		if r := rs.Trace(p); on && r.Outcomes[0].Verdict != trace.Drop {
			t.Errorf("a packet for 127.0.0.1 from outside: %v", &r)
		}
	}
}

// affinity plays two connections of one client.
func affinity(t *testing.T, w World, rules Rules) {
	s, slice := w.Web()
	s.Affinity = 3 * time.Hour
	rs := rules.make(t, w, netproxy.Config{Family: w.Family, PodCIDR: w.Pods}, s, slice)
	p := w.packet("client>vip")
	first := rs.Trace(p)
	if len(first.Outcomes) != 3 {
		t.Fatalf("first connection: %v", &first)
	}
	for _, o := range first.Outcomes {
		p.Recent = o.Remembered
		again := rs.Trace(p)
		if next, ok := again.Outcome(); !ok || next.Dst != o.Dst {
			t.Errorf("after %v: %v", o.Dst, &again)
		}
	}
}
