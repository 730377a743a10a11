// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// window returns the oldest and the latest revision, and demands that what it
// says is so: the oldest can be read and watched from, and the one before not.
func window(t *testing.T, s engine, h *store.Handle[*note]) (oldest, latest uint64) {
	t.Helper()
	ctx, x := t.Context(), store.NewKey("a", "x")
	oldest, latest, err := s.Window(ctx)
	if err != nil {
		t.Fatal(err)
	}
	must(h.Get(ctx, x, store.ReadOptions{Exact: oldest}))(t)
	if _, err := h.Get(ctx, x, store.ReadOptions{Exact: oldest - 1}); oldest > 1 && !errors.Is(err, store.ErrTooOld) {
		t.Errorf("get at %d, and the oldest is %d: %v", oldest-1, oldest, err)
	}
	from := oldest
	for ev, err := range h.Watch(ctx, store.WatchOptions{From: oldest, Bookmarks: time.Nanosecond}) {
		if err != nil {
			t.Fatalf("watch from the oldest, %d: %v", oldest, err)
		}
		if ev.Type == store.Bookmark {
			break
		}
		if from++; ev.Revision != from {
			t.Fatalf("revision %d after %d", ev.Revision, from-1)
		}
	}
	if from != latest {
		t.Errorf("a watch ends at %d, want %d", from, latest)
	}
	for _, err := range h.Watch(ctx, store.WatchOptions{From: oldest - 1}) {
		if oldest > 1 && !errors.Is(err, store.ErrTooOld) {
			t.Errorf("watch from %d, and the oldest is %d: %v", oldest-1, oldest, err)
		}
		break
	}
	return oldest, latest
}

func TestHistoryRevisions(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		for _, keep := range []int{1, 10, 127, 128, 129, 300} {
			t.Run(fmt.Sprint(keep), func(t *testing.T) {
				s := open(memory.Options{History: store.History{Revisions: keep}})
				defer s.Close()
				h := register(t, s, store.Kind[*note]{})
				must(h.Create(t.Context(), newNote("x", "")))(t)
				for i := range 700 {
					write(t, h, fmt.Sprint(i))
				}
				if oldest, latest := window(t, s, h); latest-oldest != uint64(keep) {
					t.Errorf("the window is %d to %d, want %d before the latest", oldest, latest, keep)
				}
			})
		}
	})
}

func TestHistoryAge(t *testing.T) {
	const age = 64 * time.Second // so that it is kept to within a second
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		synctest.Test(t, func(t *testing.T) {
			s := open(memory.Options{History: store.History{Age: age}})
			defer s.Close()
			h := register(t, s, store.Kind[*note]{})
			must(h.Create(t.Context(), newNote("x", "")))(t)
			const every = 4 * time.Second
			for i := range 100 {
				time.Sleep(every)
				write(t, h, fmt.Sprint(i))
			}
			oldest, latest := window(t, s, h)
			want := uint64(age / every)
			if kept := latest - oldest; kept < want || kept > want+2 {
				t.Errorf("%d revisions are kept, want %d or two more", kept, want)
			}
			time.Sleep(2 * age)
			last := write(t, h, "the last")
			if oldest, _ := window(t, s, h); store.FormatRevision(oldest+1) != last.ResourceVersion {
				t.Errorf("the oldest is %d, want the one before the last write, %s", oldest, last.ResourceVersion)
			}
		})
	})
}

func TestHistoryBytes(t *testing.T) {
	const size, limit, block = 1000, 200_000, 128
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		s := open(memory.Options{History: store.History{Bytes: limit}})
		defer s.Close()
		h := register(t, s, store.Kind[*note]{Size: func(*note) int { return size }})
		must(h.Create(t.Context(), newNote("x", "")))(t)
		for i := range 2000 {
			write(t, h, fmt.Sprint(i))
		}
		oldest, latest := window(t, s, h)
		if kept := int(latest - oldest); kept*size > limit+block*size || (kept+2*block)*size < limit {
			t.Errorf("%d versions of %d bytes are kept, want about %d bytes", kept, size, limit)
		}
	})
}

// TestHistoryLetsGo: a watcher that does not read costs nothing but its place in
// the history, and is told when that has gone.
func TestHistoryLetsGo(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		s := open(memory.Options{History: store.History{Revisions: 50}})
		defer s.Close()
		h := register(t, s, store.Kind[*note]{})
		must(h.Create(t.Context(), newNote("x", strings.Repeat("x", 100))))(t)
		n := 0
		var end error
		for ev, err := range h.Watch(t.Context(), store.WatchOptions{Initial: true}) {
			if err != nil {
				end = err
				break
			}
			if n++; ev.Type == store.Synced {
				for i := range 500 {
					write(t, h, fmt.Sprint(i))
				}
			}
		}
		if !errors.Is(end, store.ErrTooOld) || n != 2 {
			t.Errorf("%d events, then %v; want the initial state, then too old", n, end)
		}
	})
}

// TestHistoryBytesOneCommit: a transaction larger than all of the history is
// committed, and wakes the watchers that it concerns.
func TestHistoryBytesOneCommit(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		synctest.Test(t, func(t *testing.T) {
			s := open(memory.Options{History: store.History{Bytes: 1}})
			defer s.Close()
			h := register(t, s, store.Kind[*note]{})
			all := func(change func(tx store.Tx, name string) error) {
				t.Helper()
				must(s.Txn(t.Context(), func(tx store.Tx) error {
					for i := range 300 {
						if err := change(tx, fmt.Sprint(i)); err != nil {
							return err
						}
					}
					return nil
				}))(t)
			}
			all(func(tx store.Tx, name string) error {
				_, err := h.In(tx).Create(newNote(name, ""))
				return err
			})
			end := make(chan error, 1)
			go func() {
				for _, err := range h.Watch(t.Context(), store.WatchOptions{Namespace: "a", Name: "3"}) {
					end <- err
					return
				}
			}()
			synctest.Wait()
			all(func(tx store.Tx, name string) error {
				_, err := h.In(tx).Patch(store.NewKey("a", name), func(n *note) error { n.Spec.Text = "new"; return nil })
				return err
			})
			if err := <-end; err != nil && !errors.Is(err, store.ErrTooOld) {
				t.Errorf("the watch of one object: %v, want an event or too old", err)
			}
		})
	})
}

// TestHistoryIsFreed: neither the last list nor a watcher that is busy with an
// event keeps what has left the window.
func TestHistoryIsFreed(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		s := open(memory.Options{Mutations: store.DetectNever, History: store.History{Revisions: 10}})
		defer s.Close()
		h := register(t, s, store.Kind[*note]{})
		listed := weak.Make(must(h.Create(t.Context(), newNote("x", "")))(t))
		if _, err := h.Page(t.Context()); err != nil {
			t.Fatal(err)
		}
		writes := func() {
			for i := range 500 {
				write(t, h, fmt.Sprint(i))
			}
			runtime.GC()
		}
		writes()
		if listed.Value() != nil {
			t.Error("the object of the last list is still there")
		}
		seen := weak.Make(write(t, h, "seen"))
		write(t, h, "the next")
		write(t, h, "and one that waits")
		from, err := s.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range h.Watch(t.Context(), store.WatchOptions{From: from - 2}) {
			if err != nil {
				t.Fatal(err)
			}
			writes()
			writes() // of which the first made the memory of the block that the watch is at
			if seen.Value() != nil {
				t.Error("what was before the event that a watcher is busy with is still there")
			}
			break
		}
	})
}
