// SPDX-License-Identifier: Apache-2.0

package netproxy

import (
	"errors"
	"fmt"
)

// ErrInvalid is what an object with a wrong field is refused with.
var ErrInvalid = errors.New("invalid")

// ErrConflict is what a service is refused with that claims an address and port,
// or a node port, which another service holds.
var ErrConflict = errors.New("conflict")

// FieldError says what is wrong with which field of which object. It is
// ErrInvalid or ErrConflict for errors.Is.
type FieldError struct {
	Object string // "service shop/web", "endpoint slice shop/web-1"
	Field  string // "ports[1].nodePort"
	Reason string // what is wrong, and what would be right
	Kind   error  // ErrInvalid or ErrConflict
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("netproxy: %s: %s: %s", e.Object, e.Field, e.Reason)
}

func (e *FieldError) Unwrap() error { return e.Kind }

// ServiceError says that one service could not be put into effect. The other
// services are not concerned.
type ServiceError struct {
	Service PortName
	Rule    string // the rule or element that was refused, when it is known
	Err     error
}

func (e *ServiceError) Error() string {
	if e.Rule == "" {
		return fmt.Sprintf("netproxy: service %s: %v", e.Service, e.Err)
	}
	return fmt.Sprintf("netproxy: service %s: rule %q: %v", e.Service, e.Rule, e.Err)
}

func (e *ServiceError) Unwrap() error { return e.Err }
