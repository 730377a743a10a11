// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"

	"github.com/slipway-dev/slipway/netproxy"
)

// maxChainName is the longest name that the kernel takes (XT_EXTENSION_MAXNAMELEN
// less the terminating zero).
const maxChainName = 28

// idLen is the length of a hash in a chain's name: 13 digits of base 32 are 65
// bits, so that 30,000 services collide once in 80 billion clusters. A
// collision is noticed all the same.
const idLen = 13

type id [idLen]byte

// hash returns a short name for data, in characters that chains may have.
func hash(data []byte) id {
	sum := sha256.Sum256(data)
	var long [16]byte
	base32.StdEncoding.Encode(long[:], sum[:10])
	return id(long[:idLen])
}

func appendProtocol(b []byte, p netproxy.Protocol) []byte {
	b = append(b, " -p "...)
	return append(b, p.String()...)
}

func appendDport(b []byte, p netproxy.Protocol) []byte {
	b = append(b, " -m "...)
	b = append(b, p.String()...)
	return append(b, " --dport "...)
}

// appendHost appends an address with the mask that iptables-save gives it.
func appendHost(b []byte, a netip.Addr) []byte {
	b = a.AppendTo(b)
	if a.Is4() {
		return append(b, "/32"...)
	}
	return append(b, "/128"...)
}

func appendPrefix(b []byte, p netip.Prefix) []byte { return p.AppendTo(b) }
