// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/watch"
	"github.com/slipway-dev/slipway/watch/watchtest"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "repeat one run of the property tests; 0: new ones")
	runsFlag  = flag.Int("runs", 6, "how many runs of each property test")
	everyKind = watchtest.Faults{
		List: 0.2, Disconnect: 0.05, Compact: 0.02, Delay: 0.1, MaxDelay: 3 * time.Second,
		Duplicate: 0.1, Reorder: 0.05, Garbage: 0.03,
	}
)

// eachSeed runs the test for several seeds, each in a bubble and with its command
// to repeat it.
func eachSeed(t *testing.T, test func(t *testing.T, seed uint64)) {
	runs, first := *runsFlag, *seedFlag
	if first != 0 {
		runs = 1
	} else if first = rand.Uint64(); testing.Short() {
		runs = 5
	}
	for n := range runs {
		seed := first + uint64(n)
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, seed) })
		})
		if !ok {
			t.Fatalf("repeat with: go test ./watch -run '^%s$' -args -seed=%d", t.Name(), seed)
		}
	}
}

// TestCacheEqualsStore: whatever a source does to an informer, once it behaves
// the cache equals the store, and what each handler was told, in order, makes the
// same state, with every step following from the one before.
func TestCacheEqualsStore(t *testing.T) {
	for name, test := range map[string]struct {
		faults  watchtest.Faults
		options watch.Options[*note]
	}{
		"none":   {},
		"faults": {faults: everyKind},
		"pages":  {faults: everyKind, options: watch.Options[*note]{PageSize: 3}},
		"drops": {
			faults:  watchtest.Faults{Drop: 0.2, Disconnect: 0.02},
			options: watch.Options[*note]{Relist: 30 * time.Second},
		},
		"transform": {faults: everyKind, options: watch.Options[*note]{Transform: func(n *note) *note { return n.DeepCopy() }}},
	} {
		t.Run(name, func(t *testing.T) {
			eachSeed(t, func(t *testing.T, seed uint64) {
				st := open(t)
				notes := register(t, st)
				src := watchtest.New(notes, watchtest.Options{Seed: seed, Faults: test.faults})
				i := watch.New(src, test.options)
				checkFollows(t, seed, st, notes, i, src.Heal)
			})
		})
	}
}

// faultyHandle is a handle with faults that a store in this process can have: a
// watch ends, or is too old.
type faultyHandle struct {
	*watchtest.Source[*note]
	h *store.Handle[*note]
}

func (f faultyHandle) Store() store.Store    { return f.h.Store() }
func (f faultyHandle) Schema() *store.Schema { return f.h.Schema() }

func TestDirectEqualsStore(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		st := open(t)
		notes := register(t, st)
		src := watchtest.New(notes, watchtest.Options{Seed: seed, Faults: watchtest.Faults{
			List: 0.2, Disconnect: 0.05, Compact: 0.05, Delay: 0.2, MaxDelay: 10 * time.Second,
		}})
		i := watch.New(faultyHandle{src, notes}, watch.Options[*note]{})
		checkFollows(t, seed, st, notes, i, src.Heal)
	})
}

