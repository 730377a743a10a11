// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"io"
	"iter"
	"time"
)

// RuntimeService runs sandboxes and containers. See the package comment for
// terms, life cycle, idempotency, errors and concurrency, which every
// implementation keeps; package runtimetest checks them.
//
// A worked example, one pod from nothing to nothing:
//
//	id, _ := rt.RunPodSandbox(ctx, sandbox)
//	c, _ := rt.CreateContainer(ctx, id, container, sandbox)
//	_ = rt.StartContainer(ctx, c)
//	_ = rt.StopContainer(ctx, c, 30*time.Second) // SIGTERM, at most 30 s, SIGKILL
//	_ = rt.RemoveContainer(ctx, c)
//	_ = rt.StopPodSandbox(ctx, id)
//	_ = rt.RemovePodSandbox(ctx, id)
//
// Calls return when their effect has happened. No call holds a lock that
// makes another container's calls wait for it.
type RuntimeService interface {
	// Version says which runtime this is.
	Version(ctx context.Context) (Version, error)
	// Status says whether the runtime can start pods at present.
	Status(ctx context.Context) (Status, error)

	// RunPodSandbox makes a sandbox and its network ready. If any part fails
	// nothing is left behind.
	RunPodSandbox(ctx context.Context, config *PodSandboxConfig) (id string, err error)
	// StopPodSandbox kills what still runs in the sandbox, without grace, and gives
	// back its network. Logs and exit codes stay.
	StopPodSandbox(ctx context.Context, id string) error
	// RemovePodSandbox stops the sandbox and removes it with all its containers.
	RemovePodSandbox(ctx context.Context, id string) error
	// PodSandboxStatus returns ErrNotFound for an unknown ID.
	PodSandboxStatus(ctx context.Context, id string) (*PodSandboxStatus, error)
	// ListPodSandbox lists what matches, in no particular order. The list is
	// complete: what existed before and after the call is in it.
	ListPodSandbox(ctx context.Context, filter PodSandboxFilter) ([]PodSandbox, error)
	// UpdatePodSandboxResources tells the runtime the sum of the pod's resources after
	// a resize. ErrUnsupported is a valid answer.
	UpdatePodSandboxResources(ctx context.Context, id string, overhead, resources *Resources) error

	// CreateContainer prepares a container in a ready sandbox, and runs nothing.
	// The sandbox's configuration is given again because CRI does so.
	CreateContainer(ctx context.Context, sandboxID string, config *ContainerConfig, sandbox *PodSandboxConfig) (id string, err error)
	// StartContainer runs a created container. When it fails the container has
	// exited, with reason StartError, or is still as it was if the error is
	// ErrUnavailable or the context's.
	StartContainer(ctx context.Context, id string) error
	// StopContainer sends the stop signal (SIGTERM unless the configuration says
	// otherwise), waits until the container has exited, and kills it when timeout has
	// passed (zero: at once). If the context ends first it returns the context's
	// error and the signal stays sent; a later call may use a shorter timeout.
	StopContainer(ctx context.Context, id string, timeout time.Duration) error
	// RemoveContainer removes the container and its log links; a running one is killed first.
	RemoveContainer(ctx context.Context, id string) error
	// ContainerStatus returns ErrNotFound for an unknown ID.
	ContainerStatus(ctx context.Context, id string) (*ContainerStatus, error)
	// ListContainers lists what matches, in no particular order, as complete as ListPodSandbox.
	ListContainers(ctx context.Context, filter ContainerFilter) ([]Container, error)
	// UpdateContainerResources changes the limits of a created or running container in place.
	// Zero fields of resources leave a limit as it is.
	UpdateContainerResources(ctx context.Context, id string, resources *Resources) error
	// ReopenContainerLog makes the runtime write to a fresh file at the log path.
	// The caller renames the old file first; no entry is lost, and none is split.
	ReopenContainerLog(ctx context.Context, id string) error

	// ExecSync runs a command in a running container and returns what it wrote
	// (at most [MaxExecOutput] of each stream). A command that exits with a code
	// other than zero is no error. When timeout passes (zero: never) the command is
	// killed and the error is context.DeadlineExceeded.
	ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (ExecResult, error)
	// Exec runs a command with streams and returns its exit code. The command is
	// killed when ctx ends.
	Exec(ctx context.Context, id string, options ExecOptions) (exitCode int, err error)
	// Attach connects to the streams of a running container, from now on, until
	// the container exits or ctx ends.
	Attach(ctx context.Context, id string, options AttachOptions) error
	// PortForward connects stream with a port on the sandbox's localhost and returns
	// when either side has closed. It closes stream.
	PortForward(ctx context.Context, sandboxID string, port int, stream io.ReadWriteCloser) error

	// ContainerStats returns the resources that one container uses.
	ContainerStats(ctx context.Context, id string) (*ContainerStats, error)
	// ListContainerStats returns the stats of running containers that match.
	ListContainerStats(ctx context.Context, filter ContainerFilter) ([]ContainerStats, error)
	// PodSandboxStats returns the resources that one sandbox uses.
	PodSandboxStats(ctx context.Context, id string) (*PodSandboxStats, error)
	// ListPodSandboxStats returns the stats of ready sandboxes that match.
	ListPodSandboxStats(ctx context.Context, filter PodSandboxFilter) ([]PodSandboxStats, error)

	// GetContainerEvents subscribes to changes of containers. The subscription
	// stands when it returns: what happens later is in the sequence, in order for each
	// container. The sequence is read once, ends when ctx does, and yields an error
	// as its last element if it ends otherwise (ErrLagged, ErrUnavailable).
	// ErrUnsupported means that the caller has to list at intervals.
	GetContainerEvents(ctx context.Context) (iter.Seq2[ContainerEvent, error], error)
}

// ImageService holds the images from which containers are made.
type ImageService interface {
	// PullImage makes an image present and returns the reference (usually a digest)
	// by which it is known. Pulling what is present brings it up to date.
	// ErrNotFound: there is no such image. ErrImage: it is there and can't be used.
	PullImage(ctx context.Context, image ImageSpec, auth *AuthConfig, sandbox *PodSandboxConfig) (ref string, err error)
	// ImageStatus returns nil and no error when the image is not present.
	ImageStatus(ctx context.Context, image ImageSpec) (*Image, error)
	// ListImages lists the images that are present; an empty filter matches all.
	ListImages(ctx context.Context, filter ImageSpec) ([]Image, error)
	// RemoveImage removes the image and all its names. It succeeds when there is none.
	RemoveImage(ctx context.Context, image ImageSpec) error
	// ImageFsInfo says how full the file system of the images is.
	ImageFsInfo(ctx context.Context) ([]FilesystemUsage, error)
}

// Version names a runtime.
type Version struct {
	RuntimeName       string
	RuntimeVersion    string
	RuntimeAPIVersion string // "v1"
}

// Status is what a runtime says of itself.
type Status struct {
	Conditions []Condition
}

// The conditions that every runtime reports.
const (
	RuntimeReady = "RuntimeReady" // containers can be run
	NetworkReady = "NetworkReady" // sandboxes get a network
)

// Condition is one aspect of a runtime's health.
type Condition struct {
	Type    string
	Status  bool
	Reason  string // one word, for programs
	Message string // for people
}

// Ready reports whether all conditions hold, and otherwise why not.
func (s Status) Ready() (ok bool, why string) {
	for _, c := range s.Conditions {
		if !c.Status {
			return false, c.Type + ": " + c.Message
		}
	}
	return true, ""
}
