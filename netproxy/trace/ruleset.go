// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// RuleSet is the rules of one machine: those of iptables for one address family,
// as iptables-save or ip6tables-save prints them (see Parse), or tables of
// nftables (see ParseNFT). Reading it from several goroutines is
// safe while none restores.
type RuleSet struct {
	// Local are the machine's own addresses. Loopback addresses count as its
	// own in any case.
	Local []netip.Addr

	// Tracking says that something outside the rule set, such as rules of
	// nftables, uses connection tracking for this address family. The kernel
	// tracks connections only while some rule needs it, a match on the state or
	// a target that translates, and asks the nat table only for packets that
	// are tracked. If no rule of the set needs it and Tracking is false,
	// packets pass the nat table by, as they do in the kernel.
	Tracking bool

	nft    bool // rules of nftables
	tables []*Table
	hooks  [len(hookChain)][]*Chain // the built-in chains in the kernel's order
	chains []*Chain                 // all of them; Chain.id is the position here
	tracks bool                     // a rule needs connection tracking
	walks  sync.Pool                // of *walk
}

// Table is one table: raw, mangle, nat or filter; of nftables, one with a name
// like "ip slipway".
type Table struct {
	Name   string
	chains map[string]*Chain
	order  []*Chain // as they were declared

	// Of nftables:
	ip6  bool
	sets map[string]*nftSet // and maps
}

// Chain is a chain of a table.
type Chain struct {
	Name   string
	Policy string // of a built-in chain: ACCEPT or DROP; empty for others
	Rules  []*Rule

	id    int32
	table *Table
	base  *nftBase // of a base chain of nftables
	links []*Chain // where each rule jumps or goes to; nil: nowhere
	index *dstIndex
}

// ParseError says which line of a text could not be read, and why.
type ParseError struct {
	Line   int // from 1
	Text   string
	Reason string
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("trace: line %d: %s: %s", e.Line, e.Reason, e.Text)
}

// Parse reads the output of iptables-save, with or without counters, or text
// for iptables-restore. A match or target that it does not know is kept and
// reported by Trace; text that iptables-restore would not take is a
// *ParseError.
func Parse(text string) (*RuleSet, error) {
	rs := &RuleSet{}
	if err := rs.Restore(text); err != nil {
		return nil, err
	}
	return rs, nil
}

// Restore applies text as iptables-restore --noflush does: all of it or, with a
// *ParseError, nothing. Declaring a chain that is not built in empties it.
//
// To a rule set of ParseNFT it applies commands as nft -f does.
func (rs *RuleSet) Restore(text string) error {
	if rs.nft {
		return rs.restoreNFT(text)
	}
	r := &restorer{rs: rs, tables: slices.Clone(rs.tables)}
	for line := range strings.Lines(text) {
		r.line++
		line = strings.TrimRight(line, "\r\n")
		if err := r.apply(line); err != nil {
			return &ParseError{r.line, line, err.Error()}
		}
	}
	if r.open != nil {
		return &ParseError{r.line, "*" + r.open.Name, "the table is not closed by COMMIT"}
	}
	rs.tables = r.tables
	rs.index()
	return nil
}

// index finds what Trace needs to know of the tables as they are now.
func (rs *RuleSet) index() {
	rs.tracks, rs.chains = false, nil // older Results keep the old list
	rs.hooks = [len(hookChain)][]*Chain{}
	for _, t := range rs.tables {
		t.link()
		for _, c := range t.order {
			c.id = int32(len(rs.chains))
			rs.chains = append(rs.chains, c)
			if c.base != nil {
				rs.hooks[c.base.hook] = append(rs.hooks[c.base.hook], c)
			}
		}
		rs.tracks = rs.tracks || slices.ContainsFunc(t.order, (*Chain).tracks)
	}
	for h, tables := range tablesOf {
		for _, t := range tables {
			if c := rs.Table(t).Chain(hookChain[h]); c != nil {
				rs.hooks[h] = append(rs.hooks[h], c)
			}
		}
	}
}

