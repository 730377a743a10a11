// SPDX-License-Identifier: Apache-2.0

// Package nftables makes service rules for nft: a table called slipway, in the
// family ip or ip6.
//
//	rules, err := nftables.New(netproxy.Config{})
//	err = rules.Update(tracker.Changes())
//	fmt.Print(rules.Text()) // everything, in one transaction
//	...
//	err = rules.Update(tracker.Changes())
//	prepare, change := rules.Diff() // the elements that come and go
//
// # The shape of the table
//
// The rules do not grow with the services: all that does is elements of maps.
// A packet's destination (address, protocol, port) is looked up three times:
//
//	services          destination          -> a chain: is the source kept? is it allowed?
//	cluster-picks     destination          -> pick-3: it has 3 endpoints
//	cluster-tcp       destination . random -> endpoint
//
// and likewise for endpoints on this node (local-) and for node ports, which are
// found by port alone (node-port-). One chain pick-n serves all destinations
// with n endpoints. There is no chain, rule or anonymous map per service, which
// is what makes the kernel take the usual arrangement in quadratic time: a table
// of 1,000 services of 10 endpoints loads in 0.2 s of processor time, 5,000 of 10
// in 0.8 s, and 30,000 of 2 in 1.7 s (BenchmarkKernel in package netproxy: Go
// 1.26, Linux 6.18, nft 1.0.6, two cores); one endpoint changes in 16 to 26 ms at
// any size.
//
// Services with session affinity have a chain of their own (sticky-), and for
// each endpoint a set of the clients that it served lately (clients-). Such a chain
// has two rules per endpoint, and is written anew when one changes: that takes
// 0.4 s for 1,000 endpoints and 11 s for 10,000. Without affinity a change of one
// of 10,000 endpoints takes 0.04 s.
//
// # Under load
//
// A transaction is atomic for the table, but not for a packet that is on its way:
// it may look into one map before and into the next one after. So new chains go
// in before what refers to them ([RuleSet.Diff] returns two transactions), and a
// packet that found nothing looks a second time.
//
// # In the kernel
//
// A [Backend] runs nft. It never replaces the table as a whole where a difference
// will do: when a process starts, after a failure, and in a resync, it lists the
// table and puts right what differs, so that clients keep their affinity. Chains
// are compared by what they mean, with the parser of package trace, which also
// follows packets through the table: see trace.ParseNFT.
package nftables
