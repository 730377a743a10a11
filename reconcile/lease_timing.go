// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"math"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// LeaseTiming says how long leases last and how often they are renewed. The zero
// value is 15 s, 10 s and 2 s, as in client-go.
//
//	renewal sent       Deadline        Duration
//	     |----------------|---------------|-------------> time
//	      the holder works  it has stopped  others may take the lease
//
// All of it is measured by the local monotonic clock of whoever waits: the holder
// from before it sends a renewal, the others from after they have seen it. So the
// clocks may be apart by any amount, and be set forward and back. What remains is
// that they run at about the same speed: the gap between Deadline and Duration
// allows for the difference, and for the time that work needs to stop.
type LeaseTiming struct {
	// Duration is how long others must see no renewal before they may take the
	// lease; it is written into the object in whole seconds, rounded up, and the
	// longer of what the object and what the observer has counts. 0: 15 seconds.
	Duration time.Duration
	// Deadline is how long the holder goes on after its last successful renewal was
	// sent; less than Duration. 0: two thirds of Duration.
	Deadline time.Duration
	// Retry is how often the holder renews the lease, and how often the others look
	// at it; less than Deadline. 0: a fifth of Deadline.
	Retry time.Duration
}

// complete fills in what is zero, and checks the rest.
func (t LeaseTiming) complete() (LeaseTiming, error) {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Duration", t.Duration}, {"Deadline", t.Deadline}, {"Retry", t.Retry}} {
		if d.value < 0 {
			return t, store.Invalidf("%s is %v: want more than 0, or 0 for the default", d.name, d.value)
		}
	}
	if t.Duration == 0 {
		t.Duration = 15 * time.Second
	}
	if t.Deadline == 0 {
		t.Deadline = t.Duration / 3 * 2
	}
	if t.Retry == 0 {
		t.Retry = t.Deadline / 5
	}
	switch {
	case t.Duration < time.Millisecond:
		return t, store.Invalidf("Duration is %v: want at least a millisecond", t.Duration)
	case t.Duration > math.MaxInt32*time.Second:
		return t, store.Invalidf("Duration is %v: want at most %d seconds, which is what a Lease can say", t.Duration, math.MaxInt32)
	case t.Deadline >= t.Duration:
		return t, store.Invalidf("Deadline is %v and Duration %v: want a shorter Deadline, or two could hold the lease at once", t.Deadline, t.Duration)
	case t.Retry >= t.Deadline:
		return t, store.Invalidf("Retry is %v and Deadline %v: want a shorter Retry, or the lease is lost before it is renewed", t.Retry, t.Deadline)
	}
	return t, nil
}

// seconds is Duration as a Lease says it.
func (t LeaseTiming) seconds() int32 {
	return int32((t.Duration + time.Second - 1) / time.Second)
}

// attempt bounds one attempt at a renewal, so that a call that hangs leaves time
// for another.
func (t LeaseTiming) attempt() time.Duration { return t.Deadline / 2 }
