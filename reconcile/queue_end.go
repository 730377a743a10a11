// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"time"
)

// Done ends a run that succeeded: the failures of the key are forgotten. What was
// added meanwhile becomes ready, or waits for its deadline. Where AddRateLimited
// was called for the key during the run, the run has failed, and Done only ends it.
//
// Done, Again, Retry and Park panic if the key is not running.
func (q *Queue[K]) Done(key K) {
	q.end(key, "Done", func(e *entry[K]) { q.agenda.done(e) })
}

// Again ends a run that succeeded, and adds the key with a deadline after d, at
// normal priority: what was added meanwhile may be earlier. d ≤ 0 means now.
func (q *Queue[K]) Again(key K, d time.Duration) {
	q.end(key, "Again", func(e *entry[K]) { q.agenda.repeat(e, d) })
}

// Retry ends a run that failed, and adds the key rate-limited, at the priority
// that it had. If that was failure number QueueOptions.MaxAttempts in a row, the
// key is parked instead. What was added meanwhile stands: it makes the key ready
// at once, parked or not, unless it was added with KeepBackoff.
func (q *Queue[K]) Retry(key K, err error) (parked bool) {
	q.end(key, "Retry", func(e *entry[K]) { parked = q.agenda.retry(e, err) })
	return parked
}

// Park ends a run that failed in a way that repeating it won't mend. The key stays
// out of the way until Unpark, or until it is added without KeepBackoff, as it may
// have been during the run; its failures are forgotten then.
func (q *Queue[K]) Park(key K, err error) {
	q.end(key, "Park", func(e *entry[K]) { q.agenda.park(e, err) })
}

// end finds the entry of a run and ends it.
func (q *Queue[K]) end(key K, verb string, f func(e *entry[K])) {
	hash, now := q.hash(key), q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.agenda.advance(now)
	e := q.agenda.keys.find(hash, key)
	if e == nil || !e.is(running) {
		panic(fmt.Sprintf("reconcile: Queue.%s(%v): the key is not running: call one of Done, Again, Retry and Park once for each Get", verb, key))
	}
	f(e)
	q.wake()
}
