// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func concurrentPromises() []promise {
	all := []promise{}
	for _, g := range guarantees() {
		all = append(all, promise{name: g.name, test: func(x *trial) { concurrently(x, g) }})
	}
	return append(all,
		promise{name: "SlowWatchersHaveNoGap", test: concurrentSlow},
		promise{name: "InitialStateIsOfOneRevision", test: concurrentInitial},
	)
}

// guarantee is one of the six, as a rule over what one watch delivered. The
// events wanted are those of the plain model; broken says where the rule is
// broken, or "".
type guarantee struct {
	name    string
	resumes bool          // the watches are left now and then, and resumed
	every   time.Duration // bookmarks
	broken  func(got, want []event) string
}

func guarantees() []guarantee {
	return []guarantee{
		{name: "Ordered", broken: unordered},
		{name: "Unique", broken: repeated},
		{name: "Reliable", broken: missing},
		{name: "Atomic", broken: split},
		{name: "Resumable", resumes: true, broken: different},
		{name: "Bookmarked", every: time.Millisecond, broken: ahead},
	}
}

// same event: what tells one event from another.
type identity struct {
	kind     store.EventType
	revision uint64
	key      store.Key
}

func identify(ev event) identity {
	id := identity{kind: ev.Type, revision: ev.Revision}
	if ev.Object != nil {
		id.key = store.KeyOf(ev.Object)
	}
	return id
}

// changesOnly leaves out what is no change.
func changesOnly(events []event) []event {
	return slices.DeleteFunc(slices.Clone(events), func(ev event) bool { return ev.Type == store.Bookmark })
}

func unordered(got, _ []event) string {
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		if b.Revision < a.Revision || b.Revision == a.Revision && a.Last {
			return fmt.Sprintf("%d %s comes after %d %s", b.Revision, eventText(b), a.Revision, eventText(a))
		}
	}
	return ""
}

func repeated(got, _ []event) string {
	seen := map[identity]bool{}
	for _, ev := range changesOnly(got) {
		if seen[identify(ev)] {
			return fmt.Sprintf("%d %s comes twice", ev.Revision, eventText(ev))
		}
		seen[identify(ev)] = true
	}
	return ""
}

func missing(got, want []event) string {
	have := map[identity]bool{}
	for _, ev := range got {
		have[identify(ev)] = true
	}
	for _, ev := range want {
		if !have[identify(ev)] {
			return fmt.Sprintf("%d %s is missing", ev.Revision, eventText(ev))
		}
		delete(have, identify(ev))
	}
	for id := range have {
		if id.kind != store.Bookmark {
			return fmt.Sprintf("%d %s %s never happened", id.revision, id.kind, id.key)
		}
	}
	return ""
}

func split(got, want []event) string {
	sizes := map[uint64]int{}
	for _, ev := range want {
		sizes[ev.Revision]++
	}
	n := 0
	for i, ev := range changesOnly(got) {
		n++
		if whole := n == sizes[ev.Revision]; ev.Last != whole {
			return fmt.Sprintf("event %d of %d at revision %d says that the last of its transaction is %v", n, sizes[ev.Revision], ev.Revision, ev.Last)
		}
		if next := i + 1; ev.Last {
			n = 0
		} else if next < len(got) && got[next].Revision != ev.Revision {
			return fmt.Sprintf("%d %s comes within the transaction of revision %d", got[next].Revision, eventText(got[next]), ev.Revision)
		}
	}
	return ""
}

func different(got, want []event) string {
	got = changesOnly(got)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%d %s is missing", want[i].Revision, eventText(want[i]))
		case i >= len(want) || identify(got[i]) != identify(want[i]):
			return fmt.Sprintf("event %d is %d %s, and should not be", i, got[i].Revision, eventText(got[i]))
		}
	}
	return ""
}

// ahead: a bookmark says that everything up to its revision was delivered.
func ahead(got, want []event) string {
	delivered, last, bookmarks := 0, uint64(0), 0
	for _, ev := range got {
		if ev.Revision < last || ev.Revision == last && ev.Type != store.Bookmark && bookmarks > 0 && delivered == 0 {
			return fmt.Sprintf("%d %s comes after a bookmark of %d", ev.Revision, eventText(ev), last)
		}
		if ev.Type != store.Bookmark {
			delivered++
			if bookmarks > 0 && ev.Revision <= last {
				return fmt.Sprintf("%d %s comes after a bookmark of %d", ev.Revision, eventText(ev), last)
			}
			continue
		}
		bookmarks++
		last = ev.Revision
		if delivered < len(want) && want[delivered].Revision <= ev.Revision {
			return fmt.Sprintf("a bookmark of %d before %d %s", ev.Revision, want[delivered].Revision, eventText(want[delivered]))
		}
	}
	if bookmarks == 0 {
		return "no bookmark has come"
	}
	return ""
}

