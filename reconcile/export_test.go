// SPDX-License-Identifier: Apache-2.0

package reconcile

// DelayTimers makes the timer that ends the term late for good, as it is in a
// process that is paused.
func DelayTimers(t Term) { t.tenure.expiry.Stop() }
