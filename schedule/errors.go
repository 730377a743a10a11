// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of a cluster and a scheduler, for errors.Is. What is returned wraps
// them and names the pod or node.
var (
	// ErrInvalid is returned for a pod, node or option that can't be used.
	ErrInvalid = errors.New("invalid")
	// ErrExists is returned when a pod or node is added twice.
	ErrExists = errors.New("already exists")
	// ErrNotFound is returned for a pod or node that is not known.
	ErrNotFound = errors.New("not found")
	// ErrUnschedulable is returned when no node takes the pod. The error is a
	// [*FitError].
	ErrUnschedulable = errors.New("no node takes the pod")
	// ErrClosed is returned by a scheduler that has stopped.
	ErrClosed = errors.New("scheduler has stopped")
)

// FitError says why no node takes a pod. Its text is Kubernetes' own:
//
//	0/3 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 Insufficient cpu.
type FitError struct {
	Pod       *Pod
	Diagnosis Diagnosis
}

// Error counts the nodes by reason.
func (e *FitError) Error() string { return e.Diagnosis.String() }

// Is makes errors.Is(err, ErrUnschedulable) true.
func (e *FitError) Is(target error) bool { return target == ErrUnschedulable }

// PluginError says that a plugin failed: it returned [Error], panicked, gave a
// score out of range, or took too long. The scheduler goes on with the other
// pods.
type PluginError struct {
	Plugin string
	Point  string // the extension point, such as "Filter"
	Pod    string
	Node   string // empty where no single node is concerned
	Err    error
}

// Error names plugin, extension point, pod and node.
func (e *PluginError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugin %s: %s of pod %s", e.Plugin, e.Point, e.Pod)
	if e.Node != "" {
		fmt.Fprintf(&b, " on node %s", e.Node)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns the cause.
func (e *PluginError) Unwrap() error { return e.Err }
