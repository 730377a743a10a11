// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"strings"
	"time"
)

// Explanation answers why a key was run and why it is not being run now: see
// [Controller.Explain].
type Explanation[K comparable] struct {
	Controller string
	Key        K
	// Blocked is why the controller runs nothing at present, or which of its sources
	// fails, so that it is not told of changes; nil if all is well.
	Blocked error
	// Queued is whether the queue knows the key: as ready, waiting, running or
	// parked, with the causes since the last run. Otherwise the key is at rest.
	Queued bool
	Queue  State[K]
	// Ran is whether the last reconcile is remembered: see Options.Remember. Last
	// is that reconcile with the causes that it had, and Ended when it ended.
	Ran   bool
	Last  Reconciled
	Ended time.Time
	// Loop is how many times in a row the key has run with no other cause than the
	// controller's own writes.
	Loop int
}

// Explain says what the controller knows of a key: why it ran last and how that
// ended, whether and why it will run again, and what it waits for.
func (c *Controller[K]) Explain(key K) Explanation[K] {
	e := Explanation[K]{Controller: c.name, Key: key, Blocked: c.ready(false)}
	e.Queue, e.Queued = c.queue.Explain(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.last.get(key); last != nil {
		e.Ran, e.Last, e.Ended, e.Loop = true, last.Reconciled, last.ended, last.loop
	}
	return e
}

// String returns a few lines for a person.
func (e Explanation[K]) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", e.Controller, keyString(e.Key))
	if e.Queued {
		fmt.Fprintf(&b, "%s\n", describe(e.Queue))
	} else {
		b.WriteString("at rest: nothing that it depends on has changed since the last run\n")
	}
	if e.Blocked != nil {
		fmt.Fprintf(&b, "  the controller is held up: %v\n", e.Blocked)
	}
	if !e.Ran {
		b.WriteString("  last run: none that is remembered\n")
		return b.String()
	}
	fmt.Fprintf(&b, "  last run: %s, ended %s, took %v", e.Last.Outcome, e.Ended.Format(time.RFC3339), e.Last.Duration)
	if e.Last.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Last.Err)
	}
	b.WriteByte('\n')
	for _, c := range e.Last.Causes {
		fmt.Fprintf(&b, "    because: %s\n", c)
	}
	for _, w := range e.Last.Wrote {
		fmt.Fprintf(&b, "    wrote: %s\n", w)
	}
	if e.Loop > 1 {
		fmt.Fprintf(&b, "  it keeps itself busy: the last %d runs had no cause but its own writes\n", e.Loop)
	}
	return b.String()
}

// describe says in a line how a key stands in its queue.
func describe[K comparable](s State[K]) string {
	text := s.Phase.String() + " since " + s.Since.Format(time.RFC3339)
	if !s.Until.IsZero() {
		text += ", until " + s.Until.Format(time.RFC3339)
	}
	if s.Attempts > 0 {
		text += fmt.Sprintf(", failed %d times in a row", s.Attempts)
	}
	if s.LastError != nil {
		text += ", last with: " + s.LastError.Error()
	}
	causes := s.Causes
	if s.Phase == PhaseRunning {
		causes = s.Pending
	}
	for i, c := range causes {
		sep := "; "
		if i == 0 {
			sep = ", because of: "
			if s.Phase == PhaseRunning {
				sep = ", and again because of: "
			}
		}
		text += sep + c.String()
	}
	return text
}
