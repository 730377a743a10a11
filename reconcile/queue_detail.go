// SPDX-License-Identifier: Apache-2.0

package reconcile

import "slices"

// maxCauses bounds the causes that are kept of what is pending.
const maxCauses = 8

// A detail is what only some entries have: causes, of what is pending and of the
// run in progress or, when parked, of the last; and the last error.
type detail struct {
	pending     []Cause
	run         []Cause // handed out, so never changed
	pendingMore int32   // causes that were not kept
	runMore     int32
	err         error
	first       [1]Cause // what pending begins in: most runs have one cause, and one allocation
}

// forget forgets the failures.
func (e *entry[K]) forget() {
	e.attempts = 0
	if e.detail != nil {
		e.setErr(nil)
	}
}

// setErr records the last error.
func (e *entry[K]) setErr(err error) {
	if err != nil {
		e.details().err = err
	} else if e.detail != nil {
		e.detail.err = nil
		e.trim()
	}
}

// note records why the key was added.
func (e *entry[K]) note(c *Cause) {
	if c.Reason != "" {
		// What comes during a run is kept apart by revision, for some of it may be the
		// run's own echo (QueueOptions.Echo) and some not.
		e.details().add(c, !e.is(running))
	}
}

func (e *entry[K]) details() *detail {
	if e.detail == nil {
		e.detail = &detail{}
		e.detail.pending = e.detail.first[:0:1]
	}
	return e.detail
}

// add keeps the first cause of each kind of event, with the latest revision if
// revisions are merged.
func (d *detail) add(c *Cause, merge bool) {
	for i := range d.pending {
		p := &d.pending[i]
		if p.Key == c.Key && p.Reason == c.Reason && p.Kind == c.Kind && (merge || p.Revision == c.Revision) {
			p.Revision = max(p.Revision, c.Revision)
			return
		}
	}
	if len(d.pending) == maxCauses {
		d.pendingMore++
		return
	}
	d.pending = append(d.pending, *c)
}

// handOut turns the causes of what is pending into those of a run.
func (e *entry[K]) handOut() (causes []Cause, more int) {
	if e.is(retried) {
		e.note(&Cause{Reason: "retry"})
	}
	if e.is(repeated) {
		e.note(&Cause{Reason: "again"})
	}
	d := e.detail
	if d == nil {
		return nil, 0
	}
	d.run, d.runMore = slices.Clip(d.pending), d.pendingMore
	d.pending, d.pendingMore = nil, 0
	return d.run, int(d.runMore)
}

// endCauses forgets the causes of the run.
func (e *entry[K]) endCauses() {
	if d := e.detail; d != nil {
		d.run, d.runMore = nil, 0
		e.trim()
	}
}

// keepCauses makes the causes of a run that failed those of the next.
func (e *entry[K]) keepCauses() {
	d := e.detail
	if d == nil {
		return
	}
	later := d.pending
	d.pending, d.pendingMore = slices.Clone(d.run), d.runMore+d.pendingMore
	d.run, d.runMore = nil, 0
	for i := range later {
		d.add(&later[i], true)
	}
}

// cancelCauses forgets the causes of what was pending.
func (e *entry[K]) cancelCauses() {
	if d := e.detail; d != nil {
		d.pending, d.pendingMore = nil, 0
		e.trim()
	}
}

// trim gives up a detail that says nothing any more.
func (e *entry[K]) trim() {
	if d := e.detail; len(d.pending) == 0 && len(d.run) == 0 && d.err == nil {
		e.detail = nil
	}
}
