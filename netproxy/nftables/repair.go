// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/netproxy/trace"
)

// plan is the two transactions that bring the kernel from a listing to the rule
// set; see RuleSet.Diff for why there are two.
type plan struct {
	prepare, change []byte
	wrong           int           // objects that were not as they should be
	kept            map[pick]bool // choosing chains that are not in use, but right
}

// planner makes a plan.
type planner struct {
	plan
	rs      *RuleSet
	trusted map[string]seenChain // see right
	now     listing
	sorted  []*service
	sticky  stickyState

	// The parts of plan.change, in this order: chains are emptied, what has to
	// be made anew is, and gets its rules; elements go and come; what nothing
	// refers to any more goes.
	flushes, remakes, rewrites, deletes, adds, removes []byte
}

func (b *Backend) plan(now listing) plan {
	p := &planner{rs: b.rules, trusted: b.trusted, now: now, sorted: b.rules.sorted()}
	p.kept = map[pick]bool{}
	for _, s := range p.sorted {
		p.rs.addSticky(&p.sticky, s)
	}
	if now.dormant {
		p.wrong++
		p.prepare = p.rs.appendCommand(p.prepare, "add table", "") // without flags: this wakes it
	}
	remade := p.sets()
	p.chains(remade)
	for o := range objects {
		p.elements(o)
	}
	p.change = slices.Concat(p.flushes, p.remakes, p.rewrites, p.deletes, p.adds, p.removes)
	return p.plan
}

