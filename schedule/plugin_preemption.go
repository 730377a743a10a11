// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// DefaultPreemption makes room for a pod that fits nowhere by choosing pods of
// lower priority to evict, all on one node: as few and as unimportant ones as
// possible (https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/).
//
// On each candidate node all pods of lower priority are taken away for a trial;
// if the pod fits then, as many as possible are put back, those that a budget
// protects and the important ones first. The rest are the victims. The node is
// chosen where the fewest budgets are broken; then where the most important
// victim matters least; then by the sum of priorities, the number of victims,
// and the youngest.
type DefaultPreemption struct {
	// Budgets returns what protects pods from eviction, if possible; nil means
	// nothing does. It is called once per preemption.
	Budgets func() []DisruptionBudget

	// The search ends at this many candidates: a share of the nodes in percent
	// (0 means 10), but at least a number (0 means 100).
	MinCandidatePercent int
	MinCandidates       int
}

// DisruptionBudget says how many of the pods that Selector chooses in Namespace
// may be evicted now, as the status of a PodDisruptionBudget does.
type DisruptionBudget struct {
	Namespace string
	Selector  *Selector
	Allowed   int
}

// Name returns "DefaultPreemption".
func (DefaultPreemption) Name() string { return "DefaultPreemption" }

func (p DefaultPreemption) validate() error {
	if p.MinCandidatePercent < 0 || p.MinCandidatePercent > 100 || p.MinCandidates < 0 {
		return fmt.Errorf("candidates: %d %% and %d: want 0 to 100 %% and no negative number", p.MinCandidatePercent, p.MinCandidates)
	}
	return nil
}

// PostFilter chooses the node and the victims.
func (p DefaultPreemption) PostFilter(c *Cycle, d *Diagnosis) (*PostFilterResult, *Status) {
	if s := p.eligible(c); s != nil {
		return nil, s
	}
	budgets, err := c.budgets(p.Budgets)
	if err != nil {
		return nil, Fail(err)
	}
	best, err := p.search(c, d, budgets)
	switch {
	case err != nil:
		return nil, Fail(err)
	case best == nil:
		return nil, Reject(fmt.Sprintf("preemption: 0/%d nodes are available: evicting pods of lower priority does not help", d.Nodes))
	}
	r := &PostFilterResult{NominatedNode: c.table.node(best.row).Name}
	for _, v := range best.victims {
		r.Victims = append(r.Victims, v.pod)
	}
	return r, nil
}

// eligible refuses pods that may not preempt, or whose victims are still leaving.
func (DefaultPreemption) eligible(c *Cycle) *Status {
	if c.Pod.NeverPreempt {
		return Reject("preemption: not eligible due to preemptionPolicy=Never")
	}
	name := c.Pod.NominatedNode
	if n, ok := c.cluster.nominated.byKey[c.Pod.key()]; ok {
		name = c.table.node(n.row).Name
	}
	row, ok := c.cluster.rowOf(name)
	if !ok {
		return nil
	}
	b, i := c.table.at(row)
	for _, q := range b.pods[i] {
		if q.pod.Priority < c.Pod.Priority && (q.pod.Terminating || c.cluster.evicting[q.pod.key()]) {
			return Reject("preemption: not eligible due to a terminating pod on the nominated node")
		}
	}
	return nil
}

// budget is a DisruptionBudget made ready.
type budget struct {
	selector podSelector
	allowed  int
}

func (c *Cycle) budgets(list func() []DisruptionBudget) ([]budget, error) {
	if list == nil {
		return nil, nil
	}
	var ready []budget
	c.outside()
	all := list()
	c.inside()
	for _, b := range all {
		s := podSelector{nothing: b.Selector == nil, namespaces: []string{b.Namespace}}
		if b.Selector != nil {
			var err error
			if s.selector, err = parseSelector(b.Selector); err != nil {
				return nil, fmt.Errorf("disruption budget in namespace %q: %w", b.Namespace, err)
			}
		}
		ready = append(ready, budget{s, b.Allowed})
	}
	return ready, nil
}

// candidate is a node where preemption would help.
type candidate struct {
	row      int32
	victims  []*placed // most important first
	violated int       // budgets
	highest  int32     // priority of the most important victim
	sum      int64     // of the priorities, each made positive so that more victims weigh more
	youngest time.Time // earliest start among the victims of the highest priority
}

