// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"container/heap"
	"maps"
	"slices"
	"time"
)

// QueuedPod is a pod, or a complete group of pods, that waits to be placed.
type QueuedPod struct {
	Pod      *Pod      // of a group, the member that goes first
	Added    time.Time // when it came into the queue
	Attempts int       // cycles so far

	key      string // of the pod
	t        *template
	profile  *profile
	members  []*QueuedPod // of a group that must be placed at once
	plugins  []string     // that refused it last time; nil: the whole of it must change
	gatedBy  string       // the PreEnqueue plugin that keeps it out
	ready    time.Time    // end of the backoff
	parked   time.Time    // when it went to the pool
	where    pool
	index    int // in the heap
	sequence uint64
}

type pool uint8

const (
	nowhere pool = iota
	active
	backoff
	unschedulable
	gated
	grouped // waits for the other members of its group
)

// queue holds the pods that wait: those to be tried now (active), those to be
// tried soon, because they failed a short time ago (backoff), and those that
// nothing has happened for since they were refused (unschedulable). It has no
// clock and no lock of its own.
//
//	           PreEnqueue                     pop
//	add ──────────┬──────▶ active ───────────────────▶ cycle ──▶ placed
//	              ▼           ▲ ▲                        │
//	            gated         │ └── backoff ◀────────────┤ error
//	                          │         ▲                │
//	                  event, hint says so                ▼ refused
//	                          └─────────┴───────── unschedulable
type queue struct {
	pods     map[string]*QueuedPod
	active   podHeap
	backoff  podHeap
	parked   map[string]map[*QueuedPod]bool // the unschedulable, by plugin that refused them
	sequence uint64

	initial, max time.Duration // backoff
}

func newQueue(less func(a, b *QueuedPod) bool, initial, max time.Duration) *queue {
	return &queue{
		pods:    map[string]*QueuedPod{},
		active:  podHeap{less: less},
		backoff: podHeap{less: func(a, b *QueuedPod) bool { return a.ready.Before(b.ready) }},
		parked:  map[string]map[*QueuedPod]bool{},
		initial: initial, max: max,
	}
}

// podHeap is a heap that knows where each pod is, and keeps equals in the order
// of their arrival.
type podHeap struct {
	list []*QueuedPod
	less func(a, b *QueuedPod) bool
}

func (h *podHeap) Len() int { return len(h.list) }
func (h *podHeap) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	if h.less(a, b) {
		return true
	}
	return a.sequence < b.sequence && !h.less(b, a)
}
func (h *podHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].index, h.list[j].index = i, j
}
func (h *podHeap) Push(x any) {
	q := x.(*QueuedPod)
	q.index = len(h.list)
	h.list = append(h.list, q)
}
func (h *podHeap) Pop() any {
	n := len(h.list) - 1
	q := h.list[n]
	h.list[n] = nil
	h.list = h.list[:n]
	return q
}

// take removes the pod from wherever it waits.
func (q *queue) take(p *QueuedPod) {
	switch p.where {
	case active:
		heap.Remove(&q.active, p.index)
	case backoff:
		heap.Remove(&q.backoff, p.index)
	case unschedulable:
		for _, plugin := range p.parkedBy() {
			delete(q.parked[plugin], p)
			if len(q.parked[plugin]) == 0 {
				delete(q.parked, plugin)
			}
		}
	}
	p.where = nowhere
}

// anyPlugin is where pods are parked that no plugin in particular refused.
const anyPlugin = ""

func (p *QueuedPod) parkedBy() []string {
	if len(p.plugins) == 0 {
		return []string{anyPlugin}
	}
	return p.plugins
}

// activate lets the pod be tried now.
func (q *queue) activate(p *QueuedPod) {
	q.take(p)
	p.where = active
	q.sequence++
	p.sequence = q.sequence
	heap.Push(&q.active, p)
}

// delay has the pod tried once its backoff is over: after a first failure the
// initial duration, doubled each time up to the maximum.
func (q *queue) delay(p *QueuedPod, now time.Time) {
	q.take(p)
	p.ready = now.Add(q.backoffAfter(p.Attempts))
	p.where = backoff
	heap.Push(&q.backoff, p)
}

// backoffAfter returns how long to wait after a number of tries.
func (q *queue) backoffAfter(tries int) time.Duration {
	d := q.initial
	for i := 1; i < tries && d < q.max; i++ {
		d *= 2
	}
	return min(d, q.max)
}

// park keeps the pod until something happens that its plugins are waiting for.
func (q *queue) park(p *QueuedPod, plugins []string, now time.Time) {
	q.take(p)
	p.plugins, p.parked = plugins, now
	p.ready = now.Add(q.backoffAfter(p.Attempts))
	p.where = unschedulable
	for _, plugin := range p.parkedBy() {
		if q.parked[plugin] == nil {
			q.parked[plugin] = map[*QueuedPod]bool{}
		}
		q.parked[plugin][p] = true
	}
}

// unpark has a parked pod tried again, but not before its backoff is over.
func (q *queue) unpark(p *QueuedPod, now time.Time) {
	if !p.ready.After(now) {
		q.activate(p)
		return
	}
	q.take(p)
	p.where = backoff
	heap.Push(&q.backoff, p)
}

// pop returns the pod to try next, or nil.
func (q *queue) pop(now time.Time) *QueuedPod {
	for len(q.backoff.list) > 0 && !q.backoff.list[0].ready.After(now) {
		q.activate(q.backoff.list[0])
	}
	if len(q.active.list) == 0 {
		return nil
	}
	p := q.active.list[0]
	q.take(p)
	p.Attempts++
	return p
}

// next returns when pop is worth another try, if nothing happens meanwhile.
func (q *queue) next() (time.Time, bool) {
	if len(q.backoff.list) == 0 {
		return time.Time{}, false
	}
	return q.backoff.list[0].ready, true
}

// happened moves the parked pods for which the event may make a difference.
func (q *queue) happened(hints map[string][]QueueingHint, e Event, now time.Time) {
	if len(q.parked) == 0 {
		return
	}
	var moved []*QueuedPod
	for plugin, pods := range q.parked {
		list, known := hints[plugin]
		for _, h := range list {
			if h.On&e.Kind == 0 {
				continue
			}
			for p := range pods {
				if h.Worth == nil || p.worth(h, e) {
					moved = append(moved, p)
				}
			}
		}
		if !known {
			moved = slices.AppendSeq(moved, maps.Keys(pods))
		}
	}
	q.unparkAll(moved, now)
}

// worth asks the hint about the pod, or about each member of the group.
func (p *QueuedPod) worth(h QueueingHint, e Event) bool {
	if h.Worth(p.Pod, e) {
		return true
	}
	return slices.ContainsFunc(p.members, func(m *QueuedPod) bool { return h.Worth(m.Pod, e) })
}

// unparkAll moves pods in the order in which they came, whatever the order of the
// maps they were found in.
func (q *queue) unparkAll(pods []*QueuedPod, now time.Time) {
	slices.SortFunc(pods, func(a, b *QueuedPod) int { return int(a.sequence) - int(b.sequence) })
	for _, p := range pods {
		if p.where == unschedulable {
			q.unpark(p, now)
		}
	}
}

// flush moves the pods that have been parked for too long, in case a hint was
// wrong.
func (q *queue) flush(now time.Time, after time.Duration) {
	var moved []*QueuedPod
	for _, pods := range q.parked {
		for p := range pods {
			if now.Sub(p.parked) >= after {
				moved = append(moved, p)
			}
		}
	}
	q.unparkAll(moved, now)
}
