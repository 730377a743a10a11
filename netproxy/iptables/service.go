// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"net/netip"
	"strconv"

	"github.com/slipway-dev/slipway/netproxy"
)

// kind is what a chain of a service is for.
type kind uint8

const (
	// cluster balances over the endpoints of the policy Cluster.
	cluster kind = iota
	// local balances over the endpoints of the policy Local.
	local
	// external decides how traffic from outside is treated.
	external
	// firewall lets the allowed sources through to external.
	firewall
	kinds
)

var kindPrefix = [kinds]string{
	cluster:  Prefix + "SVC-",
	local:    Prefix + "SVL-",
	external: Prefix + "EXT-",
	firewall: Prefix + "FW-",
}

// action is what an item of a tree does with its packets.
type action uint8

const (
	toCluster action = action(cluster)
	toLocal   action = action(local)
	toExt     action = action(external)
	toFW      action = action(firewall)
	reject    action = iota
	drop
	accept
)

// service is a route with what the rule set knows of its chains.
type service struct {
	route *netproxy.Route
	id    id
	sums  [kinds]uint64 // of the chains as the last diff said; 0: no such chain
	dirty bool          // in RuleSet.dirty

	// blocks are the trees of the chains cluster and local, where these have
	// more endpoints than maxLadder; left are chains that the last diff had,
	// of trees that are gone.
	blocks [2]*tree
	left   []string
}

func (s *service) appendName(b []byte, k kind) []byte {
	b = append(b, kindPrefix[k]...)
	return append(b, s.id[:]...)
}

func (s *service) appendTarget(b []byte, a action) []byte {
	switch a {
	case reject:
		return append(b, "REJECT"...)
	case drop:
		return append(b, "DROP"...)
	case accept:
		return append(b, "ACCEPT"...)
	}
	return s.appendName(b, kind(a))
}

// has says whether the route needs a chain of the kind.
func has(r *netproxy.Route, k kind) bool {
	switch k {
	case cluster:
		return len(r.Cluster) > 0
	case local:
		return len(r.Local) > 0
	case external:
		// With the policy Local, traffic that starts here counts as internal
		// and may use any endpoint.
		return r.External() && (len(r.Cluster) > 0 || len(r.Local) > 0)
	case firewall:
		return len(r.LoadBalancers) > 0 && len(r.SourceRanges) > 0 && has(r, external)
	}
	return false
}

// appendRules appends the rules of the chain of the kind.
func (rs *RuleSet) appendServiceRules(b []byte, s *service, k kind) []byte {
	switch k {
	case cluster:
		return rs.appendBalancer(b, s, k, netproxy.Cluster)
	case local:
		return rs.appendBalancer(b, s, k, netproxy.Local)
	case external:
		return rs.appendExternal(b, s)
	}
	for _, src := range s.route.AllowedSources(rs.config.NodeIP) {
		b = s.appendStart(b, k)
		b = append(b, " -s "...)
		b = appendPrefix(b, src)
		b = append(b, " -j "...)
		b = s.appendName(b, external)
		b = append(b, '\n')
	}
	return b
}

func (s *service) appendStart(b []byte, k kind) []byte {
	b = append(b, "-A "...)
	return s.appendName(b, k)
}

// appendBalancer appends a chain that sends each new connection to one of the
// endpoints: to the one that the client had before, if there is affinity; else
// to each with the same probability. There are no chains per endpoint: the rule
// that remembers the client is the rule that picks the endpoint, and packets
// from an endpoint to itself are found after the choice, in POSTROUTING.
func (rs *RuleSet) appendBalancer(b []byte, s *service, k kind, p netproxy.Policy) []byte {
	r := s.route
	if r.InternalPolicy == p {
		b = rs.appendMasqueradeInternal(b, s, k)
	}
	if t := s.blocks[k]; t != nil {
		return t.appendBlockRules(b, t.root, r.Protocol)
	}
	eps := r.Cluster
	if p == netproxy.Local {
		eps = r.Local
	}
	if r.Affinity > 0 {
		for _, e := range eps {
			b = s.appendStart(b, k)
			b = appendProtocol(b, r.Protocol)
			b = append(b, " -m recent --update --seconds "...)
			b = strconv.AppendInt(b, int64(r.Affinity.Seconds()), 10)
			b = append(b, " --reap"...)
			b = rs.appendRecentList(b, s, e.Addr)
			b = appendDNAT(b, e.Addr)
		}
	}
	for i, e := range eps {
		b = s.appendStart(b, k)
		b = appendProtocol(b, r.Protocol)
		b = appendChance(b, 1, len(eps)-i)
		if r.Affinity > 0 {
			b = append(b, " -m recent --set"...)
			b = rs.appendRecentList(b, s, e.Addr)
		}
		b = appendDNAT(b, e.Addr)
	}
	return b
}