// better reports whether a is to be preferred.
func (a *candidate) better(b *candidate) bool {
	if n := cmp.Or(
		cmp.Compare(a.violated, b.violated),
		cmp.Compare(a.highest, b.highest),
		cmp.Compare(a.sum, b.sum),
		cmp.Compare(len(a.victims), len(b.victims)),
	); n != 0 {
		return n < 0
	}
	return a.youngest.After(b.youngest)
}

// search tries nodes from a random one on, until there are enough candidates.
func (p DefaultPreemption) search(c *Cycle, d *Diagnosis, budgets []budget) (*candidate, error) {
	// What a trial changes it puts back, so the caches stay right.
	c.table.log.muted = true
	defer func() { c.table.log.muted = false }()

	enough := max(cmp.Or(p.MinCandidates, 100), popcount(d.resolvable)*cmp.Or(p.MinCandidatePercent, 10)/100)
	var best *candidate
	start := 0
	if c.table.rows > 0 {
		start = c.cluster.rand.IntN(c.table.rows)
	}
	for i := 0; i < c.table.rows && enough > 0; i++ {
		row := int32((start + i) % c.table.rows)
		if d.resolvable[row/blockRows]>>(row%blockRows)&1 == 0 || !c.mayHelp(row) {
			continue
		}
		if best != nil && c.cantBeat(row, best) {
			enough--
			continue
		}
		found, err := c.trial(row, budgets)
		if err != nil {
			return nil, err
		}
		if found == nil {
			continue
		}
		enough--
		if best == nil || found.better(best) {
			best = new(*found) // found is used again for the next node
			best.victims = slices.Clone(found.victims)
		}
	}
	return best, nil
}

// mayHelp is a cheap look at whether there is anyone to evict and whether that
// would free enough.
func (c *Cycle) mayHelp(row int32) bool {
	b, i := c.table.at(row)
	lower := 0
	var freed [firstExtended]int64
	for _, p := range b.pods[i] {
		if p.priority < c.Pod.Priority {
			lower++
			freed[resCPU] += p.t.cpu
			freed[resMemory] += p.t.memory
		}
	}
	if lower == 0 {
		return false
	}
	for j := range c.class.requests {
		r := &c.class.requests[j]
		if r.resource > resMemory {
			continue
		}
		if alloc, used := b.column(r.resource); r.amount > alloc[i]-used[i]+freed[r.resource] {
			return false
		}
	}
	return true
}

// cantBeat compares the best candidate so far with the best that a node could be:
// its least important pods are evicted, and as many as there must be even if all
// were as large as the largest. It spares nine trials out of ten.
func (c *Cycle) cantBeat(row int32, best *candidate) bool {
	if best.violated > 0 {
		return false
	}
	b, i := c.table.at(row)
	var largest [firstExtended]int64
	bound := candidate{highest: c.Pod.Priority}
	for _, p := range b.pods[i] {
		if p.priority >= c.Pod.Priority {
			continue
		}
		bound.highest = min(bound.highest, p.priority)
		largest[resCPU] = max(largest[resCPU], p.t.cpu)
		largest[resMemory] = max(largest[resMemory], p.t.memory)
		if p.started.After(bound.youngest) {
			bound.youngest = p.started
		}
	}
	victims := int64(1)
	for j := range c.class.requests {
		if r := &c.class.requests[j]; r.resource <= resMemory && largest[r.resource] > 0 {
			alloc, used := b.column(r.resource)
			lacking := r.amount - (alloc[i] - used[i])
			victims = max(victims, (lacking+largest[r.resource]-1)/largest[r.resource])
		}
	}
	bound.sum = victims * (int64(bound.highest) + 1<<31)
	if n := cmp.Or(cmp.Compare(bound.highest, best.highest), cmp.Compare(bound.sum, best.sum), cmp.Compare(int(victims), len(best.victims))); n != 0 {
		return n > 0
	}
	return !bound.youngest.After(best.youngest)
}

