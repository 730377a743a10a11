// SPDX-License-Identifier: Apache-2.0

package netproxy_test

import (
	"fmt"
	"log"
	"net/netip"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/nftables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// shop returns a tracker that knows one service with two endpoints.
func shop() *netproxy.Tracker {
	tracker := netproxy.NewTracker(netproxy.Node{Name: "node-1"})
	check(tracker.SetService(netproxy.Service{
		Namespace: "shop", Name: "web",
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Ports:      []netproxy.ServicePort{{Port: 80, NodePort: 30080}},
	}))
	check(tracker.SetEndpointSlice(netproxy.EndpointSlice{
		Namespace: "shop", Name: "web-1", Service: "web",
		Ports: []netproxy.EndpointPort{{Port: 8080}},
		Endpoints: []netproxy.Endpoint{
			{Addr: netip.MustParseAddr("10.244.1.2"), Node: "node-1"},
			{Addr: netip.MustParseAddr("10.244.2.3"), Node: "node-2"},
		},
	}))
	return tracker
}

// The rules that belong to one service.
func Example() {
	tracker := shop()
	rules, err := iptables.New(netproxy.Config{})
	check(err)
	check(rules.Update(tracker.Changes()))
	for line := range strings.Lines(rules.Text()) {
		if strings.HasPrefix(line, "-A") && strings.Contains(line, "SVC-") {
			fmt.Print(line)
		}
	}
	// Output:
	// -A SLIPWAY-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web" -j SLIPWAY-SVC-S43VMRVR32Z5F
	// -A SLIPWAY-SVC-S43VMRVR32Z5F -p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.1.2:8080
	// -A SLIPWAY-SVC-S43VMRVR32Z5F -p tcp -j DNAT --to-destination 10.244.2.3:8080
	// -A SLIPWAY-EXT-S43VMRVR32Z5F -j SLIPWAY-SVC-S43VMRVR32Z5F
}

// What the rules do to a packet.
func Example_trace() {
	rules, err := iptables.New(netproxy.Config{})
	check(err)
	check(rules.Update(shop().Changes()))

	kernel, err := trace.Parse(rules.Save())
	check(err)
	kernel.Local = []netip.Addr{netip.MustParseAddr("192.168.1.1")}
	for _, dst := range []string{"10.96.0.10:80", "192.168.1.1:30080", "192.168.1.1:22"} {
		result := kernel.Trace(trace.Packet{
			In: "eth0", Src: netip.MustParseAddrPort("192.168.1.77:40000"), Dst: netip.MustParseAddrPort(dst),
		})
		fmt.Printf("%s\n%v\n", dst, &result)
	}
	// Output:
	// 10.96.0.10:80
	// 50% accept, to 10.244.1.2:8080
	// 50% accept, to 10.244.2.3:8080
	// 192.168.1.1:30080
	// 50% accept, to 10.244.1.2:8080, masqueraded
	// 50% accept, to 10.244.2.3:8080, masqueraded
	// 192.168.1.1:22
	// 100% accept
}

// One endpoint goes: what has to be said to iptables-restore and to nft.
func Example_difference() {
	tracker := shop()
	ipt, err := iptables.New(netproxy.Config{})
	check(err)
	nft, err := nftables.New(netproxy.Config{})
	check(err)
	apply := func() (string, string) {
		changes := tracker.Changes()
		check(ipt.Update(changes))
		check(nft.Update(changes))
		_, change := nft.Diff()
		return string(ipt.AppendDiff(nil)), string(change)
	}
	apply() // the first difference is everything

	check(tracker.SetEndpointSlice(netproxy.EndpointSlice{
		Namespace: "shop", Name: "web-1", Service: "web",
		Ports: []netproxy.EndpointPort{{Port: 8080}},
		Endpoints: []netproxy.Endpoint{
			{Addr: netip.MustParseAddr("10.244.1.2"), Node: "node-1"},
			{Addr: netip.MustParseAddr("10.244.2.9"), Node: "node-2"},
		},
	}))
	iptText, nftText := apply()
	fmt.Print(iptText, nftText)
	// Output:
	// *nat
	// :SLIPWAY-SVC-S43VMRVR32Z5F - [0:0]
	// -A SLIPWAY-SVC-S43VMRVR32Z5F -p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.1.2:8080
	// -A SLIPWAY-SVC-S43VMRVR32Z5F -p tcp -j DNAT --to-destination 10.244.2.9:8080
	// COMMIT
	// delete element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 1 }
	// delete element ip slipway node-port-cluster-tcp { tcp . 30080 . 1 }
	// add element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 1 : 10.244.2.9 . 8080 }
	// add element ip slipway node-port-cluster-tcp { tcp . 30080 . 1 : 10.244.2.9 . 8080 }
}
