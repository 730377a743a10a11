// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// match is a match extension (-m) of a rule.
type match interface {
	// option reads one option of the extension. It returns false, and has read
	// nothing, if it does not know the option.
	option(w string, t *tokens) (known bool, err error)
	// eval says whether the packet matches.
	eval(w *walk, f *frame) answer
	// canonical appends what distinguishes the match from others.
	canonical(b []byte) []byte
}

// answer is what a match says of a packet.
type answer struct {
	kind answerKind
	p    float64 // of chance: the probability of yes
	what string  // of unknown: the text of the match
}

type answerKind uint8

const (
	no answerKind = iota
	yes
	chance
	unknown
)

func truth(b bool) answer {
	if b {
		return answer{kind: yes}
	}
	return answer{kind: no}
}

// alwaysMatch is an extension that matches every packet.
type alwaysMatch struct{}

func (*alwaysMatch) option(w string, t *tokens) (bool, error) {
	if w == "--nfacct-name" {
		_, err := t.value(w)
		return true, err
	}
	return false, nil
}
func (*alwaysMatch) eval(*walk, *frame) answer { return answer{kind: yes} }

func (*alwaysMatch) canonical(b []byte) []byte { return b }

// portMatch is -m tcp, udp or sctp with --sport and --dport.
type portMatch struct{ src, dst portRange }

func (m *portMatch) option(w string, t *tokens) (bool, error) {
	var to *portRange
	switch w {
	case "--sport", "--source-port":
		to = &m.src
	case "--dport", "--destination-port":
		to = &m.dst
	default:
		return false, nil
	}
	not := t.not
	v, err := t.value(w)
	if err == nil {
		*to, err = parsePorts(v)
		to.not = not != t.not || not
	}
	return true, err
}

func (m *portMatch) eval(_ *walk, f *frame) answer {
	return truth(m.src.has(f.src.Port()) && m.dst.has(f.dst.Port()))
}

func (r *portRange) has(p uint16) bool {
	return !r.set || (p >= r.lo && p <= r.hi) != r.not
}

func (m *portMatch) canonical(b []byte) []byte {
	return m.dst.canonical(m.src.canonical(b, "sport"), "dport")
}

func (r *portRange) canonical(b []byte, name string) []byte {
	if !r.set {
		return b
	}
	return fmt.Appendf(b, " %s=%v:%d:%d", name, r.not, r.lo, r.hi)
}

// multiportMatch is -m multiport.
type multiportMatch struct {
	list     []portRange
	src, dst bool
	not      bool
}

func (m *multiportMatch) option(w string, t *tokens) (bool, error) {
	switch w {
	case "--sports", "--source-ports":
		m.src = true
	case "--dports", "--destination-ports":
		m.dst = true
	case "--ports":
		m.src, m.dst = true, true
	default:
		return false, nil
	}
	v, err := t.value(w)
	m.not = t.not
	for s := range strings.SplitSeq(v, ",") {
		r, perr := parsePorts(s)
		if err == nil {
			err = perr
		}
		m.list = append(m.list, r)
	}
	return true, err
}

func (m *multiportMatch) eval(_ *walk, f *frame) answer {
	hit := slices.ContainsFunc(m.list, func(r portRange) bool {
		return (m.src && r.has(f.src.Port())) || (m.dst && r.has(f.dst.Port()))
	})
	return truth(hit != m.not)
}

func (m *multiportMatch) canonical(b []byte) []byte {
	return fmt.Appendf(b, " multiport=%v:%v:%v:%v", m.not, m.src, m.dst, m.list)
}

// markMatch is -m mark --mark VALUE[/MASK].
type markMatch struct {
	value, mask uint32
	not         bool
}

func (m *markMatch) option(w string, t *tokens) (bool, error) {
	if w != "--mark" {
		return false, nil
	}
	v, err := t.value(w)
	m.not = t.not
	if err == nil {
		m.value, m.mask, err = parseMark(v)
	}
	return true, err
}

