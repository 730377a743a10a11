// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"log/slog"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// Options configure an [Informer]. The zero value works.
type Options[T store.Object] struct {
	// Namespace, Labels and Fields select the objects; the source is asked for no
	// others. Zero values select all.
	Namespace string
	Labels    store.Selector
	Fields    store.FieldSelector

	// Transform replaces each object before it is kept and delivered: to drop what
	// nobody reads, say. What it gets is shared and must not be changed: return it
	// as it is, or a changed copy with the same key. It makes an informer of a
	// store in this process keep a cache of its own. nil: none. One that panics or
	// returns nil or another key makes the informer fail: see Err.
	Transform func(T) T

	// Indexes are indexes of the cache beside those of the source's kind, for
	// sources other than a store in this process, which has its own.
	Indexes []store.SchemaIndex

	// UID returns an object's UID, by which an object is told from another that
	// took its name. nil: as the source's kind says, or by the method GetUID of the
	// object; where there is neither, an object that was deleted and created is
	// another one.
	UID func(T) string

	// PageSize bounds how many objects are asked for at a time; 0: all at once.
	PageSize int
	// Bookmarks is how often a quiet source is to report progress; 0 means every
	// 10 s, a negative duration never. A store in this process is not asked.
	Bookmarks time.Duration
	// Stalled is how long a source may say nothing, not even a bookmark, before the
	// watch is ended and resumed; 0 means 5 min, a negative duration for ever. A
	// store in this process is never thought stalled.
	Stalled time.Duration
	// Relist lists anew at that interval, and delivers what differs, for a source
	// that may lose events; 0: only when the source demands it.
	Relist time.Duration
	// Backoff is the pause after a failure.
	Backoff Backoff

	// Logger gets what no caller can be told, such as a handler that panicked; nil
	// discards it.
	Logger *slog.Logger
	Hooks  Hooks
}

// Backoff is the pause after a failure of the source: it doubles from Initial to
// Max with each failure in a row, and is spread at random by half either way so
// that clients of one server do not come back all at once.
type Backoff struct {
	Initial time.Duration // 0: 100 ms
	Max     time.Duration // 0: 30 s
}

// Hooks are told what an informer does, for metrics. Each may be nil. They are
// called in the informer's own goroutines and must return at once.
type Hooks struct {
	// Failed is called with each error of the source, and the pause before the
	// next attempt.
	Failed func(err error, pause time.Duration)
	// Listed is called after each list with the number of objects, and the number
	// of differences from what the informer had.
	Listed func(objects, differences int)
	// Panicked is called when a function of a handler panicked.
	Panicked func(Panic)
}

// Panic is a panic of a handler's function.
type Panic struct {
	Handler string // its Name
	Key     store.Key
	Value   any // what recover returned
	Stack   []byte
}

const (
	defaultBookmarks = 10 * time.Second
	defaultStalled   = 5 * time.Minute
	defaultInitial   = 100 * time.Millisecond
	defaultMax       = 30 * time.Second
)

// complete returns the options with the defaults filled in.
func (o Options[T]) complete() Options[T] {
	o.Bookmarks = either(o.Bookmarks, defaultBookmarks)
	o.Stalled = either(o.Stalled, defaultStalled)
	o.Backoff.Initial = either(o.Backoff.Initial, defaultInitial)
	o.Backoff.Max = max(either(o.Backoff.Max, defaultMax), o.Backoff.Initial)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// either returns d, or the default where it is zero.
func either(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return d
}