// trial finds the victims on one node, or returns nil if evicting all pods of
// lower priority would not help.
func (c *Cycle) trial(row int32, budgets []budget) (found *candidate, err error) {
	b, i := c.table.at(row)
	lower := c.lower[:0]
	for _, p := range b.pods[i] {
		if p.priority < c.Pod.Priority {
			lower = append(lower, p)
		}
	}
	c.lower = lower
	sortByImportance(lower)
	for _, p := range lower {
		if err := c.move(p, false); err != nil {
			return nil, c.restore(err)
		}
	}
	fits, err := c.fitsRow(row)
	if err != nil || !fits {
		return nil, c.restore(err)
	}
	ordered, protected := c.splitByBudget(lower, budgets)
	found = &c.found
	*found = candidate{row: row, victims: found.victims[:0]}
	for n, p := range ordered {
		stays, err := c.reprieve(p)
		if err != nil {
			return nil, c.restore(err)
		}
		if stays {
			continue
		}
		found.victims = append(found.victims, p)
		if n < protected {
			found.violated++
		}
	}
	if err := c.restore(nil); err != nil {
		return nil, err
	}
	if len(found.victims) == 0 {
		return nil, nil // it fits as it is: nothing to preempt for
	}
	found.weigh()
	return found, nil
}

func (a *candidate) weigh() {
	sortByImportance(a.victims)
	a.highest = a.victims[0].pod.Priority
	a.youngest = a.victims[0].pod.Started
	for _, v := range a.victims {
		a.sum += int64(v.pod.Priority) + 1<<31
		if v.pod.Priority == a.highest && v.pod.Started.Before(a.youngest) {
			a.youngest = v.pod.Started
		}
	}
}

// sortByImportance puts higher priorities first, and among equals those that
// have run longer.
func sortByImportance(pods []*placed) {
	if len(pods) < 2 {
		return
	}
	slices.SortStableFunc(pods, func(a, b *placed) int {
		if a.pod.Priority != b.pod.Priority {
			return cmp.Compare(b.pod.Priority, a.pod.Priority)
		}
		if n := a.pod.Started.Compare(b.pod.Started); n != 0 {
			return n
		}
		return cmp.Or(cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name), cmp.Compare(a.pod.UID, b.pod.UID))
	})
}

// move takes a pod off its node for a trial, or puts it back.
func (c *Cycle) move(p *placed, back bool) error {
	if back {
		c.cluster.put(p)
		c.off = slices.DeleteFunc(c.off, func(q *placed) bool { return q == p })
	} else {
		c.cluster.take(p)
		c.off = append(c.off, p)
	}
	if len(c.profile.extensions) == 0 {
		return nil
	}
	return c.extend(p.row, []*placed{p}, back)
}

// restore puts back what is still off its node after a trial.
func (c *Cycle) restore(err error) error {
	for _, p := range slices.Clone(c.off) {
		if e := c.move(p, true); err == nil {
			err = e
		}
	}
	return err
}

// reprieve puts a pod back if the pod of the cycle still fits then.
func (c *Cycle) reprieve(p *placed) (stays bool, err error) {
	if err := c.move(p, true); err != nil {
		return true, err
	}
	stays, err = c.fitsRow(p.row)
	if err != nil || stays {
		return stays, err
	}
	return false, c.move(p, false)
}

// fitsRow asks all filters about one row, with nominated pods in place.
func (c *Cycle) fitsRow(row int32) (fits bool, err error) {
	if len(c.cluster.nominated.on(row)) == 0 {
		_, s, err := c.filterRow(row)
		return s == nil, err
	}
	err = c.withNominated(row, func() error {
		_, s, err := c.filterRow(row)
		fits = s == nil
		return err
	})
	return fits, err
}

// splitByBudget puts the pods first whose eviction would break a budget, if all
// that come before them are evicted too, and returns how many these are.
func (c *Cycle) splitByBudget(pods []*placed, budgets []budget) (ordered []*placed, n int) {
	if len(budgets) == 0 {
		return pods, 0
	}
	var protected, others []*placed
	left := make([]int, len(budgets))
	for i := range budgets {
		left[i] = budgets[i].allowed
	}
	for _, p := range pods {
		breaks := false
		for i := range budgets {
			if budgets[i].selector.matches(p.t, nil) {
				left[i]--
				breaks = breaks || left[i] < 0
			}
		}
		if breaks {
			protected = append(protected, p)
		} else {
			others = append(others, p)
		}
	}
	return slices.Concat(protected, others), len(protected)
}
