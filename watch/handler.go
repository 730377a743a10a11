// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// Handler is told about the objects of an informer. All of its fields are
// optional. Its functions are called one at a time, in a goroutine that exists
// while there is something to tell; each handler has its own, so that one who
// takes his time delays nobody. Objects are shared and must not be changed.
//
// The changes of one object arrive in order, and so do those of different
// objects, as long as the handler keeps up. One that falls far behind gets for
// each object what its changes amount to: added, updated from the state that it
// saw last to the present one, or deleted. Two changes are never made one where
// an object went and another took its name: delete and add both arrive.
//
// A function that panics is reported (Options.Logger, Hooks.Panicked) and not
// called again for that change, which counts as delivered: the handler goes on
// with the next.
type Handler[T store.Object] struct {
	// Name tells the handler from others in reports.
	Name string
	// Add is called for an object that came to be, or came to match. Initial is
	// true for those that were there when the handler began: see
	// [Registration.Synced].
	Add func(obj T, initial bool)
	// Update is called for an object that changed. Where it is called for the sake
	// of Resync, old and new are the same pointer.
	Update func(old, new T)
	// Delete is called for an object that went, or no longer matches, with its last
	// known state: the removed object's, unless the informer missed the removal and
	// found out by listing; then it is the last that the informer saw.
	Delete func(last T)
	// Resync calls Update for every object at that interval, from the moment that
	// the handler has had the initial objects; 0: never.
	Resync time.Duration
}

// Registration is a handler's place at an informer.
type Registration struct {
	synced  chan struct{}
	done    chan struct{}
	remove  func()
	backlog func() int
}

// Synced is closed once the handler's Add has returned for each object that was
// there when it began. It is never closed if the handler is removed, or the
// informer stopped, before that.
func (r *Registration) Synced() <-chan struct{} { return r.synced }

// Done is closed once the handler will not be called again: it was removed, or
// the informer's Run has ended.
func (r *Registration) Done() <-chan struct{} { return r.done }

// Remove ends the handler and returns once a call in progress has. Changes that
// it has not had are dropped. A second call does no harm. From within the
// handler's own functions, which Remove would wait for, it must be called in
// another goroutine.
func (r *Registration) Remove() { r.remove() }

// Backlog returns the number of changes that wait for the handler.
func (r *Registration) Backlog() int { return r.backlog() }

// subscriber is a handler and where it stands. Everything but h, i and what
// belongs to its goroutine is under the informer's mutex.
type subscriber[T store.Object] struct {
	i       *Informer[T]
	h       Handler[T]
	reg     *Registration
	busy    bool        // it has a goroutine
	present *present[T] // to be delivered before the journal
	at      place[T]    // while busy
	timer   *time.Timer // of the next resync
	due     bool        // a resync is to begin once the journal is done
	ended   atomic.Bool // no more calls
}

// Handle adds a handler, at any time. It is told of the objects that there are,
// and of every change after that. Before Run and until the informer has synced
// it waits; after Run it is never called, and Done is closed.
func (i *Informer[T]) Handle(h Handler[T]) *Registration {
	s := &subscriber[T]{i: i, h: h, reg: &Registration{synced: make(chan struct{}), done: make(chan struct{})}}
	s.reg.remove, s.reg.backlog = s.remove, s.backlog
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ending {
		s.ended.Store(true)
		close(s.reg.done)
		return s.reg
	}
	i.subscribers[s] = struct{}{}
	if i.isSynced {
		s.begin()
	}
	return s.reg
}

// begin starts with the objects that there are. The informer has synced.
func (s *subscriber[T]) begin() {
	s.present = s.i.takePresent()
	s.start(s.i.journal.end())
}

// start gives the subscriber a goroutine, to go on from that place.
func (s *subscriber[T]) start(at place[T]) {
	s.busy, s.at = true, at
	s.i.handlers.Go(s.run)
}

// remove implements Registration.Remove.
func (s *subscriber[T]) remove() {
	i := s.i
	i.mu.Lock()
	if first := !s.ended.Swap(true); first {
		s.stopTimer()
		delete(i.subscribers, s)
		delete(i.idle, s)
		if !s.busy {
			close(s.reg.done)
		}
		i.settle()
	}
	i.mu.Unlock()
	<-s.reg.done
}

