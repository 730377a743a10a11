// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/kernel"
)

// Diff returns the two transactions for nft -f that, one after the other, bring
// the kernel from what the last call said to what holds now: the elements that
// come and go. Either may be empty. The first call says everything in change, as
// AppendText does. The work is proportional to what was updated since.
//
// New chains come in a transaction of their own, prepare, because the kernel
// lets a packet that is on its way see the maps of a transaction before it sees
// the rules of its chains. It would find a new chain empty, and go on without
// a destination.
//
// If a transaction could not be applied, the caller calls Forget and starts
// again with the whole text. Backend compares with the kernel instead.
func (rs *RuleSet) Diff() (prepare, change []byte) {
	if !rs.started {
		text := rs.AppendText(nil)
		rs.settle()
		for p := range rs.picks {
			rs.created[p] = true
		}
		return nil, text
	}
	if len(rs.dirty) == 0 {
		return nil, nil
	}
	d := diff{rs: rs}
	for _, s := range slices.SortedFunc(maps.Keys(rs.dirty), compareDirty(rs.dirty)) {
		d.service(rs.dirty[s], s)
	}
	d.hairpins()
	prepare = d.appendNewChains(nil)
	change = d.append(nil)
	rs.settle()
	return prepare, change
}

// settle makes the present state the one that diffs start from.
func (rs *RuleSet) settle() {
	rs.started = true
	rs.dirty, rs.oldHairpin = kernel.Emptied(rs.dirty), kernel.Emptied(rs.oldHairpin)
}

// Forget makes the next diff say everything again.
func (rs *RuleSet) Forget() {
	rs.settle()
	rs.started = false
	clear(rs.created)
}

// compareDirty orders services by what they are or were.
func compareDirty(dirty map[*service]*service) func(a, b *service) int {
	name := func(s *service) *netproxy.Route {
		switch {
		case s.route != nil:
			return s.route
		case dirty[s].route != nil:
			return dirty[s].route
		}
		return &netproxy.Route{} // it came and went
	}
	return func(a, b *service) int { return netproxy.CompareRoutes(name(a), name(b)) }
}

// diff collects what changes. Elements can't be changed, only deleted and added.
type diff struct {
	rs                   *RuleSet
	deletes, adds        [objects][]byte
	oldSticky, newSticky stickyState
	before, after        []byte
}

func (d *diff) service(before, now *service) {
	for o := range objects {
		d.before = d.rs.appendElements(d.before[:0], before, o)
		d.after = d.rs.appendElements(d.after[:0], now, o)
		if !bytes.Equal(d.before, d.after) {
			d.elements(o)
		}
	}
	d.rs.addSticky(&d.oldSticky, before)
	d.rs.addSticky(&d.newSticky, now)
}

var separator = []byte(", ")

// elements finds what is only in before and what is only in after.
func (d *diff) elements(o object) {
	have := map[string]bool{}
	for e := range bytes.SplitSeq(d.before, separator) {
		have[string(e)] = true
	}
	for e := range bytes.SplitSeq(d.after, separator) {
		if len(e) == 0 {
			continue
		}
		if have[string(e)] {
			delete(have, string(e))
			continue
		}
		d.adds[o] = append(append(d.adds[o], e...), separator...)
	}
	for e := range bytes.SplitSeq(d.before, separator) { // in order
		if len(e) > 0 && have[string(e)] {
			d.deletes[o] = append(append(d.deletes[o], elementKey(e)...), separator...)
		}
	}
}

// elementKey cuts an element down to its key, which is all that a delete needs.
func elementKey(e []byte) []byte {
	key, _, _ := bytes.Cut(e, []byte(" : "))
	key, _, _ = bytes.Cut(key, []byte(" comment "))
	return key
}

func (d *diff) hairpins() {
	for _, a := range slices.SortedFunc(maps.Keys(d.rs.oldHairpin), netip.Addr.Compare) {
		had, has := d.rs.oldHairpin[a], d.rs.hairpin[a] > 0
		switch {
		case has && !had:
			d.adds[hairpins] = appendHairpin(d.adds[hairpins], a)
		case had && !has:
			d.deletes[hairpins] = appendHairpin(d.deletes[hairpins], a)
		}
	}
}

