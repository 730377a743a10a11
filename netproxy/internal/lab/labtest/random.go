// SPDX-License-Identifier: Apache-2.0

package labtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// RandomEvent sets or deletes one of 60 services or their slices. Their
// addresses are close together and far apart, so that trees split and join.
func RandomEvent(t testing.TB, r *rand.Rand, tr *netproxy.Tracker) {
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
