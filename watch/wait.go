// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"time"
)

// waiter waits for a revision.
type waiter struct {
	revision uint64
	reached  chan struct{}
}

// WaitFor returns once the informer has synced and reads see at least that
// revision: call it with the revision of one's own write before reading. Revision
// 0 waits for the sync alone. The error is the context's cause, or [ErrStopped].
//
// Handlers may be told of the revision later. Revisions are the source's own; one
// that it will never reach, of another store, say, is waited for until the
// context ends.
func (i *Informer[T]) WaitFor(ctx context.Context, revision uint64) error {
	select {
	case <-i.synced:
	default:
		select {
		case <-i.synced:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-i.stopped:
			return ErrStopped
		}
	}
	if i.direct != nil {
		return i.waitDirect(ctx, revision)
	}
	i.mu.Lock()
	if i.revision >= revision {
		i.mu.Unlock()
		return nil
	}
	w := waiter{revision, make(chan struct{})}
	i.waiters = append(i.waiters, w)
	i.mu.Unlock()
	select {
	case <-w.reached:
		return nil
	case <-ctx.Done():
		i.forget(w)
		return context.Cause(ctx)
	case <-i.stopped:
		return ErrStopped
	}
}

// pollEvery is how often the revision of a store in this process is looked at by
// who waits for one that it has not reached. Nobody does in earnest: a revision is
// known from the write that made it, which is over.
const pollEvery = 5 * time.Millisecond

func (i *Informer[T]) waitDirect(ctx context.Context, revision uint64) error {
	for {
		latest, err := i.direct.Revision(ctx)
		if err != nil || latest >= revision {
			return err
		}
		pause := time.NewTimer(pollEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-i.stopped:
			pause.Stop()
			return ErrStopped
		}
	}
}

// reach tells those who wait that the revision was reached; the mutex is held.
func (i *Informer[T]) reach() {
	kept := i.waiters[:0]
	for _, w := range i.waiters {
		if w.revision <= i.revision {
			close(w.reached)
		} else {
			kept = append(kept, w)
		}
	}
	clear(i.waiters[len(kept):])
	i.waiters = kept
}

// forget removes one who has given up waiting.
func (i *Informer[T]) forget(gone waiter) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, w := range i.waiters {
		if w.reached == gone.reached {
			last := len(i.waiters) - 1
			i.waiters[n] = i.waiters[last]
			i.waiters[last] = waiter{}
			i.waiters = i.waiters[:last]
			return
		}
	}
}
