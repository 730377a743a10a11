// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// EventWriter is what a [Recorder] needs of where it writes to. A
// *store.Handle[*Event] is one; for a store that keeps Kubernetes' own events, two methods
// convert.
type EventWriter interface {
	Create(ctx context.Context, e *Event, opts ...store.WriteOptions) (*Event, error)
	Patch(ctx context.Context, key store.Key, change func(*Event) error, opts ...store.WriteOptions) (*Event, error)
}

// RecorderOptions configure a [Recorder]. The zero value works; the defaults of
// the limits are client-go's.
type RecorderOptions struct {
	// Component and Host say who records. Component "" is "slipway"; Host may be
	// empty.
	Component, Host string
	// TTL is how long an event is kept after it last happened: between TTL and an
	// eighth more. It needs an EventWriter that is a handle of a [store.Leaser];
	// elsewhere events stay until somebody deletes them. 0 means an hour; a negative
	// one, for ever.
	TTL time.Duration
	// Similar is with how many messages a reason may come, for one object and
	// within Window since the last, before further messages share one event. 0 means 10,
	// and 10 minutes.
	Similar int
	Window  time.Duration
	// Burst is how many writes about one object may follow each other; one more is
	// allowed for each time of Refill. 0 means 25, and 5 minutes. What is beyond is
	// counted, and the count written with the next that is allowed.
	Burst  int
	Refill time.Duration
	// Memory bounds the number of events, of reasons and of objects that are
	// remembered. One that is forgotten begins anew. 0 means 4,096.
	Memory int
	// Pending bounds the number of events that wait to be written; those beyond are
	// dropped. 0 means 1,000.
	Pending int
	// Logger gets what is dropped, and why; nil discards it.
	Logger *slog.Logger
}