// parseMark reads VALUE[/MASK]; without a mask all bits count.
func parseMark(v string) (value, mask uint32, err error) {
	val, msk, masked := strings.Cut(v, "/")
	n, err := strconv.ParseUint(val, 0, 32)
	m := uint64(math.MaxUint32)
	if err == nil && masked {
		m, err = strconv.ParseUint(msk, 0, 32)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("mark %q: want VALUE or VALUE/MASK", v)
	}
	return uint32(n), uint32(m), nil
}

func (m *markMatch) eval(_ *walk, f *frame) answer {
	return truth((f.mark&m.mask == m.value) != m.not)
}

func (m *markMatch) canonical(b []byte) []byte {
	return fmt.Appendf(b, " mark=%v:%#x/%#x", m.not, m.value, m.mask)
}

// stateMatch is -m conntrack --ctstate, and -m state.
type stateMatch struct {
	states State
	not    bool
}

func (m *stateMatch) option(w string, t *tokens) (bool, error) {
	if w != "--ctstate" && w != "--state" {
		return false, nil
	}
	v, err := t.value(w)
	m.not = t.not
	for s := range strings.SplitSeq(v, ",") {
		bit, ok := stateNames[s]
		if !ok && err == nil {
			err = fmt.Errorf("state %q is not known", s)
		}
		m.states |= bit
	}
	return true, err
}

func (m *stateMatch) eval(_ *walk, f *frame) answer {
	return truth((f.state&m.states != 0) != m.not)
}

func (m *stateMatch) canonical(b []byte) []byte {
	return fmt.Appendf(b, " state=%v:%d", m.not, m.states)
}

// addrtypeMatch is -m addrtype.
type addrtypeMatch struct {
	src, dst       []string
	notSrc, notDst bool
}

func (m *addrtypeMatch) option(w string, t *tokens) (bool, error) {
	var to *[]string
	var not *bool
	switch w {
	case "--src-type":
		to, not = &m.src, &m.notSrc
	case "--dst-type":
		to, not = &m.dst, &m.notDst
	default:
		return false, nil
	}
	v, err := t.value(w)
	*to, *not = strings.Split(v, ","), t.not
	return true, err
}

func (m *addrtypeMatch) eval(w *walk, f *frame) answer {
	for _, side := range [2]struct {
		types []string
		not   bool
		a     int
	}{{m.src, m.notSrc, 0}, {m.dst, m.notDst, 1}} {
		if side.types == nil {
			continue
		}
		addr := f.src.Addr()
		if side.a == 1 {
			addr = f.dst.Addr()
		}
		hit := false
		for _, typ := range side.types {
			switch typ {
			case "LOCAL":
				hit = hit || w.rules.isLocal(addr)
			case "UNICAST":
				hit = hit || (!w.rules.isLocal(addr) && !addr.IsMulticast())
			case "MULTICAST":
				hit = hit || addr.IsMulticast()
			default: // which addresses are broadcast, say, the routes tell
				return answer{kind: unknown, what: "-m addrtype " + typ}
			}
		}
		if hit == side.not {
			return answer{kind: no}
		}
	}
	return answer{kind: yes}
}

func (m *addrtypeMatch) canonical(b []byte) []byte {
	return fmt.Appendf(b, " addrtype=%v:%v:%v:%v", m.notSrc, m.src, m.notDst, m.dst)
}

// statisticMatch is -m statistic. The mode nth counts as chance.
type statisticMatch struct {
	p   float64
	not bool
}

func (m *statisticMatch) option(w string, t *tokens) (bool, error) {
	switch w {
	case "--mode", "--packet":
		_, err := t.value(w)
		return true, err
	case "--probability", "--every":
	default:
		return false, nil
	}
	m.not = t.not
	v, err := t.value(w)
	if err != nil {
		return true, err
	}
	m.p, err = strconv.ParseFloat(v, 64)
	switch {
	case err == nil && w == "--every" && m.p >= 1:
		m.p = 1 / m.p
	case err != nil || !(m.p >= 0 && m.p <= 1): // NaN as well
		return true, fmt.Errorf("%s %q: want 0 to 1", w, v)
	}
	return true, nil
}

