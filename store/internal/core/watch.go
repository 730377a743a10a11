// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"iter"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// Watch implements [store.Store].
func (s *Store) Watch(ctx context.Context, schema *store.Schema, opts store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return func(yield func(store.Event[store.Object], error) bool) {
		// What is needed at the end, so that the options need not be kept: most
		// watchers are idle most of the time.
		schema, key := schema, store.Key{Namespace: opts.Namespace, Name: opts.Name}
		w, err := s.newWatcher(ctx, schema, opts)
		if err == nil {
			err = w.run(yield)
		}
		if err != nil {
			yield(store.Event[store.Object]{}, wrap(err, "watch", schema, key))
		}
	}
}

// watcher is one iteration over a watch. It belongs to the consumer's
// goroutine; nothing runs for it while the consumer is busy.
type watcher struct {
	s      *Store
	t      *table
	ctx    context.Context
	filter filter
	plain  bool // the filter selects everything
	yield  func(store.Event[store.Object], error) bool

	present  View   // the initial state, until it is delivered
	pos      uint64 // position in the log of the next event to look at
	from     uint64 // revisions up to this one are not for the consumer
	seen     uint64 // everything up to this revision was delivered
	sleeper  *sleeper
	bookmark *time.Timer // nil: no bookmarks
	every    time.Duration
	due      time.Time   // of the next bookmark
	unhook   func() bool // from the context
}

