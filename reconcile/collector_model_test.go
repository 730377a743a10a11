// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// woodState is what a store of wood holds: the collector's reference works on it.
type woodState map[string]*plank // by "kind namespace/name"

// collected returns what a collector must leave of the state: plain rules, each object
// looked at in turn and all others searched each time, until nothing changes.
// registered are the kinds that it knows.
func (s woodState) collected(registered map[string]bool) woodState {
	out := woodState{}
	for id, p := range s {
		out[id] = p.DeepCopy()
	}
	for out.step(registered) {
	}
	return out
}

func (s woodState) step(registered map[string]bool) (changed bool) {
	for id, p := range s {
		switch {
		case p.DeletionTimestamp != nil && reconcile.HasFinalizer(p, reconcile.FinalizerOrphan):
			for _, d := range s {
				d.OwnerReferences = slices.DeleteFunc(d.OwnerReferences, func(r store.OwnerReference) bool { return r.UID == p.UID })
			}
			s.unfinalize(id, reconcile.FinalizerOrphan)
			return true
		case p.DeletionTimestamp != nil && reconcile.HasFinalizer(p, reconcile.FinalizerForeground):
			if len(s.blockers(id)) == 0 {
				s.unfinalize(id, reconcile.FinalizerForeground)
				return true
			}
		case p.DeletionTimestamp == nil && len(p.OwnerReferences) > 0:
			if s.judge(id, registered) {
				return true
			}
		}
	}
	// Only those are left that wait: in circles, or for somebody outside.
	for id := range s {
		if s.isStuck(id) {
			s.unfinalize(id, reconcile.FinalizerForeground)
			return true
		}
	}
	return false
}

// judge looks at the owners of an object that lives.
func (s woodState) judge(id string, registered map[string]bool) (changed bool) {
	p := s[id]
	held, waits := false, false
	var left []store.OwnerReference
	for _, r := range p.OwnerReferences {
		switch s.ownerOf(id, r, registered) {
		case "gone":
		case "waits":
			waits = true
		default:
			held = true
			left = append(left, r)
		}
	}
	switch {
	case len(left) == len(p.OwnerReferences):
		return false
	case held:
		p.OwnerReferences = left
		return true
	case waits && len(s.dependents(p.UID)) > 0:
		p.Finalizers = append(p.Finalizers, reconcile.FinalizerForeground)
	}
	s.remove(id)
	return true
}

// ownerOf says what became of an owner.
func (s woodState) ownerOf(id string, r store.OwnerReference, registered map[string]bool) string {
	if r.UID == "" {
		return "misplaced"
	}
	for oid, o := range s {
		if o.UID != r.UID {
			continue
		}
		switch {
		case !isPlaced(id, r, oid):
			return "misplaced"
		case o.DeletionTimestamp != nil && reconcile.HasFinalizer(o, reconcile.FinalizerForeground) && !reconcile.HasFinalizer(o, reconcile.FinalizerOrphan):
			return "waits"
		}
		return "there"
	}
	if !registered[r.Kind] {
		return "unknown"
	}
	return "gone"
}

// isPlaced reports whether the reference of the one names the other.
func isPlaced(id string, r store.OwnerReference, oid string) bool {
	_, key := parseWood(id)
	kind, okey := parseWood(oid)
	return kind == r.Kind && okey.Name == r.Name && (okey.Namespace == "" || okey.Namespace == key.Namespace)
}

