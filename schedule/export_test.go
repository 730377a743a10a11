// SPDX-License-Identifier: Apache-2.0

package schedule

// ForgetClass makes the next cycle of a pod like this one look at all nodes
// again, as for a pod of a new kind.
func (c *Cluster) ForgetClass(pod *Pod) {
	if t, err := c.template(pod); err == nil && c.classes[t] != nil {
		c.dropCaches(c.classes[t].local)
		c.classes[t].local.seen = 0
	}
}
