// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

const testShards = 16

// shardReplica is a sharder that runs.
type shardReplica struct {
	*reconcile.Sharder
	link   *link
	cancel context.CancelFunc
	result chan error
}

func newSharder(t *testing.T, st store.Store, identity string, change ...func(*reconcile.SharderOptions)) *reconcile.Sharder {
	t.Helper()
	opts := reconcile.SharderOptions{Namespace: "default", Name: "shards", Identity: identity, Shards: testShards}
	for _, f := range change {
		f(&opts)
	}
	s, err := reconcile.NewSharder(st, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// share runs a sharder over a link of its own, whose fences do not end by themselves.
func share(t *testing.T, st store.Engine, identity string, change ...func(*reconcile.SharderOptions)) *shardReplica {
	t.Helper()
	l := newLink(st, 1)
	l.ttl = 24 * time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r := &shardReplica{newSharder(t, l, identity, change...), l, cancel, make(chan error, 1)}
	go func() { r.result <- r.Run(ctx) }()
	return r
}

func (r *shardReplica) stop() error {
	r.cancel()
	return <-r.result
}

// keyIn returns a key in the shard.
func keyIn(shard int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("key-", i); reconcile.ShardOf(key, testShards) == shard {
			return key
		}
	}
}

// begin begins work in the shard, which the replica owns.
func (r *shardReplica) begin(t *testing.T, shard int) reconcile.Run {
	t.Helper()
	run, ok := r.Begin(context.Background(), keyIn(shard))
	if !ok {
		t.Fatalf("shard %d: Begin says no; the shards are %v", shard, r.Shards())
	}
	return run
}

// leaseNames returns the names of all Leases but the table, and which are held.
func leaseNames(t *testing.T, leases *store.Handle[*reconcile.Lease]) (held, sealed []string) {
	t.Helper()
	for l, err := range leases.List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case l.Name == "shards":
		case *l.Spec.HolderIdentity == "":
			sealed = append(sealed, l.Name)
		default:
			held = append(held, *l.Spec.HolderIdentity)
		}
	}
	slices.Sort(held)
	return held, sealed
}

// partition fails the test unless each shard has exactly one owner.
func partition(t *testing.T, replicas ...*shardReplica) {
	t.Helper()
	var all []int
	for _, r := range replicas {
		all = append(all, r.Shards()...)
	}
	slices.Sort(all)
	for shard := range testShards {
		if len(all) != testShards || all[shard] != shard {
			t.Fatalf("shards owned: %v, want each once", all)
		}
	}
}

func TestSharderHandsOver(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a := share(t, st, "a")
		time.Sleep(time.Second)
		partition(t, a)
		runs := map[int]reconcile.Run{}
		for shard := range testShards {
			runs[shard] = a.begin(t, shard)
		}
		b := share(t, st, "b")
		time.Sleep(time.Hour)
		if n := len(b.Shards()); n != 0 {
			t.Fatalf("b has %d shards while a works in all of them", n)
		}
		kept := a.Shards()
		if len(kept) < 4 || len(kept) > 12 {
			t.Errorf("a keeps %d of %d shards", len(kept), testShards)
		}
		for shard, run := range runs {
			if run.Context.Err() != nil {
				t.Fatalf("the work in shard %d was cut short", shard)
			}
			second, ok := a.Begin(t.Context(), keyIn(shard))
			if ok != slices.Contains(kept, shard) {
				t.Errorf("shard %d: Begin says %v", shard, ok)
			}
			if ok {
				second.End()
			}
			if !slices.Contains(kept, shard) {
				run.End()
				run.End() // a second time does nothing
				time.Sleep(time.Second)
				next := b.begin(t, shard)
				if next.Epoch <= run.Epoch || next.Fence == run.Fence {
					t.Errorf("shard %d: epoch %d and fence %d after %d and %d", shard, next.Epoch, next.Fence, run.Epoch, run.Fence)
				}
				next.End()
			}
		}
		partition(t, a, b)

		// On shutdown, what is idle goes at once, and the rest when it is done.
		last := kept[0]
		stopped := make(chan error)
		go func() { stopped <- a.stop() }()
		time.Sleep(time.Second)
		if n := len(b.Shards()); n != testShards-len(kept) {
			t.Errorf("b has %d shards, want no more: a works in all of its own", n)
		}
		for _, shard := range kept[1:] {
			runs[shard].End()
		}
		time.Sleep(time.Second)
		if got := b.Shards(); len(got) != testShards-1 || slices.Contains(got, last) {
			t.Errorf("b has %v, want all but %d", got, last)
		}
		if runs[last].Context.Err() != nil {
			t.Error("the last work was cut short")
		}
		time.Sleep(time.Hour)
		runs[last].End()
		noError(t, <-stopped)
		time.Sleep(time.Second)
		partition(t, b)
		if held, sealed := leaseNames(t, leases); !slices.Equal(held, []string{"b"}) || len(sealed) > 0 {
			t.Errorf("Leases of %v, and of the ended %v", held, sealed)
		}
		noError(t, b.stop())
	})
}

