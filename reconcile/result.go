// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"time"
)

// Result says how a reconcile ended, and so when its key runs again. There are
// four, and no zero value that means one of them by accident:
//
//	Done()         the object is as it should be: wait for the next change
//	After(d)       the same, and look again no later than d from now
//	Backoff(err)   it failed: again after a back-off that doubles with each failure
//	Terminal(err)  it failed, and trying again would not help: wait for a change
//
// Done and After forget the failures before; Terminal parks the key, where
// [Controller.Explain] shows it, until something that it depends on changes.
type Result struct {
	verdict verdict
	after   time.Duration
	err     error
}

type verdict uint8

const (
	none verdict = iota // the zero Result: a mistake
	done
	after
	backoff
	terminal
)

// Done ends a reconcile that has nothing left to do.
func Done() Result { return Result{verdict: done} }

// After ends a reconcile that wants to look again after d, or earlier if
// something changes. A d of 0 or less runs again at once.
func After(d time.Duration) Result { return Result{verdict: after, after: d} }

// Backoff ends a reconcile that failed and should be tried again. A conflict
// ([store.ErrConflict]) is no failure: it is retried all the same, but not
// counted and logged as one.
func Backoff(err error) Result {
	if err == nil {
		err = errors.New("reconcile: Backoff of a nil error: return Done(), or OK(err) for an error that may be nil")
	}
	return Result{verdict: backoff, err: err}
}

// Terminal ends a reconcile that failed in a way that only a change of what it
// depends on can mend: a specification that makes no sense, say.
func Terminal(err error) Result {
	if err == nil {
		err = errors.New("reconcile: Terminal of a nil error: return Done()")
	}
	return Result{verdict: terminal, err: err}
}

// OK is Done where err is nil, else Backoff(err): the last line of many
// reconciles.
func OK(err error) Result {
	if err == nil {
		return Done()
	}
	return Backoff(err)
}

// Err returns the error of Backoff and Terminal; nil for the others.
func (r Result) Err() error { return r.err }

// String returns "done", "again after 5s", "back off: …" or "terminal: …".
func (r Result) String() string {
	switch r.verdict {
	case done:
		return "done"
	case after:
		return "again after " + r.after.String()
	case backoff:
		return fmt.Sprintf("back off: %v", r.err)
	case terminal:
		return fmt.Sprintf("terminal: %v", r.err)
	}
	return "no result"
}

// errNoResult is the failure of a function that returned the zero Result.
var errNoResult = errors.New("reconcile: the function returned the zero Result: return Done(), After(d), Backoff(err) or Terminal(err)")

// checked returns the result, with the zero one as a failure.
func (r Result) checked() Result {
	if r.verdict == none {
		return Backoff(errNoResult)
	}
	return r
}
