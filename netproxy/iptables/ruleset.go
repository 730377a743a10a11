// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
)

// RuleSet is the rules for a set of routes, as a value: nothing in it touches
// the kernel. It is for one goroutine at a time.
//
// Its text is a function of the configuration and the set of routes, whatever
// the order in which they came.
type RuleSet struct {
	config netproxy.Config
	// pods and notPods match traffic by whether it comes from pods; empty if
	// the configuration does not tell.
	pods, notPods string

	services *tree
	// The other trees, named after the table and chain that they start from.
	nodePorts, hairpin, filterServices, filterNodePorts *tree

	routes map[netproxy.PortName]*service
	ids    map[id]*service

	started bool       // a diff has created the fixed chains
	dirty   []*service // whose chains may differ from what the last diff said
	removed []string   // service chains that the last diff had and that are gone

	// Buffers that are kept between calls, so that these allocate nothing.
	before, after []frontend
	heads, rules  []byte
	seed          maphash.Seed
}

// New returns a rule set without routes. The error is made of FieldErrors.
func New(c netproxy.Config) (*RuleSet, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	addrLen := 4
	if c.Family == netproxy.IPv6 {
		addrLen = 16
	}
	rs := &RuleSet{
		config:          c,
		services:        newTree(treeStyle{root: chainServices, prefix: Prefix + "TO-", jump: " -j ", match: " -d "}, addrLen),
		nodePorts:       newTree(treeStyle{root: chainNodePorts, prefix: Prefix + "NP-", jump: " -g ", match: ""}, 0),
		hairpin:         newTree(treeStyle{root: chainHairpin, prefix: Prefix + "HP-", jump: " -g ", match: " -s "}, addrLen),
		filterServices:  newTree(treeStyle{root: chainServices, prefix: Prefix + "TO-", jump: " -g ", match: " -d "}, addrLen),
		filterNodePorts: newTree(treeStyle{root: chainNodePorts, prefix: Prefix + "NP-", jump: " -g ", match: ""}, 0),
		routes:          map[netproxy.PortName]*service{},
		ids:             map[id]*service{},
		seed:            maphash.MakeSeed(),
	}
	rs.pods, rs.notPods = rs.fromPods(false), rs.fromPods(true)
	return rs, nil
}

// Config returns what the rule set was made with.
func (rs *RuleSet) Config() netproxy.Config { return rs.config }

// Len returns the number of routes.
func (rs *RuleSet) Len() int { return len(rs.routes) }

