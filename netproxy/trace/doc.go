// SPDX-License-Identifier: Apache-2.0

// Package trace follows a packet through rules, without a kernel: through iptables
// rules of the package iptables, of kube-proxy, or of any machine, and through
// the tables of the package nftables.
//
//	saved, err := os.ReadFile("iptables-save.txt")
//	rules, err := trace.Parse(string(saved))
//	rules.Local = []netip.Addr{netip.MustParseAddr("192.168.1.1")} // the machine's own addresses
//	result := rules.Trace(trace.Packet{
//		In:  "eth0",
//		Src: netip.MustParseAddrPort("192.168.1.77:40000"),
//		Dst: netip.MustParseAddrPort("10.96.0.10:80"),
//	})
//	fmt.Println(&result)
//	for _, step := range result.Outcomes[0].Steps() {
//		fmt.Println(step)
//	}
//
// The packet passes the tables in the kernel's order (raw, mangle, nat, filter,
// at each hook), is routed to the machine itself or onwards, and has as many
// outcomes as chance allows: one for each endpoint, with its probability.
//
// For nftables, read the text of a nftables.RuleSet, or what nft list prints, with
// [ParseNFT]; all else is the same.
//
// # What it knows
//
// Addresses, protocols, ports (tcp, udp, sctp, multiport), interfaces, mark,
// conntrack states, addrtype, statistic, recent, comment, nfacct; ACCEPT, DROP,
// REJECT, RETURN, MARK, DNAT, SNAT, MASQUERADE, REDIRECT, LOG, NFLOG, TRACE; jumps
// and gotos. Of any other match it follows both branches, and says of each
// [Outcome] what it assumed; any other target is taken to let the packet go on,
// and that is said as well.
//
// Of nftables it knows what the package nftables makes and a little more: tables
// of the families ip and ip6; base chains of the types nat and filter; maps and
// sets of addresses, protocols, ports and random numbers; addresses, ports,
// protocols, interfaces, marks, ct state and status, fib type local, numgen;
// verdicts, vmaps, dnat, masquerade, reject, counters, sets updated with source
// addresses. ParseNFT refuses anything else, and says what.
//
// The kernel tracks connections only while a rule needs it, and asks the nat table
// only for packets that are tracked; so does the tracer (see [RuleSet.Tracking]).
//
// The source of a packet that the machine sends to itself, masqueraded, is one of
// [RuleSet.Local]; rules that tell these apart are open in the same way.
//
// What depends on the past is given with the packet: its connection tracking
// state and the lists (-m recent, sets of nftables) that its source is in. So a
// conversation can be played: [Outcome.Remembered] of one packet is
// [Packet.Recent] of the next.
//
// The tracer is tested against the kernel: random rules, random packets, and the
// same rules must have counted them, or be named by nft monitor trace.
//
// # As a model of the kernel
//
// [RuleSet.Restore] applies text as iptables-restore --noflush or nft -f does, all
// or nothing, so that a RuleSet can stand for the kernel in tests.
package trace