// When a replica comes or goes, work in shards that stay where they are goes on,
// and nothing moves between the others.
func TestSharderMovesLittle(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		replicas := map[string]*shardReplica{}
		owners := func() map[int]string {
			all := map[int]string{}
			for name, r := range replicas {
				for _, shard := range r.Shards() {
					all[shard] = fmt.Sprintf("%s in epoch %d", name, epochOf(t, r, shard))
				}
			}
			if len(all) != testShards {
				t.Fatalf("owners: %v", all)
			}
			return all
		}
		for _, name := range []string{"a", "b", "c"} {
			replicas[name] = share(t, st, name)
		}
		time.Sleep(time.Minute)
		before := owners()
		replicas["d"] = share(t, st, "d")
		time.Sleep(time.Minute)
		moved := 0
		for shard, owner := range owners() {
			if before[shard] == owner {
				continue
			}
			if moved++; !strings.HasPrefix(owner, "d ") {
				t.Errorf("shard %d went from %s to %s when d came", shard, before[shard], owner)
			}
		}
		if moved == 0 || moved > testShards/2 {
			t.Errorf("%d of %d shards moved when a fourth replica came", moved, testShards)
		}
		before = owners()
		noError(t, replicas["d"].stop())
		delete(replicas, "d")
		time.Sleep(time.Minute)
		for shard, owner := range owners() {
			if before[shard] != owner && !strings.HasPrefix(before[shard], "d ") {
				t.Errorf("shard %d went from %s to %s when d went", shard, before[shard], owner)
			}
		}
		for _, r := range replicas {
			noError(t, r.stop())
		}
	})
}

func epochOf(t *testing.T, r *shardReplica, shard int) uint64 {
	run := r.begin(t, shard)
	defer run.End()
	return run.Epoch
}

// A replica that stands still, or is cut off, loses its shards, and can write no more.
func TestSharderDeposes(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(l *link)
	}{
		{"paused", func(l *link) { l.pause() }},
		{"hung", func(l *link) { l.turn(linkHung) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
				a, b := share(t, st, "a"), share(t, st, "b")
				time.Sleep(time.Minute)
				partition(t, a, b)
				before := a.Shards()
				run := a.begin(t, before[0])
				cutAt, err := st.Revision(t.Context())
				noError(t, err)
				c.cut(a.link)
				began := time.Now()
				<-run.Context.Done()
				if took := time.Since(began); took < 8*time.Second || took > 10*time.Second {
					t.Errorf("a stopped after %v, want 10s after its last renewal", took)
				}
				if why := context.Cause(run.Context); !errors.Is(why, reconcile.ErrLeadershipLost) {
					t.Errorf("cause: %v", why)
				}
				if len(a.Shards()) != 0 || len(b.Shards()) == testShards {
					t.Errorf("a has %v, b has %v", a.Shards(), b.Shards())
				}
				for len(b.Shards()) < testShards {
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(began); took < 13*time.Second || took > 20*time.Second {
					t.Errorf("b took over after %v, want 15s after it saw a's last renewal", took)
				}
				ended(t, st, run.Fence)
				sealed := false
				for ev, err := range leases.Watch(t.Context(), store.WatchOptions{From: cutAt}) {
					if err != nil || ev.Object.Name == "shards" {
						noError(t, err)
						break
					}
					sealed = sealed || *ev.Object.Spec.HolderIdentity == ""
				}
				if !sealed {
					t.Error("a's shards were taken before its Lease was: it could have renewed that meanwhile")
				}
				time.Sleep(5 * time.Second)
				if held, sealed := leaseNames(t, leases); !slices.Equal(held, []string{"b"}) || len(sealed) > 0 {
					t.Errorf("Leases of %v, and of the ended %v: want a's to be gone, or it could renew it", held, sealed)
				}

				// Its work is not over: it does not begin anew before that.
				a.link.mend()
				time.Sleep(time.Hour)
				if held, _ := leaseNames(t, leases); !slices.Equal(held, []string{"b"}) {
					t.Errorf("Leases of %v", held)
				}
				run.End()
				time.Sleep(3 * time.Second)
				if after := a.Shards(); !slices.Equal(after, before) {
					t.Errorf("a has %v now, and had %v", after, before)
				}
				partition(t, a, b)
				noError(t, a.stop())
				noError(t, b.stop())
			})
		})
	}
}

