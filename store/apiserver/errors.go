// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
)

// StatusError is the error of every refused request: what HTTP clients read as
// a Status object, and what a store from [Server.Store] returns. It matches the
// store's error that caused it, and apierrors.IsForbidden and its kin know it.
type StatusError struct {
	status metav1.Status
	cause  error
}

// Status implements apierrors.APIStatus.
func (e *StatusError) Status() metav1.Status { return e.status }

// Error returns the status' message.
func (e *StatusError) Error() string { return e.status.Message }

// Unwrap returns the store's error, or nil.
func (e *StatusError) Unwrap() error { return e.cause }

// Is matches the store's error that means the same, for statuses that no error
// of the store caused.
func (e *StatusError) Is(target error) bool {
	same := sentinels[e.status.Reason]
	return same != nil && same == target
}

var sentinels = map[metav1.StatusReason]error{
	metav1.StatusReasonNotFound:              store.ErrNotFound,
	metav1.StatusReasonAlreadyExists:         store.ErrAlreadyExists,
	metav1.StatusReasonConflict:              store.ErrConflict,
	metav1.StatusReasonInvalid:               store.ErrInvalid,
	metav1.StatusReasonBadRequest:            store.ErrInvalid,
	metav1.StatusReasonExpired:               store.ErrTooOld,
	metav1.StatusReasonRequestEntityTooLarge: store.ErrTooLarge,
}

// subject is what a request is about, as statuses name it.
type subject struct {
	resource schema.GroupResource
	kind     string
	name     string
	verb     string
}

// asStatus makes any error a StatusError.
func asStatus(err error, about subject) *StatusError {
	var own *StatusError
	if errors.As(err, &own) {
		return own
	}
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		return &StatusError{known.Status(), err}
	}
	return &StatusError{storeStatus(err, about).ErrStatus, err}
}

// storeStatus translates the errors of the store's contract.
func storeStatus(err error, about subject) *apierrors.StatusError {
	gr, name := about.resource, about.name
	switch {
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(gr, name)
	case errors.Is(err, store.ErrAlreadyExists):
		return apierrors.NewAlreadyExists(gr, name)
	case errors.Is(err, store.ErrConflict):
		return apierrors.NewConflict(gr, name, errModified)
	case errors.Is(err, store.ErrInvalid):
		return invalidStatus(err, about)
	case errors.Is(err, store.ErrTooOld):
		return apierrors.NewResourceExpired(reason(err))
	case errors.Is(err, store.ErrFuture):
		return futureStatus(err)
	case errors.Is(err, store.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(reason(err))
	case errors.Is(err, store.ErrUnknownKind):
		return pageNotFound()
	case errors.Is(err, store.ErrClosed):
		return apierrors.NewServiceUnavailable("the server is shutting down")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errRequestTime):
		return apierrors.NewTimeoutError("the request did not complete within the allotted time", 0)
	case errors.Is(err, store.ErrUnknownOutcome):
		return apierrors.NewServerTimeout(gr, about.verb, 1)
	}
	return apierrors.NewInternalError(err)
}

var (
	errModified    = errors.New("the object has been modified; please apply your changes to the latest version and try again")
	errRequestTime = errors.New("the request took too long")
)

// reason strips what the store says of operation and object, which a Status says
// in its own way.
func reason(err error) string {
	var e *store.Error
	for errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// futureStatus says that a resource version has not been reached, in the form
// in which clients know to try again.
func futureStatus(err error) *apierrors.StatusError {
	s := apierrors.NewTimeoutError("Too large resource version: "+reason(err), 1)
	s.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type:    metav1.CauseTypeResourceVersionTooLarge,
		Message: "Too large resource version",
	}}
	return s
}

// invalidStatus says which fields are wrong, as far as the error tells.
func invalidStatus(err error, about subject) *apierrors.StatusError {
	var list field.ErrorList
	collect(err, &list)
	if len(list) == 0 && (about.verb == "list" || about.verb == "watch" || about.verb == "get") {
		return apierrors.NewBadRequest(reason(err))
	}
	s := apierrors.NewInvalid(schema.GroupKind{Group: about.resource.Group, Kind: about.kind}, about.name, list)
	if len(list) == 0 {
		text := strings.TrimPrefix(reason(err), "invalid: ")
		s.ErrStatus.Message = fmt.Sprintf("%s %q is invalid: %s", s.ErrStatus.Details.Kind, about.name, text)
		s.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Message: text}}
	}
	return s
}

// collect appends the field errors in the tree of an error.
func collect(err error, list *field.ErrorList) {
	switch e := err.(type) {
	case nil:
	case *field.Error:
		*list = append(*list, e)
	case interface{ Errors() []error }: // an Aggregate, whose Unwrap would hide what is twice
		for _, x := range e.Errors() {
			collect(x, list)
		}
	case interface{ Unwrap() []error }:
		for _, x := range e.Unwrap() {
			collect(x, list)
		}
	case interface{ Unwrap() error }:
		collect(e.Unwrap(), list)
	}
}

func pageNotFound() *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotFound,
		Reason:  metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource",
		Details: &metav1.StatusDetails{},
	}}
}

func methodNotAllowed() *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusMethodNotAllowed,
		Reason:  metav1.StatusReasonMethodNotAllowed,
		Message: "the server does not allow this method on the requested resource",
		Details: &metav1.StatusDetails{},
	}}
}

func notAcceptable(accept string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure,
		Code:   http.StatusNotAcceptable,
		Reason: metav1.StatusReasonNotAcceptable,
		Message: fmt.Sprintf("only the following media types are accepted: %s (the request accepts %q)",
			strings.Join(mediaTypes, ", "), accept),
	}}
}

func unsupportedMediaType(got string, want ...string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnsupportedMediaType,
		Reason:  metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s (got %q)", strings.Join(want, ", "), got),
	}}
}
