// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"strings"
)

// Code is the kind of answer that a plugin gives.
type Code int

// The codes of Kubernetes' scheduling framework.
const (
	// Success: go on. A nil *Status means the same.
	Success Code = iota
	// Error: the plugin could not tell; the pod is retried with backoff.
	Error
	// Unschedulable: not here as things are; evicting pods may help.
	Unschedulable
	// UnschedulableAndUnresolvable: not here, and evicting pods would not help.
	UnschedulableAndUnresolvable
	// Wait: from Permit, hold the pod until [WaitingPod.Allow] or the timeout.
	Wait
	// Skip: from PreFilter and PreScore, leave the plugin out of this cycle;
	// from Bind, let the next binder try.
	Skip
)

// String returns the code's name.
func (c Code) String() string {
	names := [...]string{"Success", "Error", "Unschedulable", "UnschedulableAndUnresolvable", "Wait", "Skip"}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("Code(%d)", int(c))
	}
	return names[c]
}

// Status is a plugin's answer. Nil is success. A Status is not changed once
// made, so that a plugin may return the same one again and again.
type Status struct {
	Code    Code
	Reasons []string // for people; counted by [Diagnosis], so keep them the same for the same cause
	Err     error    // the cause, where Code is Error
}

// NewStatus returns a status with the given code and reasons.
func NewStatus(code Code, reasons ...string) *Status {
	return &Status{Code: code, Reasons: reasons}
}

// Reject returns the usual answer of a filter: [Unschedulable], with reasons
// that read well after a number of nodes, such as "node(s) had no free licence".
func Reject(reasons ...string) *Status { return NewStatus(Unschedulable, reasons...) }

// Fail returns the status of an error.
func Fail(err error) *Status {
	return &Status{Code: Error, Reasons: []string{err.Error()}, Err: err}
}

// code is Success for nil.
func (s *Status) code() Code {
	if s == nil {
		return Success
	}
	return s.Code
}

// Rejected reports whether the status is one of the two unschedulable ones.
func (s *Status) Rejected() bool {
	return s.code() == Unschedulable || s.code() == UnschedulableAndUnresolvable
}

// String returns the code and the reasons.
func (s *Status) String() string {
	if s == nil {
		return Success.String()
	}
	if len(s.Reasons) == 0 {
		return s.Code.String()
	}
	return s.Code.String() + ": " + strings.Join(s.Reasons, ", ")
}
