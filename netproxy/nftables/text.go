// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// maxComment is the longest comment that nft takes (128 with its end).
const maxComment = 127

// statementSize is about how long one "add element" statement gets.
const statementSize = 64 << 10

// AppendText appends the whole table as nft -f reads it: it replaces the table,
// if there is one, in one transaction.
func (rs *RuleSet) AppendText(b []byte) []byte {
	b = rs.appendCommand(b, "add table", "")
	b = rs.appendCommand(b, "delete table", "")
	b = rs.appendCommand(b, "add table", "")
	return rs.appendAll(b)
}

// Text returns the text of AppendText as a string.
func (rs *RuleSet) Text() string { return string(rs.AppendText(nil)) }

// appendAll appends the contents of an empty table.
func (rs *RuleSet) appendAll(b []byte) []byte {
	for o := range objects {
		kind, rest, _ := strings.Cut(o.declaration(rs.dialect), " ")
		b = rs.appendCommand(b, "add "+kind, rest)
	}
	sorted := rs.sorted()
	var sticky stickyState
	for _, s := range sorted {
		rs.addSticky(&sticky, s)
	}
	for _, name := range slices.Sorted(maps.Keys(sticky.sets)) {
		b = rs.appendCommand(b, "add set", sticky.sets[name])
	}
	chains := append(rs.pickChains(), rs.fixedChains()...)
	chains = append(chains, sticky.chains...)
	b = rs.appendChains(b, chains)
	for o := range objects {
		l := elementList{rs: rs, b: b, object: o, verb: "add"}
		if o == hairpins {
			for _, a := range rs.sortedHairpins() {
				l.begin()
				l.b = appendHairpin(l.b, a)
			}
		} else {
			for _, s := range sorted {
				l.service(s)
			}
		}
		b = l.end()
	}
	return b
}

// elementList writes "add element" statements for one object.
type elementList struct {
	rs     *RuleSet
	b      []byte
	object object
	verb   string
	start  int // of the open statement; 0: none

	scratch []byte
}

func (l *elementList) begin() {
	if l.start > 0 && len(l.b)-l.start > statementSize {
		l.b = l.end()
	}
	if l.start == 0 {
		l.start = max(len(l.b), 1)
		l.b = append(l.b, l.verb...)
		l.b = append(l.b, " element "...)
		l.b = append(l.b, l.rs.dialect.family...)
		l.b = append(l.b, " "+TableName+" "...)
		l.b = append(l.b, objectNames[l.object]...)
		l.b = append(l.b, " { "...)
	}
}

func (l *elementList) service(s *service) {
	l.scratch = l.rs.appendElements(l.scratch[:0], s, l.object)
	if len(l.scratch) > 0 {
		l.begin()
		l.b = append(l.b, l.scratch...)
	}
}

// end closes the open statement, if there is one.
func (l *elementList) end() []byte {
	if l.start > 0 {
		l.b = append(bytes.TrimSuffix(l.b, []byte(", ")), " }\n"...)
		l.start = 0
	}
	return l.b
}

func (rs *RuleSet) sorted() []*service {
	out := make([]*service, 0, len(rs.routes))
	for _, s := range rs.routes {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *service) int { return netproxy.CompareRoutes(a.route, b.route) })
	return out
}

func (rs *RuleSet) sortedHairpins() []netip.Addr {
	return slices.SortedFunc(maps.Keys(rs.hairpin), netip.Addr.Compare)
}

// appendCommand appends "VERB FAMILY TABLE REST".
func (rs *RuleSet) appendCommand(b []byte, verb, rest string) []byte {
	b = fmt.Appendf(b, "%s %s %s", verb, rs.dialect.family, TableName)
	if rest != "" {
		b = append(b, ' ')
		b = append(b, rest...)
	}
	return append(b, '\n')
}

// appendChains declares all chains, and then gives each its rules, so that they
// can refer to one another.
func (rs *RuleSet) appendChains(b []byte, chains []chain) []byte {
	for _, c := range chains {
		rest := c.name
		if c.hook != "" {
			rest += " { " + c.hook + "; }"
		}
		b = rs.appendCommand(b, "add chain", rest)
	}
	for _, c := range chains {
		for _, r := range c.rules {
			b = rs.appendCommand(b, "add rule", c.name+" "+r)
		}
	}
	return b
}

// pickChains returns the choosing chains that are in use.
func (rs *RuleSet) pickChains() []chain {
	var out []chain
	for _, p := range slices.SortedFunc(maps.Keys(rs.picks), comparePicks) {
		out = append(out, rs.pickChain(spaces[p.space], p.n))
	}
	return out
}

func comparePicks(a, b pick) int { return cmp.Or(a.space-b.space, a.n-b.n) }

