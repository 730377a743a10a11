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

// The program of the package's documentation.
func Example_documentation() {
	tracker := netproxy.NewTracker(netproxy.Node{Name: "node-1"})
	err := tracker.SetService(netproxy.Service{
		Namespace: "shop", Name: "web",
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Ports:      []netproxy.ServicePort{{Port: 80, NodePort: 30080}},
	})
	check(err)
	err = tracker.SetEndpointSlice(netproxy.EndpointSlice{
		Namespace: "shop", Name: "web-1", Service: "web",
		Ports:     []netproxy.EndpointPort{{Port: 8080}},
		Endpoints: []netproxy.Endpoint{{Addr: netip.MustParseAddr("10.244.1.2")}},
	})
	check(err)
	rules, err := iptables.New(netproxy.Config{})
	check(err)
	err = rules.Update(tracker.Changes())
	check(err)
	fmt.Print(rules.Text())
	kernel, err := trace.Parse(rules.Save())
	check(err)
	src, dst := netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort("10.96.0.10:80")
	result := kernel.Trace(trace.Packet{In: "eth0", Src: src, Dst: dst})
	fmt.Println(&result)
	// Output:
	// *nat
	// :SLIPWAY-MARK-MASQ - [0:0]
	// :SLIPWAY-POSTROUTING - [0:0]
	// :SLIPWAY-SERVICES - [0:0]
	// :SLIPWAY-NODEPORTS - [0:0]
	// :SLIPWAY-HAIRPIN - [0:0]
	// :SLIPWAY-SVC-S43VMRVR32Z5F - [0:0]
	// :SLIPWAY-EXT-S43VMRVR32Z5F - [0:0]
	// -A SLIPWAY-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
	// -A SLIPWAY-POSTROUTING -m conntrack --ctstate DNAT -j SLIPWAY-HAIRPIN
	// -A SLIPWAY-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
	// -A SLIPWAY-POSTROUTING -j MARK --set-xmark 0x4000/0x0
	// -A SLIPWAY-POSTROUTING -j MASQUERADE --random-fully
	// -A SLIPWAY-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web" -j SLIPWAY-SVC-S43VMRVR32Z5F
	// -A SLIPWAY-SERVICES -d 127.0.0.0/8 -j RETURN
	// -A SLIPWAY-SERVICES -m addrtype --dst-type LOCAL -j SLIPWAY-NODEPORTS
	// -A SLIPWAY-NODEPORTS -p tcp -m tcp --dport 30080 -m comment --comment "shop/web" -j SLIPWAY-EXT-S43VMRVR32Z5F
	// -A SLIPWAY-HAIRPIN -s 10.244.1.2/32 -d 10.244.1.2/32 -j SLIPWAY-MARK-MASQ
	// -A SLIPWAY-SVC-S43VMRVR32Z5F -p tcp -j DNAT --to-destination 10.244.1.2:8080
	// -A SLIPWAY-EXT-S43VMRVR32Z5F -j SLIPWAY-MARK-MASQ
	// -A SLIPWAY-EXT-S43VMRVR32Z5F -j SLIPWAY-SVC-S43VMRVR32Z5F
	// COMMIT
	// *filter
	// :SLIPWAY-INPUT - [0:0]
	// :SLIPWAY-FORWARD - [0:0]
	// :SLIPWAY-OUTPUT - [0:0]
	// :SLIPWAY-SERVICES - [0:0]
	// :SLIPWAY-NODEPORTS - [0:0]
	// -A SLIPWAY-INPUT -m conntrack ! --ctstate NEW -j RETURN
	// -A SLIPWAY-INPUT -j SLIPWAY-SERVICES
	// -A SLIPWAY-INPUT -d 127.0.0.0/8 -j RETURN
	// -A SLIPWAY-INPUT -m addrtype --dst-type LOCAL -j SLIPWAY-NODEPORTS
	// -A SLIPWAY-FORWARD -m conntrack --ctstate INVALID -j DROP
	// -A SLIPWAY-FORWARD -m conntrack --ctstate NEW -j SLIPWAY-SERVICES
	// -A SLIPWAY-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
	// -A SLIPWAY-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	// -A SLIPWAY-OUTPUT -m conntrack --ctstate NEW -j SLIPWAY-SERVICES
	// COMMIT
	// 100% accept, to 10.244.1.2:8080
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
