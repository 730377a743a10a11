// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// nftStatement is one statement of a rule of nftables.
type nftStatement struct {
	op  nftOp
	not bool

	key    []nftField     // what is looked up, or compared
	set    string         // the named set or map
	anon   *nftSet        // the set in the rule itself
	prefix prefixMatch    // of opAddr
	ports  portRange      // of opPort
	proto  uint8          // of opProto; of others, what "tcp dport" implies
	states State          // of opState
	iface  ifaceMatch     // of opIn and opOut
	mask   uint32         // of opMark
	value  uint32         // of opMark and opSetMark
	n      int            // of opChance: one in n
	bits   []markAction   // of opSetMark: one after the other
	to     netip.AddrPort // of opDNAT
	verd   nftVerdict
}

type nftOp uint8

const (
	opNothing nftOp = iota // counters, logs
	// Matches.
	opAddr
	opPort
	opProto
	opState
	opIn
	opOut
	opLocal
	opMark
	opChance
	opLookup
	// Effects.
	opSetMark
	opRemember
	// Verdicts.
	opVerdict
	opVmap
	opReject
	opMasquerade
	opDNAT
	opDNATMap
)

// maxRandom bounds the branches that one rule can make.
const maxRandom = 1 << 17

// nftField is a part of a key.
type nftField struct {
	what fieldKind
	n    int // of fieldRandom: the modulus; of ports: the protocol implied, or 0
}

type fieldKind uint8

const (
	fieldSrc fieldKind = iota
	fieldDst
	fieldProto
	fieldSport
	fieldDport // the last of those that elements may have
	fieldRandom
	fieldLocalSrc // fib saddr type
	fieldLocalDst
	fieldMark
	fieldState
	fieldStatus
	fieldIn
	fieldOut
)

// rule reads the statements of a rule, up to the end of the line.
func (p *nftParser) rule(t *Table) (*Rule, error) {
	start := p.pos
	r := &Rule{}
	for !nftEnds(p.peek()) {
		s, err := p.statement(t, r)
		if err != nil {
			return nil, err
		}
		for _, f := range s.key {
			if f.what == fieldSport || f.what == fieldDport {
				s.proto = uint8(f.n)
			}
		}
		switch s.op {
		case opState, opMasquerade, opDNAT, opDNATMap:
			r.tracks = true
		}
		r.nft = append(r.nft, s)
	}
	r.Text = strings.TrimSpace(p.text[start:p.pos])
	if len(r.nft) == 0 {
		return nil, fmt.Errorf("a rule without statements")
	}
	return r, p.err
}

func (p *nftParser) statement(t *Table, r *Rule) (s nftStatement, err error) {
	switch w := p.peek(); w {
	case "accept", "drop", "return":
		p.word()
		return nftStatement{op: opVerdict, verd: nftVerdict{what: w}}, nil
	case "goto", "jump":
		p.word()
		return nftStatement{op: opVerdict, verd: nftVerdict{w, p.word()}}, nil
	case "counter":
		p.word()
		if p.peek() == "packets" {
			for range 4 {
				p.word()
			}
		}
		return s, nil
	case "comment":
		p.word()
		r.Comment = p.word()
		return s, nil
	case "reject":
		p.word()
		return p.reject(), nil
	case "masquerade":
		p.word()
		for w := p.peek(); w == "random" || w == "fully-random" || w == "persistent"; w = p.peek() {
			p.word()
		}
		return nftStatement{op: opMasquerade}, nil
	case "dnat":
		p.word()
		return p.dnat()
	case "update", "add":
		p.word()
		return p.remember()
	}
	return p.match(t)
}

// reject reads what an error says, after reject. The default is the same as none.
func (p *nftParser) reject() nftStatement {
	var with []string
	for slices.Contains([]string{"with", "icmp", "icmpv6", "icmpx", "type", "port-unreachable", "tcp", "reset"}, p.peek()) {
		with = append(with, p.word())
	}
	s := nftStatement{op: opReject}
	if len(with) > 0 && with[len(with)-1] != "port-unreachable" {
		s.verd.what = strings.Join(with, " ")
	}
	return s
}

// remember reads "@SET { ip saddr }", after update or add.
func (p *nftParser) remember() (nftStatement, error) {
	name, err := p.setName()
	if err != nil {
		return nftStatement{}, err
	}
	if p.word() != "{" {
		return nftStatement{}, fmt.Errorf("want @%s { KEY }", name)
	}
	key, err := p.key()
	if err != nil {
		return nftStatement{}, err
	}
	if p.word() != "}" || len(key) != 1 || key[0].what != fieldSrc {
		return nftStatement{}, fmt.Errorf("the tracer knows only sets of source addresses to be updated")
	}
	return nftStatement{op: opRemember, set: name}, nil
}