func (s woodState) dependents(uid string) (ids []string) {
	for id, d := range s {
		if slices.ContainsFunc(d.OwnerReferences, func(r store.OwnerReference) bool { return r.UID == uid }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// blockers returns what an object waits for that is deleted in the foreground: those that
// say that they block it, and those that live.
func (s woodState) blockers(id string) (ids []string) {
	for did, d := range s {
		if did != id && slices.ContainsFunc(d.OwnerReferences, func(r store.OwnerReference) bool {
			return r.UID == s[id].UID && isPlaced(did, r, id) && (d.DeletionTimestamp == nil || r.BlockOwnerDeletion != nil)
		}) {
			ids = append(ids, did)
		}
	}
	return ids
}

// isStuck reports whether an object waits for some that are deleted in the
// foreground, too, and all of which wait for it.
func (s woodState) isStuck(id string) bool {
	if p := s[id]; p.DeletionTimestamp == nil || !reconcile.HasFinalizer(p, reconcile.FinalizerForeground) {
		return false
	}
	for w := range s.waitsFor(id) {
		if p := s[w]; p.DeletionTimestamp == nil || !reconcile.HasFinalizer(p, reconcile.FinalizerForeground) || !s.waitsFor(w)[id] {
			return false
		}
	}
	return true
}

// waitsFor returns all that an object waits for, directly or not.
func (s woodState) waitsFor(id string) map[string]bool {
	out := map[string]bool{}
	for todo := []string{id}; len(todo) > 0; {
		at := todo[0]
		todo = todo[1:]
		for _, b := range s.blockers(at) {
			if !out[b] {
				out[b] = true
				todo = append(todo, b)
			}
		}
	}
	return out
}

func (s woodState) unfinalize(id, name string) {
	reconcile.RemoveFinalizer(s[id], name)
	if len(s[id].Finalizers) == 0 {
		delete(s, id)
	}
}

func (s woodState) remove(id string) {
	if len(s[id].Finalizers) == 0 {
		delete(s, id)
	} else {
		s[id].DeletionTimestamp = &store.Time{}
	}
}

// String is what is compared: which objects there are, their owners and whether
// they are being deleted.
func (s woodState) String() string {
	var lines []string
	for id, p := range s {
		var line strings.Builder
		line.WriteString(fmt.Sprintf("%s %.4s", id, p.UID))
		for _, r := range p.OwnerReferences {
			line.WriteString(fmt.Sprintf(" -> %s %s %.4s", r.Kind, r.Name, r.UID))
			if r.BlockOwnerDeletion != nil {
				line.WriteString("!")
			}
		}
		if p.DeletionTimestamp != nil {
			line.WriteString(" deleting")
		}
		lines = append(lines, line.String()+" "+strings.Join(slices.Sorted(slices.Values(p.Finalizers)), ","))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n\t")
}

// state reads the store at a revision; 0 is the latest.
func (w *wood) state(revision uint64) woodState {
	w.Helper()
	snap, err := w.st.Snapshot(w.Context(), store.ReadOptions{Exact: revision})
	must(w.T, err)
	out := woodState{}
	for _, s := range w.st.Kinds() {
		_, err := snap.List(s, store.ListOptions{}, func(o store.Object) bool {
			out[s.Name+" "+store.KeyOf(o).String()] = o.(*plank)
			return true
		})
		must(w.T, err)
	}
	return out
}

func (w *wood) registered() map[string]bool {
	out := map[string]bool{}
	for _, s := range w.st.Kinds() {
		out[s.Name] = true
	}
	return out
}

// chaos does random things to a store of wood.
type chaos struct {
	*wood
	rng  *rand.Rand
	uids map[string]store.OwnerReference // all that ever were, by UID
	mine map[string]bool                 // those that a test asked to delete
}

func newChaos(w *wood, seed uint64) *chaos {
	return &chaos{wood: w, rng: rand.New(rand.NewPCG(seed, 2)), uids: map[string]store.OwnerReference{}, mine: map[string]bool{}}
}

var woodNames = []string{"a", "b", "c", "d", "e", "f"}

// target returns a random kind and key.
func (c *chaos) target() (*store.Handle[*plank], store.Key) {
	kind := []string{"A", "A", "B", "C", "K"}[c.rng.IntN(5)]
	key := store.Key{Name: woodNames[c.rng.IntN(len(woodNames))]}
	if kind != "C" {
		key.Namespace = []string{"sea", "sea", "lake"}[c.rng.IntN(3)]
	}
	return c.kinds[kind], key
}

// owner returns a reference: mostly to an object of the state, sometimes to one
// that has gone or is in another place.
func (c *chaos) owner(now woodState, namespace string) store.OwnerReference {
	var fit, all []store.OwnerReference
	for id, p := range now {
		kind, key := parseWood(id)
		r := store.OwnerReference{APIVersion: "wood.example.com/v1", Kind: kind, Name: key.Name, UID: p.UID}
		c.uids[r.UID] = r
		if key.Namespace == "" || key.Namespace == namespace {
			fit = append(fit, r)
		}
	}
	for _, r := range c.uids {
		all = append(all, r)
	}
	byUID := func(a, b store.OwnerReference) int { return cmp.Compare(a.UID, b.UID) }
	slices.SortFunc(fit, byUID)
	slices.SortFunc(all, byUID)
	r := goneOwner("A")
	switch n := c.rng.IntN(20); {
	case n < 15 && len(fit) > 0:
		r = fit[c.rng.IntN(len(fit))]
	case n < 18 && len(all) > 0:
		r = all[c.rng.IntN(len(all))]
	case n == 18:
		r.Kind = "Never"
	}
	if c.rng.IntN(2) == 0 {
		r.BlockOwnerDeletion = new(true)
	}
	return r
}

// act does one random thing, and returns its revision, 0 if it changed nothing.
// Errors that are no fault of the store's do not matter.
func (c *chaos) act() uint64 {
	h, key := c.target()
	now := c.state(0)
	before, err := c.st.Revision(c.Context())
	must(c.T, err)
	refs := func() (refs []store.OwnerReference) {
		for range c.rng.IntN(3) {
			refs = append(refs, c.owner(now, key.Namespace))
		}
		return refs
	}
	var p *plank
	switch c.rng.IntN(10) {
	case 0, 1, 2, 3:
		p, err = h.Create(c.Context(), &plank{Meta: store.Meta{Namespace: key.Namespace, Name: key.Name, OwnerReferences: refs()}})
	case 4, 5:
		owners := refs()
		p, err = h.Patch(c.Context(), key, func(p *plank) error { p.OwnerReferences = owners; return nil })
	case 6:
		p, err = h.Patch(c.Context(), key, func(p *plank) error {
			if !reconcile.RemoveFinalizer(p, holdFinalizer) && p.DeletionTimestamp == nil {
				p.Finalizers = append(p.Finalizers, holdFinalizer)
			}
			return nil
		})
	case 7:
		p, err = c.deleted(h.Delete(c.Context(), key))
	case 8:
		p, err = c.deleted(reconcile.DeleteForeground(c.Context(), h, key))
	case 9:
		p, err = c.deleted(reconcile.DeleteOrphan(c.Context(), h, key))
	}
	if err != nil {
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrAlreadyExists) || errors.Is(err, store.ErrConflict) ||
			errors.Is(err, store.ErrInvalid) || errors.Is(err, store.ErrUnknownKind) {
			return 0
		}
		c.Fatal(err)
	}
	rev, err := store.RevisionOf(p)
	must(c.T, err)
	if rev <= before {
		return 0
	}
	return rev
}

// deleted notes that what goes is the test's doing.
func (c *chaos) deleted(p *plank, err error) (*plank, error) {
	if err == nil {
		c.mine[p.UID] = true
	}
	return p, err
}

// letGo removes the finalizers that are not the collector's.
func (c *chaos) letGo() {
	for id := range c.state(0) {
		kind, key := parseWood(id)
		_, err := c.kinds[kind].Patch(c.Context(), key, func(p *plank) error { reconcile.RemoveFinalizer(p, holdFinalizer); return nil })
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			c.Fatal(err)
		}
	}
}

// compare fails the test unless what is left is what the reference leaves of the
// state before.
func (c *chaos) compare(what string, before woodState) {
	c.Helper()
	rest()
	got, want := c.state(0).String(), ""
	// Which it is may depend on who comes first, where one owner of an object goes
	// and another orphans it; the reference takes the objects in a random order.
	for range 300 {
		if want = before.collected(c.registered()).String(); got == want {
			return
		}
	}
	c.Fatalf("%s: left of\n\t%s\nis\n\t%s\nwant\n\t%s", what, before, got, want)
}

// flakyStore ends watches at random, before an event that is then missed.
type flakyStore struct {
	store.Engine
	mu  sync.Mutex
	rng *rand.Rand
}

func (f *flakyStore) Watch(ctx context.Context, s *store.Schema, opts store.WatchOptions) iter.Seq2[store.Event[store.Object], error] {
	return func(yield func(store.Event[store.Object], error) bool) {
		for ev, err := range f.Engine.Watch(ctx, s, opts) {
			f.mu.Lock()
			n := f.rng.IntN(40)
			f.mu.Unlock()
			switch {
			case n < 3 && opts.From != 0 && ev.Type != store.Bookmark:
				yield(store.Event[store.Object]{}, store.ErrTooOld)
				return
			case n == 3 && opts.From != 0:
				yield(store.Event[store.Object]{}, errors.New("the network is down"))
				return
			}
			if !yield(ev, err) {
				return
			}
		}
	}
}

// TestCollectorProperty compares the collector with the reference after random
// things, one at a time while it runs, or many while it does not; every other
// time on a store whose watches break.
func TestCollectorProperty(t *testing.T) {
	for range 30 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			inWood(t, func(t *testing.T, w *wood) {
				c := newChaos(w, seed)
				var st store.Store = w.st
				if seed%2 == 0 {
					st = &flakyStore{Engine: w.st, rng: rand.New(rand.NewPCG(seed, 3))}
				}
				stop := w.collect(st)
				defer func() { stop() }()
				for round := range 60 {
					switch what := c.rng.IntN(10); {
					case what < 6:
						if rev := c.act(); rev != 0 {
							c.compare(fmt.Sprint("round ", round), c.state(rev))
						}
						continue
					case what < 8:
						stop()
						for range c.rng.IntN(12) {
							c.act()
						}
						before := c.state(0)
						stop = w.collect(st)
						c.compare(fmt.Sprint("round ", round, ", restarted"), before)
						continue
					}
					// A kind comes or goes: what it knew, nobody knows meanwhile.
					if k := w.kinds["K"]; w.st.Kind(k.Schema().KindName) != nil {
						must(t, w.st.Unregister(k.Schema()))
					} else {
						w.kinds["K"] = registerIn(t, w.st, woodKind("K"))
					}
					c.compare(fmt.Sprint("round ", round, ", kinds changed"), c.state(0))
				}
			})
		})
	}
}

