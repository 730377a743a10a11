// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
)

// The errors of the contract. Every error that a store returns matches one of
// them by [errors.Is], or is the context's own; most are an [*Error] that names
// the operation, the kind and the key.
var (
	// ErrNotFound: no object of that kind has that key.
	ErrNotFound = errors.New("not found")
	// ErrAlreadyExists: a create met an object of the same kind and key.
	ErrAlreadyExists = errors.New("already exists")
	// ErrConflict: the object is not at the version or of the UID that the write
	// demanded. Read it again and decide anew, or use Patch, which does.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the input breaks a rule; the text says which, where, and what
	// would be right.
	ErrInvalid = errors.New("invalid")
	// ErrTooOld: the revision asked for has left the history window. Begin again
	// from the present state.
	ErrTooOld = errors.New("revision is too old")
	// ErrFuture: the store has not reached the revision asked for.
	ErrFuture = errors.New("revision is in the future")
	// ErrUnknownKind: the kind is not registered (any more).
	ErrUnknownKind = errors.New("kind is not registered")
	// ErrKindExists: another kind of that name is registered.
	ErrKindExists = errors.New("kind is registered already")
	// ErrLeaseLost: the lease that a write demands or joins is not held: it
	// expired, was revoked, or never was.
	ErrLeaseLost = errors.New("lease is not held")
	// ErrHookPanic: a function that the user gave for the kind panicked; the write
	// had no effect.
	ErrHookPanic = errors.New("hook panicked")
	// ErrTooLarge: the object or the transaction is beyond a limit of the engine;
	// the text says which.
	ErrTooLarge = errors.New("too large")
	// ErrUnknownOutcome: the engine lost the answer to a commit, which may or may
	// not have taken place. Read to find out.
	ErrUnknownOutcome = errors.New("outcome is unknown")
	// ErrUnsupported: this engine can't do what was asked.
	ErrUnsupported = errors.New("not supported by this engine")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store is closed")
)

// Error says what was being done to which object when it failed.
type Error struct {
	Op   string // "create", "list", "watch", …
	Kind string // the kind's name, "" where none is concerned
	Key  Key    // the object, zero where none or several are concerned
	Err  error  // why; matches one of the sentinels
}

// Error returns "store: create Pod default/web: already exists".
func (e *Error) Error() string {
	text := "store: " + e.Op
	if e.Kind != "" {
		text += " " + e.Kind
	}
	if e.Key != (Key{}) {
		text += " " + e.Key.String()
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Invalidf returns an error that matches [ErrInvalid]. Hooks may return it, or
// any other error: what a validation hook returns is made to match ErrInvalid.
func Invalidf(format string, args ...any) error {
	return &invalidError{fmt.Errorf(format, args...)}
}

// asInvalid makes the error match ErrInvalid, unless it does.
func asInvalid(err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return &invalidError{err}
}

// invalidError makes any error match ErrInvalid and keeps what it wraps.
type invalidError struct{ err error }

func (e *invalidError) Error() string        { return "invalid: " + e.err.Error() }
func (e *invalidError) Unwrap() error        { return e.err }
func (e *invalidError) Is(target error) bool { return target == ErrInvalid }
