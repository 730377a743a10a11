// SPDX-License-Identifier: Apache-2.0

package pod

import "time"

// BackOff says how long to wait before the next try. Zero fields mean Kubernetes' defaults.
type BackOff struct {
	Initial time.Duration // the first delay (10 s)
	Max     time.Duration // it doubles up to this (5 min), and starts anew after twice this without failure
}

func (b BackOff) withDefaults() BackOff {
	if b.Initial <= 0 {
		b.Initial = 10 * time.Second
	}
	if b.Max <= 0 {
		b.Max = 5 * time.Minute
	}
	return b
}

// retry is the back-off of one thing that fails. The first try after the first
// failure is at once.
type retry struct {
	delay time.Duration // zero: nothing has failed
	last  time.Time     // when the last try began
}

// expired reports whether a failure is so long after the last try that it
// counts as the first.
func (r *retry) expired(b BackOff, failed time.Time) bool {
	return failed.Sub(r.last) > 2*b.Max
}

// until returns when to try again after a failure; a time in the past means now.
func (r *retry) until(b BackOff, failed time.Time) time.Time {
	if r.delay == 0 || r.expired(b, failed) {
		return failed
	}
	return failed.Add(r.delay)
}

// next notes that a try begins because of a failure.
func (r *retry) next(b BackOff, failed, now time.Time) {
	if r.delay == 0 || r.expired(b, failed) {
		r.delay = b.Initial
	} else {
		r.delay = min(2*r.delay, b.Max)
	}
	r.last = now
}