// Each listener is told of what comes, and of what was there before it, once.
func TestSharderOnGain(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		listen := func(s *reconcile.Sharder) (gained func() []int, stop func()) {
			var seen []int
			stop = s.OnGain(func(mine func(string) bool) {
				for shard := range testShards {
					if mine(keyIn(shard)) {
						seen = append(seen, shard)
					}
				}
			})
			return func() []int { synctest.Wait(); slices.Sort(seen); return seen }, stop
		}
		a := share(t, st, "a")
		early, stopEarly := listen(a.Sharder)
		time.Sleep(time.Minute)
		late, stopLate := listen(a.Sharder)
		if !slices.Equal(early(), a.Shards()) || !slices.Equal(late(), a.Shards()) || len(early()) != testShards {
			t.Errorf("told of %v and %v, and owned are %v", early(), late(), a.Shards())
		}
		b := share(t, st, "b")
		gained, stopGained := listen(b.Sharder)
		time.Sleep(time.Minute)
		if !slices.Equal(gained(), b.Shards()) || len(gained()) == 0 {
			t.Errorf("told of %v, and owned are %v", gained(), b.Shards())
		}
		stopLate()
		kept := len(a.Shards())
		noError(t, b.stop())
		time.Sleep(time.Minute)
		if n := len(early()); n != testShards+testShards-kept {
			t.Errorf("told of %d shards, want %d at first and %d that came back", n, testShards, testShards-kept)
		}
		if n := len(late()); n != testShards {
			t.Errorf("told of %d shards after stop, want %d", n, testShards)
		}
		stopEarly()
		stopGained()
		noError(t, a.stop())
	})
}

// Somebody deletes the Lease of a replica that does not hear of it.
func TestSharderMemberDeleted(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a, b := share(t, st, "a"), share(t, st, "b")
		time.Sleep(time.Minute)
		run := a.begin(t, a.Shards()[0])
		a.link.turn(linkHung)
		deleted := time.Now()
		for l, err := range leases.List(t.Context()) {
			if err == nil && l.Name != "shards" && *l.Spec.HolderIdentity == "a" {
				_, err = leases.Delete(t.Context(), store.KeyOf(l))
			}
			noError(t, err)
		}
		for len(b.Shards()) < testShards {
			if run.Context.Err() == nil && len(b.Shards())+len(a.Shards()) > testShards {
				t.Fatal("two replicas own a shard")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(deleted); took < 15*time.Second || took > 19*time.Second {
			t.Errorf("b took over after %v, want as long as a's lease would have lasted", took)
		}
		ended(t, st, run.Fence)
		run.End()
		a.link.mend()
		time.Sleep(time.Minute)
		partition(t, a, b)

		// One that hears of it begins anew at once.
		run = a.begin(t, a.Shards()[0])
		for l, err := range leases.List(t.Context()) {
			if err == nil && l.Name != "shards" && *l.Spec.HolderIdentity == "a" {
				_, err = leases.Delete(t.Context(), store.KeyOf(l))
			}
			noError(t, err)
		}
		time.Sleep(time.Second)
		if run.Context.Err() == nil {
			t.Error("a works on without a Lease")
		}
		run.End()
		time.Sleep(time.Minute)
		partition(t, a, b)
		noError(t, a.stop())
		noError(t, b.stop())
	})
}

