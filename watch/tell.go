// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"slices"
	"weak"
)

// tell appends the changes to the journal, and wakes the handlers that had
// everything. The mutex is held.
func (i *Informer[T]) tell(changes []change[T]) {
	if len(changes) == 0 {
		return
	}
	i.present = weak.Pointer[present[T]]{}
	if len(i.subscribers) == 0 {
		return
	}
	at := i.journal.append(changes)
	for s := range i.idle {
		s.start(at)
	}
	clear(i.idle)
	if i.journal.full() {
		i.compact()
	}
}

// rest takes note that the subscriber has had everything. The mutex is held.
func (i *Informer[T]) rest(s *subscriber[T]) {
	i.idle[s] = struct{}{}
	i.settle()
}

// settle forgets the journal once every handler has had everything. The mutex is
// held.
func (i *Informer[T]) settle() {
	if len(i.idle) == len(i.subscribers) {
		i.journal.reset()
	}
}

// compact bounds what the journal holds. The mutex is held.
func (i *Informer[T]) compact() {
	places := make([]*place[T], 0, len(i.subscribers))
	for s := range i.subscribers {
		if s.busy {
			places = append(places, &s.at)
		}
	}
	slices.SortFunc(places, func(a, b *place[T]) int { return cmp.Compare(a.position(), b.position()) })
	i.journal.compact(places, i.uid)
}