// dnat reads "[FAMILY] [to] ADDR:PORT" or "[FAMILY] [to] KEY map @MAP".
func (p *nftParser) dnat() (s nftStatement, err error) {
	if w := p.peek(); w == "ip" || w == "ip6" {
		// It is the family, unless an expression begins with it.
		pos := p.pos
		p.word()
		if next := p.peek(); next == "saddr" || next == "daddr" {
			p.pos = pos
		}
	}
	for w := p.peek(); w == "to" || w == "addr" || w == "."; w = p.peek() { // nft lists "dnat ip addr . port to"
		p.word()
		if w == "." && p.peek() == "port" {
			p.word()
		}
	}
	if a := p.peek(); a != "" {
		if to, err := netip.ParseAddrPort(a); err == nil {
			p.word()
			return nftStatement{op: opDNAT, to: to}, nil
		}
		if to, err := netip.ParseAddr(a); err == nil {
			p.word()
			return nftStatement{op: opDNAT, to: netip.AddrPortFrom(to, 0)}, nil
		}
	}
	if s.key, err = p.key(); err != nil {
		return s, err
	}
	if slices.ContainsFunc(s.key[:len(s.key)-1], func(f nftField) bool { return !f.elementary() }) ||
		!s.key[len(s.key)-1].elementary() && s.key[len(s.key)-1].what != fieldRandom {
		return s, fmt.Errorf("dnat: the key may have addresses, protocol and ports, and a random number at its end")
	}
	if w := p.word(); w != "map" {
		return s, fmt.Errorf("dnat: %q after the key; want map", w)
	}
	s.op = opDNATMap
	s.set, err = p.setName()
	return s, err
}

// setName reads "@NAME".
func (p *nftParser) setName() (string, error) {
	w := p.word()
	if name, ok := strings.CutPrefix(w, "@"); ok && name != "" {
		return name, nil
	}
	return "", fmt.Errorf("%q: want @NAME of a set or map", w)
}

// match reads a key and what it is compared with, or "meta mark set".
func (p *nftParser) match(t *Table) (s nftStatement, err error) {
	if s.key, err = p.key(); err != nil {
		return s, err
	}
	w := p.peek()
	lookup := w == "vmap" || strings.HasPrefix(w, "@") || len(s.key) > 1
	if lookup && slices.ContainsFunc(s.key, func(f nftField) bool { return !f.elementary() }) {
		return s, fmt.Errorf("a key that is looked up may have addresses, protocol and ports; the tracer knows nothing else")
	}
	switch {
	case w == "vmap":
		p.word()
		s.op = opVmap
		s.set, err = p.setName()
		return s, err
	case w == "set" && s.key[0].what == fieldMark:
		p.word()
		s.op = opSetMark
		return s, p.markBits(&s)
	}
	masked := false
	if w == "&" {
		p.word()
		if s.mask, err = p.number(s.key[0]); err != nil {
			return s, err
		}
		masked = true
	}
	if w = p.peek(); w == "==" || w == "!=" || w == "!" { // nft shows "ct status ! dnat"
		p.word()
		s.not = w != "=="
	}
	if w = p.peek(); strings.HasPrefix(w, "@") || w == "{" {
		if f := s.key[0]; !f.elementary() && f.what != fieldState {
			return s, fmt.Errorf("only addresses, protocol and ports can be compared with a set")
		}
		return s, p.lookup(&s)
	}
	if len(s.key) != 1 {
		return s, fmt.Errorf("a concatenation has to be looked up in a set or map")
	}
	return s, p.compare(t, &s, masked)
}

// lookup reads the set that a key is to be in.
func (p *nftParser) lookup(s *nftStatement) error {
	w := p.peek()
	if s.key[0].what == fieldState {
		return p.compare(nil, s, false)
	}
	s.op = opLookup
	if w != "{" {
		var err error
		s.set, err = p.setName()
		return err
	}
	s.anon = &nftSet{name: "the set in the rule", kind: "set", exact: map[string]nftElement{}, wide: map[string][]netip.Prefix{}}
	err := p.elements(s.anon, true)
	s.anon.merge()
	return err
}

