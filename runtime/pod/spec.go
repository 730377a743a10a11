// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/probe"
	"github.com/slipway-dev/slipway/runtime/volume"
)

// Pod is what is to run. The names are those of Kubernetes' Pod; quantities are
// plain numbers with their unit in the comment. A pod that was given to a
// manager must not be changed; give it a new one to change it.
type Pod struct {
	// Namespace may be empty, which means "default". UID is required and
	// is the pod's identity: a pod of the same name with another UID is another pod.
	Namespace, Name, UID string
	Labels, Annotations  map[string]string
	Spec                 Spec
	// Last is the status that was last reported for this pod, if the caller keeps it. After a
	// restart it says that a pod has finished, and which containers were ready.
	Last *Status
}

// RestartPolicy says when an exited container is run again; empty means Always.
type RestartPolicy string

// The restart policies.
const (
	RestartAlways    RestartPolicy = "Always"
	RestartOnFailure RestartPolicy = "OnFailure"
	RestartNever     RestartPolicy = "Never"
)

// Spec is the desired state of a pod.
type Spec struct {
	// InitContainers run one after another before Containers. One whose RestartPolicy
	// is Always is a sidecar: it keeps running, and the next one starts when it has started.
	InitContainers []Container
	Containers     []Container
	// EphemeralContainers may be added to a running pod, and are never restarted.
	EphemeralContainers []Container
	RestartPolicy       RestartPolicy
	// TerminationGracePeriod is the time from SIGTERM to SIGKILL, preStop hooks
	// included; nil: 30 s.
	TerminationGracePeriod *time.Duration
	// ActiveDeadline is how long the pod may run; zero: for ever.
	ActiveDeadline time.Duration
	Volumes        []Volume

	HostNetwork, HostPID, HostIPC, ShareProcessNamespace bool

	Hostname           string // empty: the pod's name
	DNS                runtime.DNSConfig
	NodeName           string
	ServiceAccountName string
	Priority           int32
	ReadinessGates     []string // condition types that SetCondition makes true
	RuntimeHandler     string
	Security           runtime.SecurityContext
	// ImagePullSecrets are passed on to Config.Auth.
	ImagePullSecrets []string
}

// PullPolicy says when an image is pulled. Empty means Always for the tag "latest" or none,
// and IfNotPresent otherwise.
type PullPolicy string

// The pull policies.
const (
	PullAlways       PullPolicy = "Always"
	PullIfNotPresent PullPolicy = "IfNotPresent"
	PullNever        PullPolicy = "Never"
)

// Container is one program of a pod.
type Container struct {
	Name string
	// Image may be empty where the runtime needs none.
	Image           string
	ImagePullPolicy PullPolicy
	Command, Args   []string // $(NAME) stands for a variable of Env
	WorkingDir      string
	Env             []EnvVar
	EnvFrom         []EnvFrom
	Ports           []Port
	VolumeMounts    []VolumeMount
	Resources       Resources
	// RestartOnResize makes a change of Resources restart the container; otherwise it
	// happens in place.
	RestartOnResize bool
	// RestartPolicy Always makes an init container a sidecar; empty otherwise.
	RestartPolicy                               RestartPolicy
	LivenessProbe, ReadinessProbe, StartupProbe *Probe
	PostStart, PreStop                          *Handler
	// TerminationMessagePath is a file whose content becomes the message of the terminated
	// state; empty: none is mounted.
	TerminationMessagePath string
	// MessageFromLog takes the last lines of the log as message of a failed container
	// that left none (FallbackToLogsOnError).
	MessageFromLog        bool
	Security              runtime.SecurityContext
	Stdin, StdinOnce, TTY bool
	StopSignal            string
	TargetContainer       string // of an ephemeral container: whose processes it sees
}

// Port is a port on which a container listens. Probes may use its name.
type Port struct {
	Name          string
	ContainerPort int
	HostPort      int
	HostIP        string
	Protocol      runtime.Protocol
}

// EnvVar is a variable with a value, or with the one source that is set.
type EnvVar struct {
	Name  string
	Value string // $(NAME) stands for an earlier variable, $$ for a dollar sign
	// FieldRef is a field of the pod: metadata.name, metadata.namespace, metadata.uid,
	// metadata.labels['x'], metadata.annotations['x'], spec.nodeName,
	// spec.serviceAccountName, status.hostIP, status.podIP, status.podIPs.
	FieldRef        string
	ResourceRef     *ResourceRef
	ConfigMapKeyRef *KeyRef
	SecretKeyRef    *KeyRef
}

// KeyRef is one key of a configMap or secret in the pod's namespace.
type KeyRef struct {
	Name, Key string
	Optional  bool
}

