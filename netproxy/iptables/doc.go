// SPDX-License-Identifier: Apache-2.0

// Package iptables makes service rules for iptables and ip6tables: as text that
// anybody can read, and in the kernel.
//
//	rules, err := iptables.New(netproxy.Config{PodCIDR: netip.MustParsePrefix("10.244.0.0/16")})
//	err = rules.Update(tracker.Changes())
//	fmt.Print(rules.Text())          // everything
//	...
//	err = rules.Update(tracker.Changes())
//	fmt.Printf("%s", rules.AppendDiff(nil)) // what changed, for iptables-restore --noflush
//
// # The chains
//
// All names begin with SLIPWAY-. In the table nat:
//
//	PREROUTING, OUTPUT -> SERVICES -> (TO-...) -> SVC-x  choose an endpoint of the policy Cluster: DNAT
//	                         |                    SVL-x  choose one on this node: DNAT
//	                         |                           (both by BAL-... if there are more than 64)
//	                         |                    EXT-x  external traffic: mark, or keep the source; then SVC or SVL
//	                         |                    FW-x   load balancers with source ranges: then EXT
//	                         +-> NODEPORTS -> (NP-...) -> EXT-x
//	POSTROUTING -> POSTROUTING -> HAIRPIN -> (HP-...)    masquerade what is marked, and what an
//	                                                      endpoint sends to itself
//
// and in the table filter, INPUT, FORWARD and OUTPUT lead to SERVICES and
// NODEPORTS, which reject or drop what no rule of nat has taken.
//
// It differs from kube-proxy's arrangement in two ways. There are no chains per
// endpoint, so five thousand services of ten endpoints need 62,000 rules instead
// of 160,000. And chains of more than 16 destinations become trees by address
// and port (TO-, NP-, HP-), so a new connection is compared with a few dozen
// rules whatever the number of services, and a change rewrites one short chain.
// The same holds for the endpoints of a service with more than 64 (BAL-), unless
// it has affinity.
//
// # In the kernel
//
// A [Backend] runs iptables-restore, and iptables-save when it compares. Each
// chain that changes is written whole, all chains of a table in one commit; the
// table nat is committed before filter. A rule that is refused is found by the
// line that the program names, or by trying halves, and its service is left out
// of both tables.
//
// Which iptables a machine has is its own affair, but makes a difference. The
// first load takes so many seconds of processor time (BenchmarkKernel in package
// netproxy: Go 1.26, Linux 6.18, iptables 1.8.9, two cores):
//
//	services x endpoints    1,000 x 10    5,000 x 10    30,000 x 2
//	iptables-legacy                0.2           0.9           2.7
//	iptables-nft                   0.5           5.8           244
//	package nftables               0.2           0.8           1.7
//
// iptables-nft takes time that grows with the square of the chains; beyond some
// thousand services, take iptables-legacy or the package nftables. A change of
// one endpoint takes iptables-legacy 0.04 to 0.6 s, because it copies the whole
// table out and in; iptables-nft takes 0.01 to 0.08 s, and nft 0.005 s at any
// size. With all of them the first packet to the last of 30,000 services takes
// no longer there and back than to the only one: 50 to 75 µs in the tests' network.
package iptables
