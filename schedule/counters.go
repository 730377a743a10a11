// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"slices"
)

// counters is the registry that knits classes and counters together: a new
// class finds the counters that its pods count in, a new counter the classes
// whose pods it counts. Both are found by label, not by asking everyone.
type counters struct {
	byKey       map[string]*counter
	anchored    map[[2]string][]*counter // whose pods all have this label
	unanchored  []*counter
	byLabel     map[[2]string][]*class
	classes     []*class
	byNamespace bool // some selector chooses namespaces by label
}

func newCounters() counters {
	return counters{
		byKey:    map[string]*counter{},
		anchored: map[[2]string][]*counter{},
		byLabel:  map[[2]string][]*class{},
	}
}

// link makes the counters that a new class needs and joins it to those there
// are.
func (r *counters) link(c *Cluster, x *class) {
	for _, k := range r.matching(c, x.t) {
		k.joinClass(x)
	}
	r.classes = append(r.classes, x)
	for key, value := range x.t.labels {
		label := [2]string{key, value}
		r.byLabel[label] = append(r.byLabel[label], x)
	}
	r.linkAffinity(c, x)
	r.linkSpread(c, x)
}

func (r *counters) linkAffinity(c *Cluster, x *class) {
	t := x.t
	var all []podSelector
	for i := range t.affinity.required {
		all = append(all, t.affinity.required[i].pods)
	}
	x.selfAffine = c.chosen(all, t)
	for i := range t.affinity.required {
		term := &t.affinity.required[i]
		x.affinityTo = append(x.affinityTo, r.counter(c, x, countMatching, term.key, 0, all, nil, true))
		r.carry(c, x, carryAffinity, term, 0)
	}
	for i := range t.anti.required {
		term := &t.anti.required[i]
		x.antiTo = append(x.antiTo, r.counter(c, x, countMatching, term.key, 0, []podSelector{term.pods}, nil, true))
		r.carry(c, x, carryAnti, term, 0)
	}
	prefer := func(list []weightedPodTerm, sign int64, kind counterKind) {
		for i := range list {
			term := &list[i].term
			k := r.counter(c, x, countMatching, term.key, 0, []podSelector{term.pods}, nil, false)
			x.prefers = append(x.prefers, weightedCounter{sign * list[i].weight, k})
			r.carry(c, x, kind, term, list[i].weight)
		}
	}
	prefer(t.affinity.preferred, 1, carryPrefer)
	prefer(t.anti.preferred, -1, carryAvoid)
}

func (r *counters) linkSpread(c *Cluster, x *class) {
	for i := range x.t.spread {
		term := &x.t.spread[i]
		s := spread{spreadTerm: term}
		text, e := c.eligibility(x, term)
		s.counter = r.counterFor(c, x, countMatching, term.key, 0, []podSelector{term.selector}, text, e, false)
		if !term.soft {
			x.hardSpread = append(x.hardSpread, s)
			continue
		}
		if term.key == LabelHostname {
			s.host = r.counter(c, x, countMatching, nameKey, 0, []podSelector{term.selector}, nil, false)
		}
		x.softSpread = append(x.softSpread, s)
	}
}

// eligibility says which nodes count for a constraint, and a text that tells
// different answers apart.
func (c *Cluster) eligibility(x *class, term *spreadTerm) (string, *eligibility) {
	e := &eligibility{}
	var text string
	for i := range x.t.spread {
		if other := &x.t.spread[i]; other.soft == term.soft {
			e.columns = append(e.columns, c.table.column(other.key))
			text += fmt.Sprintf("%q ", other.key)
		}
	}
	if !term.allNodes {
		e.affinity = x.affinity
		if e.affinity != nil {
			text += fmt.Sprintf("%q %v", x.t.selector, x.t.required)
		}
	}
	if term.honorTaints {
		e.honorTaints, e.tolerations = true, x.t.tolerations
		text += fmt.Sprintf("taints %q", x.t.tolerations)
	}
	return text, e
}

// carry makes the counter of the pods that have the term.
func (r *counters) carry(c *Cluster, x *class, kind counterKind, term *podTerm, weight int64) {
	k := r.counter(c, x, kind, term.key, weight, []podSelector{term.pods}, nil, kind == carryAnti)
	x.feed = append(x.feed, k) // equal terms of one pod count twice, as in Kubernetes
}

func (r *counters) counter(c *Cluster, x *class, kind counterKind, key string, weight int64, all []podSelector, e *eligibility, present bool) *counter {
	return r.counterFor(c, x, kind, key, weight, all, "", e, present)
}

// counterFor returns the counter with these properties, making it if x is the
// first to need it.
func (r *counters) counterFor(c *Cluster, x *class, kind counterKind, key string, weight int64, all []podSelector, eligible string, e *eligibility, present bool) *counter {
	text := fmt.Sprintf("%d %q %d %q %v", kind, key, weight, eligible, present)
	for i := range all {
		text += all[i].text
	}
	k, ok := r.byKey[text]
	if !ok {
		k = &counter{required: present, kind: kind, column: c.table.column(key), all: all, eligible: e, text: text, weight: weight}
		r.byKey[text] = k
		r.index(c, k)
		c.count(k)
	}
	if !slices.Contains(x.owns, k) {
		k.refs++
		x.owns = append(x.owns, k)
	}
	return k
}

