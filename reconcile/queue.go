// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// ErrShutDown is what [Queue.Get] returns when there will be nothing to get any
// more.
var ErrShutDown = errors.New("queue is shut down")

// A Queue hands keys to workers: each key once however often it was added, to
// one worker at a time, now or at its deadline, the urgent before the others.
//
// A key has at most one entry, and the entry at most one deadline:
//
//	                    Add, deadline reached
//	            ┌──────────────────────────────────┐
//	            │                                  ▼
//	AddAfter, … waiting ◀── AddNotBefore ──────── ready
//	            ▲                                  │ Get
//	            │                                  ▼
//	            └───────── Again, Retry ──────── running ──── Done ──▶ (gone)
//	                                               │
//	                       Add, Unpark             ▼ Park, or Retry too often
//	            ready ◀───────────────────────── parked
//
// What is added while its key is running waits for the run's end: it is never
// lost, and never run beside it.
//
// # Order
//
// Of the keys that are ready, those of a higher [Priority] go first; among equals
// the tenants take turns (QueueOptions.Tenant), and the keys of a tenant go in
// the order in which they became ready. Nothing starves: every fourth Get takes
// the key that has been ready for longest, if that is longer than
// QueueOptions.MaxWait. So once a key has waited that long, with n keys older
// than it, it is handed out by one of the next 4n+4 calls of Get.
//
// # Failures
//
// A run ends with Done (it succeeded), [Queue.Again] (it succeeded, and is to be
// repeated), [Queue.Retry] (it failed: again after a backoff) or [Queue.Park] (it
// failed for good). The queue counts the failures since the last success. Add
// makes a key that waits for its backoff ready at once, and brings back a parked
// one, for it stands for news; AddOptions.KeepBackoff says that there are none.
//
// # Memory, goroutines, time
//
// A key that is neither added nor running nor parked, and has not failed since its
// last success, takes no memory. The queue has no goroutines; it has a timer while
// a worker waits for a deadline. Deadlines follow the monotonic clock, so that
// setting the wall clock moves none.
//
// All methods may be called at the same time by several goroutines. Make a queue
// with [NewQueue].
type Queue[K comparable] struct {
	opts QueueOptions[K] // with the defaults filled in
	seed maphash.Seed
	base time.Time // the queue's clock counts nanoseconds from here

	mu      sync.Mutex
	agenda  agenda[K]
	waiting []*waiter // the workers in Get, the last to come first to go
	spare   []*waiter
	waking  int         // workers that were called and have not come yet
	timer   *time.Timer // made when it is first needed
	alarm   int64       // when the timer fires; never: it is not running
}

// QueueOptions configure a queue. The zero value is useful.
type QueueOptions[K comparable] struct {
	// Backoff says how long a key that failed waits.
	Backoff Backoff
	// Rate is how many keys a second may be retried or added rate-limited, all keys
	// together, and Burst how many at once after a quiet time. 0 means 100 a second
	// and a burst of 1,000; a negative Rate means no limit.
	Rate  float64
	Burst int
	// MaxAttempts parks a key that failed so many times in a row: see [Queue.Retry].
	// 0 parks none.
	MaxAttempts int
	// Tenant tells on whose behalf a key is worked on. Where it is set, the tenants
	// that have keys ready at the same priority take turns, so that one with many
	// does not hold up one with few. It is called by whoever adds, must be quick,
	// always say the same of a key, and may be called by several goroutines at once.
	// nil: all keys are one tenant's.
	Tenant func(key K) string
	// MaxWait is how long a ready key waits before its priority no longer matters:
	// see "Order" at [Queue]. 0 means 10 s; negative means that priorities are
	// strict, so that a key may wait for ever.
	MaxWait time.Duration
	// Echo says that a cause is no news to the key, because a run of the key made it
	// happen. Retry and Park ask it of what was added during the run, so that a run
	// that fails and writes so does not cut its own backoff short, or unpark its key. It is called with the
	// queue locked, and must not use the queue. nil: everything is news.
	Echo func(key K, c Cause) bool
	// Seed makes the jitter of backoffs repeatable. 0: it differs each time.
	Seed uint64
}

// A Priority says which ready keys go first. Priorities other than those named
// here count as the nearest of them.
type Priority int8

const (
	// PriorityLow is for what nobody waits for: the initial list, resyncs.
	PriorityLow Priority = iota - 1
	// PriorityNormal is for what changed.
	PriorityNormal
	// PriorityHigh is for what somebody waits for.
	PriorityHigh

	priorities = 3
)

// AddOptions refine an add. The zero value adds at normal priority.
type AddOptions struct {
	// Priority is raised, never lowered, by further adds of a key that has not been
	// handed out yet.
	Priority Priority
	// Cause says why; the worker gets it with the key ([Item]). A Cause without a
	// Reason is not recorded.
	Cause Cause
	// KeepBackoff says that nothing changed which could let the key succeed where it
	// failed: a resync, or the event of what its own run wrote. A key that waits for
	// its backoff keeps its deadline then, and a parked one stays parked. On any
	// other key it has no effect.
	KeepBackoff bool
}

// priority returns the nearest of the priorities.
func (o *AddOptions) priority() Priority { return min(max(o.Priority, PriorityLow), PriorityHigh) }

