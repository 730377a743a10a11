// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
)

// TableName is the name of the table, in the family ip or ip6. Everything that
// this package makes is in it, and nothing else should be.
const TableName = "slipway"

// object is one of the table's named maps and sets. The order is that in which
// they are declared.
type object int

const (
	// services and nodePorts say by which chain a packet's destination is served.
	services object = iota
	nodePorts
	// The picks say which chain chooses among a destination's endpoints, under
	// either policy. The endpoints are numbered from 0 in the maps that follow,
	// of which there are three each: for TCP, UDP and SCTP.
	clusterPicks
	localPicks
	nodePortClusterPicks
	nodePortLocalPicks
	clusterEndpoints
	localEndpoints           = clusterEndpoints + protocols
	nodePortClusterEndpoints = localEndpoints + protocols
	nodePortLocalEndpoints   = nodePortClusterEndpoints + protocols
	// refused and refusedNodePorts are what has no endpoint.
	refused          = nodePortLocalEndpoints + protocols
	refusedNodePorts = refused + 1
	// allowed are the sources that may use a load balancer.
	allowed = refused + 2
	// hairpins are local endpoints, with themselves.
	hairpins = refused + 3
	objects  = refused + 4
)

const protocols = object(netproxy.SCTP) + 1

var objectNames = [objects]string{
	services: "services", nodePorts: "node-ports",
	clusterPicks: "cluster-picks", localPicks: "local-picks",
	nodePortClusterPicks: "node-port-cluster-picks", nodePortLocalPicks: "node-port-local-picks",
	clusterEndpoints: "cluster-tcp", "cluster-udp", "cluster-sctp",
	localEndpoints: "local-tcp", "local-udp", "local-sctp",
	nodePortClusterEndpoints: "node-port-cluster-tcp", "node-port-cluster-udp", "node-port-cluster-sctp",
	nodePortLocalEndpoints: "node-port-local-tcp", "node-port-local-udp", "node-port-local-sctp",
	refused: "refused", refusedNodePorts: "refused-node-ports",
	allowed: "allowed", hairpins: "hairpins",
}

// The chains that a destination can be served by.
const (
	chainInternal      = "internal"       // cluster IP, policy Cluster
	chainInternalLocal = "internal-local" // cluster IP, policy Local
	chainExternal      = "external"       // the others, policy Cluster
	chainExternalLocal = "external-local" // the others, policy Local
	chainGuarded       = "guarded"        // the same, for allowed sources only
	chainGuardedLocal  = "guarded-local"
	// Node ports are looked up by port alone, so they have chains of their own.
	chainNodePort      = "node-port"
	chainNodePortLocal = "node-port-local"
	chainReject        = "turn-away"
)

// space is a way to look up endpoints: by address and port, or by node port;
// under one policy.
type space struct {
	picks, endpoints object
	prefix           string // of the chains that choose
	nodePort         bool
	policy           netproxy.Policy
}

var spaces = [...]space{
	{clusterPicks, clusterEndpoints, "pick-", false, netproxy.Cluster},
	{localPicks, localEndpoints, "pick-local-", false, netproxy.Local},
	{nodePortClusterPicks, nodePortClusterEndpoints, "pick-node-port-", true, netproxy.Cluster},
	{nodePortLocalPicks, nodePortLocalEndpoints, "pick-node-port-local-", true, netproxy.Local},
}

// dialect is what differs between the families.
type dialect struct {
	family string // of the table, and of expressions: ip, ip6
	addr   string // the type of addresses
}

func dialectOf(f netproxy.Family) dialect {
	if f == netproxy.IPv6 {
		return dialect{"ip6", "ipv6_addr"}
	}
	return dialect{"ip", "ipv4_addr"}
}

// byAddress and byPort are the two kinds of key.
func (d dialect) byAddress() string { return d.family + " daddr . meta l4proto . th dport" }

const byPort = "meta l4proto . th dport"

func (s space) key(d dialect) string {
	if s.nodePort {
		return byPort
	}
	return d.byAddress()
}

// declaration returns how the object is declared.
func (o object) declaration(d dialect) string {
	kind, rest := "map", ""
	switch o {
	case services, clusterPicks, localPicks, refused:
		rest = "typeof " + d.byAddress() + " : verdict"
	case nodePorts, nodePortClusterPicks, nodePortLocalPicks, refusedNodePorts:
		rest = "typeof " + byPort + " : verdict"
	case allowed:
		kind, rest = "set", "typeof "+d.byAddress()+" . "+d.family+" saddr; flags interval"
	case hairpins:
		kind, rest = "set", "type "+d.addr+" . "+d.addr
	}
	for _, sp := range spaces {
		if p := o - sp.endpoints; p >= 0 && p < protocols {
			// The type of the port must name the protocol, or nft (1.0.6) takes
			// no rule with the map but in the transaction that makes the map.
			rest = fmt.Sprintf("typeof %s . numgen random mod 2 : %s daddr . %v dport", sp.key(d), d.family, netproxy.Protocol(p))
		}
	}
	return fmt.Sprintf("%s %s { %s; }", kind, objectNames[o], rest)
}

