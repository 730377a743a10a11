// SPDX-License-Identifier: Apache-2.0

package watch

import "time"

// arm sets the time of the subscriber's next resync, under the mutex. The timer
// counts among the handlers' goroutines until it has fired or was stopped, so
// that Run waits for one that is firing.
func (s *subscriber[T]) arm() {
	if s.h.Resync <= 0 || s.ended.Load() {
		return
	}
	s.i.handlers.Add(1)
	s.timer = time.AfterFunc(s.h.Resync, s.resyncNow)
}

func (s *subscriber[T]) stopTimer() {
	if s.timer != nil && s.timer.Stop() {
		s.i.handlers.Done()
	}
	s.timer = nil
}

// resyncNow has the subscriber updated with every object, once it has had all
// changes.
func (s *subscriber[T]) resyncNow() {
	defer s.i.handlers.Done()
	s.i.mu.Lock()
	defer s.i.mu.Unlock()
	if s.ended.Load() {
		return
	}
	s.due = true
	if !s.busy {
		delete(s.i.idle, s)
		s.start(s.i.journal.end())
	}
}
