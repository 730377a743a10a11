// SPDX-License-Identifier: Apache-2.0

package runtime

import "time"

// PodSandboxMetadata identifies a sandbox. (UID, Attempt) is unique.
type PodSandboxMetadata struct {
	Name      string
	Namespace string
	UID       string
	Attempt   uint32 // grows each time that the pod's sandbox is made anew
}

// PodSandboxConfig says what a sandbox is to be. Metadata is required; all else may be zero.
type PodSandboxConfig struct {
	Metadata PodSandboxMetadata
	// Hostname is what programs see as their host's name, where the runtime
	// isolates that; empty is the machine's.
	Hostname string
	// LogDirectory is where the log paths of containers begin. It is made if
	// missing. Empty: containers with a relative log path have no log.
	LogDirectory string
	DNS          DNSConfig
	PortMappings []PortMapping
	// Labels are matched by filters; Annotations are only kept.
	Labels, Annotations map[string]string
	// CgroupParent is the cgroup below which the sandbox's own is made; empty
	// is the runtime's choice.
	CgroupParent string
	Namespaces   NamespaceOptions
	Security     SecurityContext
	// Resources is the sum of the pod's containers, nil if not known.
	Resources *Resources
	Overhead  *Resources
	// RuntimeHandler picks one of several kinds of sandbox; empty is the default.
	RuntimeHandler string
}

// DNSConfig is the content of a sandbox's resolv.conf; zero leaves the machine's.
type DNSConfig struct {
	Servers, Searches, Options []string
}

// Protocol of a port.
type Protocol string

// The protocols of Kubernetes; empty means TCP.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// PortMapping is a port on which a container listens. HostPort zero opens no
// port on the machine.
type PortMapping struct {
	Protocol      Protocol
	ContainerPort int
	HostPort      int
	HostIP        string
}

// NamespaceMode says with whom a namespace is shared.
type NamespaceMode string

// The modes of CRI. Empty is the default: Pod for network and IPC, Container for PID.
const (
	NamespacePod       NamespaceMode = "Pod"       // the containers of the sandbox share it
	NamespaceContainer NamespaceMode = "Container" // each container has its own
	NamespaceNode      NamespaceMode = "Node"      // that of the machine
	NamespaceTarget    NamespaceMode = "Target"    // that of the container TargetID
)

// NamespaceOptions picks the namespaces of a sandbox or container.
type NamespaceOptions struct {
	Network, PID, IPC NamespaceMode
	TargetID          string // for PID: NamespaceTarget
}

// SandboxState is where a sandbox is in its life.
type SandboxState string

// The states of a sandbox.
const (
	SandboxReady    SandboxState = "Ready"
	SandboxNotReady SandboxState = "NotReady"
)

// PodSandbox is an entry of a list.
type PodSandbox struct {
	ID                  string
	Metadata            PodSandboxMetadata
	State               SandboxState
	CreatedAt           time.Time
	Labels, Annotations map[string]string
	RuntimeHandler      string
}

// PodSandboxStatus is all that is known of a sandbox.
type PodSandboxStatus struct {
	PodSandbox
	// IPs are the addresses of the pod, the main one first; none if the sandbox uses
	// the machine's network.
	IPs        []string
	Namespaces NamespaceOptions
}

// PodSandboxFilter selects sandboxes. Fields that are set must all match; the
// zero filter matches everything.
type PodSandboxFilter struct {
	ID     string
	State  SandboxState
	Labels map[string]string // each must be there with this value
}

// Matches reports whether a sandbox passes the filter.
func (f PodSandboxFilter) Matches(s *PodSandbox) bool {
	return (f.ID == "" || f.ID == s.ID) && (f.State == "" || f.State == s.State) && hasAll(s.Labels, f.Labels)
}

func hasAll(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}