// TestCollectorCrashes stops the collector at each of its writes in turn, and
// has another go on: what is left in the end is the same.
func TestCollectorCrashes(t *testing.T) {
	for range 8 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			for after := int64(0); ; after++ {
				crashed := false
				inWood(t, func(t *testing.T, w *wood) {
					c := newChaos(w, seed)
					for range 40 {
						c.act()
					}
					c.letGo()
					before := c.state(0)
					failing := &failingStore{Store: w.st, left: after}
					if seed%2 == 0 { // every other seed: steps instead of transactions
						stop := w.collect(failing)
						rest()
						stop()
					} else {
						stop := w.collect(failingTransactor{failing, w.st})
						rest()
						stop()
					}
					crashed = failing.failed.Load()
					defer w.collect(w.st)()
					c.compare(fmt.Sprint("after ", after, " writes"), before)
				})
				if t.Failed() || !crashed {
					return
				}
			}
		})
	}
}

// failingStore fails every write after some.
type failingStore struct {
	store.Store
	mu     sync.Mutex
	left   int64
	failed atomic.Bool
}

var errCrash = errors.New("the machine is off")

func (f *failingStore) Write(ctx context.Context, s *store.Schema, w store.Write) (store.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock() // one write after the other: nothing is under way when it fails
	if f.left--; f.left < 0 {
		f.failed.Store(true)
		return nil, errCrash
	}
	return f.Store.Write(ctx, s, w)
}

