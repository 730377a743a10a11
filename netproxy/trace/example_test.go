// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/slipway-dev/slipway/netproxy/trace"
)

// Rules as iptables-save prints them, and what they do to a packet, rule by rule.
func ExampleParse() {
	rules, err := trace.Parse(`*nat
:PREROUTING ACCEPT [0:0]
:WEB - [0:0]
-A PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j WEB
-A WEB -m statistic --mode random --probability 0.25 -j DNAT --to-destination 10.244.1.2:8080
-A WEB -p tcp -j DNAT --to-destination 10.244.2.3:8080
COMMIT
`)
	if err != nil {
		log.Fatal(err)
	}
	result := rules.Trace(trace.Packet{
		In: "eth0", Src: netip.MustParseAddrPort("192.0.2.7:40000"), Dst: netip.MustParseAddrPort("10.96.0.10:80"),
	})
	fmt.Println(&result)
	for _, step := range result.Outcomes[1].Steps() {
		fmt.Println(step)
	}
	// Output:
	// 25% accept, to 10.244.1.2:8080
	// 75% accept, to 10.244.2.3:8080
	// nat PREROUTING 1: -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j WEB
	// nat WEB 2: -p tcp -j DNAT --to-destination 10.244.2.3:8080
}

// A table of nftables. A number that leads nowhere goes on with the next rule.
func ExampleParseNFT() {
	rules, err := trace.ParseNFT(`
table ip web {
	map endpoints {
		typeof ip daddr . numgen random mod 2 : ip daddr . tcp dport
		elements = { 10.96.0.10 . 0 : 10.244.1.2 . 8080, 10.96.0.10 . 1 : 10.244.2.3 . 8080 }
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		dnat ip to ip daddr . numgen random mod 4 map @endpoints
		ip daddr 10.96.0.10 drop
	}
}`)
	if err != nil {
		log.Fatal(err)
	}
	result := rules.Trace(trace.Packet{
		In: "eth0", Src: netip.MustParseAddrPort("192.0.2.7:40000"), Dst: netip.MustParseAddrPort("10.96.0.10:80"),
	})
	fmt.Println(&result)
	// Output:
	// 50% drop
	// 25% accept, to 10.244.1.2:8080
	// 25% accept, to 10.244.2.3:8080
}
