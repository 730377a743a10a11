// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
)

// Prefix begins the name of every chain and recent list that the rules make.
// What does not have it is foreign, and is never touched but for the jumps.
const Prefix = "SLIPWAY-"

const (
	chainServices    = Prefix + "SERVICES"
	chainNodePorts   = Prefix + "NODEPORTS"
	chainHairpin     = Prefix + "HAIRPIN"
	chainMarkMasq    = Prefix + "MARK-MASQ"
	chainPostrouting = Prefix + "POSTROUTING"
	chainInput       = Prefix + "INPUT"
	chainForward     = Prefix + "FORWARD"
	chainOutput      = Prefix + "OUTPUT"
)

// The chains whose rules depend on the configuration alone. The first chains of
// the trees (SERVICES, NODEPORTS, HAIRPIN) come with the trees.
var (
	natChains    = [...]string{chainMarkMasq, chainPostrouting}
	filterChains = [...]string{chainInput, chainForward, chainOutput}
)

// Jump is a rule of a built-in chain that leads into ours.
type Jump struct{ Table, From, To string }

// Jumps returns the rules that must come first in the built-in chains. They
// are the only rules outside the rule set's own chains.
func Jumps() []Jump {
	return []Jump{
		{"nat", "PREROUTING", chainServices},
		{"nat", "OUTPUT", chainServices},
		{"nat", "POSTROUTING", chainPostrouting},
		{"filter", "INPUT", chainInput},
		{"filter", "FORWARD", chainForward},
		{"filter", "OUTPUT", chainOutput},
	}
}

func appendFixedHeads[A [2]string | [3]string](b []byte, chains A) []byte {
	for i := range len(chains) {
		b = append(b, ':')
		b = append(b, chains[i]...)
		b = append(b, " - [0:0]\n"...)
	}
	return b
}

// appendFixedNAT appends the chains that masquerade. Marks and masquerading are
// two steps because only POSTROUTING can masquerade, and only earlier chains
// know why.
func (rs *RuleSet) appendFixedNAT(b []byte) []byte {
	m := rs.config.Mark()
	b = fmt.Appendf(b, "-A %s -j MARK --set-xmark %#x/%#x\n", chainMarkMasq, m, m)
	b = fmt.Appendf(b, "-A %s -m conntrack --ctstate DNAT -j %s\n", chainPostrouting, chainHairpin)
	b = fmt.Appendf(b, "-A %s -m mark ! --mark %#x/%#x -j RETURN\n", chainPostrouting, m, m)
	// The mark is cleared, so that a packet that comes by here again, in a
	// tunnel, is not masqueraded twice.
	b = fmt.Appendf(b, "-A %s -j MARK --set-xmark %#x/0x0\n", chainPostrouting, m)
	return fmt.Appendf(b, "-A %s -j MASQUERADE --random-fully\n", chainPostrouting)
}

// appendFixedFilter appends the chains that turn away what no rule of the nat
// table took, and that let pass what one did.
func (rs *RuleSet) appendFixedFilter(b []byte) []byte {
	m := rs.config.Mark()
	if rs.config.LocalhostNodePorts {
		// route_localnet lets packets for 127.0.0.1 in from other machines.
		b = append(b, "-A "+chainInput+" ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"...)
	}
	b = append(b, "-A "+chainInput+" -m conntrack ! --ctstate NEW -j RETURN\n"...)
	b = append(b, "-A "+chainInput+" -j "+chainServices+"\n"...)
	b = rs.appendToNodePorts(b, chainInput)
	if !rs.config.KeepInvalid {
		// Left alone, such a packet would go out with the wrong source, and the
		// client's answer to it would reset the connection.
		b = append(b, "-A "+chainForward+" -m conntrack --ctstate INVALID -j DROP\n"...)
	}
	b = append(b, "-A "+chainForward+" -m conntrack --ctstate NEW -j "+chainServices+"\n"...)
	b = fmt.Appendf(b, "-A %s -m mark --mark %#x/%#x -j ACCEPT\n", chainForward, m, m)
	b = append(b, "-A "+chainForward+" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"...)
	return append(b, "-A "+chainOutput+" -m conntrack --ctstate NEW -j "+chainServices+"\n"...)
}

// appendToNodePorts appends the rules that send packets for the node's own
// addresses to the node ports. They end the chain that they are in.
func (rs *RuleSet) appendToNodePorts(b []byte, chain string) []byte {
	c := &rs.config
	if !c.LocalhostNodePorts {
		b = append(b, "-A "...)
		b = append(b, chain...)
		b = append(b, " -d "...)
		b = appendPrefix(b, c.Family.Loopback())
		b = append(b, " -j RETURN\n"...)
	}
	if len(c.NodePortAddresses) == 0 {
		return fmt.Appendf(b, "-A %s -m addrtype --dst-type LOCAL -j %s\n", chain, chainNodePorts)
	}
	for _, p := range c.NodePortAddresses {
		b = fmt.Appendf(b, "-A %s -d %v -m addrtype --dst-type LOCAL -j %s\n", chain, p.Masked(), chainNodePorts)
	}
	return b
}

// fromPods returns the match for traffic from pods, or not from pods; empty if
// the configuration does not tell.
func (rs *RuleSet) fromPods(not bool) string {
	var match string
	switch {
	case rs.config.PodCIDR.IsValid():
		match = "-s " + rs.config.PodCIDR.Masked().String()
	case rs.config.PodInterface != "":
		match = "-i " + rs.config.PodInterface
	default:
		return ""
	}
	if not {
		return " ! " + match
	}
	return " " + match
}