// failingTransactor fails transactions, too.
type failingTransactor struct {
	*failingStore
	t store.Transactor
}

func (f failingTransactor) Txn(ctx context.Context, do func(store.Tx) error) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left < 0 {
		f.failed.Store(true)
		return 0, errCrash
	}
	return f.t.Txn(ctx, do)
}

// TestCollectorConcurrently has several goroutines do random things while the
// collector runs. Afterwards nothing is left to collect, and the history shows
// that each object that went by the collector had no owner when it did, and that no
// dependent of an owner deleted as an orphan maker was overlooked.
func TestCollectorConcurrently(t *testing.T) {
	deleted := 0
	for range 10 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			inWood(t, func(t *testing.T, w *wood) {
				defer w.collect(w.st)()
				mine := make([]*chaos, 3)
				var all sync.WaitGroup
				for i := range mine {
					mine[i] = newChaos(w, seed+uint64(i))
					all.Go(func() {
						for range 150 {
							mine[i].act()
						}
					})
				}
				all.Wait()
				rest()
				mine[0].letGo()
				rest()
				end := w.state(0)
				if got, want := end.String(), end.collected(w.registered()).String(); got != want {
					t.Errorf("at rest there is\n\t%s\nwant\n\t%s", got, want)
				}
				deleted += w.checkHistory(func(uid string) bool {
					return slices.ContainsFunc(mine, func(c *chaos) bool { return c.mine[uid] })
				})
			})
		})
	}
	if deleted == 0 {
		t.Error("the collector deleted nothing: the test shows nothing")
	}
}

