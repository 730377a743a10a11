// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"math"
	"net/netip"
	"slices"
	"strconv"

	"github.com/slipway-dev/slipway/netproxy"
)

// maxLadder is the number of endpoints up to which a chain lists them all, each
// with the probability that makes up for those before it. A new connection is
// compared with half of such a ladder on average, and a change of one endpoint
// rewrites it. With more endpoints, the ladder leads to chains of at most 16,
// which are a tree by address: each chain is chosen in proportion to the
// endpoints below it, so that each endpoint has the same probability still. A
// connection to one of 10,000 endpoints is then compared with at most 51 rules
// instead of 10,000, and a change writes 6 kB instead of 1.2 MB
// (TestManyEndpointsText).
//
// Services with affinity have a rule per endpoint in any case, to find the
// endpoint that the client had before, so that a new client is compared with all
// of them; a tree would not change that. (A list of clients for each block of
// endpoints would, but the kernel keeps at most 100 clients a list by default.)
// A change of one of 10,000 takes iptables-legacy 6 s.
const maxLadder = 64

// balance makes the trees of the service those of its present route.
func (s *service) balance() {
	for k, list := range [...][]netproxy.Destination{cluster: s.route.Cluster, local: s.route.Local} {
		if len(list) <= maxLadder || s.route.Affinity > 0 {
			s.dropBlocks(kind(k))
			continue
		}
		t := s.blocks[k]
		if t == nil {
			addrLen := 4
			if s.route.Family == netproxy.IPv6 {
				addrLen = 16
			}
			t = newTree(treeStyle{
				root: string(s.appendName(nil, kind(k))), prefix: Prefix + "BAL-", salt: string(s.appendName(nil, kind(k))), weighted: true,
			}, addrLen)
			s.blocks[k] = t
		}
		t.setItems(list)
	}
}

// setItems makes the destinations, which are sorted, the items of the tree. The
// work is proportional to the number of destinations, the changes to the tree to
// that of the differences.
func (t *tree) setItems(list []netproxy.Destination) {
	var gone []key
	i := 0
	t.each(func(n *node) {
		for _, it := range n.items {
			for i < len(list) && compareKeys(destinationKey(list[i]), it.key) < 0 {
				i++ // it is new
			}
			if i == len(list) || destinationKey(list[i]) != it.key {
				gone = append(gone, it.key)
			}
		}
	})
	for _, k := range gone {
		t.remove(k)
	}
	for _, d := range list {
		k := destinationKey(d)
		if it, _ := t.find(k); it == nil {
			t.insert(&item{key: k})
		}
	}
}

func destinationKey(d netproxy.Destination) key {
	return key{addr: addrKey(d.Addr.Addr()), port: d.Addr.Port()}
}

// dropBlocks takes the tree of a kind away, and remembers the chains that it
// leaves behind.
func (s *service) dropBlocks(k kind) {
	t := s.blocks[k]
	if t == nil {
		return
	}
	s.blocks[k] = nil
	s.left = append(s.left, t.removed...)
	t.each(func(n *node) {
		if n != t.root && n.sum != 0 {
			s.left = append(s.left, string(t.appendName(nil, n)))
		}
	})
}

// eachBlock calls f for the chains of the service's trees but the first ones,
// which are the service's own chains.
func (s *service) eachBlock(f func(*tree, *node)) {
	for _, t := range s.blocks {
		if t != nil {
			t.each(func(n *node) {
				if n != t.root {
					f(t, n)
				}
			})
		}
	}
}

// appendBlockRules appends what a chain of a service's tree does with new
// connections: it leads them to the chains below, or to endpoints.
func (t *tree) appendBlockRules(b []byte, n *node, p netproxy.Protocol) []byte {
	left := n.count
	for _, it := range n.items {
		b = append(b, "-A "...)
		b = t.appendName(b, n)
		b = appendProtocol(b, p)
		b = appendChance(b, 1, left)
		left--
		b = appendDNAT(b, netip.AddrPortFrom(t.addr(&it.key), it.key.port))
	}
	if n.kids == nil {
		return b
	}
	for _, kid := range n.kids {
		if kid == nil {
			continue
		}
		b = append(b, "-A "...)
		b = t.appendName(b, n)
		b = appendChance(b, kid.count, left)
		left -= kid.count
		b = append(b, " -g "...)
		b = t.appendName(b, kid)
		b = append(b, '\n')
	}
	return b
}

// appendChance appends the match for a chance of n in of, as iptables-save shows
// what the kernel keeps of it: a multiple of 2^-31. There is none if it is
// certain.
func appendChance(b []byte, n, of int) []byte {
	if n == of {
		return b
	}
	const one = 1 << 31
	b = append(b, " -m statistic --mode random --probability "...)
	return strconv.AppendFloat(b, math.Round(one*float64(n)/float64(of))/one, 'f', 11, 64)
}

// diffBlocks renders the chains of the service's trees that differ from what the
// last diff said, and returns removed with those that are gone.
func (rs *RuleSet) diffBlocks(removed []string, s *service) []string {
	for _, t := range s.blocks {
		if t == nil {
			continue
		}
		slices.SortFunc(t.dirty, t.compareNodes)
		for _, n := range t.dirty {
			n.dirty = false
			if n.gone || n == t.root {
				continue
			}
			start := len(rs.rules)
			rs.rules = t.appendBlockRules(rs.rules, n, s.route.Protocol)
			if !rs.unchanged(&n.sum, start) {
				rs.heads = appendHead(rs.heads, t.appendName, n)
			}
		}
		clear(t.dirty)
		t.dirty = t.dirty[:0]
		removed = append(removed, t.removed...)
		t.removed = nil
	}
	removed = append(removed, s.left...)
	s.left = nil
	return removed
}

// touchBlocks makes the next diff say everything about the service's trees.
func (s *service) touchBlocks() {
	s.left = nil
	for _, t := range s.blocks {
		if t != nil {
			t.removed = nil
			t.each(func(n *node) {
				n.sum = 0
				t.touch(n)
			})
		}
	}
}
