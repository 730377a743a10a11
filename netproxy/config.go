// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// Config is how a node's rules are to be made; iptables and nftables read it in
// the same way. The zero value works: it makes IPv4 rules for a node that does
// not know which traffic comes from pods.
type Config struct {
	Family Family

	// PodCIDR and PodInterface say which traffic comes from this node's pods:
	// by source address, or by the interface it comes in by (a bridge, or a
	// prefix that ends in '+'). Such traffic keeps its source address, and
	// counts as internal whatever address it is sent to. Zero means that it is
	// not known: nothing is masqueraded for its source then, and traffic to
	// external addresses is external wherever it comes from.
	PodCIDR      netip.Prefix
	PodInterface string

	// NodeIP is the node's own address. A node that has the address of a load
	// balancer on one of its interfaces reaches it with that same address as
	// the source, which no source range allows; so the ranges that contain
	// NodeIP allow it too. Zero means that it is not known: such traffic is
	// dropped if the service has source ranges.
	NodeIP netip.Addr

	// MasqueradeAll masquerades all traffic to cluster IPs.
	MasqueradeAll bool

	// MasqueradeMark is the bit of the packet mark that rules use among
	// themselves for "masquerade this". Zero means 0x4000.
	MasqueradeMark uint32

	// NodePortAddresses are the ranges of the node's own addresses at which
	// node ports answer. Empty means all addresses but loopback.
	NodePortAddresses []netip.Prefix

	// LocalhostNodePorts makes node ports answer at 127.0.0.1 too (IPv4
	// only). The interface needs the sysctl route_localnet=1; the
	// rules keep other machines away from loopback addresses.
	LocalhostNodePorts bool

	// KeepInvalid does not drop packets that connection tracking calls
	// invalid. Set it where nf_conntrack_tcp_be_liberal is set.
	KeepInvalid bool
}

// Mark returns MasqueradeMark or its default.
func (c *Config) Mark() uint32 {
	if c.MasqueradeMark == 0 {
		return 0x4000
	}
	return c.MasqueradeMark
}

// Validate says which field is wrong.
func (c *Config) Validate() error {
	k := &checker{object: "config"}
	if c.Family > IPv6 {
		k.fault("family", "%d: want IPv4 or IPv6", c.Family)
	}
	if c.PodCIDR.IsValid() {
		k.prefix("podCIDR", c.PodCIDR, c.Family)
	}
	for i, p := range c.NodePortAddresses {
		k.prefix(fmt.Sprintf("nodePortAddresses[%d]", i), p, c.Family)
	}
	if c.NodeIP.IsValid() {
		if k.addr("nodeIP", c.NodeIP); FamilyOf(c.NodeIP) != c.Family {
			k.fault("nodeIP", "%s: want an %v address", c.NodeIP, c.Family)
		}
	}
	if c.PodCIDR.IsValid() && c.PodInterface != "" {
		k.fault("podInterface", "%q: podCIDR is given too; give one of them", c.PodInterface)
	}
	if s := strings.TrimSuffix(c.PodInterface, "+"); c.PodInterface != "" && (!plain(s) || len(s) > 15) {
		k.fault("podInterface", "%q: want the name of an interface, at most 15 characters", c.PodInterface)
	}
	if bits.OnesCount32(c.Mark()) != 1 {
		k.fault("masqueradeMark", "%#x: want a single bit", c.MasqueradeMark)
	}
	if c.LocalhostNodePorts && c.Family != IPv4 {
		k.fault("localhostNodePorts", "is for IPv4 only; the kernel routes nothing from ::1 to another host")
	}
	return k.err()
}

func (c *checker) prefix(field string, p netip.Prefix, f Family) {
	if !p.IsValid() || FamilyOf(p.Addr()) != f {
		c.fault(field, "%s: want an %v range", p, f)
	}
}