// appendElements appends the service's elements of an object, each with ", "
// after it.
func (rs *RuleSet) appendElements(b []byte, s *service, o object) []byte {
	if s.route == nil {
		return b
	}
	for _, f := range rs.fronts(s.route) {
		switch o {
		case services, nodePorts:
			if f.chain != "" && f.addr.IsValid() == (o == services) {
				b = f.appendKey(b)
				b = append(b, ` comment "`...)
				b = appendComment(b, s.route.Name)
				b = append(b, `" : goto `...)
				b = append(b, f.chain...)
				b = append(b, ", "...)
			}
		case refused, refusedNodePorts:
			if f.refuse != "" && f.addr.IsValid() == (o == refused) {
				b = f.appendKey(b)
				b = append(b, " : "...)
				b = append(b, f.refuse...)
				b = append(b, ", "...)
			}
		case allowed:
			if f.guarded {
				for _, p := range s.route.AllowedSources(rs.config.NodeIP) {
					b = f.appendKey(b)
					b = append(b, " . "...)
					b = appendRange(b, p)
					b = append(b, ", "...)
				}
			}
		default:
			b = appendLookups(b, s, f, o)
		}
	}
	return b
}

// appendLookups appends the front's elements of the picks and endpoints.
func appendLookups(b []byte, s *service, f front, o object) []byte {
	for _, sp := range spaces {
		slots := s.slots[sp.policy]
		if len(slots) == 0 || !f.in(sp) {
			continue
		}
		switch o {
		case sp.picks:
			b = f.appendKey(b)
			b = append(b, " : goto "...)
			if s.route.Affinity > 0 {
				b = append(b, stickyChain(s.route, sp.policy)...)
			} else {
				b = append(b, sp.prefix...)
				b = strconv.AppendInt(b, int64(len(slots)), 10)
			}
			b = append(b, ", "...)
		case sp.endpoints + object(f.proto):
			if s.route.Affinity > 0 {
				continue
			}
			for i, e := range slots {
				b = f.appendKey(b)
				b = append(b, " . "...)
				b = strconv.AppendInt(b, int64(i), 10)
				b = append(b, " : "...)
				b = e.Addr.Addr().AppendTo(b)
				b = append(b, " . "...)
				b = strconv.AppendUint(b, uint64(e.Addr.Port()), 10)
				b = append(b, ", "...)
			}
		}
	}
	return b
}

func (f *front) appendKey(b []byte) []byte {
	if f.addr.IsValid() {
		b = f.addr.AppendTo(b)
		b = append(b, " . "...)
	}
	b = append(b, f.proto.String()...)
	b = append(b, " . "...)
	return strconv.AppendUint(b, uint64(f.port), 10)
}

// appendRange appends a prefix as nft lists it: a single address without bits.
func appendRange(b []byte, p netip.Prefix) []byte {
	if p.IsSingleIP() {
		return p.Addr().AppendTo(b)
	}
	return p.AppendTo(b)
}

func appendHairpin(b []byte, a netip.Addr) []byte {
	b = a.AppendTo(b)
	b = append(b, " . "...)
	b = a.AppendTo(b)
	return append(b, ", "...)
}

// appendComment appends the name, cut where nft would refuse it: one comment
// that is too long would make it refuse everything.
func appendComment(b []byte, n netproxy.PortName) []byte {
	start := len(b)
	b = n.Append(b)
	if len(b)-start > maxComment {
		b = b[:start+maxComment-1]
		b = append(b, '~')
	}
	return b
}

// stickyState is the sets and chains of services with affinity.
type stickyState struct {
	sets     map[string]string // name: declaration
	timeouts map[string]time.Duration
	chains   []chain
}

// addSticky adds what a route with affinity needs: per endpoint a set of the
// clients that it served lately, and a chain that looks into them before it
// chooses. Such services are few, so they may have chains of their own.
func (rs *RuleSet) addSticky(st *stickyState, s *service) {
	if s.route == nil || s.route.Affinity == 0 {
		return
	}
	if st.sets == nil {
		st.sets, st.timeouts = map[string]string{}, map[string]time.Duration{}
	}
	d := rs.dialect
	for p, slots := range s.slots {
		if len(slots) == 0 {
			continue
		}
		var back, choose []string
		for i, e := range slots {
			set := clientSet(s.route, e.Addr)
			st.sets[set] = fmt.Sprintf("%s { type %s; flags dynamic,timeout; timeout %ds; }", set, d.addr, int(s.route.Affinity.Seconds()))
			st.timeouts[set] = s.route.Affinity
			proto := "meta l4proto " + s.route.Protocol.String()
			to := fmt.Sprintf("update @%s { %s saddr } dnat to %v", set, d.family, e.Addr)
			back = append(back, fmt.Sprintf("%s %s saddr @%s %s", proto, d.family, set, to))
			if left := len(slots) - i; left > 1 {
				choose = append(choose, fmt.Sprintf("%s numgen random mod %d == 0 %s", proto, left, to))
			} else {
				choose = append(choose, proto+" "+to)
			}
		}
		st.chains = append(st.chains, chain{name: stickyChain(s.route, netproxy.Policy(p)), rules: append(back, choose...)})
	}
}

func stickyChain(r *netproxy.Route, p netproxy.Policy) string {
	if p == netproxy.Local {
		return "sticky-local-" + hash(r.Name.Append(nil))
	}
	return "sticky-" + hash(r.Name.Append(nil))
}

func clientSet(r *netproxy.Route, e netip.AddrPort) string {
	return "clients-" + hash(e.AppendTo(append(r.Name.Append(nil), ' ')))
}

// hash returns 20 digits of base 32, 100 bits: names in a table can be long.
func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:20])
}