func (s *subscriber[T]) backlog() int {
	s.i.mu.Lock()
	defer s.i.mu.Unlock()
	if !s.busy {
		return 0
	}
	n := 0
	if s.present != nil {
		n = len(s.present.objects)
	}
	for seg, from := s.at.seg, s.at.n; seg != nil; seg, from = seg.next, 0 {
		n += len(seg.changes) - from
	}
	return n
}

// run delivers until there is nothing left. It is the subscriber's goroutine.
func (s *subscriber[T]) run() {
	for {
		w, ok := s.next()
		if !ok {
			return
		}
		for more := true; more; {
			more = s.deliver(&w)
		}
		if w.present != nil && !s.ended.Load() {
			s.presented(w.resync)
		}
	}
}

// work is what a subscriber's goroutine has taken to deliver.
type work[T store.Object] struct {
	present *present[T]
	resync  bool
	changes []change[T]
	next    int // index of the next to deliver
}

// next takes what is to be delivered next; if there is nothing, the goroutine
// ends.
func (s *subscriber[T]) next() (w work[T], ok bool) {
	s.i.mu.Lock()
	defer s.i.mu.Unlock()
	if s.ended.Load() {
		s.busy = false
		close(s.reg.done)
		return w, false
	}
	if w.present, s.present = s.present, nil; w.present != nil {
		return w, true
	}
	if w.changes = s.at.take(); len(w.changes) > 0 {
		return w, true
	}
	if s.due {
		s.due = false
		w.present, w.resync = s.i.takePresent(), true
		return w, true
	}
	s.busy, s.at = false, place[T]{}
	s.i.rest(s)
	return w, false
}

// deliver delivers what is left of the work. It returns true if it was
// interrupted by a panic, and there is more.
func (s *subscriber[T]) deliver(w *work[T]) (more bool) {
	normal := false
	defer func() {
		if normal {
			return
		}
		value := recover()
		if value == nil { // runtime.Goexit: the goroutine ends here, so another goes on
			s.i.handlers.Go(func() { s.resume(*w) })
			return
		}
		s.panicked(w, value)
		more = true
	}()
	if w.present != nil {
		s.deliverPresent(w)
	} else {
		s.deliverChanges(w)
	}
	normal = true
	return false
}

// resume goes on with work whose goroutine was ended by a handler's function.
func (s *subscriber[T]) resume(w work[T]) {
	for more := true; more; {
		more = s.deliver(&w)
	}
	if w.present != nil && !s.ended.Load() {
		s.presented(w.resync)
	}
	s.run()
}

func (s *subscriber[T]) deliverPresent(w *work[T]) {
	objects := w.present.sorted()
	for w.next < len(objects) && !s.ended.Load() {
		o := objects[w.next]
		w.next++
		switch {
		case !w.resync && s.h.Add != nil:
			s.h.Add(o, true)
		case w.resync && s.h.Update != nil:
			s.h.Update(o, o)
		}
	}
}

func (s *subscriber[T]) deliverChanges(w *work[T]) {
	for w.next < len(w.changes) && !s.ended.Load() {
		c := &w.changes[w.next]
		w.next++
		switch {
		case c.op == store.Added && s.h.Add != nil:
			s.h.Add(c.new, false)
		case c.op == store.Modified && s.h.Update != nil:
			s.h.Update(c.old, c.new)
		case c.op == store.Deleted && s.h.Delete != nil:
			s.h.Delete(c.old)
		}
	}
}

// presented says that all objects of the present were delivered.
func (s *subscriber[T]) presented(resync bool) {
	if !resync {
		close(s.reg.synced)
	}
	s.i.mu.Lock()
	defer s.i.mu.Unlock()
	s.arm()
}

// panicked reports that the function called last panicked.
func (s *subscriber[T]) panicked(w *work[T], value any) {
	p := Panic{Handler: s.h.Name, Value: value, Stack: debug.Stack()}
	if w.present != nil {
		p.Key = store.KeyOf(w.present.sorted()[w.next-1])
	} else {
		p.Key = store.KeyOf(w.changes[w.next-1].object())
	}
	s.i.opts.Logger.Error("watch: a handler panicked; it goes on with the next change",
		"handler", p.Handler, "key", p.Key.String(), "panic", value, "stack", string(p.Stack))
	if s.i.opts.Hooks.Panicked != nil {
		s.i.opts.Hooks.Panicked(p)
	}
}
