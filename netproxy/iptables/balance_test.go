// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// crowd is one service, 10.96.0.10:80 or [fd96::10]:80, with numbered endpoints.
type crowd struct {
	endpoints []int
	protocol  netproxy.Protocol
	affinity  time.Duration
}

func (c crowd) set(t testing.TB, tr *netproxy.Tracker) {
	t.Helper()
	s := netproxy.Service{
		Namespace: "shop", Name: "crowd", Affinity: c.affinity,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd96::10")},
		Ports:      []netproxy.ServicePort{{Port: 80, Protocol: c.protocol}},
	}
	slice := netproxy.EndpointSlice{Namespace: "shop", Name: "crowd-1", Service: "crowd", Ports: []netproxy.EndpointPort{{Port: 8080, Protocol: c.protocol}}}
	for _, n := range c.endpoints {
		slice.Endpoints = append(slice.Endpoints,
			netproxy.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), Node: "n2"},
			netproxy.Endpoint{Addr: netip.AddrFrom16([16]byte{0xfd, 0x44, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}), Node: "n2"})
	}
	if err := tr.SetService(s); err != nil {
		t.Fatal(err)
	}
	if err := tr.SetEndpointSlice(slice); err != nil {
		t.Fatal(err)
	}
}

// spread is n different numbers, some close together and some far apart.
func spread(r *rand.Rand, n int) []int {
	seen := map[int]bool{}
	for len(seen) < n {
		seen[r.IntN(1<<10)+r.IntN(4)<<18] = true
		seen[r.IntN(1<<15)] = true
	}
	var out []int
	for k := range seen {
		out = append(out, k)
	}
	slices.Sort(out)
	return out[:n]
}

func packetFor(f netproxy.Family) trace.Packet {
	if f == netproxy.IPv6 {
		return trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("[2001:db8::7]:4000"), Dst: netip.MustParseAddrPort("[fd96::10]:80")}
	}
	return trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("192.0.2.7:4000"), Dst: netip.MustParseAddrPort("10.96.0.10:80")}
}

// TestSpread expects the same probability for each of many endpoints, and no long
// chains, but where there is affinity.
func TestSpread(t *testing.T) {
	for _, family := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
		for _, n := range []int{64, 65, 100, 1000, 10000} {
			t.Run(fmt.Sprintf("%v/%d", family, n), func(t *testing.T) {
				tr := netproxy.NewTracker(netproxy.Node{Name: "n1"})
				crowd{endpoints: spread(rand.New(rand.NewPCG(uint64(n), 0)), n)}.set(t, tr)
				rs, err := iptables.New(netproxy.Config{Family: family})
				if err == nil {
					err = rs.Update(tr.Changes())
				}
				if err != nil {
					t.Fatal(err)
				}
				rules, err := trace.Parse(rs.Save())
				if err != nil {
					t.Fatal(err)
				}
				r := rules.Trace(packetFor(family))
				if len(r.Outcomes) != n || len(r.Spread()) != n {
					t.Fatalf("%d outcomes, %d destinations, want %d", len(r.Outcomes), len(r.Spread()), n)
				}
				for to, p := range r.Spread() {
					// The kernel keeps 31 bits of a probability.
					if math.Abs(p-1/float64(n)) > 1e-8 {
						t.Errorf("%v has the probability %.10f, want %.10f", to, p, 1/float64(n))
					}
				}
				for _, c := range rules.Table("nat").Chains() {
					if n > 64 && len(c.Rules) > 17 {
						t.Errorf("%s has %d rules", c.Name, len(c.Rules))
					}
				}
			})
		}
	}
}

// TestManyEndpointsText changes one of 10,000 endpoints.
func TestManyEndpointsText(t *testing.T) {
	tr := netproxy.NewTracker(netproxy.Node{Name: "n1"})
	rs, err := iptables.New(netproxy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for i := range 10000 {
		numbers = append(numbers, i)
	}
	diff := func() string {
		crowd{endpoints: numbers}.set(t, tr)
		if err := rs.Update(tr.Changes()); err != nil {
			t.Fatal(err)
		}
		return string(rs.AppendDiff(nil))
	}
	all := diff()
	kernel, err := trace.Parse(all)
	if err != nil {
		t.Fatal(err)
	}
	longest := 0
	for _, n := range []int{5000, 0, 9999, 77} {
		numbers[n] += 20000
		text := diff()
		longest = max(longest, len(text))
		if err := kernel.Restore(text); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	t.Logf("10,000 endpoints are %d bytes; a change of one is %d", len(all), longest)
	if longest > 12<<10 {
		t.Errorf("a change of one endpoint is %d bytes", longest)
	}
	if want, err := trace.Parse(rs.Text()); err != nil || !slices.Equal(chains(kernel), chains(want)) {
		t.Errorf("the differences have not led to the whole text (%v)", err)
	}
}

// TestCrowdChanges lets a service grow and shrink, across the length of a ladder,
// with and without affinity, and applies only the differences.
func TestCrowdChanges(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 5))
		tr := netproxy.NewTracker(netproxy.Node{Name: "n1"})
		c := netproxy.Config{Family: netproxy.Family(seed % 2)}
		rs, err := iptables.New(c)
		if err != nil {
			t.Fatal(err)
		}
		kernel, err := trace.Parse("")
		if err != nil {
			t.Fatal(err)
		}
		for step := range 60 {
			switch r.IntN(8) {
			case 0:
				tr.DeleteService(netproxy.ServiceName{Namespace: "shop", Name: "crowd"})
			case 1:
				crowd{endpoints: spread(r, 60+r.IntN(20)), affinity: time.Hour}.set(t, tr)
			default:
				crowd{endpoints: spread(r, []int{10, 60 + r.IntN(10), 300}[r.IntN(3)])}.set(t, tr)
			}
			if err := rs.Update(tr.Changes()); err != nil {
				t.Fatal(err)
			}
			if r.IntN(10) == 0 {
				rs.Forget()
				if kernel, err = trace.Parse(""); err != nil {
					t.Fatal(err)
				}
			}
			text := string(rs.AppendDiff(nil))
			if err := kernel.Restore(text); err != nil {
				t.Fatalf("seed %d, step %d: %v in\n%s", seed, step, err, text)
			}
			fresh, err := iptables.New(c)
			if err != nil {
				t.Fatal(err)
			}
			for _, route := range tr.Routes() {
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
				t.Fatalf("seed %d, step %d: the kernel has\n%q\nwant\n%q\nafter\n%s", seed, step, got, want, strings.TrimSpace(text))
			}
		}
	}
}