// Update puts changes of the rule set's family into effect; those of the other
// family are skipped. An error is made of *netproxy.ServiceErrors, one for each
// route that was refused: it is left out, and the others take effect.
func (rs *RuleSet) Update(changes []netproxy.Change) error {
	// Addresses may go from one route to another, so all are released first.
	for _, c := range changes {
		if c.Old != nil && c.Old.Family == rs.config.Family {
			rs.release(c.Old.Name, c.New)
		}
	}
	var errs []error
	for _, c := range changes {
		r := c.Route()
		if r == nil || r.Family != rs.config.Family {
			continue
		}
		if err := rs.set(r.Name, c.New); err != nil {
			errs = append(errs, &netproxy.ServiceError{Service: r.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}

// release takes the frontends out of the trees that the route has and will not
// have when it is replaced by r.
func (rs *RuleSet) release(name netproxy.PortName, r *netproxy.Route) {
	s := rs.routes[name]
	if s == nil {
		return
	}
	rs.listFrontends(s.route, r)
	for _, f := range rs.before {
		if it, _ := f.tree.find(f.key); it != nil && it.owner == s && firstFrontend(rs.after, f) < 0 {
			f.tree.remove(f.key)
		}
	}
}

// listFrontends fills rs.before and rs.after; a nil route has none.
func (rs *RuleSet) listFrontends(before, after *netproxy.Route) {
	rs.before, rs.after = rs.before[:0], rs.after[:0]
	if before != nil {
		rs.before = rs.appendFrontends(rs.before, before)
	}
	if after != nil {
		rs.after = rs.appendFrontends(rs.after, after)
	}
}

// set puts a route in the place of the one of that name; nil removes it. A route
// that is refused is not there afterwards.
func (rs *RuleSet) set(name netproxy.PortName, r *netproxy.Route) error {
	s := rs.routes[name]
	if s == nil && r == nil {
		return nil
	}
	if s == nil {
		s = &service{id: hash(name.Append(nil))}
		if other := rs.ids[s.id]; other != nil {
			return fmt.Errorf("its chains would be called as those of %v", other.route.Name)
		}
	}
	rs.listFrontends(nil, r)
	refused := rs.vacant(s)
	if refused != nil {
		r = nil
	}
	rs.release(name, r)
	rs.listFrontends(nil, r)
	old := s.route
	rs.placeFrontends(s)
	rs.moveHairpins(old, r)
	if r == nil {
		rs.forget(s, name)
		return refused
	}
	s.route = r
	s.balance()
	rs.routes[name], rs.ids[s.id] = s, s
	rs.touch(s)
	return nil
}

// vacant checks that no other route has one of s's frontends. A Tracker never
// lets that happen.
func (rs *RuleSet) vacant(s *service) error {
	for _, f := range rs.after {
		if it, _ := f.tree.find(f.key); it != nil && it.owner != s {
			return fmt.Errorf("%w: %v has the same address and port", netproxy.ErrConflict, it.owner.route.Name)
		}
	}
	return nil
}

// placeFrontends puts rs.after into the trees.
func (rs *RuleSet) placeFrontends(s *service) {
	for i, f := range rs.after {
		if firstFrontend(rs.after[:i], f) >= 0 {
			continue // one address in two lists: the first one counts
		}
		it, leaf := f.tree.find(f.key)
		switch {
		case it == nil:
			f.tree.insert(&item{key: f.key, owner: s, action: f.action})
		case it.action != f.action:
			it.action = f.action
			f.tree.touch(leaf)
		}
	}
}

func firstFrontend(in []frontend, f frontend) int {
	return slices.IndexFunc(in, func(g frontend) bool { return g.tree == f.tree && g.key == f.key })
}

// moveHairpins counts the addresses of local endpoints.
func (rs *RuleSet) moveHairpins(before, after *netproxy.Route) {
	for a := range hairpins(after) {
		k := key{addr: addrKey(a)}
		if it, _ := rs.hairpin.find(k); it != nil {
			it.refs++
		} else {
			rs.hairpin.insert(&item{key: k, refs: 1})
		}
	}
	for a := range hairpins(before) {
		k := key{addr: addrKey(a)}
		if it, _ := rs.hairpin.find(k); it.refs > 1 {
			it.refs--
		} else {
			rs.hairpin.remove(k)
		}
	}
}

func hairpins(r *netproxy.Route) func(func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		if r == nil {
			return
		}
		for _, list := range [...][]netproxy.Destination{r.Cluster, r.Local} {
			for _, e := range list {
				if e.Local && !yield(e.Addr.Addr()) {
					return
				}
			}
		}
	}
}

// forget removes a service, and remembers the chains that it leaves behind.
func (rs *RuleSet) forget(s *service, name netproxy.PortName) {
	for k := range kinds {
		if s.sums[k] != 0 {
			rs.removed = append(rs.removed, string(s.appendName(nil, k)))
		}
		if int(k) < len(s.blocks) {
			s.dropBlocks(k)
		}
	}
	rs.removed = append(rs.removed, s.left...)
	s.left = nil
	if rs.routes[name] == s {
		delete(rs.routes, name)
		delete(rs.ids, s.id)
	}
	s.route = nil
}

func (rs *RuleSet) touch(s *service) {
	if !s.dirty {
		s.dirty = true
		rs.dirty = append(rs.dirty, s)
	}
}

// AppendText appends the whole rule set as iptables-restore reads it. With
// --noflush it replaces the contents of all chains of the rule set, and leaves
// all others alone. It lacks only the jumps from the built-in chains; see
// Jumps.
func (rs *RuleSet) AppendText(b []byte) []byte {
	sorted := rs.sorted()
	b = append(b, "*nat\n"...)
	b = appendFixedHeads(b, natChains)
	for _, t := range rs.natTrees() {
		t.each(func(n *node) { b = appendHead(b, t.appendName, n) })
	}
	for _, s := range sorted {
		for k := range kinds {
			if has(s.route, k) {
				b = appendHead(b, s.appendName, k)
			}
		}
		s.eachBlock(func(t *tree, n *node) { b = appendHead(b, t.appendName, n) })
	}
	b = rs.appendFixedNAT(b)
	for _, t := range rs.natTrees() {
		t.each(func(n *node) { b = rs.appendNodeRules(b, t, n) })
	}
	for _, s := range sorted {
		for k := range kinds {
			if has(s.route, k) {
				b = rs.appendServiceRules(b, s, k)
			}
		}
		s.eachBlock(func(t *tree, n *node) { b = t.appendBlockRules(b, n, s.route.Protocol) })
	}
	b = append(b, "COMMIT\n*filter\n"...)
	b = appendFixedHeads(b, filterChains)
	for _, t := range rs.filterTrees() {
		t.each(func(n *node) { b = appendHead(b, t.appendName, n) })
	}
	b = rs.appendFixedFilter(b)
	for _, t := range rs.filterTrees() {
		t.each(func(n *node) { b = rs.appendNodeRules(b, t, n) })
	}
	return append(b, "COMMIT\n"...)
}

// Text returns the text of AppendText as a string.
func (rs *RuleSet) Text() string { return string(rs.AppendText(nil)) }

func (rs *RuleSet) sorted() []*service {
	out := make([]*service, 0, len(rs.routes))
	for _, s := range rs.routes {
		out = append(out, s)
	}
	slices.SortFunc(out, compareServices)
	return out
}

func compareServices(a, b *service) int { return netproxy.CompareRoutes(a.route, b.route) }

func (rs *RuleSet) natTrees() [3]*tree { return [3]*tree{rs.services, rs.nodePorts, rs.hairpin} }

func (rs *RuleSet) filterTrees() [2]*tree { return [2]*tree{rs.filterServices, rs.filterNodePorts} }

func appendHead[T any](b []byte, name func([]byte, T) []byte, of T) []byte {
	b = append(b, ':')
	b = name(b, of)
	return append(b, " - [0:0]\n"...)
}

// appendNodeRules appends a tree's chain with what follows the tree in its
// first chain.
func (rs *RuleSet) appendNodeRules(b []byte, t *tree, n *node) []byte {
	b = t.appendRules(b, n)
	if t == rs.services && n == t.root {
		b = rs.appendToNodePorts(b, chainServices)
	}
	return b
}

// AppendDiff appends the text that brings the kernel from what the last call
// said to what holds now, for iptables-restore --noflush: each chain that
// differs is given its whole new contents, so that the text can be applied
// twice. It appends nothing if nothing differs. The first call says everything.
// The work is proportional to what was updated since.
//
// If the text could not be applied, the caller calls Forget and starts again
// with the whole text. Backend compares with the kernel instead.
func (rs *RuleSet) AppendDiff(b []byte) []byte {
	first := !rs.started
	if !first && len(rs.dirty) == 0 && len(rs.removed) == 0 && !dirtyTrees(rs.natTrees()) && !dirtyTrees(rs.filterTrees()) {
		return b
	}
	rs.started = true
	b = rs.appendDiffNAT(b, first)
	b = rs.appendDiffFilter(b, first)
	if cap(rs.rules) > 1<<20 { // the first diff is large, the others are not
		rs.heads, rs.rules = nil, nil
	}
	return b
}

func dirtyTrees[A [2]*tree | [3]*tree](ts A) bool {
	for i := range len(ts) {
		if len(ts[i].dirty) > 0 || len(ts[i].removed) > 0 {
			return true
		}
	}
	return false
}

func (rs *RuleSet) appendDiffNAT(b []byte, first bool) []byte {
	rs.heads, rs.rules = rs.heads[:0], rs.rules[:0]
	if first {
		rs.heads = appendFixedHeads(rs.heads, natChains)
		rs.rules = rs.appendFixedNAT(rs.rules)
	}
	var removed []string
	for _, t := range rs.natTrees() {
		removed = append(removed, rs.diffTree(t)...)
	}
	removed = append(removed, rs.removed...)
	rs.removed = nil
	live := slices.DeleteFunc(rs.dirty, func(s *service) bool { return s.route == nil })
	slices.SortFunc(live, compareServices)
	for _, s := range live {
		s.dirty = false
		for k := range kinds {
			removed = rs.diffServiceChain(removed, s, k)
		}
		removed = rs.diffBlocks(removed, s)
	}
	clear(rs.dirty)
	rs.dirty = rs.dirty[:0]
	return rs.appendTable(b, "*nat\n", removed)
}

func (rs *RuleSet) appendDiffFilter(b []byte, first bool) []byte {
	rs.heads, rs.rules = rs.heads[:0], rs.rules[:0]
	if first {
		rs.heads = appendFixedHeads(rs.heads, filterChains)
		rs.rules = rs.appendFixedFilter(rs.rules)
	}
	var removed []string
	for _, t := range rs.filterTrees() {
		removed = append(removed, rs.diffTree(t)...)
	}
	return rs.appendTable(b, "*filter\n", removed)
}

// diffTree renders the tree's dirty chains and returns those that are gone.
func (rs *RuleSet) diffTree(t *tree) (removed []string) {
	slices.SortFunc(t.dirty, t.compareNodes)
	for _, n := range t.dirty {
		n.dirty = false
		if n.gone {
			continue
		}
		start := len(rs.rules)
		rs.rules = rs.appendNodeRules(rs.rules, t, n)
		if rs.unchanged(&n.sum, start) {
			continue
		}
		rs.heads = appendHead(rs.heads, t.appendName, n)
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	removed = t.removed
	t.removed = nil
	return removed
}

// unchanged compares what was just rendered with the sum of what was said
// before. If it is the same it is taken back.
func (rs *RuleSet) unchanged(sum *uint64, start int) bool {
	now := maphash.Bytes(rs.seed, rs.rules[start:]) | 1 // never 0
	if *sum == now {
		rs.rules = rs.rules[:start]
		return true
	}
	*sum = now
	return false
}

func (rs *RuleSet) diffServiceChain(removed []string, s *service, k kind) []string {
	if !has(s.route, k) {
		if s.sums[k] != 0 {
			s.sums[k] = 0
			removed = append(removed, string(s.appendName(nil, k)))
		}
		return removed
	}
	start := len(rs.rules)
	rs.rules = rs.appendServiceRules(rs.rules, s, k)
	if !rs.unchanged(&s.sums[k], start) {
		rs.heads = appendHead(rs.heads, s.appendName, k)
	}
	return removed
}

// appendTable appends rs.heads and rs.rules as one table, and deletes chains.
func (rs *RuleSet) appendTable(b []byte, table string, removed []string) []byte {
	slices.Sort(removed)
	removed = slices.DeleteFunc(slices.Compact(removed), headed(rs.heads, len(removed)))
	if len(rs.heads) == 0 && len(removed) == 0 {
		return b
	}
	b = append(b, table...)
	b = append(b, rs.heads...)
	for _, name := range removed {
		b = append(b, ':')
		b = append(b, name...)
		b = append(b, " - [0:0]\n"...) // empties it
	}
	b = append(b, rs.rules...)
	for _, name := range removed {
		b = append(b, "-X "...)
		b = append(b, name...)
		b = append(b, '\n')
	}
	return append(b, "COMMIT\n"...)
}

// headed returns a test for chains that are created again by heads.
func headed(heads []byte, removed int) func(string) bool {
	if removed == 0 {
		return nil
	}
	names := map[string]bool{}
	for line := range bytes.Lines(heads) {
		name, _, _ := bytes.Cut(line[1:], []byte(" "))
		names[string(name)] = true
	}
	return func(name string) bool { return names[name] }
}

// Forget makes the next diff say everything again.
func (rs *RuleSet) Forget() {
	rs.started, rs.removed = false, nil
	for _, s := range rs.routes {
		s.sums = [kinds]uint64{}
		s.touchBlocks()
		rs.touch(s)
	}
	for _, t := range [...]*tree{rs.services, rs.nodePorts, rs.hairpin, rs.filterServices, rs.filterNodePorts} {
		t.removed = nil
		t.each(func(n *node) {
			n.sum = 0
			t.touch(n)
		})
	}
}

// Save returns the text that iptables-save would print on a machine that has
// these rules and no others: the text of AppendText with the built-in chains
// and the jumps. It is what the package trace reads.
func (rs *RuleSet) Save() string {
	var b strings.Builder
	table := ""
	for line := range strings.Lines(rs.Text()) {
		if line[0] == '*' {
			table = strings.TrimSpace(line[1:])
		}
		for _, j := range Jumps() {
			if j.Table == table && line == "COMMIT\n" {
				fmt.Fprintf(&b, "-A %s -j %s\n", j.From, j.To)
			}
		}
		b.WriteString(line)
		for _, j := range Jumps() {
			if j.Table == table && line[0] == '*' {
				fmt.Fprintf(&b, ":%s ACCEPT [0:0]\n", j.From)
			}
		}
	}
	return b.String()
}