// checkFollows writes at random for a while, with handlers of several speeds that
// come and go, then ends the faults and compares.
func checkFollows(t *testing.T, seed uint64, st *memory.Store, notes *store.Handle[*note], i *watch.Informer[*note], heal func()) {
	random := rand.New(rand.NewPCG(seed, 1))
	var mirrors []*mirror
	join := func(delay time.Duration) {
		m := &mirror{t: t, delay: delay, state: map[store.Key]*note{}}
		m.reg = i.Handle(m.handler())
		mirrors = append(mirrors, m)
	}
	join(0)
	run(t, i.Run)
	for n := range 900 { // more changes than a journal holds before it coalesces them
		writeAtRandom(t, random, st, notes)
		switch {
		case random.IntN(30) == 0:
			join(time.Duration(random.IntN(10)) * time.Second)
		case random.IntN(60) == 0 && len(mirrors) > 1:
			at := random.IntN(len(mirrors))
			mirrors[at].reg.Remove()
			mirrors = slices.Delete(mirrors, at, at+1)
		case random.IntN(40) == 0:
			if err := st.Compact(t.Context(), must[uint64](t)(st.Revision(t.Context()))); err != nil {
				t.Fatal(err)
			}
		}
		if n%10 == 0 {
			time.Sleep(time.Duration(random.IntN(5)) * time.Second)
		}
	}
	heal()
	time.Sleep(6 * time.Hour) // the slowest has had everything by then
	synctest.Wait()
	want := stateOf(func(yield func(*note, error) bool) { notes.List(t.Context())(yield) })
	expect(t, stateOf(i.List()), want)
	for owner := range owners {
		opts := store.ListOptions{Fields: byOwner.Is(fmt.Sprint(owner))}
		expect(t, stateOf(i.List(opts)), stateOf(notes.List(t.Context(), opts)))
		opts = store.ListOptions{Namespace: "a", Labels: must[store.Selector](t)(store.ParseSelector(fmt.Sprintf("owner=%d", owner)))}
		expect(t, stateOf(i.List(opts)), stateOf(notes.List(t.Context(), opts)))
	}
	for _, m := range mirrors {
		m.mu.Lock()
		expect(t, m.String(), want)
		m.mu.Unlock()
		if !closed(m.reg.Synced()) {
			t.Error("a handler has not synced")
		}
	}
	if err := i.Err(); err != nil {
		t.Errorf("the source works again, and Err = %v", err)
	}
}

const owners = 3

// writeAtRandom makes one transaction of one to three writes.
func writeAtRandom(t *testing.T, random *rand.Rand, st *memory.Store, notes *store.Handle[*note]) {
	_, err := st.Txn(t.Context(), func(tx store.Tx) error {
		in := notes.In(tx)
		for range 1 + random.IntN(3) {
			key := store.NewKey(string(rune('a'+random.IntN(2))), fmt.Sprint("n", random.IntN(6)))
			owner := fmt.Sprint(random.IntN(owners))
			n := newNote(key.Namespace, key.Name, fmt.Sprint(random.Uint32()), owner)
			var err error
			switch _, missing := in.Get(key); {
			case missing != nil:
				_, err = in.Create(n)
			case random.IntN(4) == 0:
				_, err = in.Delete(key)
			case random.IntN(4) == 0: // another one of the same name
				if _, err = in.Delete(key); err == nil {
					_, err = in.Create(n)
				}
			default:
				_, err = in.Update(n)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mirror makes a state of what a handler is told, and checks that each step
// follows from it.
type mirror struct {
	t     *testing.T
	reg   *watch.Registration
	delay time.Duration

	mu    sync.Mutex
	state map[store.Key]*note
}

func (m *mirror) handler() watch.Handler[*note] {
	return watch.Handler[*note]{
		Add: func(n *note, _ bool) {
			m.step(func() {
				if had := m.state[store.KeyOf(n)]; had != nil {
					m.t.Errorf("added %v, which was there", store.KeyOf(n))
				}
				m.state[store.KeyOf(n)] = n
			})
		},
		Update: func(old, new *note) {
			m.step(func() {
				had := m.state[store.KeyOf(new)]
				if had == nil || had.ResourceVersion != old.ResourceVersion {
					m.t.Errorf("updated %v from %v, had %v", store.KeyOf(new), old, had)
				} else if had.UID != new.UID {
					m.t.Errorf("updated %v: another UID", store.KeyOf(new))
				}
				m.state[store.KeyOf(new)] = new
			})
		},
		Delete: func(last *note) {
			m.step(func() {
				had := m.state[store.KeyOf(last)]
				if had == nil || had.UID != last.UID {
					m.t.Errorf("deleted %v, had %v", last, had)
				}
				delete(m.state, store.KeyOf(last))
			})
		},
	}
}

func (m *mirror) step(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	if m.delay > 0 {
		time.Sleep(m.delay)
	}
}

func (m *mirror) String() string {
	return stateOf(func(yield func(*note, error) bool) {
		for _, n := range m.state {
			if !yield(n, nil) {
				return
			}
		}
	})
}

// stateOf returns a list as text, in the order of keys.
func stateOf(list func(yield func(*note, error) bool)) string {
	var lines []string
	for n, err := range list {
		if err != nil {
			return err.Error()
		}
		lines = append(lines, fmt.Sprintf("%s %s %s v%s", store.KeyOf(n), n.Spec.Text, n.Spec.Owner, n.ResourceVersion))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
