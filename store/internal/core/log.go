// SPDX-License-Identifier: Apache-2.0

package core

import (
	"sort"
	"sync/atomic"
)

// event is one change of one object. Old is nil for an object that came to be;
// Next is never nil.
type event struct {
	old, next *Entry
}

// segmentSize is the number of events in a segment: what a kind's log takes at
// least is 16 B times this, and what it gives back at once is one segment.
const segmentSize = 128

type segment struct {
	events [segmentSize]event
	bytes  int64 // retained by its events, if history is bounded by bytes; under the commit mutex
}

// log is the history of one kind: a list of segments that only grows at its end
// and is cut at its beginning. One goroutine at a time appends and cuts, under
// the commit mutex; any number read, without a lock and at their own pace,
// because an event is written before the end that covers it is published.
//
// Positions count events from the kind's first, so that a reader keeps a number
// rather than a pointer, which would keep alive all that came after it.
type log struct {
	end  atomic.Uint64 // position after the last published event
	head atomic.Pointer[logHead]
	// fill is the position after the last appended event; under the commit mutex.
	fill uint64
}

// logHead is a value: it is replaced, never changed. Appending to segments may
// write beyond the length that an older head sees, which no reader looks at.
type logHead struct {
	first    uint64 // position of the first event in segments, a multiple of segmentSize
	dropped  uint64 // revision of the last event before that, or of the log's beginning
	segments []*segment
}

// newLog returns an empty log of a kind that has no history up to the revision.
func newLog(revision uint64) *log {
	l := &log{}
	l.head.Store(&logHead{dropped: revision})
	return l
}

// append adds an event; readers see it once publish is called.
func (l *log) append(ev event) *segment {
	h := l.head.Load()
	if l.fill-h.first == uint64(len(h.segments))*segmentSize {
		h = &logHead{h.first, h.dropped, append(h.segments, &segment{})}
		l.head.Store(h)
	}
	seg := h.segments[len(h.segments)-1]
	seg.events[l.fill%segmentSize] = ev
	l.fill++
	return seg
}

// publish shows readers what was appended.
func (l *log) publish() { l.end.Store(l.fill) }

// cut drops the full segments whose events are all of the revision or before,
// and returns the bytes that they retained.
func (l *log) cut(revision uint64) (freed int64) {
	h := l.head.Load()
	n := 0
	for n < len(h.segments) && l.fill-h.first >= uint64(n+1)*segmentSize &&
		h.segments[n].last() <= revision {
		freed += h.segments[n].bytes
		n++
	}
	l.drop(h, n)
	return freed
}

// cutOldest drops the oldest segment, if it is full, whatever its revisions. It
// returns the last revision in it, and the bytes that it retained.
func (l *log) cutOldest() (revision uint64, freed int64) {
	h := l.head.Load()
	revision, freed = h.segments[0].last(), h.segments[0].bytes
	l.drop(h, 1)
	return revision, freed
}

// oldest returns the last revision in the oldest segment, if that is full.
func (l *log) oldest() (revision uint64, ok bool) {
	h := l.head.Load()
	if l.fill-h.first < segmentSize {
		return 0, false
	}
	return h.segments[0].last(), true
}

// retained returns the bytes that all events retain.
func (l *log) retained() (n int64) {
	for _, seg := range l.head.Load().segments {
		n += seg.bytes
	}
	return n
}

func (l *log) drop(h *logHead, n int) {
	if n == 0 {
		return
	}
	rest := make([]*segment, len(h.segments)-n, cap(h.segments)) // a copy, so that nothing refers to what was dropped
	copy(rest, h.segments[n:])
	l.head.Store(&logHead{h.first + uint64(n)*segmentSize, h.segments[n-1].last(), rest})
}

// last returns the revision of a full segment's last event.
func (s *segment) last() uint64 { return s.events[segmentSize-1].next.Revision }

// at returns the event at the position, which must lie between first and the
// published end.
func (h *logHead) at(pos uint64) *event {
	i := pos - h.first
	return &h.segments[i/segmentSize].events[i%segmentSize]
}

// after returns the position of the first event after the revision, at most
// end. The revision must not be before dropped.
func (h *logHead) after(revision, end uint64) uint64 {
	n := int(end - h.first)
	return h.first + uint64(sort.Search(n, func(i int) bool {
		return h.at(h.first+uint64(i)).next.Revision > revision
	}))
}

// window returns the published events, from h.first to end. The end is loaded
// first: the head, loaded after it, covers at least that much.
func (l *log) window() (h *logHead, end uint64) {
	end = l.end.Load()
	h = l.head.Load()
	return h, max(end, h.first)
}
