// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"net/netip"
	"slices"
	"strconv"
)

// statements carries out a rule of nftables for the frame. Where chance decides,
// the other branch is kept for later.
func (w *walk) statements(r *Rule, f *frame) progress {
	for i := range r.nft {
		s := &r.nft[i]
		if s.proto != 0 && s.op != opProto && s.proto != w.packet.Protocol.Number() {
			return goOn
		}
		switch {
		case s.op == opNothing:
		case s.op <= opLookup:
			if a := w.nftMatch(s, f); a.kind != yes && !w.settle(a, f) {
				return goOn
			}
		case s.op == opSetMark:
			for _, a := range s.bits {
				f.mark = f.mark&^a.mask ^ a.value
			}
		case s.op == opRemember:
			f.remembered = &memory{s.set, f.remembered}
		case s.op == opVmap:
			e, ok := w.find(s, f)
			if !ok {
				return goOn
			}
			w.note(f)
			return w.nftVerdict(e.verd, f)
		case s.op == opDNATMap:
			return w.dnatMap(s, f)
		default:
			w.note(f)
			return w.nftTarget(s, f)
		}
	}
	w.note(f)
	return goOn
}

func (w *walk) nftMatch(s *nftStatement, f *frame) answer {
	switch s.op {
	case opAddr:
		if s.key[0].what == fieldDst {
			return truth(s.prefix.has(f.dst.Addr()))
		}
		if f.masq && f.looped {
			return w.masqueraded(&s.prefix, f)
		}
		return truth(s.prefix.has(f.src.Addr()))
	case opPort:
		port := f.dst.Port()
		if s.key[0].what == fieldSport {
			port = f.src.Port()
		}
		return truth(s.ports.has(port))
	case opProto:
		return truth((w.packet.Protocol.Number() == s.proto) != s.not)
	case opState:
		return truth((f.state&s.states != 0) != s.not)
	case opIn:
		return s.iface.eval(f.in, f.hook <= hookForward, "iifname ")
	case opOut:
		return s.iface.eval(f.out, f.hook >= hookForward, "oifname ")
	case opLocal:
		a := f.dst.Addr()
		if s.key[0].what == fieldLocalSrc {
			a = f.src.Addr()
		}
		return truth(w.rules.isLocal(a) != s.not)
	case opMark:
		return truth((f.mark&s.mask == s.value) != s.not)
	case opChance:
		if s.n == 1 {
			return truth(!s.not)
		}
		p := 1 / float64(s.n)
		if s.not {
			p = 1 - p
		}
		return answer{kind: chance, p: p}
	}
	_, ok := w.find(s, f)
	return truth(ok != s.not)
}

// find looks the statement's key up. In a set whose elements come with packets,
// the packet says whether its source is there.
func (w *walk) find(s *nftStatement, f *frame) (nftElement, bool) {
	set := s.anon
	if set == nil {
		set = f.chain.table.sets[s.set]
	}
	if set.dynamic {
		return nftElement{}, w.recent(set.name, f)
	}
	rest, last := w.makeKey(s.key, f)
	return set.find(w.key, w.key[:rest], last)
}

// makeKey makes w.key what elements have as the key. It returns the length
// without the last part, and that part if it is an address.
func (w *walk) makeKey(key []nftField, f *frame) (rest int, last netip.Addr) {
	w.key = w.key[:0]
	for i, field := range key {
		if i > 0 {
			rest = len(w.key)
			w.key = append(w.key, " . "...)
		}
		w.key = field.appendTo(w.key, w, f)
	}
	switch key[len(key)-1].what {
	case fieldSrc:
		last = f.src.Addr()
	case fieldDst:
		last = f.dst.Addr()
	}
	return rest, last
}

// recent says whether the packet's source is in a list: it was before, or has
// been put there on the way.
func (w *walk) recent(list string, f *frame) bool {
	for r := f.remembered; r != nil; r = r.before {
		if r.list == list {
			return true
		}
	}
	return slices.Contains(w.packet.Recent, list)
}

func (w *walk) nftVerdict(v nftVerdict, f *frame) progress {
	switch v.what {
	case "accept":
		return decided
	case "drop":
		w.finish(f, Drop)
		return finished
	case "return":
		f.rule = len(f.chain.Rules)
		return goOn
	}
	return w.jump(f, f.chain.table.chains[v.chain], v.what == "goto")
}

func (w *walk) nftTarget(s *nftStatement, f *frame) progress {
	switch s.op {
	case opReject:
		w.finish(f, Reject)
		return finished
	case opMasquerade:
		f.masq = true
		f.state |= SNAT
		return decided
	case opDNAT:
		w.translate(f, s.to)
		return decided
	}
	return w.nftVerdict(s.verd, f)
}

// translate changes the destination. The state tells only of what has really
// been changed.
func (w *walk) translate(f *frame, to netip.AddrPort) {
	if to.Port() == 0 {
		to = netip.AddrPortFrom(to.Addr(), f.dst.Port())
	}
	if to != f.dst {
		f.dst = to
		f.state |= DNAT
	}
}

// dnatMap looks a destination up.
func (w *walk) dnatMap(s *nftStatement, f *frame) progress {
	if last := s.key[len(s.key)-1]; last.what == fieldRandom {
		return w.dnatRandom(s, f, last.n)
	}
	e, ok := w.find(s, f)
	if !ok {
		return goOn
	}
	w.note(f)
	w.translate(f, e.to)
	return decided
}

// dnatRandom looks destinations up by a key that ends in a number below n, which
// chance decides. Each number that leads somewhere is a branch of its own, and
// the others together are one in which the rule does not match.
func (w *walk) dnatRandom(s *nftStatement, f *frame, n int) progress {
	set := f.chain.table.sets[s.set]
	prefix := 0
	if w.key = w.key[:0]; len(s.key) > 1 {
		w.makeKey(s.key[:len(s.key)-1], f)
		w.key = append(w.key, " . "...)
		prefix = len(w.key)
	}
	before := len(w.pending)
	for i := range n {
		w.key = strconv.AppendInt(w.key[:prefix], int64(i), 10)
		e, ok := set.exact[string(w.key)]
		if !ok {
			continue
		}
		w.later(*f)
		hit := &w.pending[len(w.pending)-1]
		hit.p /= float64(n)
		hit.decided = true
		w.note(hit)
		w.translate(hit, e.to)
	}
	hits := w.pending[before:]
	slices.Reverse(hits) // the last one is walked first
	if len(hits) == n {
		return finished
	}
	f.p *= float64(n-len(hits)) / float64(n)
	return goOn
}