// Somebody deletes the table: all stop, and begin again when nobody can believe
// any more that it owns anything; one that has only just been started waits, too.
func TestSharderTableDeleted(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a, b := share(t, st, "a"), share(t, st, "b")
		time.Sleep(time.Minute)
		run, other := a.begin(t, a.Shards()[0]), b.begin(t, b.Shards()[0])
		a.link.turn(linkHung)
		if _, err := leases.Delete(t.Context(), store.NewKey("default", "shards")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if other.Context.Err() == nil {
			t.Error("b works on without a table")
		}
		other.End()
		c := share(t, st, "c")
		for len(b.Shards())+len(c.Shards()) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if run.Context.Err() == nil {
			t.Error("others work while a believes that it may")
		}
		run.End()
		a.link.mend()
		time.Sleep(time.Minute)
		partition(t, a, b, c)
		for _, r := range []*shardReplica{a, b, c} {
			noError(t, r.stop())
		}
	})
}

// A write that gives shards back fails, and arrives later all the same.
func TestSharderLateRelease(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		a := share(t, st, "a")
		time.Sleep(time.Minute)
		var delayed atomic.Int32
		a.link.set(func() {
			a.link.delay = func(w store.Write) time.Duration {
				if l, ok := w.Object.(*reconcile.Lease); ok && l.Name == "shards" && delayed.Add(1) == 1 {
					return 2500 * time.Millisecond
				}
				return 0
			}
		})
		b := share(t, st, "b")
		for delayed.Load() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		b.link.turn(linkDown)
		noError(t, b.stop()) // it takes nothing, and a wants everything back once b's lease has run out
		time.Sleep(time.Minute)
		run := a.begin(t, 0)
		time.Sleep(time.Minute)
		if run.Context.Err() != nil {
			t.Errorf("a has lost its shards: %v", context.Cause(run.Context))
		}
		run.End()
		partition(t, a)
		noError(t, a.stop())
		a.link.late.Wait()
	})
}

// The same, and the replica that the shards were meant for goes at once: the
// write is still under way when they are wanted back.
func TestSharderLateReleaseAndWantedBack(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a := share(t, st, "a")
		time.Sleep(time.Minute)
		var delayed atomic.Int32
		a.link.set(func() {
			a.link.delay = func(w store.Write) time.Duration {
				if l, ok := w.Object.(*reconcile.Lease); ok && l.Name == "shards" && delayed.Add(1) == 1 {
					return 30 * time.Second
				}
				return 0
			}
		})
		guest, err := leases.Create(t.Context(), &reconcile.Lease{
			Meta: store.Meta{Namespace: "default", Name: "shards-guest", Labels: map[string]string{"slipway.dev/sharder": "shards"}},
			Spec: reconcile.LeaseSpec{HolderIdentity: new("b"), LeaseDurationSeconds: new(int32(15))},
		})
		if err != nil {
			t.Fatal(err)
		}
		for delayed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		if _, err := leases.Delete(t.Context(), store.KeyOf(guest)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		partition(t, a)
		var runs []reconcile.Run
		for shard := range testShards {
			runs = append(runs, a.begin(t, shard))
		}
		time.Sleep(time.Minute)
		for shard, run := range runs {
			if run.Context.Err() != nil {
				t.Errorf("shard %d was given away while it is worked on: %v", shard, context.Cause(run.Context))
			}
			run.End()
		}
		noError(t, a.stop())
		a.link.late.Wait()
	})
}

