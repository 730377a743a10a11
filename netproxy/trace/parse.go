// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
)

// Rule is one rule of a chain.
type Rule struct {
	// Text is what follows the name of the chain.
	Text    string
	Comment string

	src, dst prefixMatch
	proto    protoMatch
	in, out  ifaceMatch
	matches  []match // the others, in order

	target     string // empty: the rule only counts
	targetArgs string
	action     action // what targetArgs mean, for targets with arguments
	jumps      bool   // there is a target
	isGoto     bool
	nft        []nftStatement
	tracks     bool // it makes the kernel track connections
}

// tokens cuts a line into words as iptables-restore does: double quotes hold a
// word together, and a backslash in them protects a quote.
type tokens struct {
	line string
	pos  int
	not  bool // the last word came after a "!"
	err  error
}

func (t *tokens) reset(line string) { *t = tokens{line: line} }

func (t *tokens) rest() string { return strings.TrimLeft(t.line[t.pos:], " \t") }

// next returns the next word. Words share the memory of the line.
func (t *tokens) next() (string, bool) {
	i := t.pos
	for i < len(t.line) && (t.line[i] == ' ' || t.line[i] == '\t') {
		i++
	}
	if i == len(t.line) {
		t.pos = i
		return "", false
	}
	if t.line[i] == '"' {
		return t.quoted(i + 1)
	}
	end := i
	for end < len(t.line) && t.line[end] != ' ' && t.line[end] != '\t' {
		end++
	}
	t.pos = end
	return t.line[i:end], true
}

