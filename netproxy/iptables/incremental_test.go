// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// TestIncremental makes random changes and applies only the differences to a
// model of the kernel. It must always have what a fresh rule set would write.
func TestIncremental(t *testing.T) {
	for seed := range uint64(6) {
		for _, family := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
			r := rand.New(rand.NewPCG(seed, 1))
			c := netproxy.Config{Family: family}
			rs, err := iptables.New(c)
			if err != nil {
				t.Fatal(err)
			}
			tr := netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})
			kernel, err := trace.Parse("")
			if err != nil {
				t.Fatal(err)
			}
			for step := range 120 {
				for range 1 + r.IntN(8) {
					randomEvent(t, r, tr)
				}
				if err := rs.Update(tr.Changes()); err != nil {
					t.Fatal(err)
				}
				text := string(rs.AppendDiff(nil))
				if err := kernel.Restore(text); err != nil {
					t.Fatalf("seed %d, step %d: %v in\n%s", seed, step, err, text)
				}
				fresh, err := iptables.New(c)
				if err != nil {
					t.Fatal(err)
				}
				routes := tr.Routes()
				r.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
				for _, route := range routes { // one by one, in another order
					if err := fresh.Update([]netproxy.Change{{New: route}}); err != nil {
						t.Fatal(err)
					}
				}
				want := fresh.Text()
				if got := rs.Text(); got != want {
					t.Fatalf("seed %d, step %d: the text depends on the history:\n%s\nfresh:\n%s", seed, step, got, want)
				}
				wanted, err := trace.Parse(want)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := chains(kernel), chains(wanted); !slices.Equal(got, want) {
					t.Fatalf("seed %d, step %d: the kernel has\n%q\nwant\n%q\nafter\n%s", seed, step, got, want, text)
				}
				if again := rs.AppendDiff(nil); len(again) > 0 {
					t.Fatalf("a second difference: %s", again)
				}
			}
		}
	}
}

func chains(rs *trace.RuleSet) []string {
	var out []string
	for _, table := range []string{"nat", "filter"} {
		for _, c := range rs.Table(table).Chains() {
			line := table + " " + c.Name
			for _, r := range c.Rules {
				line += "\n" + r.Text
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// randomEvent sets or deletes one of 60 services or their slices. Their
// addresses are close together and far apart, so that trees split and join.
func randomEvent(t *testing.T, r *rand.Rand, tr *netproxy.Tracker) {
	i := r.IntN(60)
	name := fmt.Sprintf("s%d", i)
	switch r.IntN(5) {
	case 0:
		tr.DeleteService(netproxy.ServiceName{Namespace: "ns", Name: name})
	case 1:
		tr.DeleteEndpointSlice("ns", name)
	case 2, 3:
		// Conflicts over the shared external IP are part of the test.
		_ = tr.SetService(netproxy.Service{
			Namespace: "ns", Name: name,
			ClusterIPs: []netip.Addr{
				netip.AddrFrom4([4]byte{10, 96, byte(i % 3), byte(i)}),
				netip.AddrFrom16([16]byte{0xfd, 14: byte(i % 3), 15: byte(i)}),
			},
			ExternalIPs:    []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}[:r.IntN(3)],
			LoadBalancers:  []netproxy.LoadBalancer{{Addr: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}}[:r.IntN(2)],
			SourceRanges:   []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}[:r.IntN(2)],
			Affinity:       time.Duration(r.IntN(2)) * time.Hour,
			InternalPolicy: netproxy.Policy(r.IntN(2)),
			ExternalPolicy: netproxy.Policy(r.IntN(2)),
			Ports: []netproxy.ServicePort{
				{Name: "a", Port: 80 + i, NodePort: 30000 + 7*i},
				{Name: "b", Port: 53, Protocol: netproxy.UDP, NodePort: r.IntN(2) * (31000 + i)},
			}[:1+r.IntN(2)],
		})
	case 4:
		s := netproxy.EndpointSlice{
			Namespace: "ns", Name: name, Service: name,
			Ports: []netproxy.EndpointPort{{Name: "a", Port: 8080}, {Name: "b", Protocol: netproxy.UDP, Port: 5353}},
		}
		for range r.IntN(4) {
			n := byte(r.IntN(40))
			s.Endpoints = append(s.Endpoints,
				netproxy.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 0, n}), State: netproxy.EndpointState(r.IntN(4)), Node: fmt.Sprintf("n%d", n%3)},
				netproxy.Endpoint{Addr: netip.AddrFrom16([16]byte{0xfd, 0x44, 15: n}), Node: fmt.Sprintf("n%d", n%3)})
		}
		if err := tr.SetEndpointSlice(s); err != nil {
			t.Fatal(err)
		}
	}
}
