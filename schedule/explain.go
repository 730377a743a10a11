// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"iter"
	"slices"
)

// Explanation says for one pod what every plugin says about every node.
type Explanation struct {
	Pod       *Pod
	Diagnosis Diagnosis // why nodes were refused, in numbers

	nodes    []*[blockRows]*Node // by block
	refusals refusals
	profile  *profile
	scores   []scoreColumn
	totals   []int64
}

type scoreColumn struct {
	plugin     string
	weight     int64
	raw, final []int64
}

// NodeExplanation is what was said about one node.
type NodeExplanation struct {
	Node   *Node
	Plugin string  // that refused it; empty if the node is feasible
	Status *Status // of that plugin
	Scores []PluginScore
	Total  int64 // sum of the weighted scores
}

// PluginScore is one plugin's score of a node.
type PluginScore struct {
	Plugin string
	Raw    int64 // as the plugin gave it
	Score  int64 // after normalisation, from MinScore to MaxScore
	Weight int64
}

// Explain says why each node was refused, and how the score of each of the others
// came about. It changes nothing. A pod that fits nowhere is no error here; one
// that is refused before any node is looked at has no nodes in its explanation.
func (c *Cluster) Explain(pod *Pod) (*Explanation, error) {
	t, p, err := c.prepare(pod)
	if err != nil {
		return nil, err
	}
	c.derive()
	c.cycle.begin(pod, c.classOf(t), p)
	c.cycle.full = true
	return c.cycle.explain()
}

func (c *Cycle) explain() (e *Explanation, err error) {
	defer c.catch(&err)
	e = &Explanation{Pod: c.Pod, profile: c.profile}
	if err := c.preFilter(); err != nil {
		if fit, ok := errors.AsType[*FitError](err); ok {
			e.Diagnosis = fit.Diagnosis
			return e, nil
		}
		return nil, err
	}
	e.nodes = make([]*[blockRows]*Node, len(c.table.blocks))
	for i, b := range c.table.blocks {
		e.nodes[i] = b.node
	}
	if e.Diagnosis, err = c.diagnose(&e.refusals); err != nil {
		return nil, err
	}
	refused := 0
	for _, r := range e.refusals.alike {
		refused += popcount(r.rows)
	}
	if refused+len(e.refusals.each) < c.table.liveRows {
		return e, c.explainScores(e)
	}
	return e, nil
}

func (c *Cycle) explainScores(e *Explanation) error {
	if err := c.filter(); err != nil {
		return err
	}
	if err := c.preScore(false); err != nil {
		return err
	}
	e.totals = make([]int64, c.table.rows)
	for i := range c.profile.scores {
		if c.skipScore[i] {
			continue
		}
		s := &c.profile.scores[i]
		column := scoreColumn{plugin: s.name, weight: s.weight, raw: make([]int64, c.table.rows)}
		if err := c.scoreRows(s, &c.feasible, column.raw); err != nil {
			return err
		}
		c.bonuses, c.sparse = c.bonuses[:0], nil
		if err := c.addBonus(s, slices.Clone(column.raw)); err != nil {
			return err
		}
		column.final = make([]int64, c.table.rows)
		for row := range c.feasible.All() {
			weighted := c.bonuses[0].of(row)
			column.final[row] = weighted / s.weight
			e.totals[row] += weighted
		}
		e.scores = append(e.scores, column)
	}
	return nil
}

// Nodes yields what was said about each node.
func (e *Explanation) Nodes() iter.Seq[NodeExplanation] {
	return func(yield func(NodeExplanation) bool) {
		for i, nodes := range e.nodes {
			for j, n := range nodes {
				if n != nil && !yield(e.node(n, i*blockRows+j)) {
					return
				}
			}
		}
	}
}

func (e *Explanation) node(n *Node, row int) NodeExplanation {
	r := e.refusals.of(row)
	x := NodeExplanation{Node: n, Status: r.status}
	if x.Status != nil {
		if r.filter >= 0 {
			x.Plugin = e.profile.filters[r.filter].name
		} else {
			x.Plugin = "PreFilter"
		}
		return x
	}
	for _, s := range e.scores {
		x.Scores = append(x.Scores, PluginScore{s.plugin, s.raw[row], s.final[row], s.weight})
	}
	if e.totals != nil {
		x.Total = e.totals[row]
	}
	return x
}

// Feasible reports whether a node takes the pod.
func (e *Explanation) Feasible() bool { return e.totals != nil }
