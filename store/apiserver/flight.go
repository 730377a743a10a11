// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// flight bounds how many requests are carried out at once. Those that wait do so
// in one queue for each user, and the users take turns: one who sends a thousand
// requests delays another's by one, not by a thousand.
type flight struct {
	limit, queue int

	mu     sync.Mutex
	flying int
	queues map[string][]chan struct{} // of waiting requests, by user; never empty ones
	turns  []string                   // the users that wait, the next first
}

func newFlight(limit, queue int) *flight {
	return &flight{limit: limit, queue: queue, queues: map[string][]chan struct{}{}}
}

// enter waits for the user's turn. The caller must leave if it returns nil.
func (f *flight) enter(ctx context.Context, user string) error {
	f.mu.Lock()
	if f.flying < f.limit && len(f.turns) == 0 {
		f.flying++
		f.mu.Unlock()
		return nil
	}
	if len(f.queues[user]) >= f.queue {
		f.mu.Unlock()
		return apierrors.NewTooManyRequests("the server has received too many requests and has asked us to try again later", 1)
	}
	turn := make(chan struct{})
	if len(f.queues[user]) == 0 {
		f.turns = append(f.turns, user)
	}
	f.queues[user] = append(f.queues[user], turn)
	f.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		f.giveUp(user, turn)
		return context.Cause(ctx)
	}
}

// giveUp takes a request out of its queue, or passes on the turn that it got
// meanwhile.
func (f *flight) giveUp(user string, turn chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-turn:
		f.next()
		return
	default:
	}
	q := f.queues[user]
	for i, c := range q {
		if c == turn {
			f.queues[user] = append(q[:i:i], q[i+1:]...)
			break
		}
	}
	if len(f.queues[user]) > 0 {
		return
	}
	delete(f.queues, user)
	for i, u := range f.turns {
		if u == user {
			f.turns = append(f.turns[:i:i], f.turns[i+1:]...)
			return
		}
	}
}

func (f *flight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next()
}

// next hands a place that has become free to the first user in turn, or takes
// it back. It is called under the mutex.
func (f *flight) next() {
	if len(f.turns) == 0 {
		f.flying--
		return
	}
	user := f.turns[0]
	f.turns = f.turns[1:]
	q := f.queues[user]
	close(q[0])
	if len(q) == 1 {
		delete(f.queues, user)
		return
	}
	f.queues[user] = q[1:]
	f.turns = append(f.turns, user)
}
