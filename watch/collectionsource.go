// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// ready waits until the collection can be read.
func (c *Collection[T]) ready(ctx context.Context) error {
	select {
	case <-c.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
	}
	select {
	case <-c.synced:
		return nil
	case <-c.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Page implements [Source].
func (c *Collection[T]) Page(ctx context.Context, opts ...store.ListOptions) (store.Page[T], error) {
	if err := c.ready(ctx); err != nil {
		return store.Page[T]{}, err
	}
	o := first(opts)
	c.mu.Lock()
	of, err := c.pageOf(&o)
	c.mu.Unlock()
	if err != nil {
		return store.Page[T]{}, err
	}
	var p store.Page[T]
	p.ListMeta, err = frozen[T]{of}.listMeta(o, func(o store.Object) bool {
		p.Items = append(p.Items, o.(T))
		return true
	})
	if p.Continue != "" {
		p.Continue = store.FormatRevision(p.Revision) + " " + p.Continue
	}
	return p, err
}

// pageOf returns the contents that a page is of, and takes the revision out of
// the options' token. The mutex is held.
func (c *Collection[T]) pageOf(o *store.ListOptions) (*contents[T], error) {
	if o.Continue == "" {
		if err := c.contents.readable(o.ReadOptions); err != nil {
			return nil, err
		}
		of := c.contents.snapshot()
		if o.Limit > 0 {
			c.paged = of
		}
		return of, nil
	}
	revision, after, _ := strings.Cut(o.Continue, " ")
	o.Continue = after
	if c.paged == nil || revision != store.FormatRevision(c.paged.revision) {
		return nil, store.ErrTooOld // somebody else has begun to page since
	}
	return c.paged, nil
}

// Watch implements [Source].
func (c *Collection[T]) Watch(ctx context.Context, opts ...store.WatchOptions) iter.Seq2[store.Event[T], error] {
	return func(yield func(store.Event[T], error) bool) {
		err := c.ready(ctx)
		if err == nil {
			w := collectionWatch[T]{c: c, ctx: ctx, opts: first(opts), yield: yield}
			err = w.run()
		}
		if err != nil {
			yield(store.Event[T]{}, err)
		}
	}
}

// collectionWatch is one iteration over a watch of a collection, in the consumer's
// goroutine.
type collectionWatch[T store.Object] struct {
	c     *Collection[T]
	ctx   context.Context
	opts  store.WatchOptions
	yield func(store.Event[T], error) bool
	query query[T]
	pos   uint64 // in the log, of the next event to look at
	seen  uint64 // revision up to which everything was delivered
}

func (w *collectionWatch[T]) run() (err error) {
	initial, err := w.begin()
	if err != nil {
		return err
	}
	if w.opts.Initial {
		for _, o := range initial {
			rev, _ := store.RevisionOf(o)
			if !w.yield(store.Event[T]{Type: store.Added, Object: o, Revision: rev}, nil) {
				return nil
			}
		}
		if !w.yield(store.Event[T]{Type: store.Synced, Revision: w.seen, Last: true}, nil) {
			return nil
		}
	}
	var due <-chan time.Time
	if w.opts.Bookmarks > 0 {
		ticker := time.NewTicker(w.opts.Bookmarks)
		defer ticker.Stop()
		due = ticker.C
	}
	for {
		changed, more, err := w.deliver()
		if !more || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-due:
			if !w.yield(store.Event[T]{Type: store.Bookmark, Revision: w.seen, Last: true}, nil) {
				return nil
			}
		case <-w.c.stopped:
			return ErrStopped
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		}
	}
}

// begin finds the place in the log to begin at, and the objects to begin with.
func (w *collectionWatch[T]) begin() (initial []T, err error) {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	fields := w.opts.Fields
	if w.opts.Name != "" {
		fields = fields.And(store.FieldSelector{{Name: store.FieldName, Value: w.opts.Name}})
	}
	w.query, err = c.contents.query(store.ListOptions{Namespace: w.opts.Namespace, Labels: w.opts.Labels, Fields: fields})
	if err != nil {
		return nil, err
	}
	latest := c.contents.revision
	switch from := w.opts.From; {
	case w.query.none:
		return nil, store.Invalidf("the selectors contradict each other: no object could ever match")
	case from > latest:
		return nil, store.ErrFuture
	case w.opts.Initial:
		initial, _ = c.contents.list(&w.query)
		w.seen = latest
	case from == 0:
		w.seen = latest
	case from < c.floor:
		return nil, store.ErrTooOld
	default:
		w.seen = from
	}
	w.pos = c.after(w.seen)
	return initial, nil
}

// deliver hands over what there is, and returns what to wait for.
func (w *collectionWatch[T]) deliver() (changed <-chan struct{}, more bool, err error) {
	w.c.mu.Lock()
	events, lost := w.c.window(w.pos)
	changed, latest := w.c.changed, w.c.contents.revision
	w.c.mu.Unlock()
	if lost {
		return nil, false, store.ErrTooOld
	}
	var held store.Event[T] // waits for the next, so that the last of a transaction can say that it is
	for n := range events {
		ev, ok := w.translate(events[n])
		if ok {
			if held.Type != 0 && !w.yield(held, nil) {
				return nil, false, nil
			}
			held = ev
		}
		if events[n].Last && held.Type != 0 {
			held.Last = true
			if !w.yield(held, nil) {
				return nil, false, nil
			}
			held = store.Event[T]{}
		}
	}
	w.pos += uint64(len(events))
	w.seen = latest
	return changed, true, nil
}

// translate makes the event that the consumer sees, if it concerns him.
func (w *collectionWatch[T]) translate(ev store.Event[T]) (store.Event[T], bool) {
	was := ev.Type != store.Added && w.query.matches(ev.Old)
	is := ev.Type != store.Deleted && w.query.matches(ev.Object)
	ev.Last = false
	switch {
	case was && is:
		ev.Type = store.Modified
	case is:
		ev.Type = store.Added
	case was:
		ev.Type, ev.Object = store.Deleted, ev.Old
	default:
		return ev, false
	}
	return ev, true
}
