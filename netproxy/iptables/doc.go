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
//
// # In the kernel
//
// A [Backend] runs iptables-restore, and iptables-save when it compares. Each
// chain that changes is written whole, all chains of a table in one commit.
// Which iptables a machine has (nft or legacy) is its own affair; iptables-nft
// 1.8.9 takes much longer than the legacy program for many chains, and beyond
// some thousand services the package nftables is the better choice.
package iptables
