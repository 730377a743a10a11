// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ParseNFT reads rules of nftables: commands for nft -f, such as the package
// nftables writes, or what nft list prints. It knows what that package makes
// (see the package comment); anything else is a *ParseError that says what is
// not known, as is text that nft would not take.
//
// Tables of both families may be in one rule set; a packet is shown those of its
// own. [RuleSet.Restore] applies further commands.
func ParseNFT(text string) (*RuleSet, error) {
	rs := &RuleSet{nft: true}
	if err := rs.Restore(text); err != nil {
		return nil, err
	}
	return rs, nil
}

// restoreNFT applies commands as nft -f does: all of them or, with a
// *ParseError, nothing.
func (rs *RuleSet) restoreNFT(text string) error {
	p := &nftParser{nftWords: nftWords{text: text, line: 1}, tables: slices.Clone(rs.tables), own: map[any]bool{}}
	err := p.commands()
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return &ParseError{p.line, p.current(), err.Error()}
	}
	rs.tables = p.tables
	rs.index()
	for h := range rs.hooks {
		slices.SortStableFunc(rs.hooks[h], func(a, b *Chain) int { return a.base.priority - b.base.priority })
	}
	return nil
}

// nftBase is what makes a chain of nftables a base chain.
type nftBase struct {
	nat      bool
	hook     hook
	priority int
}

// nftSet is a set or a map, named or in a rule.
type nftSet struct {
	name    string
	kind    string // set or map
	decl    string // what the braces held, but for the elements
	dynamic bool   // its elements come with packets: Packet.Recent
	exact   map[string]nftElement
	// wide are elements whose last part is a range of addresses, by the parts
	// before it.
	wide map[string][]netip.Prefix
}

// nftElement is what a key of a map leads to; nothing for a set.
type nftElement struct {
	to   netip.AddrPort
	verd nftVerdict
}

type nftVerdict struct {
	what  string // accept, drop, return, goto, jump; empty: none
	chain string
}

func (s *nftSet) clone() *nftSet {
	c := *s
	c.exact, c.wide = maps.Clone(s.exact), maps.Clone(s.wide)
	return &c
}

// nftParser applies one text. What it changes it copies first, so that a text with
// an error leaves no trace.
type nftParser struct {
	nftWords
	tables []*Table
	elem   []byte       // the key of the element that is being read
	own    map[any]bool // tables, chains and sets that are copies already
}

