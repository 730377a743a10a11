// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"time"
)

// Event is something that happened to a pod, with reason and message as kubelet words them.
//
// Events that repeat are one series, as in Kubernetes: the first is told at once; repeats are told with the same
// Name and First and a Count that includes those that were not told, since a pod may tell 25 repeats and then one
// in 5 minutes. More than 10 different messages with one reason, with no pause of 10 minutes, become
// one series, whose message begins with "(combined from similar events): ". Who stores events
// creates the one with Count 1 and updates it by Name, or stores it anew if it is not there any more.
type Event struct {
	Name      string // of the series, unique in the namespace
	Pod       *Pod
	Container string // empty: it concerns the whole pod
	Warning   bool
	Reason    string
	Message   string
	Time      time.Time // of this one
	First     time.Time // of the first of its series
	Count     int       // how many there were in its series
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
	e := Event{Pod: p, Container: container, Warning: warning, Reason: reason, Message: fmt.Sprintf(format, args...), Time: time.Now()}
	if tell, ok := w.m.events.observe(e); ok {
		on(tell)
	}
}