// fixedChains returns the chains whose rules depend on the configuration alone,
// callees first.
func (rs *RuleSet) fixedChains() []chain {
	d, c := rs.dialect, &rs.config
	mark := fmt.Sprintf("meta mark set meta mark | %#x", c.Mark())
	lookUp := func(s space) string { return s.key(d) + " vmap @" + objectNames[s.picks] }
	fromPods, notFromPods := rs.fromPods("=="), rs.fromPods("!=")

	internal := func(s space) []string {
		switch {
		case c.MasqueradeAll:
			return []string{mark, lookUp(s)}
		case notFromPods != "":
			return []string{notFromPods + " " + mark, lookUp(s)}
		}
		return []string{lookUp(s)}
	}
	external := func(s space) []string { return []string{mark, lookUp(s)} }
	externalLocal := func(cluster, local space) []string {
		var rules []string
		if fromPods != "" {
			rules = append(rules, fromPods+" "+lookUp(cluster))
		}
		// What starts on the node itself may have a source that the endpoint
		// can't answer to.
		return append(rules,
			"fib saddr type local "+mark,
			"fib saddr type local "+lookUp(cluster),
			lookUp(local))
	}
	guarded := func(next string) []string {
		return []string{fmt.Sprintf("%s . %s saddr @%s goto %s", d.byAddress(), d.family, objectNames[allowed], next), "drop"}
	}
	return append([]chain{
		{name: chainReject, rules: []string{"reject"}},
		{name: chainInternal, rules: internal(spaces[0])},
		{name: chainInternalLocal, rules: internal(spaces[1])},
		{name: chainExternal, rules: external(spaces[0])},
		{name: chainExternalLocal, rules: externalLocal(spaces[0], spaces[1])},
		{name: chainGuarded, rules: guarded(chainExternal)},
		{name: chainGuardedLocal, rules: guarded(chainExternalLocal)},
		{name: chainNodePort, rules: external(spaces[2])},
		{name: chainNodePortLocal, rules: externalLocal(spaces[2], spaces[3])},
		{name: "dispatch", rules: []string{
			d.byAddress() + " vmap @" + objectNames[services],
			rs.toNodePorts() + byPort + " vmap @" + objectNames[nodePorts],
		}},
	}, rs.hooks(mark)...)
}

// hooks returns the chains that the kernel calls.
func (rs *RuleSet) hooks(mark string) []chain {
	d, m := rs.dialect, rs.config.Mark()
	turnAway := "ct state new " + d.byAddress() + " vmap @" + objectNames[refused]
	input := []string{turnAway, "ct state new " + rs.toNodePorts() + byPort + " vmap @" + objectNames[refusedNodePorts]}
	if rs.config.LocalhostNodePorts {
		// route_localnet lets packets for 127.0.0.1 in from other machines.
		input = append([]string{"ip saddr != 127.0.0.0/8 ip daddr 127.0.0.0/8 ct state != { established, related } ct status & dnat == 0 drop"}, input...)
	}
	forward := []string{turnAway}
	if !rs.config.KeepInvalid {
		// Left alone, such a packet would go out with the wrong source, and the
		// client's answer to it would reset the connection.
		forward = append([]string{"ct state invalid drop"}, forward...)
	}
	return []chain{
		// Twice, because a packet that is on its way while a transaction takes
		// effect may see the old half of it in one map and the new half in the
		// next, and find nothing. What found a destination does not come back.
		{"prerouting", "type nat hook prerouting priority dstnat", []string{"jump dispatch", "jump dispatch"}},
		{"nat-output", "type nat hook output priority -100", []string{"jump dispatch", "jump dispatch"}},
		{"postrouting", "type nat hook postrouting priority srcnat", []string{
			fmt.Sprintf("ct status & dnat == dnat %s saddr . %s daddr @%s masquerade fully-random", d.family, d.family, objectNames[hairpins]),
			fmt.Sprintf("meta mark & %#x == %#x meta mark set meta mark ^ %#x masquerade fully-random", m, m, m),
		}},
		{"input", "type filter hook input priority filter", input},
		{"forward", "type filter hook forward priority filter", forward},
		{"output", "type filter hook output priority filter", []string{turnAway}},
	}
}

// toNodePorts returns the match for the addresses at which node ports answer,
// with a blank after it.
func (rs *RuleSet) toNodePorts() string {
	c := &rs.config
	match := "fib daddr type local "
	if !c.LocalhostNodePorts {
		match += fmt.Sprintf("%s daddr != %v ", rs.dialect.family, c.Family.Loopback())
	}
	if len(c.NodePortAddresses) > 0 {
		var list []string
		for _, p := range c.NodePortAddresses {
			list = append(list, p.Masked().String())
		}
		match += fmt.Sprintf("%s daddr { %s } ", rs.dialect.family, strings.Join(list, ", "))
	}
	return match
}

// fromPods returns the match for traffic that comes (==) or does not come (!=)
// from pods; empty if the configuration does not tell.
func (rs *RuleSet) fromPods(op string) string {
	c := &rs.config
	if c.PodCIDR.IsValid() {
		return fmt.Sprintf("%s saddr %s %v", rs.dialect.family, op, c.PodCIDR.Masked())
	}
	if name, prefix := strings.CutSuffix(c.PodInterface, "+"); name != "" {
		if prefix {
			name += "*"
		}
		return fmt.Sprintf("iifname %s %q", op, name)
	}
	return ""
}

// pickChain returns the chain that chooses one of n endpoints.
func (rs *RuleSet) pickChain(s space, n int) chain {
	c := chain{name: fmt.Sprintf("%s%d", s.prefix, n)}
	for p := range protocols { // that the protocol must match follows from the map
		c.rules = append(c.rules, fmt.Sprintf("dnat %s to %s . numgen random mod %d map @%s",
			rs.dialect.family, s.key(rs.dialect), n, objectNames[s.endpoints+p]))
	}
	return c
}
