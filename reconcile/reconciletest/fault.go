// SPDX-License-Identifier: Apache-2.0

package reconciletest

import (
	"errors"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// Fault is what befalls a call of a reconcile to the store.
type Fault int

// The faults.
const (
	// None lets the call through.
	None Fault = iota
	// CrashBefore ends the manager before the call has an effect; a new one starts.
	CrashBefore
	// CrashAfter ends the manager when the call has had its effect; a new one
	// starts.
	CrashAfter
	// Conflict fails a write with store.ErrConflict; reads go through.
	Conflict
	// Fail fails the call with ErrInjected, without effect.
	Fail
	// LoseAnswer carries the call out, and fails it with store.ErrUnknownOutcome.
	LoseAnswer
	// Delay carries the call out after a minute.
	Delay
)

var faultNames = [...]string{"none", "crash before", "crash after", "conflict", "fail", "lose the answer", "delay"}

// String returns the fault in a few words.
func (f Fault) String() string {
	if f < 0 || int(f) >= len(faultNames) {
		return fmt.Sprintf("unknown fault %d", int(f))
	}
	return faultNames[f]
}

// Faults returns all faults but None.
func Faults() []Fault {
	return []Fault{CrashBefore, CrashAfter, Conflict, Fail, LoseAnswer, Delay}
}

// delay is how long a call takes that meets the fault Delay.
const delay = time.Minute

// ErrInjected is the error of a call that meets the fault Fail.
var ErrInjected = errors.New("reconciletest: injected failure")

// errCrashed is the error of every call of a manager that has crashed.
var errCrashed = errors.New("reconciletest: this manager has crashed")

// Call is a call that a reconcile makes to the store.
type Call struct {
	// N counts the calls of all reconciles of the world, from 1.
	N int
	reconcile.Running
	// Op is "get", "list", "transaction", or the operation of a write.
	Op   string
	Kind store.KindName // zero for a transaction
	Key  store.Key      // zero for a list and a transaction
}

// String returns "call 7: backup default/db: create Job default/db-1".
func (c Call) String() string {
	text := fmt.Sprintf("call %d: %s %s: %s", c.N, c.Controller, c.Running.Key, c.Op)
	if c.Kind != (store.KindName{}) {
		text += " " + c.Kind.String()
	}
	if c.Key != (store.Key{}) {
		text += " " + c.Key.String()
	}
	return text
}

func (c Call) isWrite() bool { return c.Op != "get" && c.Op != "list" }