// key reads fields joined by ".".
func (p *nftParser) key() ([]nftField, error) {
	var out []nftField
	for {
		f, err := p.field()
		if err != nil {
			return nil, err
		}
		out = append(out, f)
		if p.peek() != "." {
			return out, nil
		}
		p.word()
	}
}

func (p *nftParser) field() (nftField, error) {
	w := p.word()
	switch w {
	case "iifname":
		return nftField{what: fieldIn}, nil
	case "oifname":
		return nftField{what: fieldOut}, nil
	case "numgen":
		if a, b := p.word(), p.word(); a != "random" || b != "mod" {
			return nftField{}, fmt.Errorf("numgen %s %s is not known; want random mod", a, b)
		}
		n, err := strconv.Atoi(p.word())
		if err != nil || n < 1 || n > maxRandom {
			return nftField{}, fmt.Errorf("numgen random mod: want a number from 1 to %d", maxRandom)
		}
		return nftField{fieldRandom, n}, nil
	}
	both := w + " " + p.word()
	switch both {
	case "ip saddr", "ip6 saddr":
		return nftField{what: fieldSrc}, nil
	case "ip daddr", "ip6 daddr":
		return nftField{what: fieldDst}, nil
	case "meta l4proto", "ip protocol", "ip6 nexthdr":
		return nftField{what: fieldProto}, nil
	case "meta iifname":
		return nftField{what: fieldIn}, nil
	case "meta oifname":
		return nftField{what: fieldOut}, nil
	case "th sport":
		return nftField{what: fieldSport}, nil
	case "th dport":
		return nftField{what: fieldDport}, nil
	case "tcp sport", "udp sport", "sctp sport":
		n, _ := protoNumber(w)
		return nftField{fieldSport, int(n)}, nil
	case "tcp dport", "udp dport", "sctp dport":
		n, _ := protoNumber(w)
		return nftField{fieldDport, int(n)}, nil
	case "meta mark":
		return nftField{what: fieldMark}, nil
	case "ct state":
		return nftField{what: fieldState}, nil
	case "ct status":
		return nftField{what: fieldStatus}, nil
	case "fib saddr", "fib daddr":
		if p.word() != "type" {
			return nftField{}, fmt.Errorf("%s: want type", both)
		}
		if both == "fib saddr" {
			return nftField{what: fieldLocalSrc}, nil
		}
		return nftField{what: fieldLocalDst}, nil
	}
	return nftField{}, fmt.Errorf("expression %q is not known", both)
}

// compare reads the value that a field is compared with.
func (p *nftParser) compare(t *Table, s *nftStatement, masked bool) (err error) {
	f := s.key[0]
	if f.what == fieldState || f.what == fieldStatus {
		return p.compareState(s, masked)
	}
	w := p.word()
	switch f.what {
	case fieldSrc, fieldDst:
		s.op = opAddr
		s.prefix.not = s.not
		if s.prefix.prefix, err = parsePrefix(w); err == nil && s.prefix.prefix.Addr().Is6() != t.ip6 {
			err = fmt.Errorf("address %s in table %s", w, t.Name)
		}
	case fieldSport, fieldDport:
		s.op = opPort
		s.ports, err = parsePorts(strings.Replace(w, "-", ":", 1))
		s.ports.not = s.not
	case fieldProto:
		s.op = opProto
		var ok bool
		if s.proto, ok = protoNumber(w); !ok {
			err = fmt.Errorf("protocol %q is not known", w)
		}
	case fieldIn, fieldOut:
		s.op = opIn
		if f.what == fieldOut {
			s.op = opOut
		}
		if name, ok := strings.CutSuffix(w, "*"); ok {
			w = name + "+" // as iptables writes it
		}
		s.iface = ifaceMatch{w, s.not}
	case fieldLocalSrc, fieldLocalDst:
		if s.op = opLocal; w != "local" {
			err = fmt.Errorf("fib type %q is not known; want local", w)
		}
	case fieldMark:
		if s.op = opMark; !masked {
			s.mask = ^uint32(0)
		}
		s.value, err = parseBits(w)
	case fieldRandom:
		s.op, s.n = opChance, f.n
		if v, verr := strconv.Atoi(w); verr != nil || v < 0 || v >= f.n {
			err = fmt.Errorf("numgen random mod %d: %q can't be", f.n, w)
		}
	}
	return err
}