func (s *Store) newWatcher(ctx context.Context, schema *store.Schema, opts store.WatchOptions) (*watcher, error) {
	t, err := s.table("watch", schema)
	if err != nil {
		return nil, err
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	f, none, err := newFilter(schema, opts.Namespace, opts.Name, opts.Labels, opts.Fields)
	if err != nil {
		return nil, err
	}
	if none {
		return nil, store.Invalidf("the selectors contradict each other: no object could ever match")
	}
	if opts.Bookmarks < 0 {
		return nil, store.Invalidf("bookmarks every %v: want 0, for none, or more", opts.Bookmarks)
	}
	w := &watcher{s: s, t: t, ctx: ctx, filter: f, plain: f.everything(), every: opts.Bookmarks}
	if err := w.begin(&opts); err != nil {
		return nil, err
	}
	w.sleeper = newSleeper(&w.filter)
	wake := func() { t.hub.wake(w.sleeper) }
	w.unhook = context.AfterFunc(ctx, wake)
	if opts.Bookmarks > 0 {
		w.due = time.Now().Add(opts.Bookmarks)
		w.bookmark = time.AfterFunc(opts.Bookmarks, wake)
	}
	return w, nil
}

// begin finds the place in the log where the watch begins, and the state that
// it begins with.
func (w *watcher) begin(opts *store.WatchOptions) error {
	for {
		latest := w.s.revision.Load()
		if opts.From > latest {
			return future(opts.From, latest)
		}
		present := opts.Initial || opts.From == 0
		switch {
		case opts.Initial:
			w.present, w.from = w.s.present(w.t)
		case present:
			w.from = latest
		default:
			w.from = opts.From
		}
		h, end := w.t.log.window()
		oldest := max(w.s.floor.Load(), h.dropped)
		if w.from >= oldest {
			w.pos = h.after(w.from, end)
			return nil
		}
		if !present {
			return tooOld(w.from, oldest)
		}
		// The window has moved on since the revision was loaded: take a newer one.
	}
}

func (w *watcher) stop() {
	w.unhook()
	if w.bookmark != nil {
		w.bookmark.Stop()
	}
}

// run delivers until the consumer stops (nil) or the watch can't go on.
func (w *watcher) run(yield func(store.Event[store.Object], error) bool) error {
	defer w.stop()
	w.yield = yield
	if w.present != nil {
		if more, err := w.initial(); !more || err != nil {
			return err
		}
	}
	for {
		if more, err := w.deliver(); !more || err != nil {
			return err
		}
		if !w.mark() {
			return nil
		}
		w.t.hub.sleep(w.sleeper, w.hasReason)
		w.pos = max(w.pos, w.sleeper.resume)
	}
}

// hasReason reports whether there is a reason not to sleep. It is called under
// the hub's mutex.
func (w *watcher) hasReason() bool {
	if w.ctx.Err() != nil || w.s.closed.Load() || w.t.removed.Load() {
		return true
	}
	if w.bookmark != nil && !time.Now().Before(w.due) {
		return true
	}
	head := w.s.revision.Load()
	h, end := w.t.log.window()
	return w.pos < h.first || w.pos < end && h.at(w.pos).next.Revision <= head
}

// initial delivers the state at the revision where the watch begins.
func (w *watcher) initial() (more bool, err error) {
	more = true
	w.filter.ascend(w.present, store.Key{}, func(e *Entry) bool {
		if err = w.ended(); err != nil {
			return false
		}
		more = w.yield(store.Event[store.Object]{Type: store.Added, Object: e.Object, Revision: e.Revision, More: true}, nil)
		return more
	})
	if !more || err != nil {
		return false, err
	}
	w.present, w.seen = nil, w.from
	return w.yield(store.Event[store.Object]{Type: store.Synced, Revision: w.from, Last: true}, nil), nil
}

// deliver hands over every event that there is, transaction by transaction.
func (w *watcher) deliver() (more bool, err error) {
	if err := w.ended(); err != nil {
		return false, err
	}
	head := w.s.revision.Load() // before the log: it holds all up to there
	h, end := w.t.log.window()
	more, err = w.deliverWindow(h, end, head)
	w.seen = max(w.seen, head)
	return more, err
}

// ended returns why the watch must end, or nil.
func (w *watcher) ended() error {
	switch {
	case w.s.closed.Load():
		return store.ErrClosed
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	case w.t.removed.Load():
		return store.ErrUnknownKind
	}
	return nil
}

// deliverWindow hands over the events from w.pos to the end that are of the
// revision head or before. Each waits for the next of its transaction, so that
// the last can say that it is.
func (w *watcher) deliverWindow(h *logHead, end, head uint64) (more bool, err error) {
	if w.pos < h.first {
		return false, tooOld(w.from, max(w.s.floor.Load(), h.dropped))
	}
	var held store.Event[store.Object]
	for ; w.pos < end; w.pos++ {
		ev := h.at(w.pos)
		revision := ev.next.Revision
		if revision <= w.from {
			continue
		}
		if revision > head {
			break
		}
		if held.Type != 0 && held.Revision != revision {
			held.Last = true
			_, held.More = w.translate(ev)
			if !w.yield(held, nil) {
				return false, nil
			}
			held = store.Event[store.Object]{}
			w.from = revision - 1
			if err := w.ended(); err != nil {
				return false, err
			}
			// Anew, so that a consumer who takes his time has not kept what left the
			// window meanwhile.
			if h = w.t.log.head.Load(); w.pos < h.first {
				return false, tooOld(w.from, max(w.s.floor.Load(), h.dropped))
			}
			ev = h.at(w.pos)
		}
		if held.Type == 0 && revision <= w.s.floor.Load() { // between transactions: one that was begun is finished
			return false, tooOld(w.from, w.s.floor.Load())
		}
		next, ok := w.translate(ev)
		if !ok {
			continue
		}
		held.More = true
		if held.Type != 0 && !w.yield(held, nil) {
			return false, nil
		}
		held = next
	}
	if held.Type == 0 {
		return true, nil
	}
	held.Last = true
	w.from = held.Revision
	return w.yield(held, nil), nil
}

// translate makes the event that the consumer sees, if it concerns him: what
// the selectors do not match does not exist for him.
func (w *watcher) translate(ev *event) (out store.Event[store.Object], ok bool) {
	was, is := ev.old != nil, !ev.next.Gone
	if !w.plain {
		was = was && w.filter.matches(ev.old)
		is = is && w.filter.matches(ev.next)
	}
	out.Object, out.Revision = ev.next.Object, ev.next.Revision
	if ev.old != nil {
		out.Old = ev.old.Object
	}
	switch {
	case was && is:
		out.Type = store.Modified
	case is:
		out.Type = store.Added
	case was:
		out.Type = store.Deleted
		if !ev.next.Gone {
			out.Object = ev.old.Object
		}
	default:
		return out, false
	}
	return out, true
}

// mark delivers a bookmark if one is due. It reports whether the consumer wants
// more.
func (w *watcher) mark() bool {
	if w.bookmark == nil || time.Now().Before(w.due) {
		return true
	}
	if !w.yield(store.Event[store.Object]{Type: store.Bookmark, Revision: w.seen, Last: true}, nil) {
		return false
	}
	w.due = time.Now().Add(w.every)
	w.bookmark.Reset(w.every)
	return true
}
