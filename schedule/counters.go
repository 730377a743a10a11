// SPDX-License-Identifier: Apache-2.0

package schedule

import (
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
	eligible    map[string]*eligibility
	byNamespace bool // some selector chooses namespaces by label
	text        keyWriter
}

func newCounters() counters {
	return counters{
		byKey:    map[string]*counter{},
		anchored: map[[2]string][]*counter{},
		byLabel:  map[[2]string][]*class{},
		eligible: map[string]*eligibility{},
	}
}

// link makes the counters that a new class needs and joins it to those there
// are.
func (r *counters) link(c *Cluster, x *class) {
	r.joinMatching(c, x)
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
	all := t.affinity.all
	x.selfAffine = c.chosen(all, t)
	for i := range t.affinity.required {
		term := &t.affinity.required[i]
		x.affinityTo = append(x.affinityTo, r.counter(c, x, counter{kind: countMatching, all: all, required: true}, term.key, ""))
		r.carry(c, x, carryAffinity, term, 0)
	}
	for i := range t.anti.required {
		term := &t.anti.required[i]
		x.antiTo = append(x.antiTo, r.counter(c, x, counter{kind: countMatching, all: term.pods, required: true}, term.key, ""))
		r.carry(c, x, carryAnti, term, 0)
	}
	prefer := func(list []weightedPodTerm, sign int64, kind counterKind) {
		for i := range list {
			term := &list[i].term
			k := r.counter(c, x, counter{kind: countMatching, all: term.pods}, term.key, "")
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
		e := r.eligibility(c, x, term)
		s.counter = r.counter(c, x, counter{kind: countMatching, all: term.selector, eligible: e}, term.key, e.text)
		if !term.soft {
			x.hardSpread = append(x.hardSpread, s)
			continue
		}
		if term.key == LabelHostname {
			s.host = r.counter(c, x, counter{kind: countMatching, all: term.selector}, nameKey, "")
		}
		x.softSpread = append(x.softSpread, s)
	}
}

// eligibility says which nodes count for a constraint.
func (r *counters) eligibility(c *Cluster, x *class, term *spreadTerm) *eligibility {
	w := &r.text
	w.buf = w.buf[:0]
	w.str(term.key)
	for i := range x.t.spread {
		if other := &x.t.spread[i]; other.soft == term.soft {
			w.str(other.key)
		}
	}
	w.flag(term.allNodes || x.affinity == nil)
	if !term.allNodes && x.affinity != nil {
		w.parsed(x.t.selector)
		w.num(int64(len(x.t.required)))
		for i := range x.t.required {
			w.parsed(x.t.required[i].labels)
			w.requirements(x.t.required[i].fields)
		}
	}
	w.flag(term.honorTaints)
	if term.honorTaints {
		w.tolerations(x.t.tolerations)
	}
	if e, ok := r.eligible[string(w.buf)]; ok {
		return e
	}
	e := &eligibility{text: string(w.buf), topology: c.table.column(term.key), honorTaints: term.honorTaints, tolerations: x.t.tolerations}
	for i := range x.t.spread {
		if other := &x.t.spread[i]; other.soft == term.soft {
			e.columns = append(e.columns, c.table.column(other.key))
		}
	}
	if !term.allNodes {
		e.affinity = x.affinity
	}
	for row := range int32(c.table.rows) {
		if c.table.node(row) != nil {
			e.visit(c.table, row, 1)
		}
	}
	r.eligible[e.text] = e
	return e
}

// carry makes the counter of the pods that have the term.
func (r *counters) carry(c *Cluster, x *class, kind counterKind, term *podTerm, weight int64) {
	k := r.counter(c, x, counter{kind: kind, weight: weight, all: term.pods, required: kind == carryAnti}, term.key, "")
	x.feed = append(x.feed, k) // equal terms of one pod count twice, as in Kubernetes
}

// counter returns the counter with the properties of want over the topology key,
// making it if x is the first to need it. The text tells eligible ones apart.
func (r *counters) counter(c *Cluster, x *class, want counter, key, eligible string) *counter {
	w := &r.text
	w.buf = w.buf[:0]
	w.num(int64(want.kind))
	w.str(key)
	w.num(want.weight)
	w.str(eligible)
	w.flag(want.required)
	for i := range want.all {
		w.str(want.all[i].text)
	}
	k, ok := r.byKey[string(w.buf)]
	if !ok {
		k = &want
		k.column = c.table.column(key)
		if k.eligible != nil {
			k.eligible.refs++
		}
		r.byKey[string(w.buf)] = k
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

// joinMatching joins a class to the counters whose selectors choose its pods.
func (r *counters) joinMatching(c *Cluster, x *class) {
	try := func(list []*counter) {
		for _, k := range list {
			if c.chosen(k.all, x.t) {
				k.joinClass(x)
			}
		}
	}
	if len(r.anchored) > 0 {
		for key, value := range x.t.labels {
			try(r.anchored[[2]string{key, value}])
		}
	}
	try(r.unanchored)
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

// count counts the pods that are placed already.
func (c *Cluster) count(k *counter) {
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
	for _, e := range c.counters.eligible {
		e.visit(c.table, row, 1)
	}
	for _, k := range c.counters.byKey {
		k.visit(c.table, row, pods[k], 1)
	}
}

func (c *Cluster) leave(row int32, pods map[*counter]int32) {
	for _, e := range c.counters.eligible {
		e.visit(c.table, row, -1)
	}
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
		if !gone(k) {
			continue
		}
		delete(r.byKey, key)
		if e := k.eligible; e != nil {
			if e.refs--; e.refs == 0 {
				delete(r.eligible, e.text)
			}
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
