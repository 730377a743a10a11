// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"slices"
)

// withNominated calls f while the pods that are nominated for the row, and come
// before this one, are on it.
func (c *Cycle) withNominated(row int32, f func() error) error {
	guests := c.guests[:0]
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
	c.guests = guests
	err := c.extend(row, guests, true)
	if err == nil {
		err = errors.Join(f(), c.extend(row, guests, false))
	}
	c.guests = guests[:0]
	for _, p := range slices.Backward(guests) {
		c.cluster.take(p)
	}
	return err
}

// extend tells the plugins that keep counts of their own about pods that come
// to a row or leave it, for the time of a trial.
func (c *Cycle) extend(row int32, pods []*placed, add bool) error {
	for _, x := range c.profile.extensions {
		for _, p := range pods {
			var s *Status
			c.at = place{x.name, "AddPod", row}
			if !add {
				c.at.point = "RemovePod"
			}
			if x.foreign {
				c.outside()
			}
			if add {
				s = x.AddPod(c, p.pod, NodeInfo{c.table, row})
			} else {
				s = x.RemovePod(c, p.pod, NodeInfo{c.table, row})
			}
			if x.foreign {
				c.inside()
			}
			if s.code() != Success {
				return c.failed(s)
			}
		}
	}
	return nil
}
