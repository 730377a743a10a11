// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Decision is where a pod may go.
type Decision struct {
	Node     *Node
	Feasible int // how many nodes would take it
}

// Schedule decides where the pod should go and changes nothing. If no node takes
// it, the error is a [*FitError].
func (c *Cluster) Schedule(pod *Pod) (Decision, error) {
	t, p, err := c.prepare(pod)
	if err != nil {
		return Decision{}, err
	}
	row, err := c.decide(pod, t, p)
	if err != nil {
		return Decision{}, err
	}
	return Decision{c.table.node(row), c.cycle.feasible.Len()}, nil
}

// Place decides where the pod should go and puts it there.
func (c *Cluster) Place(pod *Pod) (Decision, error) {
	if _, ok := c.placed.get(pod.key()); ok {
		return Decision{}, fmt.Errorf("pod %s: %w", pod, ErrExists)
	}
	d, err := c.Schedule(pod)
	if err != nil {
		return d, err
	}
	placed := *pod
	placed.NodeName = d.Node.Name
	return d, c.AddPod(&placed)
}

// prepare finds the template and profile of a pod that is to be placed.
func (c *Cluster) prepare(pod *Pod) (*template, *profile, error) {
	p, err := c.profile(pod)
	if err != nil {
		return nil, nil, err
	}
	t, err := c.template(pod)
	if err != nil {
		return nil, nil, err
	}
	if t.contradiction != nil {
		return nil, nil, fmt.Errorf("pod %s: %w: %w", pod, ErrInvalid, t.contradiction)
	}
	return t, p, nil
}

// decide runs the cycle.
func (c *Cluster) decide(pod *Pod, t *template, p *profile) (int32, error) {
	c.derive()
	c.cycle.begin(pod, c.classOf(t), p)
	return c.cycle.run()
}

// Preempt decides which pods would have to be evicted for a pod that fits
// nowhere, by the profile's PostFilter plugins, and changes nothing. The error is
// a [*FitError] if nothing helps, and if a node takes the pod as it is.
func (c *Cluster) Preempt(pod *Pod) (*PostFilterResult, error) {
	t, p, err := c.prepare(pod)
	if err != nil {
		return nil, err
	}
	_, err = c.decide(pod, t, p)
	fit, ok := errors.AsType[*FitError](err)
	if !ok {
		return nil, cmp.Or(err, fmt.Errorf("pod %s: %w: it fits without preemption", pod, ErrInvalid))
	}
	return c.cycle.postFilter(fit)
}

// postFilter runs the PostFilter plugins until one has made room.
func (c *Cycle) postFilter(fit *FitError) (r *PostFilterResult, err error) {
	defer c.catch(&err)
	var reasons []string
	for i := range c.profile.postFilter {
		p := &c.profile.postFilter[i]
		c.enter(p.Name(), "PostFilter")
		r, s := p.ask(c, &fit.Diagnosis)
		switch {
		case s.code() == Success && r != nil:
			return r, nil
		case s.code() == Success:
		case s.Rejected():
			reasons = append(reasons, s.Reasons...)
		default:
			return nil, c.failed(s)
		}
	}
	fit.Diagnosis.PostFilter = strings.Join(reasons, ", ")
	return nil, fit
}

// GroupError says that not enough members of a group could be placed.
type GroupError struct {
	Placed, Want int
	Err          error // why the first that failed did
}

// Error says how many would have fitted.
func (e *GroupError) Error() string {
	return fmt.Sprintf("only %d of the %d pods wanted at once can be placed: %v", e.Placed, e.Want, e.Err)
}

// Unwrap returns why the first pod that failed did.
func (e *GroupError) Unwrap() error { return e.Err }

// PlaceGroup places at least min of the pods, in their order, or none of them;
// then the error is a [*GroupError]. A decision without a node is that of a pod
// that did not fit although enough others did.
func (c *Cluster) PlaceGroup(min int, pods ...*Pod) ([]Decision, error) {
	decisions := make([]Decision, len(pods))
	var placed []string
	var first error
	for i, pod := range pods {
		d, err := c.Place(pod)
		switch {
		case err == nil:
			decisions[i] = d
			placed = append(placed, pod.key())
		case first == nil:
			first = err
		}
	}
	if len(placed) >= min {
		return decisions, nil
	}
	for _, key := range slices.Backward(placed) {
		if err := c.RemovePod(key); err != nil {
			return nil, err
		}
	}
	return nil, &GroupError{len(placed), min, first}
}