func appendDNAT(b []byte, to netip.AddrPort) []byte {
	b = append(b, " -j DNAT --to-destination "...)
	b = to.AppendTo(b)
	return append(b, '\n')
}

// appendRecentList names the list of clients of one endpoint of one route.
func (rs *RuleSet) appendRecentList(b []byte, s *service, e netip.AddrPort) []byte {
	var buf [idLen + 64]byte
	key := append(buf[:0], s.id[:]...)
	key = e.AppendTo(key)
	list := hash(key)
	b = append(b, " --name "+Prefix...)
	b = append(b, list[:]...)
	b = append(b, " --mask "...)
	b = append(b, rs.hostMask()...)
	return append(b, " --rsource"...)
}

func (rs *RuleSet) hostMask() string {
	if rs.config.Family == netproxy.IPv6 {
		return "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return "255.255.255.255"
}

// appendMasqueradeInternal marks traffic to the cluster IP that would not find
// its way back to this node: that of senders who are not pods of the cluster.
func (rs *RuleSet) appendMasqueradeInternal(b []byte, s *service, k kind) []byte {
	from := rs.notPods
	if from == "" && !rs.config.MasqueradeAll {
		return b
	}
	if rs.config.MasqueradeAll {
		from = ""
	}
	b = s.appendStart(b, k)
	b = append(b, from...)
	b = append(b, " -d "...)
	b = appendHost(b, s.route.ClusterIP)
	return append(b, " -j "+chainMarkMasq+"\n"...)
}

// appendExternal appends the chain for node ports, external IPs and load
// balancers.
func (rs *RuleSet) appendExternal(b []byte, s *service) []byte {
	rule := func(match, target string) {
		b = s.appendStart(b, external)
		b = append(b, match...)
		b = append(b, " -j "...)
		b = append(b, target...)
	}
	to := func(k kind) {
		b = s.appendName(b, k)
		b = append(b, '\n')
	}
	if s.route.ExternalPolicy == netproxy.Cluster {
		rule("", chainMarkMasq+"\n")
		rule("", "")
		to(cluster)
		return b
	}
	if has(s.route, cluster) {
		if rs.pods != "" {
			rule(rs.pods, "")
			to(cluster)
		}
		// What starts on the node itself may have a source that the endpoint
		// can't answer to.
		rule(" -m addrtype --src-type LOCAL", chainMarkMasq+"\n")
		rule(" -m addrtype --src-type LOCAL", "")
		to(cluster)
	}
	if has(s.route, local) {
		rule("", "")
		to(local)
	}
	return b
}

// frontend is one item that a route puts into one of the trees.
type frontend struct {
	tree   *tree
	key    key
	action action
}

// appendFrontends appends where the route's packets enter its chains, and
// where those that no chain takes are turned away.
func (rs *RuleSet) appendFrontends(out []frontend, r *netproxy.Route) []frontend {
	k := key{proto: r.Protocol, port: r.Port}
	refuse := reject
	if r.HasEndpoints {
		refuse = drop
	}
	k.addr = addrKey(r.ClusterIP)
	switch {
	case len(r.Internal()) == 0:
		out = append(out, frontend{rs.filterServices, k, refuse})
	case r.InternalPolicy == netproxy.Local:
		out = append(out, frontend{rs.services, k, toLocal})
	default:
		out = append(out, frontend{rs.services, k, toCluster})
	}
	unserved := len(r.FromOutside()) == 0
	for _, a := range r.ExternalIPs {
		k.addr = addrKey(a)
		out = rs.appendOutside(out, r, k, toExt, refuse, unserved)
	}
	for _, a := range r.LoadBalancers {
		k.addr = addrKey(a)
		if has(r, firewall) {
			out = rs.appendOutside(out, r, k, toFW, drop, true)
		} else {
			out = rs.appendOutside(out, r, k, toExt, refuse, unserved)
		}
	}
	if r.NodePort != 0 {
		k := key{proto: r.Protocol, port: r.NodePort}
		if has(r, external) {
			out = append(out, frontend{rs.nodePorts, k, toExt})
		}
		if unserved {
			out = append(out, frontend{rs.filterNodePorts, k, refuse})
		}
	}
	if r.HealthCheckNodePort != 0 {
		out = append(out, frontend{rs.filterNodePorts, key{port: r.HealthCheckNodePort}, accept})
	}
	return out
}

func (rs *RuleSet) appendOutside(out []frontend, r *netproxy.Route, k key, to, refuse action, refused bool) []frontend {
	if has(r, external) {
		out = append(out, frontend{rs.services, k, to})
	}
	if refused {
		out = append(out, frontend{rs.filterServices, k, refuse})
	}
	return out
}

func addrKey(a netip.Addr) [16]byte {
	if a.Is4() {
		v4 := a.As4()
		return [16]byte{v4[0], v4[1], v4[2], v4[3]}
	}
	return a.As16()
}
