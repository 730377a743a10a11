// SPDX-License-Identifier: Apache-2.0

// Package userspace is a service proxy that needs no root, no kernel rules and no
// Linux: it listens, and copies. It chooses endpoints as the rules of the
// packages iptables and nftables do: each with the same probability, with
// affinity, and by the traffic policies.
//
//	p := &userspace.Proxy{}
//	err := p.Sync(ctx, tracker.Changes())
//	addr, ok := p.Addr(netproxy.PortName{Namespace: "shop", Name: "web", Port: "http"}, netproxy.IPv4)
//	conn, err := net.Dial("tcp", addr.String())
//	...
//	p.Cleanup(ctx) // ends when the connections do, or with ctx
//
// A process without privileges can't have the cluster IPs, so the proxy listens
// for each service port at a loopback address of its own, which Addr tells, and
// at the node port if there is one; [Proxy.Listen] chooses other addresses.
//
// Connections outlive changes, as they do in the kernel: when an endpoint or a
// service goes, its TCP connections live until one side ends them. UDP flows to
// an endpoint that has gone move to another one with the client's next packet.
// Endpoints see the address of the proxy, never that of the client. SCTP is not
// served: the standard library has no sockets for it.
package userspace
