// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// phase is Kubernetes' rule for a pod's phase, from the statuses of its containers. init has
// the statuses of the init containers, sidecars included.
func phase(p *Pod, init, main []ContainerStatus) Phase {
	policy := p.restartPolicy()
	pendingInit, failedInit := 0, 0
	for i, c := range p.Spec.InitContainers {
		st := init[i]
		if isSidecar(&c) {
			if !st.Started && st.State.Terminated == nil && st.LastState.Terminated == nil {
				pendingInit++
			}
			continue
		}
		switch {
		case st.State.Terminated != nil && st.State.Terminated.ExitCode != 0:
			failedInit++
		case st.State.Terminated == nil:
			pendingInit++
		}
	}
	waiting, running, stopped, succeeded := 0, 0, 0, 0
	for _, st := range main {
		switch {
		case st.State.Running != nil:
			running++
		case st.State.Terminated != nil:
			stopped++
			if st.State.Terminated.ExitCode == 0 {
				succeeded++
			}
		case st.State.Waiting != nil && st.LastState.Terminated != nil:
			stopped++ // in back-off
		default:
			waiting++
		}
	}
	switch {
	case failedInit > 0 && policy == RestartNever:
		return Failed
	case pendingInit > 0 && running+stopped == 0, failedInit > 0 && running+stopped == 0:
		return Pending
	case waiting > 0:
		return Pending
	case running > 0, stopped == 0:
		return Running
	case policy == RestartAlways:
		return Running
	case stopped == succeeded:
		return Succeeded
	case policy == RestartNever:
		return Failed
	}
	return Running
}

func isSidecar(c *Container) bool { return c.RestartPolicy == RestartAlways }

// conditions are those of a pod's status, with the transition times of the
// conditions that did not change. sandbox says that the pod has a ready sandbox, set the conditions
// that others set.
func conditions(p *Pod, s *Status, sandbox bool, old, set []Condition, now time.Time) []Condition {
	var incomplete []string
	for i, c := range p.Spec.InitContainers {
		st := &s.InitContainerStatuses[i]
		done := st.State.Terminated != nil && st.State.Terminated.ExitCode == 0
		if isSidecar(&c) {
			done = st.Started
		}
		if !done {
			incomplete = append(incomplete, c.Name)
		}
	}
	var unready []string
	for i := range p.Spec.InitContainers {
		if st := &s.InitContainerStatuses[i]; isSidecar(&p.Spec.InitContainers[i]) && !st.Ready {
			unready = append(unready, st.Name)
		}
	}
	for i := range s.ContainerStatuses {
		if st := &s.ContainerStatuses[i]; !st.Ready {
			unready = append(unready, st.Name)
		}
	}
	ready := func(t string) Condition {
		switch {
		case s.Phase == Succeeded:
			return Condition{Type: t, Reason: "PodCompleted"}
		case s.Phase == Failed:
			return Condition{Type: t, Reason: "PodFailed"}
		case len(unready) > 0:
			return Condition{Type: t, Reason: "ContainersNotReady", Message: "containers with unready status: [" + strings.Join(unready, " ") + "]"}
		}
		return Condition{Type: t, Status: true}
	}
	initialized := Condition{Type: Initialized, Status: true}
	// Once a container of the pod proper has run, initialization lies behind.
	if len(incomplete) > 0 && s.Phase != Succeeded && !anyStarted(s.ContainerStatuses) {
		initialized = Condition{Type: Initialized, Reason: "ContainersNotInitialized", Message: "containers with incomplete status: [" + strings.Join(incomplete, " ") + "]"}
	} else if s.Phase == Succeeded {
		initialized.Reason = "PodCompleted"
	}
	podReady := ready(PodReady)
	if podReady.Status {
		podReady = gates(p, set)
	}
	list := make([]Condition, 0, 5+len(set))
	list = append(list, Condition{Type: PodReadyToStartContainers, Status: sandbox}, initialized, podReady, ready(ContainersReady),
		Condition{Type: PodScheduled, Status: true})
	list = append(list, set...)
	for i := range list {
		c := &list[i]
		j := slices.IndexFunc(old, func(o Condition) bool { return o.Type == c.Type })
		if j >= 0 && old[j].Status == c.Status {
			c.LastTransitionTime = old[j].LastTransitionTime
		} else {
			c.LastTransitionTime = now
		}
	}
	return list
}

func anyStarted(list []ContainerStatus) bool {
	return slices.ContainsFunc(list, func(c ContainerStatus) bool {
		return c.State.Running != nil || c.State.Terminated != nil || c.LastState.Terminated != nil
	})
}

// gates is the Ready condition of a pod whose containers are ready.
func gates(p *Pod, set []Condition) Condition {
	for _, gate := range p.Spec.ReadinessGates {
		i := slices.IndexFunc(set, func(c Condition) bool { return c.Type == gate })
		if i < 0 {
			return Condition{Type: PodReady, Reason: "ReadinessGatesNotReady", Message: fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate)}
		}
		if !set[i].Status {
			return Condition{Type: PodReady, Reason: "ReadinessGatesNotReady", Message: fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but False", gate)}
		}
	}
	return Condition{Type: PodReady, Status: true}
}
