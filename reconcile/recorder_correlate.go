// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"container/list"
	"time"
)

// eventCorrelator decides what becomes of what is recorded: it counts equal
// events, puts similar ones together, and limits those of one object. It is
// plain state, without goroutines and locks, and its memory is bounded.
//
// The rules and their defaults are those of client-go's event correlator.
type eventCorrelator struct {
	similar int           // distinct messages of one reason before they are put together
	window  time.Duration // …within this time
	burst   int           // writes about one object at once
	refill  time.Duration // for each write more
	records *recent[eventID, *eventRecord]
	groups  *recent[eventID, *eventGroup]
	buckets *recent[string, *eventBucket]
}

// eventID tells events apart. Without a message it is that of a group of similar
// events.
type eventID struct {
	object  string
	typ     EventType
	reason  string
	message string
}

// eventRecord is an event that is stored, or to be.
type eventRecord struct {
	about       ObjectReference
	typ         EventType
	reason      string
	message     string
	count       int32
	first, last time.Time

	// The writer's part.
	name    string // "": not created yet
	lease   eventLease
	waiting bool // to be written
	tries   int  // since the last success
}

// eventGroup is the messages that one reason came with, lately.
type eventGroup struct {
	messages map[string]bool
	last     time.Time
}

type eventBucket struct {
	tokens float64
	at     time.Time
}

func newEventCorrelator(o RecorderOptions) *eventCorrelator {
	return &eventCorrelator{
		similar: o.Similar, window: o.Window, burst: o.Burst, refill: o.Refill,
		records: newRecent[eventID, *eventRecord](o.Memory),
		groups:  newRecent[eventID, *eventGroup](o.Memory),
		buckets: newRecent[string, *eventBucket](o.Memory),
	}
}

const combined = "(combined from similar events): "

// observe counts an event and returns its record, and whether it may be written:
// a record that waits to be written anyway may.
func (c *eventCorrelator) observe(now time.Time, about ObjectReference, typ EventType, reason, message string) (r *eventRecord, write bool) {
	object := about.UID
	if object == "" {
		object = about.APIVersion + " " + about.Kind + " " + about.Namespace + " " + about.Name
	}
	id := eventID{object, typ, reason, message}
	if c.isSimilar(now, id) {
		id.message = combined
		message = combined + message
	}
	r, known := c.records.get(id)
	if !known {
		r = &eventRecord{typ: typ, reason: reason, first: now}
		c.records.put(id, r)
	}
	r.about, r.message, r.last = about, message, now
	r.count++
	return r, r.waiting || c.allow(now, object)
}

// isSimilar reports whether the reason has come with so many messages lately that
// they are put together.
func (c *eventCorrelator) isSimilar(now time.Time, id eventID) bool {
	message := id.message
	id.message = ""
	g, ok := c.groups.get(id)
	if !ok || now.Sub(g.last) > c.window {
		g = &eventGroup{messages: map[string]bool{}}
		c.groups.put(id, g)
	}
	g.last = now
	if len(g.messages) < c.similar {
		g.messages[message] = true
		return false
	}
	return !g.messages[message]
}

// allow takes a token of the object's bucket.
func (c *eventCorrelator) allow(now time.Time, object string) bool {
	b, ok := c.buckets.get(object)
	if !ok {
		b = &eventBucket{tokens: float64(c.burst), at: now}
		c.buckets.put(object, b)
	}
	b.tokens = min(float64(c.burst), b.tokens+float64(now.Sub(b.at))/float64(c.refill))
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// recent is a map that forgets what was not asked for longest, beyond a size.
type recent[K comparable, V any] struct {
	limit int
	items map[K]*list.Element
	order list.List // of recentItem, the latest first
}

type recentItem[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, items: map[K]*list.Element{}}
}

func (r *recent[K, V]) get(key K) (v V, ok bool) {
	e, ok := r.items[key]
	if !ok {
		return v, false
	}
	r.order.MoveToFront(e)
	return e.Value.(recentItem[K, V]).value, true
}

func (r *recent[K, V]) put(key K, value V) {
	if e, ok := r.items[key]; ok {
		e.Value = recentItem[K, V]{key, value}
		r.order.MoveToFront(e)
		return
	}
	r.items[key] = r.order.PushFront(recentItem[K, V]{key, value})
	if r.order.Len() > r.limit {
		last := r.order.Back()
		r.order.Remove(last)
		delete(r.items, last.Value.(recentItem[K, V]).key)
	}
}
