// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// addSet reads the block of a set or map. One that is there is not changed, if it
// was declared in the same way, but gets the elements.
func (p *nftParser) addSet(t *Table, kind, name string) error {
	if err := nftName(name); err != nil {
		return err
	}
	s := &nftSet{name: name, kind: kind, exact: map[string]nftElement{}, wide: map[string][]netip.Prefix{}}
	if w := p.word(); w != "{" {
		return fmt.Errorf("%s %s: want {", kind, name)
	}
	if t.sets[name] != nil {
		old, err := p.set(t, name)
		if err != nil {
			return err
		}
		s.exact, s.wide = old.exact, old.wide
	}
	var decl []string
	for {
		w := p.word()
		switch w {
		case "":
			return fmt.Errorf("%s %s is not closed by }", kind, name)
		case "}":
			s.decl = strings.Join(decl, " ")
			if old := t.sets[name]; old != nil && (old.decl != s.decl || old.kind != kind) {
				return fmt.Errorf("%s %s exists, and was declared as %s { %s }", kind, name, old.kind, old.decl)
			}
			p.own[s] = true
			t.sets[name] = s
			return nil
		case "\n", ";":
			continue
		case "elements":
			p.word() // =
			if err := p.elements(s, true); err != nil {
				return err
			}
			continue
		case "dynamic":
			s.dynamic = true
		}
		decl = append(decl, w)
	}
}

func (p *nftParser) elementCommand(verb string, t *Table, name string) error {
	s, err := p.set(t, name)
	if err != nil {
		return err
	}
	return p.elements(s, verb == "add")
}

// elements reads "{ KEY [: VALUE], ... }", and adds the elements or takes them out.
func (p *nftParser) elements(s *nftSet, add bool) error {
	if w := p.word(); w != "{" {
		return fmt.Errorf("%s: %q before its elements; want {", s.name, w)
	}
	for {
		for p.peek() == "\n" || p.peek() == "," {
			p.word()
		}
		if p.peek() == "}" {
			p.word()
			return nil
		}
		if err := p.element(s, add); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if p.err != nil {
			return p.err
		}
	}
}

func (p *nftParser) element(s *nftSet, add bool) error {
	key, err := p.elementKey()
	if err != nil {
		return err
	}
	e, err := p.elementValue(key)
	if err != nil {
		return err
	}
	if add && (s.kind == "map") != (e != nftElement{}) {
		return fmt.Errorf("element %q of a %s: a map's element leads somewhere, a set's does not", key, s.kind)
	}
	if strings.ContainsRune(key, '/') {
		return s.wideElement(key, add)
	}
	old, there := s.exact[key]
	switch {
	case add && there && old != e:
		return fmt.Errorf("element %q exists, and leads elsewhere", key)
	case add:
		s.exact[key] = e
	case !there:
		return fmt.Errorf("no element %q", key)
	default:
		delete(s.exact, key)
	}
	return nil
}

// elementKey reads a key: words joined by ".".
func (p *nftParser) elementKey() (string, error) {
	p.elem = append(p.elem[:0], p.word()...)
	for p.peek() == "." {
		p.word()
		p.elem = append(append(p.elem, " . "...), p.word()...)
	}
	if len(p.elem) == 0 {
		return "", fmt.Errorf("an element without a key")
	}
	return string(p.elem), nil
}

// elementValue reads what follows the key: a comment, a time, a value.
func (p *nftParser) elementValue(key string) (e nftElement, err error) {
	for {
		switch w := p.peek(); w {
		case ",", "}", "\n":
			if w == "\n" {
				p.word()
				continue
			}
			return e, nil
		case "comment", "timeout", "expires":
			p.word()
			p.word()
		case ":":
			p.word()
			if e, err = p.value(); err != nil {
				return e, fmt.Errorf("element %q: %w", key, err)
			}
		default:
			return e, fmt.Errorf("element %q: %q is not known", key, w)
		}
	}
}

func (p *nftParser) value() (e nftElement, err error) {
	w := p.word()
	switch w {
	case "accept", "drop", "return":
		e.verd.what = w
		return e, nil
	case "goto", "jump":
		e.verd = nftVerdict{w, p.word()}
		return e, nil
	}
	addr, err := netip.ParseAddr(w)
	if err != nil {
		return e, fmt.Errorf("value %q: want a verdict or an address", w)
	}
	if p.peek() != "." {
		e.to = netip.AddrPortFrom(addr, 0)
		return e, nil
	}
	p.word()
	port, err := parsePort(p.word())
	e.to = netip.AddrPortFrom(addr, port)
	return e, err
}

// wideElement adds or deletes an element whose last part is a range.
func (s *nftSet) wideElement(key string, add bool) error {
	rest, last := "", key
	if i := strings.LastIndex(key, " . "); i >= 0 {
		rest, last = key[:i], key[i+3:]
	}
	prefix, err := parsePrefix(last)
	if err != nil || strings.ContainsRune(rest, '/') {
		return fmt.Errorf("element %q: only its last part may be a range, of addresses", key)
	}
	if prefix.IsSingleIP() { // nft shows it without its bits
		return s.exactElement(rest, prefix.Addr(), add)
	}
	list := s.wide[rest]
	i := slices.Index(list, prefix)
	switch {
	case add && i < 0:
		list = append(list, prefix)
		slices.SortFunc(list, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
		s.wide[rest] = list
	case !add && i < 0:
		return fmt.Errorf("no element %q", key)
	case !add:
		s.wide[rest] = slices.Delete(list, i, i+1)
	}
	return nil
}

func (s *nftSet) exactElement(rest string, a netip.Addr, add bool) error {
	key := a.String()
	if rest != "" {
		key = rest + " . " + key
	}
	switch _, there := s.exact[key]; {
	case add:
		s.exact[key] = nftElement{}
	case !there:
		return fmt.Errorf("no element %q", key)
	default:
		delete(s.exact, key)
	}
	return nil
}

// merge joins ranges that lie in or beside one another, as nft does in the sets
// in rules.
func (s *nftSet) merge() {
	list := s.wide[""] // sorted, wider ones first
	for i := 0; i+1 < len(list); {
		a, b := list[i], list[i+1]
		wider := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
		switch {
		case a.Contains(b.Addr()):
		case a.Bits() == b.Bits() && wider.Contains(b.Addr()):
			list[i] = wider
		default:
			i++
			continue
		}
		list = slices.Delete(list, i+1, i+2)
		i = max(i-1, 0)
	}
	if len(list) > 0 {
		s.wide[""] = list
	}
}

// find returns what the key leads to. rest is the key without its last part,
// and last that part if it is an address.
func (s *nftSet) find(key, rest []byte, last netip.Addr) (nftElement, bool) {
	if e, ok := s.exact[string(key)]; ok {
		return e, true
	}
	if len(s.wide) > 0 && last.IsValid() {
		for _, p := range s.wide[string(rest)] {
			if p.Contains(last) {
				return nftElement{}, true
			}
		}
	}
	return nftElement{}, false
}
