// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"time"
)

// Event is something that happened to a pod, with reason and message as
// kubelet words them.
type Event struct {
	Pod       *Pod
	Container string // empty: it concerns the whole pod
	Warning   bool
	Reason    string
	Message   string
	Time      time.Time
}

// The reasons of events.
const (
	EventPulling              = "Pulling"
	EventPulled               = "Pulled"
	EventCreated              = "Created"
	EventStarted              = "Started"
	EventKilling              = "Killing"
	EventFailed               = "Failed"
	EventBackOff              = "BackOff"
	EventUnhealthy            = "Unhealthy"
	EventErrImageNeverPull    = "ErrImageNeverPull"
	EventInspectFailed        = "InspectFailed"
	EventFailedPostStartHook  = "FailedPostStartHook"
	EventFailedPreStopHook    = "FailedPreStopHook"
	EventFailedCreateSandbox  = "FailedCreatePodSandBox"
	EventSandboxChanged       = "SandboxChanged"
	EventFailedMount          = "FailedMount"
	EventFailedKillPod        = "FailedKillPod"
	EventEvicted              = "Evicted"
	EventDeadlineExceeded     = "DeadlineExceeded"
	EventResizeCompleted      = "ResizeCompleted"
	EventResizeError          = "ResizeError"
	EventContainerLogRotation = "FailedLogRotation"
)

func (w *worker) event(p *Pod, container, reason, format string, args ...any) {
	w.emit(p, container, false, reason, format, args...)
}

func (w *worker) warn(p *Pod, container, reason, format string, args ...any) {
	w.emit(p, container, true, reason, format, args...)
}

func (w *worker) emit(p *Pod, container string, warning bool, reason, format string, args ...any) {
	on := w.m.config.OnEvent
	if on == nil {
		return
	}
	on(Event{Pod: p, Container: container, Warning: warning, Reason: reason, Message: fmt.Sprintf(format, args...), Time: time.Now()})
}
