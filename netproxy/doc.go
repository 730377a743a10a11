// SPDX-License-Identifier: Apache-2.0

// Package netproxy makes services work on a node: given services and their
// endpoints, it finds the rules that lead cluster IPs, node ports and load
// balancers to endpoints. It is what kube-proxy does, as a library: the rules can
// be looked at, compared, and followed by a packet, without root and without a
// cluster.
//
// The rules for one service:
//
//	tracker := netproxy.NewTracker(netproxy.Node{Name: "node-1"})
//	err := tracker.SetService(netproxy.Service{
//		Namespace: "shop", Name: "web",
//		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
//		Ports:      []netproxy.ServicePort{{Port: 80, NodePort: 30080}},
//	})
//	err = tracker.SetEndpointSlice(netproxy.EndpointSlice{
//		Namespace: "shop", Name: "web-1", Service: "web",
//		Ports:     []netproxy.EndpointPort{{Port: 8080}},
//		Endpoints: []netproxy.Endpoint{{Addr: netip.MustParseAddr("10.244.1.2")}},
//	})
//	rules, err := iptables.New(netproxy.Config{})
//	err = rules.Update(tracker.Changes())
//	fmt.Print(rules.Text())
//
// and what they do to a packet:
//
//	kernel, err := trace.Parse(rules.Save())
//	src, dst := netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort("10.96.0.10:80")
//	result := kernel.Trace(trace.Packet{In: "eth0", Src: src, Dst: dst})
//	fmt.Println(&result)
//	// 100% accept, to 10.244.1.2:8080
//
// To put them into the kernel and keep them up to date, run a [Proxy]:
//
//	rules, err := iptables.NewBackend(netproxy.Config{}, iptables.Options{})
//	proxy := &netproxy.Proxy{Tracker: tracker, Backends: []netproxy.Backend{rules}}
//	err = proxy.Run(ctx)
//
// # How it fits together
//
//	Service, EndpointSlice --> Tracker --> Change (Route before, Route after) --> Backend
//
// A [Tracker] takes events, from any source and in any order, and turns them
// into [Route] values: one for each port of a service and address family, with
// the endpoints that this node should use already chosen (readiness,
// termination, topology, traffic policies). A Route is immutable. [Tracker.Changes]
// says which Routes differ from what it said last, so that everything after it
// works in proportion to what changed, not to what there is.
//
// A [Backend] puts Routes into effect. They are, each in its package:
//
//   - iptables: rules for iptables-restore, with a tree of chains instead of a
//     rule per service in one chain.
//   - nftables: a table for nft whose first load takes linear time. Choose it
//     where the kernel has it: changes are smallest and cost least. Both do the
//     same with every packet (TestEquivalence).
//   - userspace: a proxy without root or kernel.
//   - conntrack: forgets UDP flows to endpoints that are gone.
//   - healthcheck: answers load balancers and supervisors.
//
// The package trace follows a packet through rules: those of both packages, and
// iptables rules of any machine.
//
// # What goes wrong
//
// A bad object is refused by the Tracker with a [FieldError] that names object
// and field, and changes nothing. A service that the kernel refuses is left out
// with a [ServiceError]; all others are in effect. Everything else, such as a
// missing program or a lock that somebody holds ([ErrNotInstalled],
// [ErrPermission], [ErrLocked]), is tried again by the Proxy. What other programs
// do to our rules is found and repaired by the next resync; their own rules are
// never touched.
//
// # Goroutines and memory
//
// Nothing here starts a goroutine but Proxy.Run's callers, healthcheck.Server and
// userspace.Proxy; the latter two wait for theirs in Cleanup. Objects given to a
// Tracker belong to it.
//
// Sources: the behaviour of kube-proxy v1.36; KEP-265, 1669, 1672, 1860, 2086,
// 2433, 3015, 3836 and 4444.
package netproxy