// index makes a new counter known, and joins it to the classes it is about.
func (r *counters) index(c *Cluster, k *counter) {
	for i := range k.all {
		r.byNamespace = r.byNamespace || k.all[i].byLabels
	}
	classes := r.classes
	if label, ok := k.all[0].anchor(); ok {
		r.anchored[label] = append(r.anchored[label], k)
		classes = r.byLabel[label]
	} else {
		r.unanchored = append(r.unanchored, k)
	}
	for _, x := range classes {
		if c.chosen(k.all, x.t) {
			k.joinClass(x)
		}
	}
}

// joinClass tells a class whose pods the counter's selectors choose.
func (k *counter) joinClass(x *class) {
	switch k.kind {
	case countMatching:
		x.feed = append(x.feed, k)
	case carryAnti:
		x.carriedAnti = append(x.carriedAnti, k)
	case carryAffinity:
		x.carriedPrefers = append(x.carriedPrefers, weightedCounter{hardAffinityWeight, k})
	case carryPrefer:
		x.carriedPrefers = append(x.carriedPrefers, weightedCounter{k.weight, k})
	case carryAvoid:
		x.carriedPrefers = append(x.carriedPrefers, weightedCounter{-k.weight, k})
	}
}

// matching returns the counters whose selectors choose pods of t.
func (r *counters) matching(c *Cluster, t *template) []*counter {
	var found []*counter
	try := func(list []*counter) {
		for _, k := range list {
			if c.chosen(k.all, t) {
				found = append(found, k)
			}
		}
	}
	if len(r.anchored) > 0 {
		for key, value := range t.labels {
			try(r.anchored[[2]string{key, value}])
		}
	}
	try(r.unanchored)
	return found
}

// chosen reports whether all selectors choose pods of t.
func (c *Cluster) chosen(all []podSelector, t *template) bool {
	for i := range all {
		if !all[i].matches(t, c.namespaces[t.namespace]) {
			return false
		}
	}
	return len(all) > 0
}

// count counts the nodes, and the pods that are placed already.
func (c *Cluster) count(k *counter) {
	if k.eligible != nil {
		for row := range int32(c.table.rows) {
			if c.table.node(row) != nil {
				k.visit(c.table, row, 0, 1)
			}
		}
	}
	if k.kind != countMatching || !c.mayMatch(k) {
		return
	}
	for t, rows := range c.byTemplate() {
		if !c.chosen(k.all, t) {
			continue
		}
		for _, row := range rows {
			if c.table.node(row) != nil {
				k.add(c.table, row, 1)
			}
		}
	}
}

// byTemplate lists the rows of the placed pods by template. It is kept while
// several counters are made in a row.
func (c *Cluster) byTemplate() map[*template][]int32 {
	if c.index != nil && c.indexed == c.table.log.next && !c.table.log.muted {
		return c.index
	}
	c.index, c.indexed = map[*template][]int32{}, c.table.log.next
	for _, b := range c.table.blocks {
		for i := range b.pods {
			for _, p := range b.pods[i] {
				c.index[p.t] = append(c.index[p.t], p.row)
			}
		}
	}
	return c.index
}

// mayMatch is false if no pod placed so far is chosen, which saves looking.
func (c *Cluster) mayMatch(k *counter) bool {
	if c.partial {
		return true
	}
	classes := c.counters.classes
	if label, ok := k.all[0].anchor(); ok {
		classes = c.counters.byLabel[label]
	}
	return slices.ContainsFunc(classes, func(x *class) bool { return x.placed > 0 && c.chosen(k.all, x.t) })
}

// podsByCounter counts the pods of a row in each counter. To be called before a
// change of the row's node, because it may make classes, which count what is there.
func (c *Cluster) podsByCounter(row int32) map[*counter]int32 {
	pods := map[*counter]int32{}
	b, i := c.table.at(row)
	for _, p := range b.pods[i] {
		for _, k := range c.classOf(p.t).feed {
			pods[k]++
		}
	}
	return pods
}

// join counts the node of a row and its pods, leave forgets them.
func (c *Cluster) join(row int32, pods map[*counter]int32) {
	for _, k := range c.counters.byKey {
		k.visit(c.table, row, pods[k], 1)
	}
}

func (c *Cluster) leave(row int32, pods map[*counter]int32) {
	for _, k := range c.counters.byKey {
		k.visit(c.table, row, pods[k], -1)
	}
}

// prune forgets classes that no pod uses, and their counters.
func (r *counters) prune(dead map[*class]bool) {
	for x := range dead {
		for _, k := range x.owns {
			k.refs--
		}
	}
	gone := func(k *counter) bool { return k.refs == 0 }
	for key, k := range r.byKey {
		if gone(k) {
			delete(r.byKey, key)
		}
	}
	for label, list := range r.anchored {
		if list = slices.DeleteFunc(list, gone); len(list) == 0 {
			delete(r.anchored, label)
		} else {
			r.anchored[label] = list
		}
	}
	r.unanchored = slices.DeleteFunc(r.unanchored, gone)
	isDead := func(x *class) bool { return dead[x] }
	for label, list := range r.byLabel {
		if list = slices.DeleteFunc(list, isDead); len(list) == 0 {
			delete(r.byLabel, label)
		} else {
			r.byLabel[label] = list
		}
	}
	r.classes = slices.DeleteFunc(r.classes, isDead)
	for _, x := range r.classes {
		x.feed = slices.DeleteFunc(x.feed, gone)
		x.carriedAnti = slices.DeleteFunc(x.carriedAnti, gone)
		x.carriedPrefers = slices.DeleteFunc(x.carriedPrefers, func(w weightedCounter) bool { return gone(w.counter) })
	}
}
