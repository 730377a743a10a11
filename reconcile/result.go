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
//	Done()      the object is as it should be: wait for the next change
//	Again(d)    the same, and look again no later than d from now
//	Retry(err)  it failed: again after a back-off, which doubles with each failure
//	Park(err)   it failed for good: put it aside until something changes
//
// They are named after the methods of [Queue] that they end in. Done and Again
// forget the failures before; [Controller.Explain] shows what is parked.
type Result struct {
	verdict verdict
	after   time.Duration
	err     error
}

type verdict uint8

const (
	isNone verdict = iota // the zero Result: a mistake
	isDone
	isAgain
	isRetry
	isPark
)

// Done ends a reconcile that has nothing left to do.
func Done() Result { return Result{verdict: isDone} }

// Again ends a reconcile that wants to look again after d, or earlier if
// something changes. A d of 0 or less runs again at once.
func Again(d time.Duration) Result { return Result{verdict: isAgain, after: d} }

// Retry ends a reconcile that failed and should be tried again. A conflict
// ([store.ErrConflict]) is no failure: it is retried after the same back-off, but
// not logged as one, and it parks no key.
func Retry(err error) Result {
	if err == nil {
		err = errors.New("reconcile: Retry of a nil error: return Done(), or OK(err) for an error that may be nil")
	}
	return Result{verdict: isRetry, err: err}
}

// Park ends a reconcile that failed in a way that only a change of what it
// depends on can mend: a specification that makes no sense, say.
func Park(err error) Result {
	if err == nil {
		err = errors.New("reconcile: Park of a nil error: return Done()")
	}
	return Result{verdict: isPark, err: err}
}

// OK is Done where err is nil, else Retry(err): the last line of many
// reconciles.
func OK(err error) Result {
	if err == nil {
		return Done()
	}
	return Retry(err)
}

// Err returns the error of Retry and Park; nil for the others.
func (r Result) Err() error { return r.err }

// String returns "done", "again after 5s", "retry: …" or "park: …".
func (r Result) String() string {
	switch r.verdict {
	case isDone:
		return "done"
	case isAgain:
		return "again after " + r.after.String()
	case isRetry:
		return fmt.Sprintf("retry: %v", r.err)
	case isPark:
		return fmt.Sprintf("park: %v", r.err)
	}
	return "no result"
}

// errNoResult is the failure of a function that returned the zero Result.
var errNoResult = errors.New("reconcile: the function returned the zero Result: return Done(), Again(d), Retry(err) or Park(err)")

// checked returns the result, with the zero one as a failure.
func (r Result) checked() Result {
	if r.verdict == isNone {
		return Retry(errNoResult)
	}
	return r
}
