// SPDX-License-Identifier: Apache-2.0

package schedule

import "fmt"

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
