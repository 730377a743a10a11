// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"container/list"
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// Kubernetes' limits for events (client-go's event correlator has the same figures).
const (
	// From this many different messages on, events of one pod, container and reason become one, as long as not more
	// than similarFor lies between two.
	similarEvents = 10
	similarFor    = 10 * time.Minute
	// A pod may tell this many repeats at once, and one more each repeatEvery.
	repeatBurst = 25
	repeatEvery = 5 * time.Minute
	// How many series, reasons and pods are remembered.
	correlated = 4096
)

const combinedPrefix = "(combined from similar events): "

// correlator makes series of events. A pod that crashes all day tells a few new events and
// then at most one repeat in five minutes, whose count says how many there were. Its memory is bounded: what
// was forgotten begins a new series.
type correlator struct {
	mu      sync.Mutex
	series  recent[seriesKey, series]
	similar recent[seriesKey, similar]
	budgets recent[string, budget]
}

// seriesKey names events that are the same: of a group of similar ones, message is empty.
type seriesKey struct {
	uid, container, reason, message string
	warning                         bool
}

type series struct {
	first time.Time
	told  time.Time // when it was last told
	last  Event
}

// similar is the events of a pod, container and reason.
type similar struct {
	messages map[string]bool
	last     time.Time
}

// budget is what is left of a pod's repeats.
type budget struct {
	tokens  float64
	at      time.Time
	pending map[seriesKey]*series // that have repeats which were not told
}

// observe gives an event its place in a series, and returns what is to be told, if anything: a new
// event itself, and when the pod may tell a repeat, the last one of the series that was told longest ago. If that were
// simply the event itself, the first event of each restart would be told each time, and the others never.
func (c *correlator) observe(e Event) (tell Event, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := seriesKey{e.Pod.UID, e.Container, e.Reason, "", e.Warning}
	if c.combines(key, &e) {
		e.Message = combinedPrefix + e.Message
	} else {
		key.message = e.Message
	}
	s := c.series.at(key)
	e.Count = s.last.Count + 1
	if e.Count == 1 {
		s.first, s.told = e.Time, e.Time
	}
	e.First, e.Name = s.first, name(&e, key, s.first)
	s.last = e
	if e.Count == 1 {
		return e, true
	}
	b := c.budgets.at(e.Pod.UID)
	if b.pending == nil {
		b.pending = map[seriesKey]*series{}
	}
	b.pending[key] = s
	if !b.spend(e.Time) {
		return Event{}, false
	}
	for k, other := range b.pending {
		if other.told.Before(s.told) {
			key, s = k, other
		}
	}
	delete(b.pending, key)
	s.told = e.Time
	return s.last, true
}

// combines reports whether there were so many different messages lately that one stands for all.
func (c *correlator) combines(key seriesKey, e *Event) bool {
	s := c.similar.at(key)
	if s.messages == nil || e.Time.Sub(s.last) > similarFor {
		s.messages = map[string]bool{}
	}
	s.last = e.Time
	if len(s.messages) < similarEvents {
		s.messages[e.Message] = true
	}
	return !s.messages[e.Message]
}

func (b *budget) spend(now time.Time) bool {
	if b.at.IsZero() {
		b.tokens = repeatBurst
	} else {
		b.tokens = min(repeatBurst, b.tokens+float64(now.Sub(b.at))/float64(repeatEvery))
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// name is that of an Event object in Kubernetes: the same for all of a series, and for no other.
func name(e *Event, key seriesKey, first time.Time) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q %q %q %t %d", key.uid, key.container, key.reason, key.message, key.warning, first.UnixNano())
	return fmt.Sprintf("%s.%016x", e.Pod.Name, h.Sum64())
}

// recent is a map of the entries that were used last. Its zero value is empty.
type recent[K comparable, V any] struct {
	order *list.List // of *recentEntry, the last used in front
	index map[K]*list.Element
}

type recentEntry[K comparable, V any] struct {
	key   K
	value V
}

// at returns the entry of a key, a zero one if there is none.
func (r *recent[K, V]) at(key K) *V {
	if r.index == nil {
		r.order, r.index = list.New(), map[K]*list.Element{}
	}
	if e := r.index[key]; e != nil {
		r.order.MoveToFront(e)
		return &e.Value.(*recentEntry[K, V]).value
	}
	if r.order.Len() >= correlated {
		last := r.order.Back()
		delete(r.index, r.order.Remove(last).(*recentEntry[K, V]).key)
	}
	e := &recentEntry[K, V]{key: key}
	r.index[key] = r.order.PushFront(e)
	return &e.value
}
