// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/deep"
)

func modelPromises() []promise {
	return []promise{{name: "RandomOperations", test: func(x *trial) {
		newWalk(x, seed(x.T)).run(scaled(walkSteps))
	}}}
}

const walkSteps = 15000

// seed returns the seed that the environment asks for, or a random one, and
// prints it.
func seed(t testing.TB) uint64 {
	n, err := strconv.ParseUint(os.Getenv("STORETEST_SEED"), 10, 64)
	if err != nil {
		n = rand.Uint64() >> 12
	}
	t.Logf("to repeat: STORETEST_SEED=%d", n)
	return n
}

// scaled returns how much to do of what n is the ordinary amount of.
func scaled(n int) int {
	if scale, err := strconv.Atoi(os.Getenv("STORETEST_SCALE")); err == nil && scale > 0 {
		n *= scale
	}
	if testing.Short() {
		n /= 4
	}
	return n
}

// Compare runs the same random operations against two engines and demands the
// same answers, the texts of errors included: it is for an engine that another
// one is the reference of. What is random in an answer, UIDs, does not count.
func Compare(t *testing.T, a, b func(t *testing.T) store.Store, opts Options) {
	n := seed(t)
	traces := [2][]string{}
	for i, open := range []func(*testing.T) store.Store{a, b} {
		t.Run(fmt.Sprintf("engine-%c", 'a'+i), func(t *testing.T) {
			try(t, open, opts, promise{test: func(x *trial) {
				w := newWalk(x, n)
				w.traced = true
				w.run(scaled(walkSteps))
				traces[i] = w.trace
			}})
		})
	}
	for i, line := range traces[0] {
		if i >= len(traces[1]) || traces[1][i] != line {
			before := strings.Join(traces[0][max(0, i-5):i], "\n")
			second := "(nothing)"
			if i < len(traces[1]) {
				second = traces[1][i]
			}
			t.Fatalf("the engines differ at line %d, after\n%s\n\nthe first:  %s\nthe second: %s", i, before, line, second)
		}
	}
	if len(traces[1]) > len(traces[0]) {
		t.Fatalf("the engines differ: the second goes on with %s", traces[1][len(traces[0])])
	}
}

// walk is a random walk through the operations of a store, beside its models.
type walk struct {
	*trial
	rand     *rand.Rand
	kinds    []handle
	models   []*model
	floor    uint64 // the oldest revision in the window
	joint    bool   // revisions compare over all kinds
	watchers []*follower
	traced   bool
	trace    []string
}

// follower is a watch that lags behind as the walk goes on.
type follower struct {
	*stream
	kind int
	sel  selection
	seen int    // facts of the kind that were looked at
	at   uint64 // everything up to this revision was delivered
}

func newWalk(x *trial, seed uint64) *walk {
	w := &walk{trial: x, rand: rand.New(rand.NewPCG(seed, 0)), kinds: []handle{x.widgets, x.gizmos, x.racks}}
	_, w.joint = x.st.(store.Snapshotter)
	for range w.kinds {
		w.models = append(w.models, newModel())
	}
	return w
}

