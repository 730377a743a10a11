// SPDX-License-Identifier: Apache-2.0

package pod

import "time"

// Phase is a pod's life in one word.
type Phase string

// The phases.
const (
	Pending   Phase = "Pending"
	Running   Phase = "Running"
	Succeeded Phase = "Succeeded"
	Failed    Phase = "Failed"
)

// Finished reports whether a phase is final.
func (p Phase) Finished() bool { return p == Succeeded || p == Failed }

// Status is what is true of a pod, in the words of Kubernetes' PodStatus. It is
// never changed once reported.
type Status struct {
	Phase           Phase
	Reason, Message string // of a failed pod: Evicted, DeadlineExceeded
	HostIP          string
	PodIPs          []string
	StartTime       time.Time
	QOSClass        QOSClass
	Conditions      []Condition
	// In the order of the specification.
	InitContainerStatuses, ContainerStatuses, EphemeralContainerStatuses []ContainerStatus
}

// PodIP is the main address, or empty.
func (s *Status) PodIP() string {
	if len(s.PodIPs) == 0 {
		return ""
	}
	return s.PodIPs[0]
}

// Condition returns the condition of a type, and false if there is none.
func (s *Status) Condition(t string) (Condition, bool) {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c, true
		}
	}
	return Condition{}, false
}

// The conditions of a pod.
const (
	PodScheduled              = "PodScheduled"
	PodReadyToStartContainers = "PodReadyToStartContainers"
	Initialized               = "Initialized"
	ContainersReady           = "ContainersReady"
	PodReady                  = "Ready"
	DisruptionTarget          = "DisruptionTarget"
	PodResizeInProgress       = "PodResizeInProgress"
)

// Condition is one aspect of a pod's state.
type Condition struct {
	Type               string
	Status             bool
	Reason, Message    string
	LastTransitionTime time.Time
}

// ContainerStatus is what is true of one container.
type ContainerStatus struct {
	Name         string
	State        ContainerState
	LastState    ContainerState // the termination before the present state, if any
	Ready        bool
	Started      bool
	RestartCount int
	Image        string
	ImageID      string
	ContainerID  string
	// Resources are those in force. They differ from the specification while a resize is under way.
	Resources Resources
}

// ContainerState is one of three; all nil is no state.
type ContainerState struct {
	Waiting    *Waiting
	Running    *RunningState
	Terminated *Terminated
}

// Waiting says why a container does not run yet.
type Waiting struct {
	Reason, Message string
}

// The reasons to wait.
const (
	ReasonPodInitializing            = "PodInitializing"
	ReasonContainerCreating          = "ContainerCreating"
	ReasonCrashLoopBackOff           = "CrashLoopBackOff"
	ReasonErrImagePull               = "ErrImagePull"
	ReasonErrImageNeverPull          = "ErrImageNeverPull"
	ReasonImagePullBackOff           = "ImagePullBackOff"
	ReasonInvalidImageName           = "InvalidImageName"
	ReasonImageInspectError          = "ImageInspectError"
	ReasonCreateContainerConfigError = "CreateContainerConfigError"
	ReasonCreateContainerError       = "CreateContainerError"
	ReasonRunContainerError          = "RunContainerError"
	ReasonPostStartHookError         = "PostStartHookError"
)

// RunningState says since when a container runs.
type RunningState struct{ StartedAt time.Time }

// Terminated says how a container ended.
type Terminated struct {
	ExitCode              int
	Reason, Message       string
	StartedAt, FinishedAt time.Time
	ContainerID           string
}

// ReasonContainerStatusUnknown is that of a container which vanished from the runtime.
const ReasonContainerStatusUnknown = "ContainerStatusUnknown"

// The reasons of a failed pod.
const (
	ReasonEvicted          = "Evicted"
	ReasonDeadlineExceeded = "DeadlineExceeded"
)
