// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// How an event that can't be written is tried again.
const (
	maxEventTries  = 12
	firstEventWait = 100 * time.Millisecond
	maxEventWait   = 30 * time.Second
)

// run writes what waits until the recorder is closed and nothing waits any more,
// or the context ends.
func (r *Recorder) run(ctx context.Context) {
	defer close(r.done)
	defer r.stop(nil)
	wait := time.Duration(0)
	for {
		record, snapshot, closing := r.head()
		switch {
		case record == nil && closing:
			return
		case record == nil:
			select {
			case <-r.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		err := r.write(ctx, &snapshot)
		if err != nil && ctx.Err() != nil {
			return
		}
		if r.finish(record, snapshot, err) {
			wait = 0
			continue
		}
		wait = min(max(2*wait, firstEventWait), maxEventWait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// head returns the record that waits longest, and what it says now.
func (r *Recorder) head() (record *eventRecord, snapshot eventRecord, closing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil, eventRecord{}, r.closing
	}
	return r.queue[0], *r.queue[0], r.closing
}

// finish notes what became of the record at the head of the queue: written, to be
// tried again after the others, or dropped. It reports whether to go on at once.
func (r *Recorder) finish(record *eventRecord, written eventRecord, err error) (goOn bool) {
	r.mu.Lock()
	r.queue = r.queue[1:]
	record.name, record.lease = written.name, written.lease
	retry := err != nil && !isPermanent(err) && record.tries+1 < maxEventTries
	switch {
	case retry:
		record.tries++
		r.queue = append(r.queue, record)
	case err == nil && record.count != written.count: // more came meanwhile
		record.tries = 0
		r.stats.Written++
		r.queue = append(r.queue, record)
	case err == nil:
		record.waiting, record.tries = false, 0
		r.stats.Written++
	default:
		record.waiting, record.tries = false, 0
	}
	r.mu.Unlock()
	if err != nil && !retry {
		r.drop(err, written.reason, written.message)
	}
	return !retry
}

// isPermanent reports whether writing the same again can't help.
func isPermanent(err error) bool {
	for _, e := range []error{store.ErrInvalid, store.ErrTooLarge, store.ErrHookPanic, store.ErrUnsupported, store.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errOtherEvent is returned by a patch that met an event of the name that another
// recorder made.
var errOtherEvent = errors.New("another event has that name")

// write creates the event, or patches what it counts. In w it notes the name and
// the lease. An event that has expired is created anew.
func (r *Recorder) write(ctx context.Context, w *eventRecord) error {
	if err := r.renewLease(ctx); err != nil {
		return err
	}
	err := r.put(ctx, w)
	switch {
	case err == nil:
		w.lease = r.lease
	case errors.Is(err, store.ErrLeaseLost): // the clock jumped, say
		r.lease = eventLease{}
	}
	return err
}

func (r *Recorder) put(ctx context.Context, w *eventRecord) error {
	if w.name != "" {
		err := r.patch(ctx, w)
		if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, errOtherEvent) {
			return err
		}
	}
	for {
		w.name = r.newName(w)
		_, err := r.events.Create(ctx, r.event(w), store.WriteOptions{Lease: r.lease.id})
		if !errors.Is(err, store.ErrAlreadyExists) {
			return err // where the outcome is unknown, the next try patches that name
		}
	}
}

func (r *Recorder) patch(ctx context.Context, w *eventRecord) error {
	var opts store.WriteOptions
	if w.lease != r.lease {
		opts.Lease = r.lease.id
	}
	key := store.Key{Namespace: eventNamespace(w.about), Name: w.name}
	_, err := r.events.Patch(ctx, key, func(e *Event) error {
		if e.InvolvedObject.UID != w.about.UID || e.Reason != w.reason || e.Source.Component != r.opts.Component {
			return errOtherEvent
		}
		e.Message, e.Count, e.LastTimestamp = w.message, w.count, store.Time{Time: w.last}
		e.InvolvedObject.ResourceVersion = w.about.ResourceVersion
		return nil
	}, opts)
	return err
}

// renewLease sees to a lease that events of now can be kept under. A lease is
// never kept alive: the events that still happen move on to the next.
func (r *Recorder) renewLease(ctx context.Context) error {
	h, ok := r.events.(interface{ Store() store.Store })
	if !ok || r.opts.TTL < 0 {
		return nil
	}
	leaser, ok := h.Store().(store.Leaser)
	now := time.Now()
	if !ok || now.Before(r.lease.until) {
		return nil
	}
	span := max(r.opts.TTL/8, 1)
	lease, err := leaser.Grant(ctx, r.opts.TTL+span)
	switch {
	case errors.Is(err, store.ErrUnsupported): // a store around one that is no Leaser
		return nil
	case err != nil:
		return err
	}
	r.lease = eventLease{lease.ID, now.Add(span)}
	return nil
}

func (r *Recorder) event(w *eventRecord) *Event {
	return &Event{
		Meta:           store.Meta{Namespace: eventNamespace(w.about), Name: w.name},
		InvolvedObject: w.about, Type: w.typ, Reason: w.reason, Message: w.message,
		Source:         EventSource{Component: r.opts.Component, Host: r.opts.Host},
		FirstTimestamp: store.Time{Time: w.first}, LastTimestamp: store.Time{Time: w.last}, Count: w.count,
		ReportingController: r.opts.Component, ReportingInstance: r.opts.Host,
	}
}

// eventNamespace is where events about an object are: with it, or in the default
// namespace where it has none, as in Kubernetes.
func eventNamespace(about ObjectReference) string { return cmp.Or(about.Namespace, "default") }

// newName returns "object.18a9…": the object's name and the time, which no other
// event of this recorder has.
func (r *Recorder) newName(w *eventRecord) string {
	r.lastName = max(r.lastName+1, time.Now().UnixNano())
	name := w.about.Name
	if limit := 253 - 17; len(name) > limit {
		name = name[:limit]
	}
	return fmt.Sprintf("%s.%x", name, r.lastName)
}
