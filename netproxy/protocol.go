// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"fmt"
	"net/netip"
)

// Family is an IP version. Rules of the two versions live in separate kernel
// tables, so a rule set belongs to exactly one.
type Family uint8

// The two families. The zero value is IPv4.
const (
	IPv4 Family = iota
	IPv6
)

// FamilyOf returns the family of an address; an IPv4 address mapped into IPv6
// counts as IPv6, and is refused by validation.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Loopback is the family's range of loopback addresses.
func (f Family) Loopback() netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}

// Protocol is a transport protocol that a service port can use.
type Protocol uint8

// The protocols. The zero value is TCP, as in Kubernetes.
const (
	TCP Protocol = iota
	UDP
	SCTP
)

// String returns the name as iptables and nft write it: tcp, udp or sctp.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// Number is the IANA protocol number (RFC 5237 registry): 6, 17 or 132.
func (p Protocol) Number() uint8 {
	return [...]uint8{TCP: 6, UDP: 17, SCTP: 132}[p]
}

// ParseProtocol reads a protocol's name in either case, as Kubernetes ("TCP")
// and iptables ("tcp") write it. The empty name is TCP.
func ParseProtocol(s string) (Protocol, error) {
	switch s {
	case "", "TCP", "tcp":
		return TCP, nil
	case "UDP", "udp":
		return UDP, nil
	case "SCTP", "sctp":
		return SCTP, nil
	}
	return 0, fmt.Errorf("netproxy: protocol %q: want TCP, UDP or SCTP", s)
}