// appendNewChains creates the chains that the change will refer to. The chains
// that choose among n endpoints are few, and stay once they are there.
func (d *diff) appendNewChains(b []byte) []byte {
	rs := d.rs
	var chains []chain
	for _, p := range slices.SortedFunc(maps.Keys(rs.picks), comparePicks) {
		if !rs.created[p] {
			rs.created[p] = true
			chains = append(chains, rs.pickChain(spaces[p.space], p.n))
		}
	}
	picks := len(chains)
	for _, c := range d.newSticky.chains {
		if d.oldSticky.chain(c.name) == nil {
			chains = append(chains, c)
		}
	}
	if len(chains) > picks {
		b = d.appendNewSets(b)
	}
	return rs.appendChains(b, chains)
}

func (d *diff) appendNewSets(b []byte) []byte {
	for _, name := range slices.Sorted(maps.Keys(d.newSticky.sets)) {
		if _, ok := d.oldSticky.sets[name]; !ok {
			b = d.rs.appendCommand(b, "add set", d.newSticky.sets[name])
		}
	}
	return b
}

// append writes the transaction: what is referred to comes before what refers
// to it, and goes after it.
func (d *diff) append(b []byte) []byte {
	rs := d.rs
	b = d.appendNewSets(b) // once more, perhaps: adding a set that is there changes nothing
	b, gone := d.appendSticky(b)
	for o := range objects {
		b = d.appendElementList(b, "delete", o, d.deletes[o])
	}
	for o := range objects {
		b = d.appendElementList(b, "add", o, d.adds[o])
	}
	for _, name := range gone {
		b = rs.appendCommand(b, "delete chain", name)
	}
	for _, name := range slices.Sorted(maps.Keys(d.oldSticky.sets)) {
		if _, ok := d.newSticky.sets[name]; !ok {
			b = rs.appendCommand(b, "delete set", name)
		}
	}
	return b
}

// appendSticky rewrites the chains of services with affinity that differ, and
// returns those that are to be deleted, which it empties.
func (d *diff) appendSticky(b []byte) (_ []byte, gone []string) {
	rs := d.rs
	var rewrite []chain
	retimed := d.retimed()
	for _, c := range d.newSticky.chains {
		old := d.oldSticky.chain(c.name)
		if old != nil && (retimed || !slices.Equal(old.rules, c.rules)) {
			b = rs.appendCommand(b, "flush chain", c.name)
			rewrite = append(rewrite, c)
		}
	}
	for _, c := range d.oldSticky.chains {
		if d.newSticky.chain(c.name) == nil {
			b = rs.appendCommand(b, "flush chain", c.name)
			gone = append(gone, c.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.newSticky.sets)) {
		if old, ok := d.oldSticky.sets[name]; ok && old != d.newSticky.sets[name] {
			b = rs.appendCommand(b, "delete set", name)
			b = rs.appendCommand(b, "add set", d.newSticky.sets[name])
		}
	}
	for _, c := range rewrite {
		for _, r := range c.rules {
			b = rs.appendCommand(b, "add rule", c.name+" "+r)
		}
	}
	return b, gone
}

func (st *stickyState) chain(name string) *chain {
	if i := slices.IndexFunc(st.chains, func(c chain) bool { return c.name == name }); i >= 0 {
		return &st.chains[i]
	}
	return nil
}

// retimed says whether a set of clients is to be made anew.
func (d *diff) retimed() bool {
	for name, decl := range d.newSticky.sets {
		if old, ok := d.oldSticky.sets[name]; ok && old != decl {
			return true
		}
	}
	return false
}

func (d *diff) appendElementList(b []byte, verb string, o object, list []byte) []byte {
	if len(list) == 0 {
		return b
	}
	l := elementList{rs: d.rs, b: b, object: o, verb: verb}
	l.begin()
	l.b = append(l.b, list...)
	return l.end()
}