func (o RecorderOptions) complete() RecorderOptions {
	o.Component = cmp.Or(o.Component, "slipway")
	o.TTL = cmp.Or(o.TTL, time.Hour)
	o.Similar = cmp.Or(max(o.Similar, 0), 10)
	o.Window = cmp.Or(max(o.Window, 0), 10*time.Minute)
	o.Burst = cmp.Or(max(o.Burst, 0), 25)
	o.Refill = cmp.Or(max(o.Refill, 0), 5*time.Minute)
	o.Memory = cmp.Or(max(o.Memory, 0), 4096)
	o.Pending = cmp.Or(max(o.Pending, 0), 1000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// RecorderStats say what became of what was recorded.
type RecorderStats struct {
	Recorded uint64 // calls
	Written  uint64 // creates and patches
	Limited  uint64 // counted only: beyond the object's burst
	Dropped  uint64 // lost: bad input, too many waiting, refused by the store, or after Close
	Pending  int    // waiting to be written now
}

// Recorder writes events about objects without holding up who records them: it
// counts equal ones in one event, puts similar ones together, and limits those
// about one object. Its memory is bounded. It is safe for concurrent use.
//
// The first event starts its one goroutine, which writes in the background and
// tries again what fails; [Recorder.Close] ends it.
type Recorder struct {
	events EventWriter
	opts   RecorderOptions

	mu         sync.Mutex
	correlator *eventCorrelator
	queue      []*eventRecord // waiting, oldest first
	closing    bool
	stats      RecorderStats
	stop       context.CancelCauseFunc // nil: the goroutine has not been started
	wake       chan struct{}           // holds one
	done       chan struct{}           // closed when the goroutine has ended

	// The goroutine's own.
	lease    eventLease
	lastName int64
}

// eventLease is a lease for the events of some time.
type eventLease struct {
	id    store.LeaseID
	until time.Time // for events before this
}

// NewRecorder returns a recorder that writes to events. It starts nothing.
func NewRecorder(events EventWriter, opts RecorderOptions) *Recorder {
	opts = opts.complete()
	return &Recorder{
		events: events, opts: opts, correlator: newEventCorrelator(opts),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Normal records an event for information about obj, which is of the kind s:
//
//	events.Normal(backups.Schema(), backup, "Finished", "%d bytes in %v", n, d)
//
// reason is one CamelCase word, the same for all events of a sort; the message says the
// rest in at most 1,024 bytes (what is longer is cut). It returns at once. It has no error:
// an event is no part of the work. What can't be recorded is logged and counted.
func (r *Recorder) Normal(s *store.Schema, obj store.Object, reason, format string, args ...any) {
	r.record(s, obj, EventNormal, reason, fmt.Sprintf(format, args...))
}

// Warning records an event that people may have to do something about: see
// [Recorder.Normal].
func (r *Recorder) Warning(s *store.Schema, obj store.Object, reason, format string, args ...any) {
	r.record(s, obj, EventWarning, reason, fmt.Sprintf(format, args...))
}

// Stats returns what became of what was recorded so far.
func (r *Recorder) Stats() RecorderStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	stats := r.stats
	stats.Pending = len(r.queue)
	return stats
}

// maxEventMessage is Kubernetes' limit, in bytes.
const maxEventMessage = 1024

func (r *Recorder) record(s *store.Schema, obj store.Object, typ EventType, reason, message string) {
	if err := checkEvent(s, obj, reason); err != nil {
		r.drop(err, reason, message)
		return
	}
	if len(message) > maxEventMessage-len(combined) {
		message = cut(message, maxEventMessage-len(combined)-len("…"))
	}
	about, now := ReferenceTo(s, obj), time.Now()
	if err := r.enqueue(now, about, typ, reason, message); err != nil {
		r.drop(err, reason, message)
	}
}

func checkEvent(s *store.Schema, obj store.Object, reason string) error {
	switch {
	case s == nil:
		return store.Invalidf("event: the schema of the object's kind is nil")
	case !s.Is(obj):
		return store.Invalidf("event: the object is nil, or no %s", s.KindName)
	case !isReason(reason) || len(reason) > 128:
		return store.Invalidf("event: reason %.40q: want one CamelCase word of at most 128 bytes, such as Finished", reason)
	}
	return nil
}

var (
	errRecorderClosed = errors.New("the recorder is closed")
	errRecorderFull   = errors.New("too many events wait to be written")
)

func (r *Recorder) enqueue(now time.Time, about ObjectReference, typ EventType, reason, message string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Recorded++
	if r.closing {
		return errRecorderClosed
	}
	record, write := r.correlator.observe(now, about, typ, reason, message)
	switch {
	case record.waiting: // goes with what is to be written
		return nil
	case !write:
		r.stats.Limited++
		return nil
	case len(r.queue) >= r.opts.Pending:
		return errRecorderFull
	}
	record.waiting = true
	r.queue = append(r.queue, record)
	if r.stop == nil {
		var ctx context.Context
		ctx, r.stop = context.WithCancelCause(context.Background())
		go r.run(ctx)
	}
	r.signal()
	return nil
}

func (r *Recorder) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// drop counts and logs an event that is lost.
func (r *Recorder) drop(err error, reason, message string) {
	r.mu.Lock()
	r.stats.Dropped++
	r.mu.Unlock()
	r.opts.Logger.Error("event dropped", "reason", reason, "message", message, "error", err)
}

// Close writes what waits, and ends the recorder's goroutine: it has ended when
// Close returns. If the context ends first, the rest is dropped, and the error says how
// many. What is recorded after Close is dropped. A second Close waits, too.
func (r *Recorder) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closing = true
	started := r.stop != nil
	r.mu.Unlock()
	if !started {
		return nil
	}
	r.signal()
	select {
	case <-r.done:
	case <-ctx.Done():
		r.stop(context.Cause(ctx))
		<-r.done
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if left := len(r.queue); left > 0 {
		r.queue = nil
		r.stats.Dropped += uint64(left)
		return fmt.Errorf("reconcile: close the event recorder: %d events were not written: %w", left, context.Cause(ctx))
	}
	return nil
}
