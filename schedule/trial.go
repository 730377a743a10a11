// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"slices"
)

// withNominated calls f while the pods that are nominated for the row, and come
// before this one, are on it.
func (c *Cycle) withNominated(row int32, f func() error) error {
	var guests []*placed
	for _, p := range c.cluster.nominated.on(row) {
		if p.pod.Priority >= c.Pod.Priority && p.pod.key() != c.Pod.key() {
			guests = append(guests, p)
		}
	}
	if len(guests) == 0 {
		return f()
	}
	for _, p := range guests {
		c.cluster.put(p)
	}
	defer func() {
		for _, p := range slices.Backward(guests) {
			c.cluster.take(p)
		}
	}()
	if err := c.extend(row, guests, true); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, c.extend(row, guests, false))
}

// extend tells the plugins that keep counts of their own about pods that come
// to a row or leave it, for the time of a trial.
func (c *Cycle) extend(row int32, pods []*placed, add bool) error {
	for _, x := range c.profile.extensions {
		for _, p := range pods {
			var s *Status
			c.at = place{x.name, "AddPod", row}
			if add {
				s = x.AddPod(c, p.pod, NodeInfo{c.table, row})
			} else {
				c.at.point = "RemovePod"
				s = x.RemovePod(c, p.pod, NodeInfo{c.table, row})
			}
			if s.code() != Success {
				return c.failed(s)
			}
		}
	}
	return nil
}