func (m *statisticMatch) eval(*walk, *frame) answer {
	p := m.p
	if m.not {
		p = 1 - p
	}
	switch p {
	case 0:
		return answer{kind: no}
	case 1:
		return answer{kind: yes}
	}
	return answer{kind: chance, p: p}
}

func (m *statisticMatch) canonical(b []byte) []byte {
	// The kernel keeps 31 bits.
	return fmt.Appendf(b, " statistic=%v:%d", m.not, int64(math.Round(m.p*(1<<31))))
}

// recentMatch is -m recent: the lists that a packet's source is in are given
// with the packet.
type recentMatch struct {
	op      string
	name    string
	seconds string
	reap    bool
	dest    bool
	mask    string
	not     bool
}

func (m *recentMatch) option(w string, t *tokens) (bool, error) {
	switch w {
	case "--set", "--rcheck", "--update", "--remove":
		m.op, m.not = w, t.not
		return true, nil
	case "--rsource":
		return true, nil
	case "--rdest":
		m.dest = true
		return true, nil
	case "--reap":
		m.reap = true
		return true, nil
	case "--rttl":
		return true, nil
	case "--name", "--seconds", "--mask", "--hitcount":
	default:
		return false, nil
	}
	v, err := t.value(w)
	switch w {
	case "--name":
		m.name = v
	case "--seconds":
		m.seconds = v
	case "--mask":
		m.mask = v
	}
	return true, err
}

func (m *recentMatch) eval(w *walk, f *frame) answer {
	if m.op == "--set" {
		f.remembered = &memory{m.name, f.remembered}
		return truth(!m.not)
	}
	return truth(w.recent(m.name, f) != m.not)
}

func (m *recentMatch) canonical(b []byte) []byte {
	return fmt.Appendf(b, " recent=%v:%s:%s:%s:%v:%v", m.not, m.op, m.name, m.seconds, m.reap, m.dest)
}

// unknownMatch keeps the text of what is not known.
type unknownMatch struct {
	text string
	not  bool
}

func (m *unknownMatch) option(w string, t *tokens) (bool, error) {
	m.add(w, t)
	return true, nil
}

// add takes an option and its values: all words until the next option.
func (m *unknownMatch) add(w string, t *tokens) {
	if t.not {
		m.text += " !"
	}
	m.text += " " + w
	for {
		at := t.pos
		v, ok := t.next()
		if !ok {
			return
		}
		if v == "!" || (strings.HasPrefix(v, "-") && len(v) > 1) {
			t.pos = at
			return
		}
		m.text += " " + v
	}
}

func (m *unknownMatch) eval(*walk, *frame) answer {
	return answer{kind: unknown, what: m.text}
}

func (m *unknownMatch) canonical(b []byte) []byte { return fmt.Appendf(b, " %v:%q", m.not, m.text) }

// Same says whether two rules mean the same, however they are written.
// Comments count: they say whose rule it is.
func (r *Rule) Same(o *Rule) bool {
	if r.nft != nil || o.nft != nil {
		return r.sameNFT(o)
	}
	return r == o || r.Text == o.Text || string(r.canonical(nil)) == string(o.canonical(nil))
}

// Same says whether two chains mean the same: whether they are called at the same
// place, have the same policy, and the same rules.
func (c *Chain) Same(o *Chain) bool {
	if c == nil || o == nil {
		return c == o
	}
	if (c.base == nil) != (o.base == nil) || (c.base != nil && *c.base != *o.base) {
		return false
	}
	return c.Policy == o.Policy && slices.EqualFunc(c.Rules, o.Rules, (*Rule).Same)
}

func (r *Rule) canonical(b []byte) []byte {
	b = fmt.Appendf(b, "%v %v %v %v %v %q", r.src, r.dst, r.proto, r.in, r.out, r.Comment)
	for _, m := range r.matches {
		b = m.canonical(b)
	}
	b = fmt.Appendf(b, " %v %s ", r.isGoto, r.target)
	if r.action != nil {
		return r.action.canonical(b)
	}
	return append(b, r.targetArgs...)
}
