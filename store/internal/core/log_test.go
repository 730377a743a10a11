// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// numbered returns an event that knows its position, as its revision.
func numbered(pos, revision uint64) event {
	return event{next: &Entry{Revision: revision, Hash: uint32(pos)}}
}

// TestLogModel appends and cuts at random and compares with a plain slice.
func TestLogModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		start := r.Uint64N(3)
		l := newLog(start)
		var revisions []uint64 // of all events ever, by position
		revision, first := start, 0
		for range 200 {
			switch r.IntN(10) {
			case 0: // cut up to some revision
				upTo := r.Uint64N(revision + 2)
				l.cut(upTo)
				for first+segmentSize <= len(revisions) && revisions[first+segmentSize-1] <= upTo {
					first += segmentSize
				}
			case 1:
				if _, ok := l.oldest(); ok {
					if rev, _ := l.cutOldest(); rev != revisions[first+segmentSize-1] {
						t.Fatalf("cutOldest = %d, want %d", rev, revisions[first+segmentSize-1])
					}
					first += segmentSize
				}
			default: // a transaction
				revision++
				for range 1 + r.IntN(40) {
					l.append(numbered(uint64(len(revisions)), revision))
					revisions = append(revisions, revision)
				}
				l.publish()
			}
			checkLog(t, l, revisions, first, start, r)
		}
	}
}

func checkLog(t *testing.T, l *log, revisions []uint64, first int, start uint64, r *rand.Rand) {
	t.Helper()
	h, end := l.window()
	if h.first != uint64(first) || end != uint64(len(revisions)) {
		t.Fatalf("the log has the positions %d to %d, want %d to %d", h.first, end, first, len(revisions))
	}
	dropped := start
	if first > 0 {
		dropped = revisions[first-1]
	}
	if h.dropped != dropped {
		t.Fatalf("dropped up to revision %d, want %d", h.dropped, dropped)
	}
	for pos := h.first; pos < end; pos++ {
		if ev := h.at(pos); ev.next.Hash != uint32(pos) || ev.next.Revision != revisions[pos] {
			t.Fatalf("at position %d: number %d of revision %d", pos, ev.next.Hash, ev.next.Revision)
		}
	}
	for range 5 {
		after := dropped + r.Uint64N(10)
		want := first
		for want < len(revisions) && revisions[want] <= after {
			want++
		}
		if got := h.after(after, end); got != uint64(want) {
			t.Fatalf("after revision %d: position %d, want %d", after, got, want)
		}
	}
	oldest, ok := l.oldest()
	if full := len(revisions)-first >= segmentSize; ok != full || ok && oldest != revisions[first+segmentSize-1] {
		t.Fatalf("oldest = %d, %t, want %t", oldest, ok, full)
	}
}

// TestLogFreesBytes counts what is dropped, in bytes.
func TestLogFreesBytes(t *testing.T) {
	l := newLog(0)
	for pos := range uint64(3*segmentSize + 1) {
		l.append(numbered(pos, pos+1)).bytes += 10
	}
	l.publish()
	if got := l.cut(segmentSize - 1); got != 0 {
		t.Errorf("a cut inside the first segment freed %d", got)
	}
	if got := l.cut(2*segmentSize + 1); got != 2*segmentSize*10 {
		t.Errorf("a cut after two segments freed %d", got)
	}
	if rev, got := l.cutOldest(); got != segmentSize*10 || rev != 3*segmentSize {
		t.Errorf("cutOldest = %d, %d", rev, got)
	}
	if _, ok := l.oldest(); ok {
		t.Error("a segment that is not full can be cut")
	}
	if got := l.cut(1 << 60); got != 0 {
		t.Errorf("a cut of a segment that is not full freed %d", got)
	}
}

// TestLogConcurrent has readers follow the log while it grows and is cut: each
// sees every event once, in order, unless it falls behind the cut.
func TestLogConcurrent(t *testing.T) {
	const revisions = 20000
	l := newLog(0)
	var done atomic.Bool
	var readers sync.WaitGroup
	var fellBehind atomic.Int32
	for i := range 4 {
		readers.Go(func() {
			pos := uint64(0)
			for last := false; !last; {
				last = done.Load()
				h, end := l.window()
				if pos < h.first {
					fellBehind.Add(1)
					pos = h.first
				}
				if i%2 == 1 && pos < end && h.after(h.at(pos).next.Revision-1, end) > pos {
					panic(fmt.Sprintf("after does not find the event at position %d", pos))
				}
				for ; pos < end; pos++ {
					if got := h.at(pos).next.Hash; got != uint32(pos) {
						panic(fmt.Sprintf("at position %d: number %d", pos, got))
					}
				}
			}
			if end := l.end.Load(); pos != end {
				panic(fmt.Sprintf("a reader ended at %d of %d", pos, end))
			}
		})
	}
	pos := uint64(0)
	for revision := uint64(1); revision <= revisions; revision++ {
		for range 1 + revision%3 {
			l.append(numbered(pos, revision))
			pos++
		}
		l.publish()
		if revision%500 == 0 {
			l.cut(revision - 300)
		}
	}
	done.Store(true)
	readers.Wait()
	t.Logf("%d events, readers fell behind %d times", pos, fellBehind.Load())
}