// storm is many writers at once, and what they did.
type storm struct {
	*trial
	kinds   []handle
	models  []*model
	removes bool // the engine tells the revision of a removal

	mu      sync.Mutex
	changed map[uint64]map[int][]*widget // by revision and kind; a marker of size -1 for a removal
}

const (
	stormWriters = 4
	stormKeys    = 6
)

func newStorm(x *trial) *storm {
	s := &storm{trial: x, kinds: []handle{x.widgets, x.gizmos}, changed: map[uint64]map[int][]*widget{}}
	for range s.kinds {
		s.models = append(s.models, newModel())
	}
	o := x.create(x.racks, object("", "probe"))
	s.removes = x.delete(x.racks, store.KeyOf(o)).ResourceVersion != ""
	return s
}

// did records what a committed transaction wrote.
func (s *storm) did(revision uint64, kind int, w *widget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed[revision] == nil {
		s.changed[revision] = map[int][]*widget{}
	}
	s.changed[revision][kind] = append(s.changed[revision][kind], w)
}

// rage writes with all writers until each has done n, and ends with the object
// z/end in each kind, at which watches stop.
func (s *storm) rage(seed uint64, n int) {
	writers := s.workers()
	for i := range stormWriters {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		writers.Go(func() {
			for range n {
				if r.IntN(3) == 0 {
					s.wait(time.Duration(r.IntN(1500)) * time.Microsecond)
				}
				if err := s.write(r); err != nil {
					s.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	for kind, h := range s.kinds {
		o := s.create(h, object("z", "end", label("app", "web"), node("n1")))
		s.did(s.revision(o), kind, o)
	}
	s.settle()
}

func stormChanges(r *rand.Rand) []change {
	return []change{size(r.IntN(1 << 30)), label("app", pick(r, "web", "db")), node(pick(r, "n1", "n2"))}
}

// write does one random write, or one transaction of several.
func (s *storm) write(r *rand.Rand) error {
	if t, ok := s.st.(store.Transactor); ok && r.IntN(2) == 0 {
		return s.writeTxn(t, r)
	}
	kind := r.IntN(len(s.kinds))
	h, k := s.kinds[kind], key(pick(r, "a", "b"), numbered("x", r.IntN(stormKeys)))
	o, err := h.Patch(s.ctx, k, apply(stormChanges(r)...))
	if errors.Is(err, store.ErrNotFound) {
		o, err = h.Create(s.ctx, object(k.Namespace, k.Name, stormChanges(r)...))
	} else if err == nil && s.removes && r.IntN(4) == 0 {
		rev, _ := store.RevisionOf(o)
		s.did(rev, kind, o)
		o, err = h.Delete(s.ctx, k, store.WriteOptions{UID: o.UID})
		if err == nil {
			o = o.DeepCopy()
			o.Spec.Size = -1
		}
	}
	if errors.Is(err, store.ErrAlreadyExists) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		return nil // another writer was faster
	}
	if err != nil {
		return err
	}
	rev, err := store.RevisionOf(o)
	s.did(rev, kind, o)
	return err
}

// writeTxn writes a random number of objects of both kinds.
func (s *storm) writeTxn(t store.Transactor, r *rand.Rand) error {
	type target struct {
		kind    int
		key     store.Key
		changes []change
		remove  bool
	}
	var targets []target
	for range 2 + r.IntN(4) {
		k := target{r.IntN(len(s.kinds)), key(pick(r, "a", "b"), numbered("x", r.IntN(stormKeys))), stormChanges(r), s.removes && r.IntN(4) == 0}
		if !slices.ContainsFunc(targets, func(o target) bool { return o.kind == k.kind && o.key == k.key }) {
			targets = append(targets, k)
		}
	}
	type done struct {
		kind int
		w    *widget
	}
	var written []done
	rev, err := t.Txn(s.ctx, func(tx store.Tx) error {
		written = nil
		for _, k := range targets {
			in := s.kinds[k.kind].In(tx)
			w, err := in.Patch(k.key, apply(k.changes...))
			if errors.Is(err, store.ErrNotFound) {
				w, err = in.Create(object(k.key.Namespace, k.key.Name, k.changes...))
			} else if err == nil && k.remove {
				w, err = in.Delete(k.key)
				if err == nil {
					w = object(k.key.Namespace, k.key.Name, size(-1))
				}
			}
			if err != nil {
				return err
			}
			written = append(written, done{k.kind, w})
		}
		return nil
	})
	if err == nil {
		for _, d := range written {
			s.did(rev, d.kind, d.w)
		}
	}
	return err
}

// settle makes the models of what was recorded.
func (s *storm) settle() {
	revisions := make([]uint64, 0, len(s.changed))
	for rev := range s.changed {
		revisions = append(revisions, rev)
	}
	slices.Sort(revisions)
	for _, rev := range revisions {
		for kind, written := range s.changed[rev] {
			m := s.models[kind]
			var facts []fact
			for _, w := range written {
				f := fact{revision: rev, old: m.now[store.KeyOf(w)], next: w, gone: w.Spec.Size == -1}
				facts = append(facts, f)
			}
			m.commit(facts)
		}
	}
}

// record is what one watch delivered.
type record struct {
	kind   int
	sel    selection
	from   uint64
	events []event
}

// selections are what the watches of a storm ask for.
func selections() []selection {
	return []selection{
		{},
		{namespace: "z"}, // the end only
		{labels: "app=web", labelled: func(w *widget) bool { return w.Labels["app"] == "web" }},
		{fields: indexNode + "=n1", fielded: func(w *widget) bool { return w.Spec.Node == "n1" }},
	}
}

func (s *storm) watchOptions(sel *selection) store.WatchOptions {
	fields, _ := store.ParseFieldSelector(sel.fields)
	labels, _ := store.ParseSelector(sel.labels)
	return store.WatchOptions{Namespace: sel.namespace, Labels: labels, Fields: fields}
}

// follow watches to the end of the storm, and to the next bookmark if there are
// any, and leaves and resumes now and then if told so.
func (s *storm) follow(rec *record, g guarantee, r *rand.Rand) {
	opts := s.watchOptions(&rec.sel)
	opts.From, opts.Bookmarks = rec.from, g.every
	ended := false
	for {
		leave := r.IntN(20)
		for ev, err := range s.kinds[rec.kind].Watch(s.ctx, opts) {
			if err != nil {
				s.Errorf("watch from %d: %v", opts.From, err)
				return
			}
			if now, err := s.st.Revision(s.ctx); err == nil && now < ev.Revision {
				s.Errorf("an event of %d is delivered while reads see %d", ev.Revision, now)
			}
			rec.events = append(rec.events, ev)
			ended = ended || ev.Object != nil && ev.Object.Name == "end"
			if ended && (g.every == 0 || ev.Type == store.Bookmark) {
				return
			}
			if leave--; g.resumes && leave < 0 && ev.Last {
				opts.From = ev.Revision
				break
			}
			if r.IntN(50) == 0 {
				s.wait(time.Duration(r.IntN(3000)) * time.Microsecond)
			}
		}
	}
}

// concurrently watches a storm in many ways and checks one guarantee.
func concurrently(x *trial, g guarantee) {
	s, seed := newStorm(x), seed(x.T)
	var records []*record
	watchers := x.workers()
	for kind, h := range s.kinds {
		from := x.page(h, store.ListOptions{Limit: 1}).Revision
		for i, sel := range append(selections(), selection{}, selection{}) {
			rec := &record{kind: kind, sel: sel, from: from}
			records = append(records, rec)
			r := rand.New(rand.NewPCG(seed, uint64(100+10*kind+i)))
			watchers.Go(func() { s.follow(rec, g, r) })
		}
	}
	s.rage(seed, scaled(200))
	watchers.Wait()
	for _, rec := range records {
		want := rec.sel.watch(s.models[rec.kind].events, rec.from)
		if what := g.broken(rec.events, want); what != "" {
			x.Errorf("a watch of %q %q %q: %s", rec.sel.namespace, rec.sel.labels, rec.sel.fields, what)
		}
	}
}

// concurrentSlow: watchers that take their time, while the history is compacted
// under them. Each either gets everything or is told that it is too late; it
// then begins again from the present state, which must be whole.
func concurrentSlow(x *trial) {
	compactor := x.compactor()
	s, seed := newStorm(x), seed(x.T)
	ctx, cancel := context.WithCancel(x.ctx)
	background := x.workers()
	watchers := x.workers()
	background.Go(func() {
		for ctx.Err() == nil {
			rev, err := x.st.Revision(ctx)
			if err == nil {
				err = compactor.Compact(ctx, rev)
			}
			if err != nil && ctx.Err() == nil {
				x.Errorf("compact: %v", err)
				return
			}
			x.wait(2 * time.Millisecond)
		}
	})
	slow := make([]*slowRecord, 8)
	for i := range slow {
		slow[i] = &slowRecord{kind: i % 2}
		r := rand.New(rand.NewPCG(seed, uint64(200+i)))
		watchers.Go(func() { slow[i].run(s, r) })
	}
	s.rage(seed, scaled(150))
	watchers.Wait()
	cancel()
	background.Wait()
	told := 0
	for _, rec := range slow {
		told += len(rec.legs) - 1
		for _, l := range rec.legs {
			l.check(s, rec.kind)
		}
	}
	x.Logf("told %d times that it was too late", told)
}

// slowRecord is what a slow watcher saw, leg by leg: each begins with the state
// and ends where it was told that it is too late.
type slowRecord struct {
	kind int
	legs []*leg
}

type leg struct {
	initial []*widget
	synced  uint64
	events  []event
}

func (rec *slowRecord) run(s *storm, r *rand.Rand) {
	for {
		l := &leg{}
		rec.legs = append(rec.legs, l)
		for ev, err := range s.kinds[rec.kind].Watch(s.ctx, store.WatchOptions{Initial: true}) {
			if errors.Is(err, store.ErrTooOld) {
				break
			}
			if err != nil {
				s.Errorf("slow watch: %v", err)
				return
			}
			switch {
			case ev.Type == store.Synced:
				l.synced = ev.Revision
			case l.synced == 0 && ev.Revision != 0 && len(l.events) == 0:
				l.initial = append(l.initial, ev.Object)
			default:
				l.events = append(l.events, ev)
			}
			if ev.Object != nil && ev.Object.Name == "end" && l.synced != 0 || ev.Type == store.Synced && l.ended() {
				return
			}
			if r.IntN(8) == 0 {
				s.wait(time.Duration(r.IntN(6000)) * time.Microsecond)
			}
		}
	}
}

// ended reports whether the initial state was that of the end already.
func (l *leg) ended() bool {
	return slices.ContainsFunc(l.initial, func(w *widget) bool { return w.Name == "end" })
}

// check compares a leg with the model: the state that it begins with, and every
// event from there to where it ends.
func (l *leg) check(s *storm, kind int) {
	if l.synced == 0 && len(l.initial) == 0 {
		return
	}
	m, all := s.models[kind], selection{}
	if l.synced != 0 {
		s.sameVersions("the initial state", l.initial, all.list(m.at(l.synced)))
	}
	if len(l.events) == 0 {
		return
	}
	last := l.events[len(l.events)-1].Revision
	want := slices.DeleteFunc(all.watch(m.events, l.synced), func(ev event) bool { return ev.Revision > last })
	if what := different(l.events, want); what != "" && !strictPrefix(l.events, want) {
		s.Errorf("a slow watcher, synced at %d: %s", l.synced, what)
	}
}

// strictPrefix: told too late within its last transaction.
func strictPrefix(got, want []event) bool {
	return len(got) < len(want) && !got[len(got)-1].Last && different(got, want[:len(got)]) == ""
}

// sameVersions demands the same objects at the same versions.
func (x *trial) sameVersions(what string, got, want []*widget) {
	x.Helper()
	text := func(list []*widget) (s string) {
		list = slices.SortedFunc(slices.Values(list), func(a, b *widget) int { return cmp.Compare(store.KeyOf(a).String(), store.KeyOf(b).String()) })
		for _, w := range list {
			s += store.KeyOf(w).String() + "@" + w.ResourceVersion + " "
		}
		return s
	}
	if a, b := text(got), text(want); a != b {
		x.Errorf("%s:\ngot  %s\nwant %s", what, a, b)
	}
}

// concurrentInitial: the initial state of a watch that begins in the storm is
// that of the revision at which it says to be synced, and what follows connects.
func concurrentInitial(x *trial) {
	s, seed := newStorm(x), seed(x.T)
	watchers := x.workers()
	records := make([]*slowRecord, 12)
	for i := range records {
		records[i] = &slowRecord{kind: i % 2}
		r := rand.New(rand.NewPCG(seed, uint64(300+i)))
		watchers.Go(func() {
			s.wait(time.Duration(r.IntN(40)) * time.Millisecond)
			records[i].run(s, r)
		})
	}
	s.rage(seed, scaled(200))
	watchers.Wait()
	for _, rec := range records {
		if len(rec.legs) != 1 {
			x.Errorf("a watch was told to be too late, and nothing was compacted")
		}
		for _, l := range rec.legs {
			l.check(s, rec.kind)
		}
	}
}
