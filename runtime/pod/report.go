// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"reflect"
	"slices"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// report tells the status if it has changed.
func (w *worker) report(p *Pod, in inputs) {
	w.mu.Lock()
	old := w.status
	if old == nil {
		old = p.Last
	}
	s := w.describe(p, in, old)
	same := w.status != nil && reflect.DeepEqual(w.status, s)
	if !same {
		w.status = s
	}
	w.sandboxID = w.sandbox.id
	w.mu.Unlock()
	if !same && w.m.config.OnStatus != nil {
		w.m.config.OnStatus(p, s)
	}
}

// describe builds the status. It needs w.mu.
func (w *worker) describe(p *Pod, in inputs, old *Status) *Status {
	if p.Last != nil && p.Last.Phase.Finished() && w.sandbox.id == "" {
		return p.Last
	}
	s := &Status{HostIP: w.m.config.HostIP, PodIPs: w.sandbox.ips, StartTime: w.started, QOSClass: QOS(p)}
	if len(s.PodIPs) == 0 && p.Spec.HostNetwork && s.HostIP != "" {
		s.PodIPs = []string{s.HostIP}
	}
	initialized := w.initialized()
	statuses := func(from, n int) []ContainerStatus {
		if n == 0 {
			return nil
		}
		list := make([]ContainerStatus, n)
		for k := range list {
			list[k] = w.list[from+k].status(w.spec(p, from+k), initialized)
		}
		return list
	}
	inits, mains := len(p.Spec.InitContainers), len(p.Spec.Containers)
	s.InitContainerStatuses = statuses(0, inits)
	s.ContainerStatuses = statuses(inits, mains)
	s.EphemeralContainerStatuses = statuses(inits+mains, len(p.Spec.EphemeralContainers))
	s.Phase = phase(p, s.InitContainerStatuses, s.ContainerStatuses)
	if w.over {
		s.Phase = w.finalPhase(s, in.failure)
		if in.failure != nil {
			s.Reason, s.Message = in.failure.reason, in.failure.message
		}
	}
	var before []Condition
	if old != nil {
		before = old.Conditions
	}
	set := in.set
	if in.failure != nil && in.failure.reason == ReasonEvicted {
		set = append(slices.Clip(set), Condition{Type: DisruptionTarget, Status: true, Reason: "TerminationByKubelet", Message: in.failure.message})
	}
	if w.resizeError != "" {
		set = append(slices.Clip(set), Condition{Type: PodResizeInProgress, Status: true, Reason: "Error", Message: w.resizeError})
	}
	s.Conditions = conditions(p, s, w.sandbox.ready, before, set, time.Now())
	return s
}

// finalPhase is the phase of a pod that was stopped for good.
func (w *worker) finalPhase(s *Status, f *failure) Phase {
	if f != nil {
		return Failed
	}
	for _, list := range [][]ContainerStatus{s.ContainerStatuses} {
		for _, c := range list {
			if c.State.Terminated == nil || c.State.Terminated.ExitCode != 0 {
				return Failed
			}
		}
	}
	return Succeeded
}

// initialized reports whether the init containers lie behind in this sandbox.
func (w *worker) initialized() bool {
	for _, i := range w.list {
		if i.kind == mainKind && i.id != "" && i.sandbox == w.sandbox.id {
			return true
		}
	}
	for _, i := range w.list {
		switch {
		case i.kind == initKind && !(i.sandbox == w.sandbox.id && i.state == runtime.ContainerExited && i.exitCode == 0):
			return false
		case i.kind == sidecarKind && !i.started:
			return false
		}
	}
	return true
}

func (i *instance) status(c *Container, initialized bool) ContainerStatus {
	s := ContainerStatus{
		Name: i.name, Ready: i.ready, Started: i.started, Image: c.Image, ImageID: i.imageRef,
		RestartCount: int(i.attempt), Resources: i.applied,
	}
	if i.id != "" {
		s.ContainerID = i.id
	}
	if i.last != nil {
		s.LastState.Terminated = i.last
	}
	switch {
	case i.state == runtime.ContainerRunning || i.state == runtime.ContainerUnknown:
		s.State.Running = &RunningState{i.begun}
	case i.state == runtime.ContainerExited && i.waiting.Reason == "":
		s.State.Terminated = i.terminated()
		if i.kind == initKind {
			s.Ready = i.exitCode == 0
		}
	default:
		wait := i.waiting
		if wait.Reason == "" {
			wait.Reason = ReasonContainerCreating
			if !initialized && i.kind != ephemeralKind {
				wait.Reason = ReasonPodInitializing
			}
		}
		s.State.Waiting = &wait
		if i.state == runtime.ContainerExited {
			s.LastState.Terminated = i.terminated()
		}
	}
	return s
}

func (i *instance) terminated() *Terminated {
	return &Terminated{ExitCode: i.exitCode, Reason: i.reason, Message: i.message, StartedAt: i.begun, FinishedAt: i.ended, ContainerID: i.id}
}
