// SPDX-License-Identifier: Apache-2.0

// Package conntrack removes the kernel's memory of UDP flows that lead to
// endpoints which are no more.
//
// The rules of a service choose an endpoint for the first packet of a flow, and
// connection tracking repeats the choice for all others. A TCP connection ends
// with its endpoint; a UDP client that goes on sending from one port, as many
// resolvers do, would send to a dead address for as long as it sends. A
// [Cleaner], run after the rules have changed, forgets such flows:
//
//	proxy := &netproxy.Proxy{
//		Tracker:  tracker,
//		Backends: []netproxy.Backend{rules, &conntrack.Cleaner{}},
//	}
//
// It speaks to the kernel by netlink (NETLINK_NETFILTER), and needs no program.
// Where there is no Linux, its calls return errors.ErrUnsupported.
package conntrack