func (p *nftParser) commands() error {
	for {
		switch w := p.word(); w {
		case "":
			return p.err
		case "\n", ";":
		case "table":
			t, err := p.table(true)
			if err == nil {
				err = p.tableBlock(t)
			}
			if err != nil {
				return err
			}
		case "add", "create", "delete", "flush":
			if err := p.command(w, p.word()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("command %q is not known; want add, delete, flush or table", w)
		}
		if p.err != nil {
			return p.err
		}
	}
}

// check finds what refers to something that is not there. What is listed may come
// after what refers to it, so this is done at the end.
func (p *nftParser) check() error {
	for _, t := range p.tables {
		if !p.own[t] {
			continue
		}
		for _, c := range t.order {
			for _, r := range c.Rules {
				if err := r.check(t); err != nil {
					return fmt.Errorf("chain %s: %w", c.Name, err)
				}
			}
		}
		for _, s := range t.sets {
			for key, e := range s.exact {
				if c := e.verd.chain; c != "" && t.chains[c] == nil {
					return fmt.Errorf("%s: element %q: no chain %q", s.name, key, c)
				}
			}
		}
	}
	return nil
}

func (p *nftParser) command(verb, object string) error {
	if object == "table" && verb != "flush" {
		family, name := p.word(), p.word()
		return p.tableCommand(verb, family, name)
	}
	t, err := p.table(false)
	if err != nil {
		return err
	}
	name := p.word()
	switch verb + " " + object {
	case "add chain", "create chain":
		return p.addChain(t, name)
	case "add rule":
		return p.addRule(t, name)
	case "add set", "add map", "create set", "create map":
		return p.addSet(t, object, name)
	case "add element", "delete element":
		return p.elementCommand(verb, t, name)
	case "flush chain":
		c, err := p.chain(t, name)
		if err == nil {
			c.Rules = nil
		}
		return err
	case "flush set", "flush map":
		s, err := p.set(t, name)
		if err == nil {
			clear(s.exact)
			clear(s.wide)
		}
		return err
	case "delete chain":
		return p.deleteChain(t, name)
	case "delete set", "delete map":
		return p.deleteSet(t, name)
	}
	return fmt.Errorf("command %q is not known", verb+" "+object)
}

func (p *nftParser) tableCommand(verb, family, name string) error {
	if family != "ip" && family != "ip6" {
		return fmt.Errorf("family %q is not known; want ip or ip6", family)
	}
	i := slices.IndexFunc(p.tables, func(t *Table) bool { return t.Name == family+" "+name })
	switch {
	case verb == "delete" && i < 0:
		return fmt.Errorf("no table %s %s", family, name)
	case verb == "delete":
		p.tables = slices.Delete(p.tables, i, i+1)
	case verb == "create" && i >= 0:
		return fmt.Errorf("table %s %s exists", family, name)
	case i < 0:
		t := &Table{Name: family + " " + name, ip6: family == "ip6", chains: map[string]*Chain{}, sets: map[string]*nftSet{}}
		p.own[t] = true
		p.tables = append(p.tables, t)
	}
	return nil
}

// table reads "FAMILY NAME" and returns the table as one that may be changed.
func (p *nftParser) table(create bool) (*Table, error) {
	family, name := p.word(), p.word()
	if create {
		if err := p.tableCommand("add", family, name); err != nil {
			return nil, err
		}
	}
	i := slices.IndexFunc(p.tables, func(t *Table) bool { return t.Name == family+" "+name })
	if i < 0 {
		return nil, fmt.Errorf("no table %s %s", family, name)
	}
	t := p.tables[i]
	if !p.own[t] {
		t = &Table{Name: t.Name, ip6: t.ip6, chains: maps.Clone(t.chains), order: slices.Clone(t.order), sets: maps.Clone(t.sets)}
		p.own[t] = true
		p.tables[i] = t
	}
	return t, nil
}

// chain returns the chain as one that may be changed.
func (p *nftParser) chain(t *Table, name string) (*Chain, error) {
	c := t.chains[name]
	if c == nil {
		return nil, fmt.Errorf("no chain %q in table %s", name, t.Name)
	}
	if !p.own[c] {
		old := c
		c = &Chain{Name: name, Policy: old.Policy, base: old.base, Rules: slices.Clone(old.Rules)}
		p.own[c] = true
		t.chains[name] = c
		t.order[slices.Index(t.order, old)] = c
	}
	return c, nil
}

func (p *nftParser) set(t *Table, name string) (*nftSet, error) {
	s := t.sets[name]
	if s == nil {
		return nil, fmt.Errorf("no set or map %q in table %s", name, t.Name)
	}
	if !p.own[s] {
		s = s.clone()
		p.own[s] = true
		t.sets[name] = s
	}
	return s, nil
}

func (p *nftParser) addChain(t *Table, name string) error {
	if err := nftName(name); err != nil {
		return err
	}
	c := t.chains[name]
	if c == nil {
		c = &Chain{Name: name}
		p.own[c] = true
		t.add(c)
	}
	if p.peek() != "{" {
		return nil
	}
	p.word()
	for {
		switch w := p.word(); w {
		case "}":
			return nil
		case ";", "\n":
		case "type", "policy":
			if err := p.baseChain(w, c); err != nil {
				return err
			}
		case "comment":
			p.word()
		default:
			return fmt.Errorf("chain %s: %q is not known", name, w)
		}
	}
}

// baseChain reads what follows "type" or "policy" in a chain's block.
func (p *nftParser) baseChain(what string, c *Chain) error {
	if what == "policy" {
		c.Policy = strings.ToUpper(p.word())
		return nil
	}
	kind := p.word()
	if kind != "nat" && kind != "filter" {
		return fmt.Errorf("chain %s: type %q is not known; want nat or filter", c.Name, kind)
	}
	if w := p.word(); w != "hook" {
		return fmt.Errorf("chain %s: %q after its type; want hook", c.Name, w)
	}
	at := p.word()
	h := slices.Index(hookChain[:], strings.ToUpper(at))
	if h < 0 {
		return fmt.Errorf("chain %s: hook %q is not known", c.Name, at)
	}
	if w := p.word(); w != "priority" {
		return fmt.Errorf("chain %s: %q after its hook; want priority", c.Name, w)
	}
	priority, err := p.priority()
	if err != nil {
		return fmt.Errorf("chain %s: %w", c.Name, err)
	}
	c.base = &nftBase{nat: kind == "nat", hook: hook(h), priority: priority}
	if c.Policy == "" {
		c.Policy = "ACCEPT"
	}
	return nil
}

var nftPriorities = map[string]int{"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}

// priority reads a number, or a name with an offset: "srcnat + 5".
func (p *nftParser) priority() (int, error) {
	var words []string
	for w := p.peek(); w != ";" && w != "}" && w != "\n" && w != ""; w = p.peek() {
		words = append(words, p.word())
	}
	text := strings.Join(words, "")
	name := strings.TrimRight(text, "+-0123456789")
	base, ok := nftPriorities[name]
	rest := strings.TrimPrefix(text[len(name):], "+")
	if rest == "" && ok {
		return base, nil
	}
	n, err := strconv.Atoi(rest)
	if err != nil || (name != "" && !ok) {
		return 0, fmt.Errorf("priority %q is not known", text)
	}
	return base + n, nil
}

// addRule reads a rule up to the end of the line.
func (p *nftParser) addRule(t *Table, chain string) error {
	c, err := p.chain(t, chain)
	if err != nil {
		return err
	}
	r, err := p.rule(t)
	if err != nil {
		return err
	}
	c.Rules = append(c.Rules, r)
	return nil
}

func (p *nftParser) deleteChain(t *Table, name string) error {
	c := t.chains[name]
	if c == nil {
		return fmt.Errorf("no chain %q in table %s", name, t.Name)
	}
	for _, other := range t.order {
		for _, r := range other.Rules {
			if other != c && slices.ContainsFunc(r.nft, func(s nftStatement) bool { return s.verd.chain == name }) {
				return fmt.Errorf("chain %s is in use by a rule of chain %s", name, other.Name)
			}
		}
	}
	for _, s := range t.sets {
		for key, e := range s.exact {
			if e.verd.chain == name {
				return fmt.Errorf("chain %s is in use by the element %q of %s", name, key, s.name)
			}
		}
	}
	delete(t.chains, name)
	t.order = slices.DeleteFunc(t.order, func(o *Chain) bool { return o == c })
	return nil
}

func (p *nftParser) deleteSet(t *Table, name string) error {
	if t.sets[name] == nil {
		return fmt.Errorf("no set or map %q in table %s", name, t.Name)
	}
	for _, c := range t.order {
		for _, r := range c.Rules {
			if slices.ContainsFunc(r.nft, func(s nftStatement) bool { return s.set == name }) {
				return fmt.Errorf("%s is in use by a rule of chain %s", name, c.Name)
			}
		}
	}
	delete(t.sets, name)
	return nil
}

// tableBlock reads a table as nft lists it, from its brace on.
func (p *nftParser) tableBlock(t *Table) error {
	if w := p.word(); w != "{" {
		return fmt.Errorf("%q after the name of a table; want {", w)
	}
	for {
		switch w := p.word(); w {
		case "}":
			return nil
		case "\n", ";":
		case "comment":
			p.word()
		case "set", "map":
			if err := p.addSet(t, w, p.word()); err != nil {
				return err
			}
		case "chain":
			if err := p.chainBlock(t, p.word()); err != nil {
				return err
			}
		case "":
			return fmt.Errorf("table %s is not closed by }", t.Name)
		default:
			return fmt.Errorf("table %s: %q is not known; want set, map or chain", t.Name, w)
		}
	}
}

func (p *nftParser) chainBlock(t *Table, name string) error {
	if p.word() != "{" {
		return fmt.Errorf("chain %s: want {", name)
	}
	if err := nftName(name); err != nil {
		return err
	}
	if t.chains[name] == nil {
		c := &Chain{Name: name}
		p.own[c] = true
		t.add(c)
	}
	c, err := p.chain(t, name)
	if err != nil {
		return err
	}
	for {
		switch w := p.peek(); w {
		case "}":
			p.word()
			return nil
		case "\n", ";":
			p.word()
		case "":
			return fmt.Errorf("chain %s is not closed by }", name)
		case "type", "policy":
			if err := p.baseChain(p.word(), c); err != nil {
				return err
			}
		case "comment":
			p.word()
			p.word()
		default:
			r, err := p.rule(t)
			if err != nil {
				return err
			}
			c.Rules = append(c.Rules, r)
		}
	}
}

// nftName refuses what nft takes for something else.
func nftName(name string) error {
	switch name {
	case "fwd", "dup", "ct", "meta", "ip", "ip6", "tcp", "udp", "sctp", "th", "map", "vmap", "accept", "drop", "return", "goto", "jump", "{", "}", ";", "\n", "":
		return fmt.Errorf("%q can't be a name: nft has a meaning for it", name)
	}
	return nil
}

// nftWords cuts a text into words as nft does. Line ends are words.
type nftWords struct {
	text string
	pos  int
	line int
	err  error
}

// current returns the line that is being read.
func (p *nftWords) current() string {
	at := min(p.pos, len(p.text))
	start := strings.LastIndexByte(p.text[:max(at-1, 0)], '\n') + 1
	line, _, _ := strings.Cut(p.text[start:], "\n")
	if len(line) > 200 {
		line = line[:200] + "..."
	}
	return line
}

func (p *nftWords) peek() string {
	pos, line := p.pos, p.line
	w := p.word()
	p.pos, p.line = pos, line
	return w
}

// word returns the next word, "" at the end. Quotes are taken off.
func (p *nftWords) word() string {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == ' ' || c == '\t' || c == '\r':
			p.pos++
		case c == '\\' && strings.HasPrefix(p.text[p.pos:], "\\\n"):
			p.pos += 2
			p.line++
		case c == '#':
			end := strings.IndexByte(p.text[p.pos:], '\n')
			if end < 0 {
				end = len(p.text) - p.pos
			}
			p.pos += end
		case c == '\n':
			p.line++
			fallthrough
		case c == '{' || c == '}' || c == ',' || c == ';':
			p.pos++
			return p.text[p.pos-1 : p.pos]
		case c == '"':
			return p.quoted()
		default:
			return p.plain()
		}
	}
	return ""
}

func (p *nftWords) quoted() string {
	end := strings.IndexByte(p.text[p.pos+1:], '"')
	if end < 0 {
		p.err = fmt.Errorf("a quote is not closed")
		p.pos = len(p.text)
		return ""
	}
	w := p.text[p.pos+1 : p.pos+1+end]
	p.pos += end + 2
	return w
}

func (p *nftWords) plain() string {
	start := p.pos
	for p.pos < len(p.text) && !strings.ContainsRune(" \t\r\n{},;\"#", rune(p.text[p.pos])) {
		p.pos++
	}
	return p.text[start:p.pos]
}

// nftEnds says whether a word ends a rule.
func nftEnds(w string) bool { return w == "" || w == "\n" || w == ";" || w == "}" }