// compareState reads the states after "ct state", or the bits after "ct status":
// NAME, NAME,NAME, { NAME, NAME }; "& dnat == dnat" and "& dnat == 0".
func (p *nftParser) compareState(s *nftStatement, masked bool) error {
	s.op = opState
	braces := p.peek() == "{"
	if braces {
		p.word()
	}
	for {
		w := p.word()
		state, ok := stateNames[strings.ToUpper(w)]
		switch {
		case masked && (w == "0" || w == "0x0"):
			s.states, s.not = State(s.mask), !s.not
		case !ok || (s.key[0].what == fieldStatus) != (state == DNAT || state == SNAT):
			return fmt.Errorf("ct: %q is not known", w)
		default:
			s.states |= state
		}
		if p.peek() != "," {
			break
		}
		p.word()
	}
	if masked && s.states != State(s.mask) {
		return fmt.Errorf("ct status: the mask has to be compared with itself or 0")
	}
	s.mask = 0 // the states say it
	if braces && p.word() != "}" {
		return fmt.Errorf("ct: a list is not closed by }")
	}
	return nil
}

// number reads a mask: a number, or a name of a field that has names.
func (p *nftParser) number(f nftField) (uint32, error) {
	w := p.word()
	if f.what == fieldStatus {
		return uint32(stateNames[strings.ToUpper(w)]), nil
	}
	return parseBits(w)
}

func parseBits(w string) (uint32, error) {
	n, err := strconv.ParseUint(w, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("number %q: want one of 32 bits", w)
	}
	return uint32(n), nil
}

// markBits reads what a mark is set to: a number, or "meta mark" with operations.
func (p *nftParser) markBits(s *nftStatement) error {
	if p.peek() != "meta" {
		n, err := parseBits(p.word())
		s.bits = []markAction{{n, ^uint32(0)}}
		return err
	}
	if p.word(); p.word() != "mark" {
		return fmt.Errorf("meta mark set: want a number or meta mark")
	}
	for w := p.peek(); slices.Contains([]string{"&", "|", "^"}, w); w = p.peek() {
		p.word()
		n, err := parseBits(p.word())
		if err != nil {
			return err
		}
		s.bits = append(s.bits, map[string]markAction{"&": {0, ^n}, "|": {n, n}, "^": {n, 0}}[w])
	}
	return nil
}

// sameNFT compares statements. Counters make no difference.
func (r *Rule) sameNFT(o *Rule) bool {
	return r.Text == o.Text || r.Comment == o.Comment && reflect.DeepEqual(r.normalNFT(), o.normalNFT())
}

func (r *Rule) normalNFT() []nftStatement {
	var out []nftStatement
	for _, s := range r.nft {
		if s.op == opNothing {
			continue
		}
		if s.op == opLookup && s.anon != nil && len(s.anon.exact) == 0 && len(s.anon.wide[""]) == 1 {
			s = nftStatement{op: opAddr, key: s.key, not: s.not, prefix: prefixMatch{s.anon.wide[""][0], s.not}}
		}
		if s.op == opDNATMap {
			// nft lists "th dport" as the port of the map's type: "tcp dport".
			s.proto, s.key = 0, slices.Clone(s.key)
			for i := range s.key {
				if s.key[i].what == fieldDport {
					s.key[i].n = 0
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// check says whether the rule refers to something that is not there.
func (r *Rule) check(t *Table) error {
	for _, s := range r.nft {
		if s.set != "" && t.sets[s.set] == nil {
			return fmt.Errorf("rule %q: no set or map %q in table %s", r.Text, s.set, t.Name)
		}
		if s.verd.chain != "" && t.chains[s.verd.chain] == nil {
			return fmt.Errorf("rule %q: no chain %q in table %s", r.Text, s.verd.chain, t.Name)
		}
	}
	return nil
}

// elementary says whether the field can be part of an element's key, for the
// tracer.
func (f nftField) elementary() bool { return f.what <= fieldDport }

// appendTo appends the value of an elementary field as elements have it.
func (f nftField) appendTo(b []byte, w *walk, fr *frame) []byte {
	switch f.what {
	case fieldSrc:
		return fr.src.Addr().AppendTo(b)
	case fieldDst:
		return fr.dst.Addr().AppendTo(b)
	case fieldProto:
		return append(b, w.packet.Protocol.String()...)
	case fieldSport:
		return strconv.AppendUint(b, uint64(fr.src.Port()), 10)
	case fieldDport:
		return strconv.AppendUint(b, uint64(fr.dst.Port()), 10)
	}
	return b
}
