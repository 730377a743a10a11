// SPDX-License-Identifier: Apache-2.0

package reconcile

import "slices"

// Stats are the sizes of a controller's queue: how many keys are in each state.
type Stats struct {
	Controller                      string
	Ready, Waiting, Running, Parked int
	// Blocked is why the controller works on none of them, or which of its sources
	// fails; nil if all is well.
	Blocked error
}

// Stats returns the sizes of the controllers' queues, for metrics.
func (m *Manager) Stats() []Stats {
	m.mu.Lock()
	controllers := slices.Clone(m.controllers)
	m.mu.Unlock()
	var all []Stats
	for _, c := range controllers {
		all = append(all, c.stats())
	}
	return all
}
