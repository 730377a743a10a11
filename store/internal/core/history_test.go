// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

type item struct {
	store.Meta
	Node string
}

func (o *item) DeepCopy() *item { return store.DeepCopy(o) }

// itemSize is what the kind of the tests says that an object takes.
const itemSize = 1000

func register(t *testing.T, st store.Store, name string) *store.Handle[*item] {
	t.Helper()
	h, err := store.Register(st, store.Kind[*item]{Name: name, Size: func(*item) int { return itemSize }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// change makes a revision: it creates the object or changes it.
func change(t *testing.T, h *store.Handle[*item], name string) {
	t.Helper()
	key := store.NewKey("default", name)
	_, err := h.Patch(t.Context(), key, func(o *item) error { o.Node = o.ResourceVersion; return nil })
	if errors.Is(err, store.ErrNotFound) {
		_, err = h.Create(t.Context(), &item{Meta: store.Meta{Namespace: key.Namespace, Name: key.Name}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// window returns the oldest and the latest revision, and checks that reads and
// watches keep to it.
func window(t *testing.T, st *memory.Store, h *store.Handle[*item]) (oldest, latest uint64) {
	t.Helper()
	oldest, latest, err := st.Window(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	watch := func(from uint64) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for ev, err := range h.Watch(ctx, store.WatchOptions{From: from}) {
			if err != nil {
				return err
			}
			if ev.Revision == latest {
				return nil
			}
		}
		return nil
	}
	if oldest < latest {
		if _, err := h.Page(t.Context(), store.ListOptions{ReadOptions: store.ReadOptions{Exact: oldest}}); err != nil {
			t.Errorf("list at %d of %d to %d: %v", oldest, oldest, latest, err)
		}
		if err := watch(oldest); err != nil {
			t.Errorf("watch from %d of %d to %d: %v", oldest, oldest, latest, err)
		}
	}
	if oldest > 1 {
		if _, err := h.Page(t.Context(), store.ListOptions{ReadOptions: store.ReadOptions{Exact: oldest - 1}}); !errors.Is(err, store.ErrTooOld) {
			t.Errorf("list at %d of %d to %d: %v, want too old", oldest-1, oldest, latest, err)
		}
		if err := watch(oldest - 1); !errors.Is(err, store.ErrTooOld) {
			t.Errorf("watch from %d of %d to %d: %v, want too old", oldest-1, oldest, latest, err)
		}
	}
	return oldest, latest
}

func TestHistoryByRevisions(t *testing.T) {
	st := memory.New(memory.Options{History: store.History{Revisions: 100}})
	defer st.Close()
	h := register(t, st, "Item")
	for i := range uint64(500) {
		change(t, h, string(rune('a'+i%7)))
		oldest, latest := window(t, st, h)
		if want := max(latest, 101) - 100; oldest != want || latest != i+2 {
			t.Fatalf("the window is %d to %d, want %d to %d", oldest, latest, want, i+2)
		}
	}
	if n := eventsKept(t, st); n < 100 || n > 100+2*128 {
		t.Errorf("%d events are kept for 100 revisions", n)
	}
}

// TestHistoryUnbounded keeps more than the default, if asked to.
func TestHistoryUnbounded(t *testing.T) {
	const revisions = 1<<16 + 1000
	for limit, want := range map[int]uint64{0: 1001, -1: 1} {
		st := memory.New(memory.Options{History: store.History{Revisions: limit}, Mutations: store.DetectNever})
		h := register(t, st, "Item")
		for range revisions {
			change(t, h, "a")
		}
		if oldest, _ := window(t, st, h); oldest != want {
			t.Errorf("limit %d: the oldest revision is %d, want %d", limit, oldest, want)
		}
		st.Close()
	}
}

// TestHistoryOfQuietKind checks that what a kind that nobody writes to has kept
// is given back as well.
func TestHistoryOfQuietKind(t *testing.T) {
	st := memory.New(memory.Options{History: store.History{Revisions: 10}})
	defer st.Close()
	quiet, busy := register(t, st, "Quiet"), register(t, st, "Busy")
	for range 640 {
		change(t, quiet, "a")
	}
	for range 2048 {
		change(t, busy, "a")
	}
	if n := eventsKept(t, st); n > 3*128 {
		t.Errorf("%d events are kept for 10 revisions", n)
	}
}

// TestHistoryByAge writes at random times and compares the window with what the
// times say.
func TestHistoryByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age = 64 * time.Minute // so that what is allowed beyond it is a minute
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		st := memory.New(memory.Options{History: store.History{Revisions: -1, Age: age}})
		defer st.Close()
		h := register(t, st, "Item")
		var replaced []time.Time // when revision i+1 was replaced by the next
		moved := 0
		for range 2000 {
			switch r.IntN(20) {
			case 0:
				time.Sleep(time.Duration(r.Int64N(int64(2 * age))))
			default:
				time.Sleep(time.Duration(r.Int64N(int64(3 * time.Minute))))
			}
			change(t, h, string(rune('a'+r.IntN(3))))
			replaced = append(replaced, time.Now())
			oldest, latest := window(t, st, h)
			before := func(age time.Duration) uint64 { // the first revision not replaced longer ago than that
				rev := uint64(1)
				for rev < latest && time.Since(replaced[rev-1]) > age {
					rev++
				}
				return rev
			}
			if least, most := before(age+age/64+time.Nanosecond), before(age); oldest < least || oldest > most {
				t.Fatalf("the window begins at %d, want %d to %d", oldest, least, most)
			}
			if oldest > 1 {
				moved++
			}
		}
		if moved == 0 {
			t.Error("the window never moved")
		}
	})
}

// TestHistoryByBytes writes to two kinds at random and bounds what both retain.
func TestHistoryByBytes(t *testing.T) {
	const limit, perEvent = 1 << 20, itemSize + 80
	st := memory.New(memory.Options{History: store.History{Revisions: -1, Bytes: limit}})
	defer st.Close()
	a, b := register(t, st, "A"), register(t, st, "B")
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 6000 {
		h := a
		if r.IntN(10) == 0 {
			h = b
		}
		change(t, h, string(rune('a'+r.IntN(5))))
		if i%100 != 0 {
			continue
		}
		oldest, latest := window(t, st, h)
		kept := eventsKept(t, st)
		if most := limit/perEvent + 2*128; kept > most {
			t.Fatalf("%d events are kept, want at most %d", kept, most)
		}
		if oldest > 1 && latest-oldest < limit/perEvent-2*128 {
			t.Fatalf("only %d revisions are kept, want about %d", latest-oldest, limit/perEvent)
		}
	}
	if oldest, _ := window(t, st, a); oldest == 1 {
		t.Error("the window never moved")
	}
}

// eventsKept returns the number of events in all logs, as the dump has it.
func eventsKept(t *testing.T, st *memory.Store) int {
	t.Helper()
	var text strings.Builder
	if err := st.Dump(&text); err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "kind ") {
			continue
		}
		_, after, _ := strings.Cut(line, "objects, ")
		digits, _, found := strings.Cut(after, " events kept")
		kept, err := store.ParseRevision(digits)
		if !found || err != nil {
			t.Fatalf("the dump says %q", line)
		}
		n += int(kept)
	}
	return n
}