// Item is a key that was handed to a worker.
type Item[K comparable] struct {
	Key K
	// Causes are those of the adds since the last run, the first of each kind of
	// event with its latest revision, at most 8; MoreCauses counts the others.
	Causes     []Cause
	MoreCauses int
	// Attempts is how many times in a row it failed before.
	Attempts int
	Priority Priority
	// Waited is how long it was ready.
	Waited time.Duration
}

// NewQueue returns an empty queue. It panics if an option makes no sense.
func NewQueue[K comparable](opts QueueOptions[K]) *Queue[K] {
	if err := opts.complete(); err != nil {
		panic("reconcile: NewQueue: " + err.Error())
	}
	q := &Queue[K]{opts: opts, seed: maphash.MakeSeed(), base: time.Now(), alarm: never}
	q.agenda = newAgenda[K](newLimiter(opts.Backoff, opts.Rate, opts.Burst, opts.Seed), opts.MaxAttempts, opts.MaxWait)
	q.agenda.echo = opts.Echo
	return q
}

// complete checks the options and fills in the defaults.
func (o *QueueOptions[K]) complete() error {
	if err := o.Backoff.complete(); err != nil {
		return err
	}
	switch {
	case math.IsNaN(o.Rate):
		return errors.New("option Rate is not a number")
	case o.Burst < 0:
		return fmt.Errorf("option Burst is %d: it can't be negative", o.Burst)
	case o.MaxAttempts < 0:
		return fmt.Errorf("option MaxAttempts is %d: it can't be negative (0 parks no key)", o.MaxAttempts)
	}
	if o.Rate == 0 {
		o.Rate = 100
	}
	if o.Burst == 0 {
		o.Burst = 1000
	}
	switch {
	case o.MaxWait == 0:
		o.MaxWait = 10 * time.Second
	case o.MaxWait < 0:
		o.MaxWait = never
	}
	return nil
}

// Add makes the key ready now, whatever its deadline was. A key that is running
// becomes ready when its run ends.
func (q *Queue[K]) Add(key K, add ...AddOptions) {
	q.add(key, notLater, 0, add)
}

// AddAfter makes the key ready after d at the latest: an earlier deadline stands.
// d ≤ 0 means now.
func (q *Queue[K]) AddAfter(key K, d time.Duration, add ...AddOptions) {
	q.add(key, notLater, d, add)
}

// AddNotLaterThan makes the key ready at t at the latest: an earlier deadline
// stands.
func (q *Queue[K]) AddNotLaterThan(key K, t time.Time, add ...AddOptions) {
	q.add(key, notLater, time.Until(t), add)
}

// AddNotBefore makes t the key's deadline, whether it was earlier or later; even
// a key that is ready waits for it.
func (q *Queue[K]) AddNotBefore(key K, t time.Time, add ...AddOptions) {
	q.add(key, notBefore, time.Until(t), add)
}

// AddRateLimited makes the key ready after its backoff and when the overall limit
// (QueueOptions.Rate) allows it: an earlier deadline stands. It counts as a failure
// of the key, once for each run and deadline, as Retry does, but never parks.
func (q *Queue[K]) AddRateLimited(key K, add ...AddOptions) {
	q.add(key, limited, 0, add)
}

func (q *Queue[K]) add(key K, when when, d time.Duration, add []AddOptions) {
	var o *AddOptions
	switch len(add) {
	case 0:
		o = &AddOptions{}
	case 1:
		o = &add[0]
	default:
		panic("reconcile: more than one options value given to one call: set the fields of one")
	}
	var tenant string
	if q.opts.Tenant != nil {
		tenant = q.opts.Tenant(key)
	}
	hash := q.hash(key)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.agenda.addReady(key, hash, when, o) {
		return
	}
	now := q.now()
	q.agenda.advance(now)
	q.agenda.add(key, hash, tenant, when, dueAt(now, d), o)
	q.wake()
}

// Cancel takes back a delayed add: a key that waits for its deadline, be it while
// it is running, is not added any more. It reports whether there was one. The
// failures of the key are not forgotten.
func (q *Queue[K]) Cancel(key K) bool {
	hash, now := q.hash(key), q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.agenda.advance(now)
	canceled := q.agenda.cancel(key, hash)
	q.wake()
	return canceled
}

// Unpark makes a parked key ready, its failures forgotten; it reports whether the
// key was parked. After ShutDown it does nothing.
func (q *Queue[K]) Unpark(key K) bool {
	hash, now := q.hash(key), q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.agenda.advance(now)
	unparked := q.agenda.unparkKey(key, hash)
	q.wake()
	return unparked
}

// Forget forgets the failures of the key. Its deadline stands, and a parked key
// stays parked.
func (q *Queue[K]) Forget(key K) {
	hash := q.hash(key)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.agenda.forget(key, hash)
}

func (q *Queue[K]) hash(key K) uint32 { return uint32(maphash.Comparable(q.seed, key)) }

// now returns the queue's time.
func (q *Queue[K]) now() int64 { return int64(time.Since(q.base)) }

// never is a time that does not come.
const never = math.MaxInt64

// dueAt returns the time at d from now; if that is too far for a clock, never.
func dueAt(now int64, d time.Duration) int64 {
	if d <= 0 {
		return now
	}
	if int64(d) > never-now {
		return never
	}
	return now + int64(d)
}