// ResourceRef is one resource of a container: limits.cpu, limits.memory,
// limits.ephemeral-storage, and the same of requests.
type ResourceRef struct {
	Container string // empty: the one that has the reference
	Resource  string
	// Divisor is the unit: 1000 for whole CPUs, which is the default, 1 for
	// thousandths; bytes for memory, default 1. Results are rounded up.
	Divisor int64
}

// EnvFrom takes all keys of a configMap or secret as variables.
type EnvFrom struct {
	Prefix            string
	ConfigMap, Secret string // one of the two
	Optional          bool
}

// Resources are what a container asks for and may use at most.
type Resources struct {
	Requests, Limits ResourceList
}

// ResourceList is an amount of each resource; zero is none.
type ResourceList struct {
	CPU              int64 // thousandths of a CPU
	Memory           int64 // bytes
	EphemeralStorage int64 // bytes
}

// Handler is a check or a hook: exactly one field is set.
type Handler struct {
	Exec      []string
	HTTPGet   *probe.HTTPGet
	TCPSocket *probe.TCPSocket
	GRPC      *probe.GRPC
	Sleep     time.Duration // hooks only
	// PortName, if set, gives the port of the above by a port's name.
	PortName string
}

// Probe is a check that is repeated. Zero fields mean Kubernetes' defaults, in parentheses.
type Probe struct {
	Handler
	InitialDelay     time.Duration
	Timeout          time.Duration // (1 s)
	Period           time.Duration // (10 s)
	SuccessThreshold int           // (1)
	FailureThreshold int           // (3)
	// TerminationGracePeriod replaces the pod's when this probe ends the container.
	TerminationGracePeriod *time.Duration
}

// VolumeMount shows a volume in a container.
type VolumeMount struct {
	Name        string // of the volume
	MountPath   string
	SubPath     string
	ReadOnly    bool
	Propagation runtime.Propagation
}

// Volume is a directory for the pod's containers: exactly one source is set.
type Volume struct {
	Name      string
	EmptyDir  *EmptyDir
	HostPath  *HostPath
	Projected *Projected
	// CSI is a volume of one of Config.Drivers.
	CSI *volume.Source
}

// EmptyDir is a directory that lives as long as the pod.
type EmptyDir struct {
	// Medium is MediumMemory for a file system in memory, which needs root; empty: below Config.Root.
	Medium string
	// SizeLimit in bytes, zero for none. A pod that goes over it is evicted within some seconds; in memory
	// writes fail instead.
	SizeLimit int64
}

// MediumMemory is the medium of an emptyDir in memory.
const MediumMemory = "Memory"

// HostPath is a path of the machine.
type HostPath struct {
	Path string
	// Type is "", "Directory", "DirectoryOrCreate", "File" or "FileOrCreate".
	Type string
}

// Projected is a read-only directory of files made from the sources, in order. A configMap volume is one
// with one source. Its content follows its sources, all files at once.
type Projected struct {
	Sources []Projection
	Mode    uint32 // of files; zero: 0644
}

// Projection is one source of files: exactly one field of the first four is set.
type Projection struct {
	ConfigMap, Secret string // names
	Fields            []FieldFile
	// Token asks Config.References for a token of the pod's service account.
	Token *TokenFile
	// Items picks keys; nil: all, each a file of its name.
	Items    []KeyPath
	Optional bool
}

// KeyPath puts one key into a file.
type KeyPath struct {
	Key, Path string
	Mode      uint32 // zero: that of the volume
}

// FieldFile puts a field of the pod into a file (the downward API). Besides EnvVar's
// fields there are metadata.labels and metadata.annotations, one per line.
type FieldFile struct {
	Path        string
	FieldRef    string
	ResourceRef *ResourceRef
}

// TokenFile is a service account token.
type TokenFile struct {
	Path, Audience string
	Expiration     time.Duration
}

// Namespace or "default".
func (p *Pod) namespace() string {
	if p.Namespace == "" {
		return "default"
	}
	return p.Namespace
}

func (p *Pod) restartPolicy() RestartPolicy {
	if p.Spec.RestartPolicy == "" {
		return RestartAlways
	}
	return p.Spec.RestartPolicy
}

// defaultGrace is Kubernetes' terminationGracePeriodSeconds.
const defaultGrace = 30 * time.Second

func (p *Pod) grace() time.Duration {
	if p.Spec.TerminationGracePeriod == nil {
		return defaultGrace
	}
	return *p.Spec.TerminationGracePeriod
}

// String is the pod's name in messages, as kubelet writes it: name_namespace(uid).
func (p *Pod) String() string { return p.Name + "_" + p.namespace() + "(" + p.UID + ")" }
