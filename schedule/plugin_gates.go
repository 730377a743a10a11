// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"fmt"
	"strings"
)

// SchedulingGates keeps pods with scheduling gates out of the queue
// (https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/).
type SchedulingGates struct{}

// Name returns "SchedulingGates".
func (SchedulingGates) Name() string { return "SchedulingGates" }

// PreEnqueue refuses pods that have a gate left.
func (SchedulingGates) PreEnqueue(_ context.Context, pod *Pod) *Status {
	if len(pod.SchedulingGates) == 0 {
		return nil
	}
	return NewStatus(UnschedulableAndUnresolvable,
		fmt.Sprintf("waiting for scheduling gates: %s", strings.Join(pod.SchedulingGates, ", ")))
}

// PrioritySort puts pods of higher priority first, and among equals those that
// have waited longer.
type PrioritySort struct{}

// Name returns "PrioritySort".
func (PrioritySort) Name() string { return "PrioritySort" }

// Less compares two queued pods.
func (PrioritySort) Less(a, b *QueuedPod) bool {
	if a.Pod.Priority != b.Pod.Priority {
		return a.Pod.Priority > b.Pod.Priority
	}
	return a.Added.Before(b.Added)
}