func (t *tokens) quoted(i int) (string, bool) {
	escaped := false
	for end := i; end < len(t.line); end++ {
		switch t.line[end] {
		case '\\':
			escaped = true
			end++
		case '"':
			t.pos = end + 1
			word := t.line[i:end]
			if escaped {
				word = unescape(word)
			}
			return word, true
		}
	}
	t.err = fmt.Errorf("a quote is not closed")
	t.pos = len(t.line)
	return "", false
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// number takes the next word if it is a positive number.
func (t *tokens) number() (int, bool) {
	at := t.pos
	w, _ := t.next()
	n, err := strconv.Atoi(w)
	if err != nil || n < 1 {
		t.pos = at
		return 0, false
	}
	return n, true
}

// option returns the next word that is not "!", and says by t.not whether one
// stood before it.
func (t *tokens) option() (string, bool) {
	w, ok := t.next()
	t.not = false
	for ok && w == "!" {
		t.not = !t.not
		w, ok = t.next()
	}
	return w, ok
}

// value returns the value of an option; "--dport ! 80" is an old way to say not.
func (t *tokens) value(option string) (string, error) {
	w, ok := t.next()
	if ok && w == "!" {
		t.not = !t.not
		w, ok = t.next()
	}
	if !ok {
		return "", cmp.Or(t.err, fmt.Errorf("%s without a value", option))
	}
	return w, nil
}

// parse reads the rest of the line as the rule.
func (r *Rule) parse(t *tokens) error {
	r.Text = t.rest()
	module := "" // the -m that options belong to
	for {
		w, ok := t.option()
		if !ok {
			return t.err
		}
		var err error
		switch w {
		case "-s", "--source", "--src":
			err = r.src.parse(w, t)
		case "-d", "--destination", "--dst":
			err = r.dst.parse(w, t)
		case "-p", "--protocol", "--proto":
			err = r.proto.parse(w, t)
		case "-i", "--in-interface":
			err = r.in.parse(w, t)
		case "-o", "--out-interface":
			err = r.out.parse(w, t)
		case "-m", "--match":
			if module, err = t.value(w); err == nil {
				r.beginMatch(module)
			}
		case "-f", "--fragment":
			r.matches = append(r.matches, &unknownMatch{text: "-f", not: t.not})
		case "-c", "--set-counters":
			t.next()
			t.next()
		case "-j", "--jump", "-g", "--goto":
			return r.parseTarget(w, t)
		default:
			err = r.parseOption(module, w, t)
		}
		if err == nil {
			err = t.err
		}
		if err != nil {
			return err
		}
	}
}

// parseOption reads an option of a match extension. An option without -m before
// it belongs to the protocol, as in "-p tcp --dport 80".
func (r *Rule) parseOption(module, w string, t *tokens) error {
	if !strings.HasPrefix(w, "-") {
		return fmt.Errorf("unexpected word %q", w)
	}
	if w == "--comment" {
		var err error
		r.Comment, err = t.value(w)
		return err
	}
	if module == "" {
		if !r.proto.set {
			return fmt.Errorf("option %q without -m or -p before it", w)
		}
		r.beginMatch("")
	}
	last := r.matches[len(r.matches)-1]
	known, err := last.option(w, t)
	if err != nil || known {
		return err
	}
	// An option that is not known: keep all of it, and its values, as it is.
	u, ok := last.(*unknownMatch)
	if !ok {
		u = &unknownMatch{text: module}
		r.matches = append(r.matches, u)
	}
	u.add(w, t)
	return nil
}

func (r *Rule) beginMatch(module string) {
	var m match
	switch module {
	case "conntrack", "state", "connmark", "connbytes", "connlimit", "connlabel", "helper", "cluster":
		r.tracks = true
	}
	switch module {
	case "tcp", "udp", "sctp", "udplite", "dccp", "":
		m = &portMatch{}
	case "multiport":
		m = &multiportMatch{}
	case "mark":
		m = &markMatch{}
	case "conntrack", "state":
		m = &stateMatch{}
	case "addrtype":
		m = &addrtypeMatch{}
	case "statistic":
		m = &statisticMatch{}
	case "recent":
		m = &recentMatch{}
	case "comment", "nfacct": // they match every packet
		m = &alwaysMatch{}
	default:
		m = &unknownMatch{text: "-m " + module}
	}
	r.matches = append(r.matches, m)
}

func (r *Rule) parseTarget(w string, t *tokens) error {
	target, err := t.value(w)
	if err != nil {
		return err
	}
	r.target, r.jumps = target, true
	r.isGoto = w == "-g" || w == "--goto"
	r.targetArgs = t.rest()
	switch target {
	case "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK", "CONNSECMARK", "SYNPROXY":
		r.tracks = true
	case "CT":
		r.tracks = !strings.Contains(r.targetArgs, "--notrack")
	}
	r.action, err = parseAction(target, t)
	if err != nil {
		return fmt.Errorf("-j %s: %w", target, err)
	}
	r.matches = slices.DeleteFunc(r.matches, func(m match) bool {
		p, ok := m.(*portMatch)
		return ok && !p.src.set && !p.dst.set
	})
	return nil
}

type prefixMatch struct {
	prefix netip.Prefix
	not    bool
}

func (m *prefixMatch) parse(w string, t *tokens) error {
	v, err := t.value(w)
	if err != nil {
		return err
	}
	m.not = t.not
	m.prefix, err = parsePrefix(v)
	return err
}

// parsePrefix reads ADDR, ADDR/BITS or ADDR/MASK.
func parsePrefix(v string) (netip.Prefix, error) {
	addr, mask, masked := strings.Cut(v, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address %q: want an IP address", v)
	}
	if !masked {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := strconv.Atoi(mask)
	if err != nil {
		m, merr := netip.ParseAddr(mask)
		if merr != nil || m.BitLen() != a.BitLen() {
			return netip.Prefix{}, fmt.Errorf("mask %q: want a number of bits or a mask", mask)
		}
		if n = maskBits(m); n < 0 {
			return netip.Prefix{}, fmt.Errorf("mask %q: its bits are not contiguous", mask)
		}
	}
	p, err := a.Prefix(n)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("mask %q: want 0 to %d", mask, a.BitLen())
	}
	return p, nil
}

// maskBits counts the leading ones of a mask; -1 if there are ones after a zero.
func maskBits(m netip.Addr) int {
	n := 0
	for i, b := range m.AsSlice() {
		ones := bits.LeadingZeros8(^b)
		if b<<ones != 0 || (ones > 0 && n < 8*i) {
			return -1
		}
		n += ones
	}
	return n
}

type protoMatch struct {
	number   uint8
	set, not bool
}

func (m *protoMatch) parse(w string, t *tokens) error {
	v, err := t.value(w)
	if err != nil {
		return err
	}
	n, ok := protoNumber(v)
	if !ok {
		return fmt.Errorf("protocol %q is not known", v)
	}
	if v == "all" || v == "0" {
		return nil
	}
	*m = protoMatch{n, true, t.not}
	return nil
}

func protoNumber(v string) (uint8, bool) {
	switch v {
	case "tcp":
		return netproxy.TCP.Number(), true
	case "udp":
		return netproxy.UDP.Number(), true
	case "sctp":
		return netproxy.SCTP.Number(), true
	case "all":
		return 0, true
	case "icmp":
		return 1, true
	case "icmpv6", "ipv6-icmp":
		return 58, true
	case "igmp":
		return 2, true
	case "ipencap", "ipip":
		return 4, true
	case "gre":
		return 47, true
	case "esp":
		return 50, true
	case "ah":
		return 51, true
	case "ospf":
		return 89, true
	case "vrrp":
		return 112, true
	case "udplite":
		return 136, true
	case "dccp":
		return 33, true
	}
	n, err := strconv.ParseUint(v, 10, 8)
	return uint8(n), err == nil
}

type ifaceMatch struct {
	name string
	not  bool
}

func (m *ifaceMatch) parse(w string, t *tokens) error {
	v, err := t.value(w)
	*m = ifaceMatch{v, t.not}
	return err
}

type portRange struct {
	lo, hi   uint16
	set, not bool
}

func parsePorts(v string) (portRange, error) {
	lo, hi, ranged := strings.Cut(v, ":")
	r := portRange{lo: 0, hi: 65535, set: true}
	var err error
	if lo != "" {
		if r.lo, err = parsePort(lo); err != nil {
			return r, err
		}
	}
	if !ranged {
		r.hi = r.lo
	} else if hi != "" {
		r.hi, err = parsePort(hi)
	}
	if err == nil && r.lo > r.hi {
		err = fmt.Errorf("ports %q: the first is greater than the last", v)
	}
	return r, err
}

func parsePort(v string) (uint16, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q: want 0 to 65535", v)
	}
	return uint16(n), nil
}

// Target returns the chain or target that the rule jumps or goes to; empty if it
// only counts.
func (r *Rule) Target() string { return r.target }
