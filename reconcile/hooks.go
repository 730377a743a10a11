// SPDX-License-Identifier: Apache-2.0

package reconcile

import "time"

// Hooks are called as things happen, for metrics and tests. Each may be nil;
// each must be quick and safe for concurrent use. What they are told must not be
// changed.
type Hooks struct {
	// Reconciled is called after each reconcile.
	Reconciled func(Reconciled)
	// Overdue is called when a reconcile has ignored the end of its context for
	// longer than Options.Patience, once for each.
	Overdue func(Overdue)
	// Loop is called when a controller has run a key LoopAfter times in a row with
	// no other cause than its own writes.
	Loop func(Loop)
	// Panicked is called when a predicate or a mapping function panics; the change
	// triggers nothing.
	Panicked func(Panicked)
	// Leading is called when this replica begins to lead (or, with shards, to take
	// part), and when it stops.
	Leading func(name string, leading bool)
}

// Outcome is how a reconcile ended, for [Reconciled].
type Outcome string

// The outcomes.
const (
	OutcomeDone     Outcome = "done"
	OutcomeAgain    Outcome = "again"
	OutcomeConflict Outcome = "conflict" // a store.ErrConflict: retried, no failure
	OutcomeRetry    Outcome = "retry"
	OutcomePanic    Outcome = "panic"  // retried
	OutcomeParked   Outcome = "parked" // by Park, or as the last of Options.MaxAttempts
	OutcomeLost     Outcome = "lost"   // failed, and the right to work on the key was lost meanwhile
)

// Reconciled describes a finished reconcile.
type Reconciled struct {
	Running
	Outcome  Outcome
	Err      error
	Waited   time.Duration // from being ready to run until it ran
	Duration time.Duration
	Wrote    []Written
}

// Overdue describes a reconcile that does not end when its context has.
type Overdue struct {
	Running
	For   time.Duration // since the start
	Stack string        // where it is
}

// Loop describes a controller that keeps itself busy.
type Loop struct {
	Running
	Runs  int       // in a row, each caused by the controller's own writes alone
	Wrote []Written // by the last of them
}

// Panicked describes a function of a trigger that panicked.
type Panicked struct {
	Controller string
	Trigger    string
	Object     string
	Value      any
	Stack      string
}
