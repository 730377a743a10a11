// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"bytes"
	"math"
	"runtime"
	"sync"
	"time"
)

// watchdog watches over the reconciles of one worker: it reports one that goes on
// after the end of its context, and has another worker take the worker's place.
// It has one timer, because a context and a timer more for each reconcile would
// be a fifth of what a short one allocates.
type watchdog struct {
	id      []byte // how the worker's stack begins
	limit   time.Duration
	overdue func(Overdue) (replaced bool)

	mu       sync.Mutex
	timer    *time.Timer
	running  Running // what is watched; its zero: nothing
	begun    time.Time
	replaced bool
}

// watchdog returns the watchdog of the worker that calls it.
func (w *workers[K]) watchdog() *watchdog {
	limit := w.c.opts.limit()
	if limit == 0 {
		return &watchdog{}
	}
	return &watchdog{id: goroutineID(), limit: limit, overdue: w.overdue}
}

// limit is after how long a reconcile is overdue; 0: it may take as long as it
// likes.
func (o *Options[K]) limit() time.Duration {
	if o.Timeout < 0 {
		return 0
	}
	return o.Timeout + min(o.Patience, math.MaxInt64-o.Timeout) // a huge one must not come out negative
}

// overdue reports a reconcile that does not end, and puts another worker in its
// worker's place.
func (w *workers[K]) overdue(o Overdue) (replaced bool) {
	if w.take.Err() == nil {
		w.start() // the group is not done, for it counts the overdue worker still
		replaced = true
	}
	w.c.report("a reconcile goes on after the end of its context", w.c.tooLong, "key", o.Key, "for", o.For, "stack", o.Stack)
	if f := w.c.m.opts.Hooks.Overdue; f != nil {
		f(o)
	}
	return replaced
}

// watch begins to watch over a reconcile.
func (d *watchdog) watch(r Running) {
	if d.limit == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.begun = r, time.Now()
	if d.timer == nil {
		d.timer = time.AfterFunc(d.limit, d.bark)
		return
	}
	d.timer.Reset(d.limit)
}

// leave ends the watch, and reports whether the worker was replaced.
func (d *watchdog) leave() bool {
	if d.limit == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer.Stop()
	d.running = Running{}
	return d.replaced
}

// bark is called by the timer.
func (d *watchdog) bark() {
	d.mu.Lock()
	defer d.mu.Unlock()
	took := time.Since(d.begun)
	if d.running.Controller == "" || took < d.limit {
		return // it has ended as the timer fired
	}
	d.replaced = d.overdue(Overdue{Running: d.running, For: took, Stack: goroutineStack(d.id)})
}

// goroutineID returns how stacks begin that are of this goroutine: the runtime
// has no other way to tell one's stack from the others'.
func goroutineID() []byte {
	buf := make([]byte, 64)
	buf = buf[:runtime.Stack(buf, false)]
	id, _, _ := bytes.Cut(buf, []byte(" ["))
	return append(bytes.Clone(id), " ["...)
}

// goroutineStack returns the stack of the goroutine with that beginning.
func goroutineStack(id []byte) string {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		n := runtime.Stack(buf, true)
		if n == size && size < 64<<20 {
			continue
		}
		for s := range bytes.SplitSeq(buf[:n], []byte("\n\n")) {
			if bytes.HasPrefix(s, id) {
				return string(s)
			}
		}
		return "not found: the goroutine has ended"
	}
}