// Table returns the table of that name, or nil.
func (rs *RuleSet) Table(name string) *Table {
	for _, t := range rs.tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Chain returns the chain of that name, or nil. A nil table has none.
func (t *Table) Chain(name string) *Chain {
	if t == nil {
		return nil
	}
	return t.chains[name]
}

// Chains returns the chains in the order of their declarations.
func (t *Table) Chains() []*Chain {
	if t == nil {
		return nil
	}
	return t.order
}

// link finds the chains that rules jump to. It is done when nothing can fail any
// more, because chains that a text does not change are shared with what was before.
func (t *Table) link() {
	for _, c := range t.order {
		c.table = t
		c.links = make([]*Chain, len(c.Rules))
		for i, r := range c.Rules {
			if r.jumps && !knownTarget(r.target) {
				c.links[i] = t.chains[r.target]
			}
		}
	}
}

func (c *Chain) tracks() bool {
	return slices.ContainsFunc(c.Rules, func(r *Rule) bool { return r.tracks })
}

// restorer applies one text. Tables are copied before they are changed, so that
// a text with an error leaves no trace.
type restorer struct {
	rs     *RuleSet
	tables []*Table
	open   *Table
	owned  map[*Chain]bool // chains of the open table that are copies already
	line   int
	tok    tokens
	slab   []Rule // rules are allocated by the hundred
}

func (r *restorer) apply(line string) error {
	line = strings.TrimSpace(line)
	switch {
	case line == "" || line[0] == '#':
		return nil
	case line[0] == '*':
		if r.open != nil {
			return fmt.Errorf("table %s is not closed by COMMIT", r.open.Name)
		}
		r.begin(strings.TrimSpace(line[1:]))
		return nil
	case r.open == nil:
		return fmt.Errorf("no table is open; want *TABLE first")
	case line == "COMMIT":
		return r.commit()
	case line[0] == ':':
		return r.declare(line[1:])
	case line[0] == '[': // counters of iptables-save -c
		_, rest, ok := strings.Cut(line, "]")
		if !ok {
			return fmt.Errorf("counters without ']'")
		}
		line = strings.TrimSpace(rest)
	}
	return r.command(line)
}

func (r *restorer) begin(name string) {
	t := &Table{Name: name, chains: map[string]*Chain{}}
	r.owned = map[*Chain]bool{}
	if old := r.rs.tableIn(r.tables, name); old != nil {
		for _, c := range old.order {
			t.add(c)
		}
		r.tables[slices.Index(r.tables, old)] = t
	} else {
		r.tables = append(r.tables, t)
	}
	r.open = t
}

func (rs *RuleSet) tableIn(ts []*Table, name string) *Table {
	i := slices.IndexFunc(ts, func(t *Table) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return ts[i]
}

func (t *Table) add(c *Chain) {
	t.chains[c.Name] = c
	t.order = append(t.order, c)
}

// mutable returns the chain as one that this restorer may change.
func (r *restorer) mutable(name string) (*Chain, error) {
	c := r.open.chains[name]
	if c == nil && builtin(r.open.Name, name) {
		c = &Chain{Name: name, Policy: "ACCEPT", table: r.open}
		r.owned[c] = true
		r.open.add(c)
	}
	if c == nil {
		return nil, fmt.Errorf("no chain %q in table %s", name, r.open.Name)
	}
	if r.owned[c] {
		return c, nil
	}
	cp := &Chain{Name: c.Name, Policy: c.Policy, Rules: slices.Clone(c.Rules), table: r.open}
	r.owned[cp] = true
	r.open.chains[name] = cp
	r.open.order[slices.Index(r.open.order, c)] = cp
	return cp, nil
}

// declare reads ":NAME POLICY [packets:bytes]".
func (r *restorer) declare(s string) error {
	f := strings.Fields(s)
	if len(f) < 2 {
		return fmt.Errorf("want :CHAIN POLICY [packets:bytes]")
	}
	name, policy := f[0], f[1]
	if builtin(r.open.Name, name) {
		if policy != "ACCEPT" && policy != "DROP" && policy != "-" {
			return fmt.Errorf("policy %q: want ACCEPT, DROP or - for no change", policy)
		}
		c, err := r.mutable(name)
		if err == nil && policy != "-" {
			c.Policy = policy
		}
		return err
	}
	if err := checkChainName(name); err != nil {
		return err
	}
	c := &Chain{Name: name, table: r.open}
	r.owned[c] = true
	if old := r.open.chains[name]; old != nil {
		r.open.order[slices.Index(r.open.order, old)] = c
		r.open.chains[name] = c
	} else {
		r.open.add(c)
	}
	return nil
}

// command reads -A, -I, -D, -R, -F, -N, -X and -P.
func (r *restorer) command(line string) error {
	r.tok.reset(line)
	op, _ := r.tok.next()
	name, ok := r.tok.next()
	if !ok && op != "-F" && op != "-X" {
		return fmt.Errorf("%s without a chain", op)
	}
	switch op {
	case "-N", "--new-chain":
		if r.open.chains[name] != nil {
			return fmt.Errorf("chain %q exists", name)
		}
		return r.declare(name + " -")
	case "-X", "--delete-chain":
		return r.deleteChain(name)
	}
	c, err := r.mutable(name)
	if err != nil {
		return err
	}
	switch op {
	case "-A", "--append":
		rule, err := r.rule(c)
		if err != nil {
			return err
		}
		c.Rules = append(c.Rules, rule)
		return nil
	case "-F", "--flush":
		c.Rules = nil
		return nil
	case "-P", "--policy":
		c.Policy, _ = r.tok.next()
		return nil
	case "-I", "--insert", "-D", "--delete", "-R", "--replace":
		return r.edit(op, c)
	}
	return fmt.Errorf("command %q: want -A, -I, -D, -R, -F, -N, -X or -P", op)
}

// edit inserts, deletes or replaces one rule.
func (r *restorer) edit(op string, c *Chain) error {
	at := 0
	numbered := false
	if n, ok := r.tok.number(); ok {
		at, numbered = n-1, true
	}
	del := op[1] == 'D' || op == "--delete"
	insert := op[1] == 'I' || op == "--insert"
	if limit := len(c.Rules); at < 0 || at > limit || (at == limit && !insert && numbered) {
		return fmt.Errorf("no rule %d in chain %s", at+1, c.Name)
	}
	if del && numbered {
		c.Rules = slices.Delete(c.Rules, at, at+1)
		return nil
	}
	rule, err := r.rule(c)
	if err != nil {
		return err
	}
	switch {
	case insert:
		c.Rules = slices.Insert(c.Rules, at, rule)
	case del:
		i := slices.IndexFunc(c.Rules, rule.Same)
		if i < 0 {
			return fmt.Errorf("no such rule in chain %s", c.Name)
		}
		c.Rules = slices.Delete(c.Rules, i, i+1)
	case !numbered:
		return fmt.Errorf("-R without a number")
	default:
		c.Rules[at] = rule
	}
	return nil
}

func (r *restorer) deleteChain(name string) error {
	c := r.open.chains[name]
	switch {
	case c == nil:
		return fmt.Errorf("no chain %q in table %s", name, r.open.Name)
	case builtin(r.open.Name, name):
		return fmt.Errorf("chain %s is built in", name)
	case len(c.Rules) > 0:
		return fmt.Errorf("chain %s is not empty", name)
	}
	// Whether it is still referred to is known only at COMMIT, as the kernel does.
	delete(r.open.chains, name)
	r.open.order = slices.Delete(r.open.order, slices.Index(r.open.order, c), slices.Index(r.open.order, c)+1)
	return nil
}

// commit links the jumps of the open table to their chains.
func (r *restorer) commit() error {
	for _, c := range r.open.order {
		for _, rule := range c.Rules {
			if !rule.jumps {
				continue
			}
			to := r.open.chains[rule.target]
			switch {
			case to != nil && builtin(r.open.Name, rule.target):
				return fmt.Errorf("chain %s jumps to the built-in chain %s", c.Name, rule.target)
			case to == nil && knownTarget(rule.target):
			case to == nil && rule.targetArgs == "" && !upperTarget(rule.target):
				return fmt.Errorf("chain %s jumps to %s, which is neither a chain nor a known target", c.Name, rule.target)
			}
		}
		c.index = nil
		if len(c.Rules) >= indexFrom {
			c.index = newDstIndex(c.Rules)
		}
	}
	r.open = nil
	return nil
}

// upperTarget says whether a name looks like that of a target extension.
func upperTarget(name string) bool {
	return strings.IndexFunc(name, func(c rune) bool { return c < 'A' || c > 'Z' }) < 0
}

func (r *restorer) rule(c *Chain) (*Rule, error) {
	if len(r.slab) == 0 {
		r.slab = make([]Rule, 128)
	}
	rule := &r.slab[0]
	r.slab = r.slab[1:]
	if err := rule.parse(&r.tok); err != nil {
		*rule = Rule{}
		return nil, err
	}
	return rule, nil
}

// builtin says whether the table has a built-in chain of that name.
func builtin(table, chain string) bool {
	switch chain {
	case "INPUT":
		return table != "raw"
	case "OUTPUT":
		return true
	case "PREROUTING":
		return table != "filter" && table != "security"
	case "POSTROUTING":
		return table == "nat" || table == "mangle"
	case "FORWARD":
		return table != "nat" && table != "raw"
	}
	return false
}

func checkChainName(name string) error {
	switch {
	case len(name) > 28:
		return fmt.Errorf("chain name %q has %d characters; at most 28 are allowed", name, len(name))
	case name[0] == '-' || name[0] == '!':
		return fmt.Errorf("chain name %q begins with %q", name, name[0])
	case knownTarget(name):
		return fmt.Errorf("chain %q has the name of a target", name)
	}
	return nil
}

// indexFrom is the length from which a chain gets an index: the dispatch chains
// of other programs have a rule per service.
const indexFrom = 64

// dstIndex finds the rules that can match a destination address: those with
// exactly that address, and those without an exact address.
type dstIndex struct {
	exact map[netip.Addr][]int32
	rest  []int32
}

func newDstIndex(rules []*Rule) *dstIndex {
	x := &dstIndex{exact: make(map[netip.Addr][]int32, len(rules))}
	for i, r := range rules {
		if r.dst.prefix.IsValid() && r.dst.prefix.IsSingleIP() && !r.dst.not {
			a := r.dst.prefix.Addr()
			x.exact[a] = append(x.exact[a], int32(i))
		} else {
			x.rest = append(x.rest, int32(i))
		}
	}
	return x
}

// next returns the position of the first rule from i on that can match, or n.
func (c *Chain) next(i int, dst netip.Addr) int {
	if c.index == nil {
		return i
	}
	best := len(c.Rules)
	for _, list := range [2][]int32{c.index.exact[dst], c.index.rest} {
		if j, _ := slices.BinarySearch(list, int32(i)); j < len(list) {
			best = min(best, int(list[j]))
		}
	}
	return best
}
