// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"net/netip"
	"slices"
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
			e, ok := w.find(s, f, 0)
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
	_, ok := w.find(s, f, 0)
	return truth(ok != s.not)
}

// find looks the statement's key up. In a set whose elements come with packets,
// the packet says whether its source is there.
func (w *walk) find(s *nftStatement, f *frame, random int) (nftElement, bool) {
	set := s.anon
	if set == nil {
		set = f.chain.table.sets[s.set]
	}
	if set.dynamic {
		return nftElement{}, w.recent(set.name, f)
	}
	w.key = w.key[:0]
	rest := 0
	var last netip.Addr
	for i, field := range s.key {
		if i > 0 {
			rest = len(w.key)
			w.key = append(w.key, " . "...)
		}
		w.key = field.appendTo(w.key, w, f, random)
		switch field.what {
		case fieldSrc:
			last = f.src.Addr()
		case fieldDst:
			last = f.dst.Addr()
		default:
			last = netip.Addr{}
		}
	}
	return set.find(w.key, w.key[:rest], last)
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

// dnatMap looks a destination up. If chance is a part of the key, each number
// that leads somewhere is a branch of its own, and the others together are one
// in which the rule does not match.
func (w *walk) dnatMap(s *nftStatement, f *frame) progress {
	n := 1
	for _, field := range s.key {
		if field.what == fieldRandom {
			n = field.n
		}
	}
	before := len(w.pending)
	for i := range n {
		e, ok := w.find(s, f, i)
		if !ok {
			continue
		}
		hit := *f
		hit.p /= float64(n)
		hit.decided = true
		w.note(&hit)
		w.translate(&hit, e.to)
		w.later(hit)
	}
	hits := w.pending[before:]
	if len(hits) < n {
		f.p *= float64(n-len(hits)) / float64(n)
		if len(hits) == 0 {
			return goOn
		}
	}
	slices.Reverse(hits) // the last one is walked first
	if len(hits) < n {
		return goOn
	}
	return finished
}