// note adds a line to the trace.
func (w *walk) note(format string, args ...any) {
	if w.traced {
		w.trace = append(w.trace, uuids.ReplaceAllString(fmt.Sprintf(format, args...), "UID"))
	}
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// run takes n steps.
func (w *walk) run(n int) {
	steps := []struct {
		weight int
		step   func()
	}{
		{40, w.writeOne}, {15, w.writeMany}, {10, w.getOne}, {12, w.list}, {4, w.pages},
		{6, w.snapshot}, {6, w.watchPast}, {3, w.follow}, {10, w.catchUp}, {1, w.compact},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	for range n {
		pick := w.rand.IntN(total)
		for _, s := range steps {
			if pick -= s.weight; pick < 0 {
				s.step()
				break
			}
		}
		if w.Failed() {
			return
		}
	}
	for range 100 {
		w.catchUp()
	}
}

// pick returns one of the values.
func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

func (w *walk) key(kind int) store.Key {
	k := key(pick(w.rand, "a", "a", "b", "b-c", "ab"), "n"+strconv.Itoa(w.rand.IntN(8)))
	if w.kinds[kind] == w.racks {
		k.Namespace = ""
	}
	return k
}

// changes returns random changes of an object.
func (w *walk) changes() []change {
	r := w.rand
	var all []change
	for range r.IntN(3) {
		all = append(all, pick(r,
			node(pick(r, "", "n1", "n2")), tags(pick(r, []string(nil), []string{"t"}, []string{"t", "u"}, []string{"u", "u"})...),
			size(r.IntN(3)), phase(pick(r, "Up", "Down")), label("app", pick(r, "web", "db")), label("env", pick(r, "prod", "qa")),
			func(w *widget) { w.Labels = nil }, finalizers("f"), finalizers("f", "g"), func(w *widget) { w.Finalizers = nil },
		))
	}
	return all
}

// operation returns a random write.
func (w *walk) operation() *operation {
	r := w.rand
	kind := r.IntN(len(w.kinds))
	k := w.key(kind)
	cur := w.models[kind].now[k]
	o := &operation{kind: kind, op: pick(r, store.Create, store.Create, store.Update, store.Patch, store.Patch, store.Delete), key: k}
	if o.op != store.Create {
		switch r.IntN(8) {
		case 0:
			o.opts.ResourceVersion = store.FormatRevision(1 + r.Uint64N(w.models[kind].latest()+1))
		case 1:
			o.opts.UID = "another"
		case 2, 3:
			if cur != nil {
				o.opts.ResourceVersion, o.opts.UID = cur.ResourceVersion, cur.UID
			}
		}
	}
	switch o.op {
	case store.Create:
		o.object = object(k.Namespace, k.Name, w.changes()...)
	case store.Update:
		o.object = object(k.Namespace, k.Name, w.changes()...)
		if cur != nil && r.IntN(2) == 0 {
			o.object = cur.DeepCopy()
			_ = apply(w.changes()...)(o.object)
		}
	case store.Patch:
		o.changes, o.fails = w.changes(), r.IntN(10) == 0
	}
	o.text = fmt.Sprintf("%s %s %s", o.op, w.kinds[kind].Schema().Name, k)
	return o
}

// answered compares the store's answer with the prediction and completes that.
func (w *walk) answered(o *operation, p *outcome, got *widget, err error) {
	w.Helper()
	w.note("%s: %s, %v", o.text, brief(got), err)
	if p.err != nil || err != nil {
		if !errors.Is(err, p.err) || p.err == nil {
			w.Fatalf("%s: got error %v, want %v", o.text, err, p.err)
		}
		return
	}
	if p.changes {
		p.settle(got)
	}
	if got.DeletionTimestamp != nil != (p.next.DeletionTimestamp != nil) {
		w.Fatalf("%s: deletion timestamp %v, want %v", o.text, got.DeletionTimestamp, p.next.DeletionTimestamp)
	}
}

// brief is an object in a trace: what two engines must agree on.
func brief(w *widget) string {
	if w == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s@%s g%d %v %v %v %v %v", store.KeyOf(w), w.ResourceVersion, w.Generation, w.Labels,
		w.Finalizers, w.DeletionTimestamp != nil, w.Spec, w.Status)
}

func (w *walk) writeOne() {
	o := w.operation()
	m := w.models[o.kind]
	cur := m.now[o.key]
	p := o.predict(cur)
	obj, err := w.st.Write(w.ctx, w.kinds[o.kind].Schema(), o.write())
	got, _ := obj.(*widget)
	w.answered(o, &p, got, err)
	if p.err != nil {
		return
	}
	if p.changes {
		if p.gone && got.ResourceVersion == "" { // the engine can't tell that of a removal
			got = got.DeepCopy()
			got.ResourceVersion = store.FormatRevision(w.page(w.kinds[o.kind], store.ListOptions{Limit: 1}).Revision)
		}
		rev := w.revision(got)
		if rev <= m.latest() {
			w.Fatalf("%s: revision %d after %d", o.text, rev, m.latest())
		}
		p.next.ResourceVersion = got.ResourceVersion
		m.commit([]fact{{rev, cur, p.next, p.gone}})
	}
	w.same(o.text, got, p.next)
}

// draft is the model's side of a transaction: what became of each object.
type draft struct {
	kind    int
	base    *widget // before the transaction
	now     *widget
	removed *widget // the removal of base
}

func (w *walk) writeMany() {
	t, ok := w.st.(store.Transactor)
	if !ok {
		return
	}
	var ops []*operation
	for range 1 + w.rand.IntN(5) {
		ops = append(ops, w.operation())
	}
	fails := w.rand.IntN(8) == 0
	checks := make([]selection, len(w.kinds))
	for i := range checks {
		checks[i] = w.selection(i)
	}
	var drafts map[store.Key][]*draft // by key, then kind: in the order of first writes
	var order []*draft
	mark := len(w.trace)
	rev, err := t.Txn(w.ctx, func(tx store.Tx) error {
		drafts, order, w.trace = map[store.Key][]*draft{}, nil, w.trace[:mark]
		for _, o := range ops {
			order = w.writeInTxn(tx, o, drafts, order)
		}
		for kind := range w.kinds {
			w.listInTxn(tx, kind, &checks[kind], order)
		}
		if fails {
			return errMine
		}
		return nil
	})
	w.note("transaction: %d, %v", rev, err)
	if fails {
		w.fails("transaction", err, errMine)
		return
	}
	w.ok(err)
	w.commitDrafts(order, rev)
}

// writeInTxn carries one operation out in the transaction and in the drafts.
func (w *walk) writeInTxn(tx store.Tx, o *operation, drafts map[store.Key][]*draft, order []*draft) []*draft {
	var d *draft
	for _, other := range drafts[o.key] {
		if other.kind == o.kind {
			d = other
		}
	}
	fresh := d == nil
	if fresh {
		base := w.models[o.kind].now[o.key]
		d = &draft{kind: o.kind, base: base, now: base}
	} else if o.op == store.Delete {
		return order // what the event of a change and a removal at once shows is the engine's affair
	}
	p := o.predict(d.now)
	obj, err := tx.Write(w.kinds[o.kind].Schema(), o.write())
	got, _ := obj.(*widget)
	w.answered(o, &p, got, err)
	if p.err != nil || !p.changes {
		return order
	}
	if p.gone {
		if d.base != nil && d.removed == nil {
			d.removed = p.next
		}
		d.now = nil
	} else {
		d.now = p.next
	}
	if fresh {
		drafts[o.key] = append(drafts[o.key], d)
		order = append(order, d)
	}
	return order
}

// listInTxn compares what the transaction lists with the drafts.
func (w *walk) listInTxn(tx store.Tx, kind int, sel *selection, order []*draft) {
	objects := map[store.Key]*widget{}
	maps.Copy(objects, w.models[kind].now)
	for _, d := range order {
		if d.kind != kind {
			continue
		}
		if d.base != nil {
			delete(objects, store.KeyOf(d.base))
		}
		if d.now != nil {
			objects[store.KeyOf(d.now)] = d.now
		}
	}
	for _, o := range sel.list(objects) {
		got, err := w.kinds[kind].In(tx).Get(store.KeyOf(o))
		w.ok(err)
		w.same("get in a transaction", got, o)
	}
	if w.opts.NoListsInTxn {
		return
	}
	p, err := w.kinds[kind].In(tx).Page(w.listOptions(sel))
	w.ok(err)
	w.sameList("list in a transaction", p.Items, sel.list(objects))
}

// commitDrafts makes the drafts facts.
func (w *walk) commitDrafts(order []*draft, rev uint64) {
	facts := make([][]fact, len(w.kinds))
	for _, d := range order {
		add := func(old, next *widget, gone bool) {
			next.ResourceVersion = store.FormatRevision(rev)
			facts[d.kind] = append(facts[d.kind], fact{rev, old, next, gone})
		}
		switch {
		case d.now == nil && d.removed == nil: // made and removed in it
		case d.now == nil:
			add(d.base, d.removed, true)
		case d.removed != nil:
			add(d.base, d.removed, true)
			add(nil, d.now, false)
		default:
			add(d.base, d.now, false)
		}
	}
	for kind, m := range w.models {
		if len(facts[kind]) > 0 && rev <= m.latest() {
			w.Fatalf("a transaction of revision %d after %d", rev, m.latest())
		}
		m.commit(facts[kind])
	}
}

// selection returns a random one.
func (w *walk) selection(kind int) selection {
	r := w.rand
	var s selection
	if r.IntN(3) == 0 && w.kinds[kind] != w.racks {
		s.namespace = pick(r, "a", "b", "ab", "none")
	}
	switch r.IntN(6) {
	case 0:
		s.labels, s.labelled = "app=web", func(w *widget) bool { return w.Labels["app"] == "web" }
	case 1:
		s.labels, s.labelled = "env notin (prod)", func(w *widget) bool { return w.Labels["env"] != "prod" }
	case 2:
		s.labels, s.labelled = "app,env in (qa,prod)", func(w *widget) bool { return w.Labels["app"] != "" && w.Labels["env"] != "" }
	}
	tagged := func(w *widget) bool {
		return slices.Contains(w.Spec.Tags, "u")
	}
	switch r.IntN(8) {
	case 0:
		s.fields, s.fielded = "spec.node=n1", func(w *widget) bool { return w.Spec.Node == "n1" }
	case 1:
		s.fields, s.fielded = "spec.node!=n1", func(w *widget) bool { return w.Spec.Node != "n1" }
	case 2:
		s.fields, s.fielded = "spec.tags=u", tagged
	case 3:
		s.fields, s.fielded = "spec.tags!=u,spec.node=n2", func(w *widget) bool { return !tagged(w) && w.Spec.Node == "n2" }
	case 4:
		s.fields, s.fielded = "metadata.name=n3", func(w *widget) bool { return w.Name == "n3" }
	}
	return s
}

func (w *walk) listOptions(s *selection) store.ListOptions {
	w.Helper()
	fields, err := store.ParseFieldSelector(s.fields)
	w.ok(err)
	return store.ListOptions{Namespace: s.namespace, Labels: w.selector(s.labels), Fields: fields}
}

func (w *walk) watchOptions(s *selection) store.WatchOptions {
	w.Helper()
	l := w.listOptions(s)
	return store.WatchOptions{Namespace: l.Namespace, Labels: l.Labels, Fields: l.Fields, Name: s.name}
}

// sameList demands the same objects in the same order.
func (w *walk) sameList(what string, got, want []*widget) {
	w.Helper()
	for i := range max(len(got), len(want)) {
		var a, b *widget
		if i < len(got) {
			a = got[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a == nil || b == nil || deep.Diff(a, b) != "" {
			w.Fatalf("%s: object %d of %d (want %d): got %s, want %s", what, i, len(got), len(want), brief(a), brief(b))
		}
	}
}

// past returns a revision to read at and the error that it should give; 0 is
// the latest.
func (w *walk) past(m *model) (uint64, error) {
	if w.opts.NoExact || m.latest() == 0 || w.rand.IntN(2) == 0 {
		return 0, nil
	}
	rev := m.states[1+w.rand.IntN(len(m.states)-1)].revision
	if w.joint { // from just before the window to just after the latest
		first := max(w.floor, 4) - 3
		rev = first + w.rand.Uint64N(w.latest()+3-first)
	}
	switch {
	case w.joint && rev > w.latest():
		return rev, store.ErrFuture
	case rev < w.floor:
		return rev, store.ErrTooOld
	}
	return rev, nil
}

func (w *walk) getOne() {
	kind := w.rand.IntN(len(w.kinds))
	m, k := w.models[kind], w.key(kind)
	rev, want := w.past(m)
	state := m.now
	if rev != 0 && want == nil {
		state = m.at(rev)
		k = m.near(rev, k)
	}
	if want == nil && state[k] == nil {
		want = store.ErrNotFound
	}
	got, err := w.kinds[kind].Get(w.ctx, k, store.ReadOptions{Exact: rev})
	w.note("get %s at %d: %s, %v", k, rev, brief(got), err)
	if want != nil {
		w.fails(fmt.Sprintf("get %s at %d (window from %d)", k, rev, w.floor), err, want)
		return
	}
	w.ok(err)
	w.same(fmt.Sprintf("get at %d", rev), got, state[k])
}

func (w *walk) list() {
	kind := w.rand.IntN(len(w.kinds))
	m, sel := w.models[kind], w.selection(kind)
	opts := w.listOptions(&sel)
	rev, want := w.past(m)
	opts.Exact = rev
	p, err := w.kinds[kind].Page(w.ctx, opts)
	w.note("list %+v at %d: %d, %v", sel.fields, rev, len(p.Items), err)
	if want != nil {
		w.fails("list", err, want)
		return
	}
	w.ok(err)
	state := m.now
	if rev != 0 {
		state = m.at(rev)
	}
	w.sameList(fmt.Sprintf("list %q %q %q at %d", sel.namespace, sel.labels, sel.fields, rev), p.Items, sel.list(state))
	if rev != 0 && p.Revision != rev || p.Revision < m.latest() && rev == 0 {
		w.Fatalf("list at %d: says revision %d, and the kind is at %d", rev, p.Revision, m.latest())
	}
}

// pages lists page by page, with writes in between.
func (w *walk) pages() {
	kind := w.rand.IntN(len(w.kinds))
	m, sel := w.models[kind], w.selection(kind)
	opts := w.listOptions(&sel)
	want := sel.list(m.now)
	opts.Limit = 1 + w.rand.IntN(5)
	var got []*widget
	for {
		p, err := w.kinds[kind].Page(w.ctx, opts)
		w.ok(err)
		got = append(got, p.Items...)
		w.note("page of %d, %d remain, more: %v", len(p.Items), p.Remaining, p.Continue != "")
		if left := len(want) - len(got); p.Remaining != -1 && p.Remaining != left {
			w.Fatalf("the page says that %d objects remain, want %d", p.Remaining, left)
		}
		if opts.Continue = p.Continue; p.Continue == "" {
			break
		}
		w.writeOne()
	}
	w.sameList("pages", got, want)
}

// snapshot reads every kind at one revision.
func (w *walk) snapshot() {
	s, ok := w.st.(store.Snapshotter)
	if !ok {
		return
	}
	rev, want := w.past(w.models[0])
	snap, err := s.Snapshot(w.ctx, store.ReadOptions{Exact: rev})
	if want != nil {
		w.fails("snapshot", err, want)
		return
	}
	w.ok(err)
	for range w.rand.IntN(3) {
		w.writeOne()
	}
	for kind, m := range w.models {
		sel := w.selection(kind)
		p, err := w.kinds[kind].At(snap).Page(w.listOptions(&sel))
		w.ok(err)
		w.sameList(fmt.Sprintf("snapshot of %d", snap.Revision()), p.Items, sel.list(m.at(snap.Revision())))
	}
}

// watchPast watches from a past revision up to the present, and demands exactly
// what the model says: bookmarks tell where the present is.
func (w *walk) watchPast() {
	kind := w.rand.IntN(len(w.kinds))
	m, sel := w.models[kind], w.selection(kind)
	if w.rand.IntN(6) == 0 && !strings.HasPrefix(sel.fields, store.FieldName) {
		sel.name = "n" + strconv.Itoa(w.rand.IntN(8))
	}
	from, want := w.past(m)
	opts := w.watchOptions(&sel)
	opts.From, opts.Bookmarks = from, time.Nanosecond
	opts.Initial = from == 0
	text := fmt.Sprintf("watch of %s from %d", w.kinds[kind].Schema().Name, from)
	rest := sel.watch(m.events, from)
	if opts.Initial {
		rest = nil
		for _, o := range sel.list(m.now) {
			rev := w.revision(o)
			rest = append(rest, event{Type: store.Added, Object: o, Revision: rev})
		}
		rest = append(rest, event{Type: store.Synced, Revision: m.latest(), Last: true})
	}
	for ev, err := range w.kinds[kind].Watch(w.ctx, opts) {
		if want != nil {
			w.fails(text, err, want)
			return
		}
		if err != nil {
			w.Fatalf("%s: %v", text, err)
		}
		if ev.Type == store.Bookmark {
			if ev.Revision >= m.latest() {
				break
			}
			continue
		}
		if len(rest) == 0 {
			w.Fatalf("%s: got %q of %d, want nothing more", text, eventText(ev), ev.Revision)
		}
		w.sameEvent(text, ev, rest[0])
		rest = rest[1:]
	}
	if len(rest) > 0 {
		w.Fatalf("%s: the present is reached, and %q of %d has not come", text, eventText(rest[0]), rest[0].Revision)
	}
}

func (w *walk) sameEvent(text string, got, want event) {
	w.Helper()
	if got.Type == store.Synced && want.Type == store.Synced && got.Revision >= want.Revision {
		return
	}
	if eventText(got) != eventText(want) || got.Revision != want.Revision {
		w.Fatalf("%s: got %q of %d, want %q of %d", text, eventText(got), got.Revision, eventText(want), want.Revision)
	}
	w.same(text, got.Object, want.Object)
	if got.Old != nil { // nil where a remote engine does not know it
		w.same(text+": old", got.Old, want.Old)
	}
	w.note("%s: %d %s %s", text, got.Revision, eventText(got), brief(got.Object))
}

// follow begins a watch that catchUp reads from now and then.
func (w *walk) follow() {
	if len(w.watchers) >= 10 {
		return
	}
	kind := w.rand.IntN(len(w.kinds))
	m := w.models[kind]
	f := &follower{kind: kind, sel: w.selection(kind), seen: len(m.events), at: m.latest()}
	if f.at == 0 || f.at < w.floor {
		return
	}
	opts := w.watchOptions(&f.sel)
	opts.From = f.at
	f.stream = w.watch(w.kinds[kind], opts)
	w.watchers = append(w.watchers, f)
}

// catchUp reads what one follower has missed. If the window has passed it, it
// may be told so; it must not go on with a gap.
func (w *walk) catchUp() {
	if len(w.watchers) == 0 {
		return
	}
	i := w.rand.IntN(len(w.watchers))
	f := w.watchers[i]
	m := w.models[f.kind]
	for _, want := range f.sel.watch(m.events[f.seen:], 0) {
		ev, err, ok := f.pull()
		if errors.Is(err, store.ErrTooOld) && f.at < w.floor {
			w.note("a follower is too old at %d", f.at)
			w.watchers = append(w.watchers[:i], w.watchers[i+1:]...)
			return
		}
		if err != nil || !ok {
			w.Fatalf("a follower at %d, window from %d: %v", f.at, w.floor, err)
		}
		w.sameEvent("a follower", ev, want)
		if ev.Last {
			f.at = ev.Revision
		}
	}
	f.seen = len(m.events)
}

func (w *walk) compact() {
	c, ok := w.st.(store.Compactor)
	if !ok || !w.joint {
		return
	}
	rev := w.latest()
	if lag := uint64(w.rand.IntN(300)); lag < rev {
		rev -= lag
	}
	w.ok(c.Compact(w.ctx, rev))
	w.floor = max(w.floor, rev)
	oldest, latest, err := c.Window(w.ctx)
	w.note("compact %d: %d to %d, %v", rev, oldest, latest, err)
	if err != nil || oldest != w.floor || latest != w.latest() {
		w.Fatalf("window %d to %d (%v), want %d to %d", oldest, latest, err, w.floor, w.latest())
	}
}