// checkHistory looks at each change that was ever made, and returns how many
// objects the collector deleted.
func (w *wood) checkHistory(mine func(uid string) bool) (deleted int) {
	waited := map[string]bool{} // owners that were ever deleted in the foreground
	for _, s := range w.st.Kinds() {
		for ev := range w.history(s) {
			if p := ev.Object.(*plank); p.DeletionTimestamp != nil && reconcile.HasFinalizer(p, reconcile.FinalizerForeground) {
				waited[p.UID] = true
			}
		}
	}
	for _, s := range w.st.Kinds() {
		for ev := range w.history(s) {
			old, _ := ev.Old.(*plank)
			marked := ev.Type == store.Modified && old.DeletionTimestamp == nil && ev.Object.(*plank).DeletionTimestamp != nil
			removed := ev.Type == store.Deleted && old.DeletionTimestamp == nil
			if (marked || removed) && !mine(old.UID) {
				deleted++
				before := w.state(ev.Revision - 1)
				id := s.Name + " " + store.KeyOf(old).String()
				for _, r := range old.OwnerReferences {
					if owner := before.ownerOf(id, r, w.registered()); owner != "gone" && owner != "waits" && !waited[r.UID] {
						w.Errorf("%s was deleted at revision %d, and its owner %s %s was %s", id, ev.Revision, r.Kind, r.Name, owner)
					}
				}
				if len(old.OwnerReferences) == 0 {
					w.Errorf("%s was deleted at revision %d, and had no owners", id, ev.Revision)
				}
			}
			if ev.Type == store.Modified && reconcile.HasFinalizer(old, reconcile.FinalizerOrphan) && !reconcile.HasFinalizer(ev.Object, reconcile.FinalizerOrphan) ||
				ev.Type == store.Deleted && reconcile.HasFinalizer(old, reconcile.FinalizerOrphan) {
				left := slices.DeleteFunc(w.state(ev.Revision).dependents(old.UID), func(id string) bool {
					return !isPlaced(id, store.OwnerReference{Kind: s.Name, Name: old.Name}, s.Name+" "+store.KeyOf(old).String())
				})
				if len(left) > 0 {
					w.Errorf("%s %s orphaned its dependents at revision %d, but not %v", s.Name, store.KeyOf(old), ev.Revision, left)
				}
			}
		}
	}
	return deleted
}

// history yields the events of a kind after the first revision, to now.
func (w *wood) history(s *store.Schema) iter.Seq[store.Event[store.Object]] {
	return func(yield func(store.Event[store.Object]) bool) {
		last, err := w.st.Revision(w.Context())
		must(w.T, err)
		for ev, err := range w.st.Watch(w.Context(), s, store.WatchOptions{From: 1, Bookmarks: time.Millisecond}) {
			must(w.T, err)
			if ev.Type == store.Bookmark && ev.Revision >= last || ev.Object != nil && !yield(ev) {
				return
			}
		}
	}
}

// TestCollectorOrphanRace makes dependents while their owner is deleted as an
// orphan maker: all that were made live on, and none refers to it. It runs in
// real time: in virtual time nothing happens at once.
func TestCollectorOrphanRace(t *testing.T) {
	w := newWood(t)
	defer func() { must(t, w.st.Close()) }()
	strict := registerIn(t, w.st, store.Kind[*plank]{Name: "Strict", Version: "v1"}) // owners must be there
	c := reconcile.NewCollector(w.st, reconcile.CollectorOptions{Interval: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	total := 0
	for i := range 10 {
		owner := fmt.Sprint("A sea/owner-", i)
		w.make(owner)
		ref := w.own(owner)
		made := make(chan int)
		go func() {
			n := 0
			for {
				_, err := strict.Create(t.Context(), &plank{Meta: store.Meta{Namespace: "sea", GenerateName: "x-", OwnerReferences: []store.OwnerReference{ref}}})
				if err != nil {
					made <- n
					return
				}
				n++
				time.Sleep(time.Duration(n%7) * 50 * time.Microsecond)
			}
		}()
		w.deleteWith(owner, reconcile.DeleteOrphan)
		total += <-made
	}
	time.Sleep(50 * time.Millisecond) // for the collector to do what it should not
	n := 0
	for p, err := range strict.List(t.Context()) {
		must(t, err)
		if n++; len(p.OwnerReferences) > 0 {
			t.Errorf("%s still has owners", p.Name)
		}
	}
	if n != total {
		t.Errorf("%d are left of %d", n, total)
	}
	cancel()
	must(t, <-done)
}
