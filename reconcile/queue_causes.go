// SPDX-License-Identifier: Apache-2.0

package reconcile

import "slices"

// maxCauses bounds the causes that are kept of what is pending.
const maxCauses = 8

// causes are those of an entry: of what is pending, and of the run in progress or,
// when parked, of the last.
type causes struct {
	pending     []Cause
	run         []Cause // handed out, so never changed
	pendingMore int
	runMore     int
	first       [1]Cause // what pending begins in: most runs have one cause, and one allocation
}

// note records why the key was added.
func (e *entry[K]) note(c Cause) {
	if c == (Cause{}) {
		return
	}
	if e.causes == nil {
		s := &causes{}
		s.pending = s.first[:0:1]
		e.causes = s
	}
	e.causes.add(c)
}

// add keeps the first cause of each kind of event with the latest revision.
func (s *causes) add(c Cause) {
	for i := range s.pending {
		p := &s.pending[i]
		if p.Key == c.Key && p.Reason == c.Reason && p.Kind == c.Kind {
			p.Revision = max(p.Revision, c.Revision)
			return
		}
	}
	if len(s.pending) == maxCauses {
		s.pendingMore++
		return
	}
	s.pending = append(s.pending, c)
}

// handOut turns the causes of what is pending into those of a run.
func (e *entry[K]) handOut() (list []Cause, more int) {
	if e.is(retried) {
		e.note(Cause{Reason: "retry"})
	}
	if e.is(repeated) {
		e.note(Cause{Reason: "again"})
	}
	s := e.causes
	if s == nil {
		return nil, 0
	}
	s.run, s.runMore = slices.Clip(s.pending), s.pendingMore
	s.pending, s.pendingMore = nil, 0
	return s.run, s.runMore
}

// endCauses forgets the causes of the run.
func (e *entry[K]) endCauses() {
	if s := e.causes; s != nil {
		s.run, s.runMore = nil, 0
		e.trimCauses()
	}
}

// keepCauses makes the causes of a run that failed those of the next.
func (e *entry[K]) keepCauses() {
	s := e.causes
	if s == nil {
		return
	}
	later, more := s.pending, s.pendingMore
	s.pending, s.pendingMore = slices.Clone(s.run), s.runMore+more
	s.run, s.runMore = nil, 0
	for _, c := range later {
		s.add(c)
	}
}

// cancelCauses forgets the causes of what was pending.
func (e *entry[K]) cancelCauses() {
	if s := e.causes; s != nil {
		s.pending, s.pendingMore = nil, 0
		e.trimCauses()
	}
}

func (e *entry[K]) trimCauses() {
	if len(e.causes.pending) == 0 && len(e.causes.run) == 0 {
		e.causes = nil
	}
}