// Of two replicas with one identity, the first works.
func TestShardersOfOneIdentity(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		var log logText
		one := share(t, st, "a")
		time.Sleep(time.Minute)
		for range 5 { // by age, not by chance
			two := share(t, st, "a", func(o *reconcile.SharderOptions) { o.Logger = log.logger() })
			time.Sleep(time.Minute)
			if len(one.Shards()) != testShards || len(two.Shards()) != 0 {
				t.Errorf("the first has %v, the second %v", one.Shards(), two.Shards())
			}
			noError(t, two.stop())
		}
		if n := log.count("another replica has the same identity"); n != 5 {
			t.Errorf("%d warnings, want 5:\n%s", n, &log)
		}
		two := share(t, st, "a")
		time.Sleep(time.Minute)
		noError(t, one.stop())
		time.Sleep(time.Second)
		partition(t, two)
		noError(t, two.stop())
	})
}

// Somebody gives shards to another by hand: the owner stops.
func TestSharderTableEdited(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a := share(t, st, "a")
		time.Sleep(time.Minute)
		run := a.begin(t, 3)
		free := `{"sessions":[],"owners":[` + strings.TrimSuffix(strings.Repeat("-1,", testShards), ",") + "]}"
		if _, err := leases.Patch(t.Context(), store.NewKey("default", "shards"), func(l *reconcile.Lease) error {
			l.Annotations["slipway.dev/shards"] = free
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if why := context.Cause(run.Context); !errors.Is(why, reconcile.ErrLeadershipLost) {
			t.Errorf("cause: %v", why)
		}
		run.End()
		time.Sleep(time.Minute)
		partition(t, a)
		noError(t, a.stop())
	})
}

func TestSharderBadTable(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		label       string
		want        string // part of the error; "": it works
	}{
		"another's lease": {nil, "", "it has no annotation"},
		"no JSON":         {map[string]string{"slipway.dev/shards": "{"}, "shards", "unexpected end"},
		"no owners":       {map[string]string{"slipway.dev/shards": "{}"}, "shards", "0 owners"},
		"index":           {map[string]string{"slipway.dev/shards": `{"owners":[0]}`}, "shards", "owners[0] is 0: want -1 to -1"},
		"session":         {map[string]string{"slipway.dev/shards": `{"sessions":[{"id":"x"}],"owners":[0]}`}, "shards", "sessions[0]"},
		"twice":           {map[string]string{"slipway.dev/shards": `{"sessions":[{"id":"x","seconds":1},{"id":"x","seconds":1}],"owners":[0]}`}, "shards", "sessions[1]"},
		"other number":    {map[string]string{"slipway.dev/shards": `{"sessions":[{"id":"x","seconds":15}],"owners":[0,-1]}`}, "shards", "has 2 shards, and Shards is 16"},
		"label":           {map[string]string{"slipway.dev/shards": `{"sessions":[],"owners":[-1]}`}, "", "lost its label"},
		"other and free":  {map[string]string{"slipway.dev/shards": `{"sessions":[],"owners":[-1]}`}, "shards", ""},
	} {
		t.Run(name, func(t *testing.T) {
			withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
				l := &reconcile.Lease{Meta: store.Meta{Namespace: "default", Name: "shards", Annotations: c.annotations}}
				if c.label != "" {
					l.Labels = map[string]string{"slipway.dev/sharder": c.label}
				}
				if _, err := leases.Create(t.Context(), l); err != nil {
					t.Fatal(err)
				}
				a := share(t, st, "a")
				time.Sleep(time.Minute)
				if c.want == "" {
					partition(t, a)
					noError(t, a.stop())
				} else if err := a.stop(); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Run: %v, want an error with %q", err, c.want)
				}
			})
		})
	}
}

// A table that is damaged while it is in use ends Run: nobody may guess.
func TestSharderTableDamaged(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a := share(t, st, "a")
		time.Sleep(time.Minute)
		run := a.begin(t, 3)
		if _, err := leases.Patch(t.Context(), store.NewKey("default", "shards"), func(l *reconcile.Lease) error {
			l.Annotations["slipway.dev/shards"] = "oops"
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		<-run.Context.Done()
		run.End()
		if err := <-a.result; !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Run: %v", err)
		}
	})
}

