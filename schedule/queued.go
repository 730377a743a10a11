// SPDX-License-Identifier: Apache-2.0

package schedule

import "time"

// QueuedPod is a pod that waits to be placed.
type QueuedPod struct {
	Pod   *Pod
	Added time.Time // when it came into the queue
}

type QueueingHintPlugin interface{ Plugin }

type DefaultPreemption struct{}

func (DefaultPreemption) Name() string { return "DefaultPreemption" }
func (DefaultPreemption) PostFilter(c *Cycle, d *Diagnosis) (*PostFilterResult, *Status) {
	return nil, nil
}
