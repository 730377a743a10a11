// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/watch"
	"github.com/slipway-dev/slipway/watch/watchtest"
)

// line is what Map and Join make of notes in these tests.
type line struct {
	store.Meta
	Text string
}

func (l *line) DeepCopy() *line { return store.DeepCopy(l) }

func keepOdd(n *note) bool { return strings.HasSuffix(n.Spec.Text, "1") || n.Spec.Owner == "1" }

func toLine(n *note) *line {
	if n.Spec.Owner == "2" {
		return nil
	}
	return &line{Text: n.Spec.Owner + ":" + n.Spec.Text}
}

// neighbours are the notes that a note refers to: those of the owner's number, in
// both namespaces.
func neighbours(n *note) []store.Key {
	return []store.Key{store.NewKey("a", "n"+n.Spec.Owner), store.NewKey("b", "n"+n.Spec.Owner)}
}

func joined(n *note, others []*note) *line {
	l := &line{Text: n.Spec.Text}
	for _, o := range others {
		l.Text += "+" + o.Name + ":" + o.Spec.Text
	}
	return l
}

// TestCollectionsFollow: collections over sources that fail are what their
// functions make of the store once the sources behave; an informer over each of
// them, and its handler, follow.
func TestCollectionsFollow(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		st := open(t)
		notes := register(t, st)
		tasks := must[*store.Handle[*note]](t)(store.Register(st, store.Kind[*note]{Name: "Task", Indexes: noteKind.Indexes}))
		options := watchtest.Options{Seed: seed, Faults: everyKind}
		faulty := watchtest.New(notes, options)
		faultyTasks := watchtest.New(tasks, options)

		odd := watch.Filter(faulty, keepOdd)
		direct := watch.Filter(notes, keepOdd)
		lines := watch.Map(odd, toLine) // a collection of a collection
		join := watch.Join(faulty, faultyTasks, neighbours, joined)

		m := &mirror{t: t, state: map[store.Key]*note{}}
		oddInformer := watch.New(odd, watch.Options[*note]{PageSize: 2})
		oddInformer.Handle(m.handler())
		lineInformer, joinInformer := watch.New(lines, watch.Options[*line]{}), watch.New(join, watch.Options[*line]{})
		run(t, odd.Run)
		run(t, direct.Run)
		run(t, lines.Run)
		run(t, join.Run)
		run(t, oddInformer.Run)
		run(t, lineInformer.Run)
		run(t, joinInformer.Run)

		random := rand.New(rand.NewPCG(seed, 2))
		for n := range 300 {
			writeAtRandom(t, random, st, notes)
			writeAtRandom(t, random, st, tasks)
			if n%10 == 0 {
				time.Sleep(time.Duration(random.IntN(5)) * time.Second)
			}
		}
		faulty.Heal()
		faultyTasks.Heal()
		time.Sleep(10 * time.Minute)
		synctest.Wait()

		var wantOdd []*note
		var wantLines, wantJoin []string
		for n := range notes.List(t.Context()) {
			if keepOdd(n) {
				wantOdd = append(wantOdd, n)
				if l := toLine(n); l != nil {
					wantLines = append(wantLines, fmt.Sprintf("%s %s v%s", store.KeyOf(n), l.Text, n.ResourceVersion))
				}
			}
			var others []*note
			for _, key := range neighbours(n) {
				if o, err := tasks.Get(t.Context(), key); err == nil {
					others = append(others, o)
				}
			}
			wantJoin = append(wantJoin, fmt.Sprintf("%s %s", store.KeyOf(n), joined(n, others).Text))
		}
		want := stateOf(func(yield func(*note, error) bool) {
			for _, n := range wantOdd {
				yield(n, nil)
			}
		})
		expect(t, stateOf(oddInformer.List()), want)
		expect(t, m.String(), want)
		page := must[store.Page[*note]](t)(direct.Page(t.Context()))
		if !slices.Equal(page.Items, wantOdd) {
			t.Errorf("the filter of a handle has %v, want the store's own %v", page.Items, wantOdd)
		}
		var gotLines, gotJoin []string
		for l := range lineInformer.List() {
			gotLines = append(gotLines, fmt.Sprintf("%s %s v%s", store.KeyOf(l), l.Text, l.ResourceVersion))
		}
		for l := range joinInformer.List() {
			gotJoin = append(gotJoin, fmt.Sprintf("%s %s", store.KeyOf(l), l.Text))
		}
		expect(t, strings.Join(gotLines, "\n"), strings.Join(wantLines, "\n"))
		expect(t, strings.Join(gotJoin, "\n"), strings.Join(wantJoin, "\n"))
		for _, err := range []error{odd.Err(), lines.Err(), join.Err(), oddInformer.Err(), joinInformer.Err()} {
			if err != nil {
				t.Errorf("Err = %v", err)
			}
		}
	})
}

func TestCollectionWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(t)
		notes := register(t, st)
		ctx, ok := t.Context(), must[*note](t)
		c := watch.Filter(notes, func(n *note) bool { return n.Spec.Owner == "ann" })
		stop := run(t, c.Run)
		first := ok(notes.Create(ctx, newNote("x", "a", "1", "ann")))
		<-c.Synced()
		synctest.Wait()

		var log diary
		done := make(chan error, 1)
		go func() {
			for ev, err := range c.Watch(ctx, store.WatchOptions{Initial: true, Bookmarks: time.Minute, Namespace: "x"}) {
				if err != nil {
					done <- err
					return
				}
				name := ""
				if ev.Object != nil {
					name = " " + ev.Object.Name
				}
				log.add("%v%s %v", ev.Type, name, ev.Last)
			}
		}()
		synctest.Wait()
		expect(t, log.read(), "ADDED a false; SYNCED true")
		must[uint64](t)(st.Txn(ctx, func(tx store.Tx) error {
			in := notes.In(tx)
			_, e1 := in.Create(newNote("x", "b", "1", "ann"))
			_, e2 := in.Create(newNote("y", "c", "1", "ann"))
			_, e3 := in.Create(newNote("x", "d", "1", "bob"))
			_, e4 := in.Patch(store.KeyOf(first), func(n *note) error { n.Spec.Owner = "bob"; return nil })
			return errors.Join(e1, e2, e3, e4)
		}))
		synctest.Wait()
		expect(t, sorted(log.read()), "ADDED b false; DELETED a true")
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, log.read(), "BOOKMARK true")

		rev := must[uint64](t)(store.RevisionOf(first))
		for _, test := range []struct {
			opts store.WatchOptions
			want error
		}{
			{store.WatchOptions{From: 1 << 40}, store.ErrFuture},
			{store.WatchOptions{Fields: store.FieldSelector{{Name: "nonsense"}}}, store.ErrInvalid},
		} {
			for _, err := range c.Watch(ctx, test.opts) {
				if !errors.Is(err, test.want) {
					t.Errorf("Watch(%v): %v, want %v", test.opts, err, test.want)
				}
			}
		}
		for ev, err := range c.Watch(ctx, store.WatchOptions{From: rev}) { // resumes
			if err != nil || ev.Revision <= rev {
				t.Errorf("resumed with %v, %v", ev, err)
			}
			break
		}
		for range 9000 { // more than is remembered
			n := newNote("z", "", "1", "ann")
			n.GenerateName = "g-"
			ok(notes.Create(ctx, n))
			synctest.Wait()
		}
		for _, err := range c.Watch(ctx, store.WatchOptions{From: rev}) {
			if !errors.Is(err, store.ErrTooOld) {
				t.Errorf("a watch from long ago: %v, want ErrTooOld", err)
			}
		}
		stop()
		if err := <-done; !errors.Is(err, watch.ErrStopped) {
			t.Errorf("the watch ended with %v, want ErrStopped", err)
		}
		if _, err := c.Page(ctx); !errors.Is(err, watch.ErrStopped) {
			t.Errorf("Page after Run: %v, want ErrStopped", err)
		}
		if err := c.Run(ctx); !errors.Is(err, watch.ErrStarted) {
			t.Errorf("second Run: %v, want ErrStarted", err)
		}
	})
}

func TestCollectionFunctionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := register(t, open(t))
		ctx, ok := t.Context(), must[*note](t)
		c := watch.Map(notes, func(n *note) *line {
			switch n.Spec.Text {
			case "panic":
				panic("oh")
			case "rename":
				return &line{Meta: store.Meta{Namespace: n.Namespace, Name: "other"}}
			}
			return &line{Text: n.Spec.Text}
		})
		run(t, c.Run)
		a := ok(notes.Create(ctx, newNote("x", "a", "1", "ann")))
		set := func(text string) {
			ok(notes.Patch(ctx, store.KeyOf(a), func(n *note) error { n.Spec.Text = text; return nil }))
			synctest.Wait()
		}
		texts := func() (out string) {
			for _, l := range must[store.Page[*line]](t)(c.Page(ctx)).Items {
				out += l.Name + "=" + l.Text
			}
			return out
		}
		for _, bad := range []struct{ text, want string }{{"panic", "x/a: oh"}, {"rename", "made x/other of x/a"}} {
			set("good")
			expect(t, texts(), "a=good")
			set(bad.text)
			expect(t, texts(), "a=good")
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("Err = %v, want %q in it", err, bad.want)
			}
			set("better")
			expect(t, texts(), "a=better")
			if err := c.Err(); err != nil {
				t.Errorf("Err = %v, want nil", err)
			}
		}
		set("panic")
		ok(notes.Delete(ctx, store.KeyOf(a)))
		synctest.Wait()
		expect(t, texts(), "")
		if err := c.Err(); err != nil {
			t.Errorf("Err = %v after the object went", err)
		}
	})
}