// Each answer to the first calls is lost.
func TestSharderUnknownOutcome(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		a := share(t, st, "a")
		a.link.set(func() { a.link.lossy = 1 })
		time.Sleep(time.Minute)
		if len(a.Shards()) != 0 {
			t.Errorf("a works without having had an answer")
		}
		a.link.mend()
		time.Sleep(20 * time.Second)
		partition(t, a)
		if held, sealed := leaseNames(t, leases); len(held) != 1 || len(sealed) > 0 {
			t.Errorf("Leases of %v, and of the ended %v", held, sealed)
		}
		a.link.set(func() { a.link.lossy = 0.3 })
		time.Sleep(time.Hour)
		a.link.mend()
		time.Sleep(time.Minute)
		partition(t, a)
		noError(t, a.stop())
	})
}

// One that is asked to stop while it joins leaves nothing behind.
func TestSharderStopsWhileJoining(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, leases *store.Handle[*reconcile.Lease]) {
		for stopAt := range 40 {
			a := share(t, st, "a")
			a.link.set(func() { a.link.slow = 500 * time.Millisecond })
			time.Sleep(time.Duration(stopAt) * 50 * time.Millisecond)
			noError(t, a.stop())
			if held, sealed := leaseNames(t, leases); len(held)+len(sealed) > 0 {
				t.Errorf("asked to stop after %v: Leases of %v, and of the ended %v", time.Duration(stopAt)*50*time.Millisecond, held, sealed)
			}
		}
	})
}

// What a quiet hour costs the store: the renewals, and nothing else.
func TestSharderWrites(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		var replicas []*shardReplica
		for _, id := range []string{"a", "b", "c", "d"} {
			replicas = append(replicas, share(t, st, id))
		}
		time.Sleep(time.Minute)
		partition(t, replicas...)
		before, err := st.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		after, err := st.Revision(t.Context())
		if writes := after - before; err != nil || writes > 4*1800+4 {
			t.Errorf("%d writes, want 4 replicas times 1800: %v", writes, err)
		}
		for _, r := range replicas {
			noError(t, r.stop())
		}
	})
}

func TestSharderGivesUp(t *testing.T) {
	withLeases(t, func(t *testing.T, st *memory.Store, _ *store.Handle[*reconcile.Lease]) {
		var owned []int
		a := share(t, st, "a", func(o *reconcile.SharderOptions) {
			o.Hooks.Owned = func(n, of int) { owned = append(owned, n, of) }
		})
		time.Sleep(time.Minute)
		if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "runs already") {
			t.Errorf("second Run: %v", err)
		}
		noError(t, st.Close())
		if err := <-a.result; !errors.Is(err, store.ErrClosed) {
			t.Errorf("Run on a closed store: %v", err)
		}
		if !slices.Equal(owned, []int{16, 16, 0, 16}) {
			t.Errorf("hook: %v", owned)
		}
	})
}

func TestSharderOptions(t *testing.T) {
	st := memory.New(memory.Options{})
	defer st.Close()
	for name, c := range map[string]struct {
		change func(*reconcile.SharderOptions)
		want   string
	}{
		"no namespace":    {func(o *reconcile.SharderOptions) { o.Namespace = "" }, "namespace is empty"},
		"no label":        {func(o *reconcile.SharderOptions) { o.Name = "a.b" }, `name "a.b"`},
		"no identity":     {func(o *reconcile.SharderOptions) { o.Identity = "" }, "Identity is empty"},
		"negative shards": {func(o *reconcile.SharderOptions) { o.Shards = -1 }, "Shards is -1"},
		"many shards":     {func(o *reconcile.SharderOptions) { o.Shards = 1 << 20 }, "Shards is 1048576"},
		"timing":          {func(o *reconcile.SharderOptions) { o.Timing.Retry = time.Hour }, "want a shorter Retry"},
	} {
		opts := reconcile.SharderOptions{Namespace: "default", Name: "x", Identity: "a"}
		c.change(&opts)
		if _, err := reconcile.NewSharder(st, opts); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}