// sets adds what is missing, removes what is left over, and makes sets of clients
// anew whose time has changed, which it returns.
func (p *planner) sets() (remade []string) {
	rs := p.rs
	wanted := map[string]bool{}
	for o := range objects {
		wanted[objectNames[o]] = true
		if p.now.sets[objectNames[o]] == nil {
			p.wrong++
			kind, rest, _ := strings.Cut(o.declaration(rs.dialect), " ")
			p.prepare = rs.appendCommand(p.prepare, "add "+kind, rest)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.sticky.sets)) {
		wanted[name] = true
		have := p.now.sets[name]
		switch {
		case have == nil:
			p.wrong++
			p.prepare = rs.appendCommand(p.prepare, "add set", p.sticky.sets[name])
		case have.timeout != p.sticky.timeouts[name]:
			p.wrong++
			remade = append(remade, name)
			p.remakes = rs.appendCommand(p.remakes, "delete set", name)
			p.remakes = rs.appendCommand(p.remakes, "add set", p.sticky.sets[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.now.sets)) {
		if !wanted[name] {
			p.wrong++
			p.removes = rs.appendCommand(p.removes, "delete "+p.now.sets[name].kind, name)
		}
	}
	return remade
}

// chains adds what is missing, rewrites what differs, and removes what is left
// over.
func (p *planner) chains(remade []string) {
	rs := p.rs
	wanted := slices.Concat(rs.fixedChains(), rs.pickChains(), p.sticky.chains)
	idle := map[string]pick{}
	for _, at := range rs.idlePicks() {
		c := rs.pickChain(spaces[at.space], at.n)
		idle[c.name] = at
		wanted = append(wanted, c)
	}
	found := p.compareChains(wanted)
	var missing []chain
	left := maps.Clone(p.now.chains)
	for _, c := range wanted {
		at, isIdle := idle[c.name]
		shown, there := p.now.chains[c.name]
		switch {
		case isIdle && found[c.name] == same:
			p.kept[at] = true
			delete(left, c.name)
		case isIdle: // it is not needed
		case !there:
			p.wrong++
			missing = append(missing, c)
		default:
			delete(left, c.name)
			if !p.right(c, found[c.name], shown) {
				p.wrong++
				p.rewrite(c)
			} else if c.mentions(remade) {
				p.rewrite(c)
			}
		}
	}
	p.prepare = rs.appendChains(p.prepare, missing)
	var removes []byte
	for _, name := range slices.Sorted(maps.Keys(left)) {
		p.wrong++
		p.flushes = rs.appendCommand(p.flushes, "flush chain", name)
		removes = rs.appendCommand(removes, "delete chain", name)
	}
	p.removes = append(p.removes, removes...) // after the maps that may lead to them
}

// right says whether a chain is as it should be. One that the tracer can't read,
// because a newer nft shows it in other words, say, is right if nft shows what it
// showed after the chain was written.
func (p *planner) right(c chain, found likeness, shown string) bool {
	said := strings.Join(c.rules, "\n")
	before, written := p.trusted[c.name]
	switch {
	case found == same:
		delete(p.trusted, c.name)
		return true
	case found == unreadable && written && before.said == said && (before.shown == "" || before.shown == shown):
		p.trusted[c.name] = seenChain{said, shown}
		return true
	}
	p.trusted[c.name] = seenChain{said, ""}
	return false
}

// likeness is what comparing a listed chain with ours has found.
type likeness uint8

const (
	unreadable likeness = iota
	same
	different
)

// seenChain is a chain in our words and in nft's. It was not listed yet if
// shown is empty.
type seenChain struct{ said, shown string }

// rewrite gives a chain its rules again. A base chain is made anew, in case its
// hook has been changed.
func (p *planner) rewrite(c chain) {
	rs := p.rs
	p.flushes = rs.appendCommand(p.flushes, "flush chain", c.name)
	if c.hook != "" {
		p.remakes = rs.appendCommand(p.remakes, "delete chain", c.name)
		p.remakes = rs.appendCommand(p.remakes, "add chain", c.name+" { "+c.hook+"; }")
	}
	for _, r := range c.rules {
		p.rewrites = rs.appendCommand(p.rewrites, "add rule", c.name+" "+r)
	}
}

func (c *chain) mentions(sets []string) bool {
	return slices.ContainsFunc(c.rules, func(r string) bool {
		return slices.ContainsFunc(sets, func(s string) bool { return strings.Contains(r, "@"+s+" ") })
	})
}

// compareChains compares the chains with what is listed of them.
func (p *planner) compareChains(wanted []chain) map[string]likeness {
	found := map[string]likeness{}
	want, err := trace.ParseNFT(p.frame(wanted) + string(p.rs.appendChains(nil, wanted)))
	if err != nil {
		return found // a configuration that the tracer does not know
	}
	have, err := trace.ParseNFT(p.frame(wanted) + p.body(wanted))
	if err == nil {
		p.compareWith(found, want, have, wanted)
		return found
	}
	for _, c := range wanted { // some chain can't be read; the others can
		if have, err := trace.ParseNFT(p.frame(wanted) + p.body([]chain{c})); err == nil {
			p.compareWith(found, want, have, []chain{c})
		}
	}
	return found
}

func (p *planner) compareWith(found map[string]likeness, want, have *trace.RuleSet, chains []chain) {
	table := p.rs.dialect.family + " " + TableName
	for _, c := range chains {
		found[c.name] = different
		if have.Table(table).Chain(c.name).Same(want.Table(table).Chain(c.name)) {
			found[c.name] = same
		}
	}
}

// frame declares everything that rules may refer to.
func (p *planner) frame(chains []chain) string {
	rs := p.rs
	b := rs.appendCommand(nil, "add table", "")
	for o := range objects {
		b = rs.appendCommand(b, "add set", objectNames[o]+" { }")
	}
	for _, name := range slices.Sorted(maps.Keys(p.sticky.sets)) {
		b = rs.appendCommand(b, "add set", name+" { }")
	}
	for _, c := range chains {
		b = rs.appendCommand(b, "add chain", c.name)
	}
	return string(b)
}

// body is the chains as nft lists them.
func (p *planner) body(chains []chain) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", p.rs.dialect.family, TableName)
	for _, c := range chains {
		fmt.Fprintf(&b, "chain %s {\n%s}\n", c.name, p.now.chains[c.name])
	}
	b.WriteString("}\n")
	return b.String()
}

// elements adds those that are missing and deletes those that should not be
// there.
func (p *planner) elements(o object) {
	rs := p.rs
	del := elementList{rs: rs, b: p.deletes, object: o, verb: "delete"}
	add := elementList{rs: rs, b: p.adds, object: o, verb: "add"}
	var left map[string]bool // what is there and not wanted
	if s := p.now.sets[objectNames[o]]; s != nil {
		left = s.elements
	}
	wrong := false
	put := func(list []byte) {
		for e := range bytes.SplitSeq(list, separator) {
			if len(e) == 0 {
				continue
			}
			if left[string(e)] {
				delete(left, string(e))
				continue
			}
			wrong = true
			add.begin()
			add.b = append(append(add.b, e...), separator...)
		}
	}
	if o == hairpins {
		for _, a := range rs.sortedHairpins() {
			put(appendHairpin(nil, a))
		}
	} else {
		var buf []byte
		for _, s := range p.sorted {
			buf = rs.appendElements(buf[:0], s, o)
			put(buf)
		}
	}
	for _, e := range slices.Sorted(maps.Keys(left)) {
		wrong = true
		del.begin()
		del.b = append(append(del.b, elementKey([]byte(e))...), separator...)
	}
	p.deletes, p.adds = del.end(), add.end()
	if wrong && p.now.sets[objectNames[o]] != nil { // else it was counted already
		p.wrong++
	}
}

// idlePicks are the choosing chains that have been made and are not in use.
func (rs *RuleSet) idlePicks() []pick {
	var idle []pick
	for p := range rs.created {
		if rs.picks[p] == 0 {
			idle = append(idle, p)
		}
	}
	slices.SortFunc(idle, comparePicks)
	return idle
}
