// SPDX-License-Identifier: Apache-2.0

package runtime

import "time"

// ContainerMetadata identifies a container in its sandbox. (Name, Attempt) is unique there.
type ContainerMetadata struct {
	Name    string
	Attempt uint32 // 0 for the first, and one more with each restart
}

// ContainerConfig says what to run. Metadata.Name is required; a runtime
// without images requires Command too.
type ContainerConfig struct {
	Metadata ContainerMetadata
	Image    ImageSpec
	// Command and Args follow Kubernetes: Command replaces the image's entry point, Args its arguments.
	Command, Args []string
	WorkingDir    string   // empty is the image's, or the runtime's choice
	Env           []EnvVar // in order; a later one wins
	Mounts        []Mount
	Devices       []Device
	// Labels are matched by filters; Annotations are only kept.
	Labels, Annotations map[string]string
	// LogPath is where output goes in CRI's log format, relative to the
	// sandbox's LogDirectory unless absolute. Empty: output is discarded.
	LogPath string
	// Stdin keeps an input open for Attach. StdinOnce closes it after the first.
	Stdin, StdinOnce, TTY bool
	Resources             *Resources
	Namespaces            NamespaceOptions
	Security              SecurityContext
	// StopSignal is a name such as "SIGQUIT"; empty is the image's, or SIGTERM.
	StopSignal string
}

// EnvVar is one environment variable.
type EnvVar struct {
	Name, Value string
}

// Mount shows a directory or file of the machine at a path in the container.
type Mount struct {
	ContainerPath, HostPath string
	ReadOnly                bool
	RecursiveReadOnly       bool
	Propagation             Propagation
	Image                   *ImageSpec // an image volume, instead of HostPath
}

// Propagation says which later mounts cross over.
type Propagation string

// The propagations of CRI; empty means private.
const (
	PropagationPrivate         Propagation = "Private"
	PropagationHostToContainer Propagation = "HostToContainer"
	PropagationBidirectional   Propagation = "Bidirectional"
)

// Device shows a device of the machine in the container.
type Device struct {
	ContainerPath, HostPath string
	Permissions             string // of "r", "w", "m"
}

// SecurityContext says as whom and with what rights to run. The zero value is the runtime's default.
type SecurityContext struct {
	RunAsUser, RunAsGroup *int64
	RunAsUserName         string
	SupplementalGroups    []int64
	Privileged            bool
	ReadOnlyRootFS        bool
	NoNewPrivs            bool
	AddCapabilities       []string
	DropCapabilities      []string
	Seccomp, AppArmor     string // profile names in Kubernetes' words, for example "RuntimeDefault"
	Sysctls               map[string]string
}

// Resources are limits in the terms of Linux' cgroups. A zero field sets no limit.
type Resources struct {
	CPUShares   int64 // relative weight, 2 to 262144; 1024 for one CPU
	CPUQuota    int64 // microseconds of CPU in each period
	CPUPeriod   int64 // microseconds; zero with a quota means 100000
	MemoryLimit int64 // bytes
	PidsLimit   int64
	OOMScoreAdj int64 // -1000 to 1000
	CpusetCPUs  string
	CpusetMems  string
	Unified     map[string]string // cgroup v2 files, by name
}

// ContainerState is where a container is in its life.
type ContainerState string

// The states of a container.
const (
	ContainerCreated ContainerState = "Created"
	ContainerRunning ContainerState = "Running"
	ContainerExited  ContainerState = "Exited"
	ContainerUnknown ContainerState = "Unknown"
)

// Container is an entry of a list.
type Container struct {
	ID                  string
	SandboxID           string
	Metadata            ContainerMetadata
	Image               string // as it was asked for
	ImageRef            string // as it was found: a digest, usually
	State               ContainerState
	CreatedAt           time.Time
	Labels, Annotations map[string]string
}

// The reasons that a runtime gives for an exit, besides its own.
const (
	ReasonCompleted  = "Completed"  // exit code 0
	ReasonError      = "Error"      // any other exit code
	ReasonOOMKilled  = "OOMKilled"  // killed because it went over its memory limit
	ReasonStartError = "StartError" // never ran; Message says why
)

// ContainerStatus is all that is known of a container.
type ContainerStatus struct {
	Container
	StartedAt, FinishedAt time.Time // zero if that has not happened
	// ExitCode is 128 + n after signal n. It has a meaning only in ContainerExited.
	ExitCode int
	Reason   string
	Message  string
	LogPath  string // absolute; empty if there is no log
	Mounts   []Mount
	// Resources are the limits that are in force, nil if the runtime can't say.
	Resources *Resources
}

// ContainerFilter selects containers. Fields that are set must all match; the zero
// filter matches everything.
type ContainerFilter struct {
	ID        string
	SandboxID string
	State     ContainerState
	Labels    map[string]string // each must be there with this value
}

// Matches reports whether a container passes the filter.
func (f ContainerFilter) Matches(c *Container) bool {
	return (f.ID == "" || f.ID == c.ID) && (f.SandboxID == "" || f.SandboxID == c.SandboxID) &&
		(f.State == "" || f.State == c.State) && hasAll(c.Labels, f.Labels)
}
