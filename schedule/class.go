// SPDX-License-Identifier: Apache-2.0

package schedule

import "fmt"

// class is a template made ready for one cluster: names are resolved to
// columns, counters and numbers, so that a cycle only does arithmetic.
type class struct {
	t *template

	affinity    *nodeMatcher // nil: any node
	preferred   []weightedTests
	requests    []request
	lacks       map[lackKey]*Status // for several resources at once
	lastLackKey lackKey
	lastLack    *Status
	taints      []taintVerdict // by taint set, as far as asked
	images      []*imageColumn

	placed int // pods of the class that are on nodes

	owns []*counter  // that exist for this class's terms
	feed []*counter  // that a placed pod of the class counts in
	room [4]*counter // for the first two of each

	affinityTo     []*counter // one per required affinity term
	selfAffine     bool       // the pod meets its own required affinity
	antiTo         []*counter
	prefers        []weightedCounter
	carriedAnti    []*counter // of placed pods that don't want this one near
	carriedPrefers []weightedCounter
	hardSpread     []spread
	softSpread     []spread

	local *localCaches // shared by the classes that node-local plugins can't tell apart
	own   localCaches  // used by the first of them
}

type request struct {
	resource int
	amount   int64
	status   *Status // when a node has too little left
}

type weightedTests struct {
	weight int64
	tests  []labelTest
}

type weightedCounter struct {
	weight int64
	*counter
}

// spread is one constraint with its counts.
type spread struct {
	*spreadTerm
	*counter
	host *counter // for scores by hostname, which count every pod of the node
}

type taintVerdict struct {
	known       bool
	discouraged int64
	refused     *Status // nil: the pod may go there
}

// taint returns the verdict on a taint set.
func (c *class) taint(t *table, set int32) *taintVerdict {
	for len(c.taints) <= int(set) {
		c.taints = append(c.taints, taintVerdict{})
	}
	v := &c.taints[set]
	if !v.known {
		list := t.taintSets.of(set)
		*v = taintVerdict{known: true, discouraged: discouraged(c.t.tolerations, list)}
		if taint := untolerated(c.t.tolerations, list); taint != nil {
			v.refused = NewStatus(UnschedulableAndUnresolvable, fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value))
		}
	}
	return v
}

// newClass resolves a template and links it with the counters of others.
func (c *Cluster) newClass(t *template) *class {
	x := &class{t: t, affinity: c.table.nodeMatcher(t)}
	x.owns, x.feed = x.room[0:0:2], x.room[2:2:4]
	for _, p := range t.preferred {
		x.preferred = append(x.preferred, weightedTests{p.weight, c.table.termTests(&p.term)})
	}
	if len(t.requests) > 0 {
		x.requests = make([]request, 0, len(t.requests))
	}
	for _, r := range t.requests {
		id := c.table.resources.id(r.name)
		x.requests = append(x.requests, request{id, r.amount, c.table.insufficient(id, r.name)})
	}
	for _, image := range t.images {
		x.images = append(x.images, c.table.image(image))
	}
	c.joinCaches(x)
	c.counters.link(c, x)
	return x
}

// classOf returns the class of a template.
func (c *Cluster) classOf(t *template) *class {
	if x, ok := c.classes[t]; ok {
		return x
	}
	x := c.newClass(t)
	c.classes[t] = x
	return x
}
