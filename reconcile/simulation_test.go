// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run only this seed of the simulations; 0: the first few")
	simSeeds = flag.Uint64("sim.seeds", 8, "how many seeds the simulations run")
)

// seeds runs a simulation for each seed, each in its own bubble. A seed settles
// which faults come when; the order in which goroutines run it does not.
func seeds(t *testing.T, run func(t *testing.T, seed uint64)) {
	first, last := uint64(1), *simSeeds
	switch {
	case *simSeed != 0:
		first, last = *simSeed, *simSeed
	case testing.Short():
		last = min(last, 3)
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, seed) })
			if t.Failed() {
				t.Logf("again: go test ./reconcile -run '^%s$' -sim.seed %d", strings.Split(t.Name(), "/")[0], seed)
			}
		})
	}
}

// work is what replicas do to a key: they leave their name and epoch in it.
type work struct {
	store.Meta `json:"metadata"`
	Spec       struct {
		Epoch  uint64
		Worker string
		Count  int
	}
}

func (w *work) DeepCopy() *work { return store.DeepCopy(w) }

// owner is what the simulations are about: an elector or a sharder of a replica.
type owner interface {
	// run calls work with an ownership, until ctx ends; it returns once work has.
	run(ctx context.Context, work func(ctx context.Context, o reconcile.Ownership)) error
}

// world is a store, the replicas that work on its objects, and the referee.
type world struct {
	t      *testing.T
	st     store.Engine
	works  *store.Handle[*work]
	random *rand.Rand
	owner  func(st store.Store, identity string) (owner, error)
	leases bool          // the store has leases: fences hold
	ttl    time.Duration // how long they last at least: no fence may rely on their end
	keys   []string

	replicas []*replica
	start    time.Time
	meddled  time.Time

	mu     sync.Mutex
	active map[string][]*job    // by key
	last   map[string]time.Time // when a write of a key was last acknowledged
	log    []string
	bad    int

	wrote, refused, cut int // writes; and works whose context ended before they did
}

// job is one work on a key, from Begin to End.
type job struct {
	replica *replica
	run     reconcile.Run
}

// replica is a process.
type replica struct {
	*world
	identity string
	link     *link
	owner    owner
	stop     context.CancelFunc // asks it to stop
	done     chan struct{}      // it has ended
	killed   context.Context
	kill     context.CancelFunc
}

const worldKeys = 24

func newWorld(t *testing.T, seed uint64, leases bool, mk func(st store.Store, identity string) (owner, error)) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 7)), owner: mk, leases: leases, start: time.Now(),
		active: map[string][]*job{}, last: map[string]time.Time{}}
	if seed%2 == 0 {
		w.ttl = time.Hour
	}
	w.st = memory.New(memory.Options{})
	works, err := store.Register(w.st, store.Kind[*work]{Name: "Work"})
	if err != nil {
		t.Fatal(err)
	}
	w.works = works
	for i := range worldKeys {
		key := fmt.Sprintf("key-%02d", i)
		w.keys = append(w.keys, key)
		if _, err := works.Create(t.Context(), &work{Meta: store.Meta{Namespace: "default", Name: key}}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// note writes a line of the log that is printed when something is wrong.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%10.3fs ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

// wrong reports a breach of an invariant, the first few times.
func (w *world) wrong(format string, args ...any) {
	w.note("WRONG: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bad++; w.bad <= 3 {
		w.t.Errorf(format+"\n%s", append(args, tail(w.log, 40))...)
	}
}

func tail(lines []string, n int) string {
	text := ""
	for _, line := range lines[max(0, len(lines)-n):] {
		text += "\t" + line + "\n"
	}
	return text
}

// begin starts a process.
func (w *world) begin(identity string) *replica {
	r := &replica{world: w, identity: identity, link: newLink(w.st, w.random.Uint64()), done: make(chan struct{})}
	r.link.ttl = w.ttl
	var st store.Store = r.link
	if !w.leases {
		st = plain{r.link}
	}
	var err error
	if r.owner, err = w.owner(st, identity); err != nil {
		w.t.Fatal(err)
	}
	r.killed, r.kill = context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		defer close(r.done)
		if err := r.owner.run(ctx, r.workOn); err != nil {
			w.wrong("%s ended: %v", identity, err)
		}
		r.note("%s has ended", identity)
	}()
	w.replicas = append(w.replicas, r)
	r.note("%s begins", identity)
	return r
}

// crash ends a process without a trace: what it does from now on is not seen.
func (r *replica) crash() {
	r.note("%s crashes", r.identity)
	r.link.turn(linkDead)
	r.link.resume()
	r.kill()
	r.stop()
	r.mu.Lock()
	for key, jobs := range r.active {
		r.active[key] = slices.DeleteFunc(jobs, func(j *job) bool { return j.replica == r })
	}
	r.mu.Unlock()
	<-r.done
	r.link.late.Wait()
}

// workOn is the replica's controller: some workers that take a key at random.
func (r *replica) workOn(ctx context.Context, o reconcile.Ownership) {
	var workers sync.WaitGroup
	defer workers.Wait()
	var mu sync.Mutex
	taken := map[string]bool{}
	for i := range 3 {
		random := rand.New(rand.NewPCG(uint64(i), hashOf(r.identity)))
		workers.Go(func() {
			for ctx.Err() == nil && r.killed.Err() == nil {
				key := r.keys[random.IntN(len(r.keys))]
				mu.Lock()
				free := !taken[key]
				taken[key] = true
				mu.Unlock()
				if free {
					r.workOnce(ctx, o, key, random)
					mu.Lock()
					delete(taken, key)
					mu.Unlock()
				}
				_ = wait(ctx, time.Duration(random.IntN(4000))*time.Millisecond)
			}
		})
	}
}

func hashOf(text string) uint64 {
	h := uint64(1)
	for _, c := range text {
		h = h*31 + uint64(c)
	}
	return h
}

// workOnce is one reconcile. Now and then it is slow to notice that its context
// has ended, or does not look at it at all.
func (r *replica) workOnce(ctx context.Context, o reconcile.Ownership, key string, random *rand.Rand) {
	r.link.gate()
	run, ok := o.Begin(context.WithoutCancel(ctx), key) // a graceful stop waits for the work
	if !ok {
		return
	}
	j := &job{r, run}
	r.enter(key, j)
	defer run.End()
	defer r.exit(key, j)
	if random.IntN(4) == 0 {
		time.Sleep(time.Duration(random.IntN(6000)) * time.Millisecond)
	} else {
		_ = wait(run.Context, time.Duration(random.IntN(2000))*time.Millisecond)
	}
	r.link.gate()
	if r.killed.Err() != nil {
		return
	}
	writing := run.Context
	if random.IntN(3) == 0 { // a write that is not bound to the context, as a bug in a client would have it
		var cancel context.CancelFunc
		writing, cancel = context.WithTimeout(context.WithoutCancel(writing), 20*time.Second)
		defer cancel()
	} else if !r.leases && writing.Err() != nil {
		return
	}
	write := store.Write{Op: store.Patch, Key: store.NewKey("default", key), Options: store.WriteOptions{Fence: run.Fence},
		Patch: func(o store.Object) error {
			x := o.(*work)
			x.Spec.Epoch, x.Spec.Worker = run.Epoch, r.identity
			x.Spec.Count++
			return nil
		}}
	_, err := r.link.Write(writing, r.works.Schema(), write)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.last[key] = time.Now()
		r.wrote++
	case errors.Is(err, store.ErrLeaseLost):
		r.refused++
	}
	if errors.Is(context.Cause(run.Context), reconcile.ErrLeadershipLost) {
		r.cut++
	}
}

// enter is the referee's rule: no key is worked on by two replicas at once.
func (w *world) enter(key string, j *job) {
	w.mu.Lock()
	var other *job
	for _, x := range w.active[key] {
		if j.replica.killed.Err() == nil && j.run.Context.Err() == nil && x.run.Context.Err() == nil {
			other = x
		}
	}
	w.active[key] = append(w.active[key], j)
	w.mu.Unlock()
	if other != nil {
		w.wrong("%s works on %s (epoch %d, fence %d) while %s does (epoch %d, fence %d)", j.replica.identity, key,
			j.run.Epoch, j.run.Fence, other.replica.identity, other.run.Epoch, other.run.Fence)
	}
}

func (w *world) exit(key string, j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active[key] = slices.DeleteFunc(w.active[key], func(x *job) bool { return x == j })
}

// watchEpochs is the referee's other rule: no write comes from one who was deposed.
func (w *world) watchEpochs(ctx context.Context) {
	epochs := map[string]*work{}
	for ev, err := range w.works.Watch(ctx, store.WatchOptions{Initial: true}) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				w.wrong("the referee's watch: %v", err)
			}
			return
		}
		if ev.Object == nil {
			continue
		}
		if last := epochs[ev.Object.Name]; last != nil && ev.Object.Spec.Epoch < last.Spec.Epoch {
			w.wrong("%s wrote %s in epoch %d, after %s in epoch %d", ev.Object.Spec.Worker, ev.Object.Name, ev.Object.Spec.Epoch,
				last.Spec.Worker, last.Spec.Epoch)
		}
		if last := epochs[ev.Object.Name]; last != nil && last.Spec.Epoch != 0 && ev.Object.Spec.Epoch == last.Spec.Epoch && ev.Object.Spec.Worker != last.Spec.Worker {
			w.wrong("%s wrote %s in epoch %d, which is %s's", ev.Object.Spec.Worker, ev.Object.Name, ev.Object.Spec.Epoch, last.Spec.Worker)
		}
		epochs[ev.Object.Name] = ev.Object
	}
}

// live returns the replicas that run.
func (w *world) live() []*replica {
	return slices.DeleteFunc(slices.Clone(w.replicas), func(r *replica) bool { return r.killed.Err() != nil })
}

// fault does something bad to a replica, or good.
func (w *world) fault() {
	live := w.live()
	r := live[w.random.IntN(len(live))]
	l := r.link
	switch w.random.IntN(14) {
	case 13:
		w.meddle()
	case 0:
		r.note("%s is cut off: calls fail", r.identity)
		l.turn(linkDown)
	case 1:
		r.note("%s is cut off: calls hang", r.identity)
		l.turn(linkHung)
	case 2:
		r.note("%s is cut off: calls arrive late", r.identity)
		l.turn(linkLate)
	case 3, 4:
		r.note("%s is paused", r.identity)
		l.pause()
	case 5:
		r.note("%s loses answers", r.identity)
		l.set(func() { l.lossy = w.random.Float64() })
	case 6:
		r.note("%s is slow", r.identity)
		l.set(func() { l.slow = time.Duration(w.random.IntN(6000)) * time.Millisecond })
	case 7:
		r.note("%s has its clock set", r.identity)
		l.set(func() { l.skew = time.Duration(w.random.IntN(48)-24) * time.Hour })
	case 8:
		w.restart(r, true)
	case 9:
		w.restart(r, false)
	default:
		r.note("%s is well", r.identity)
		l.mend()
	}
}

// meddle deletes one of a sharder's objects, as somebody might who does not know
// what it is for.
func (w *world) meddle() {
	if _, sharded := w.replicas[0].owner.(simSharder); !sharded || time.Since(w.meddled) < time.Minute {
		return
	}
	w.meddled = time.Now()
	leases := w.allLeases()
	if len(leases) == 0 {
		return
	}
	l := leases[w.random.IntN(len(leases))]
	w.note("somebody deletes Lease %s", l.Name)
	if _, err := w.leaseHandle().Delete(context.Background(), store.KeyOf(l)); err != nil {
		w.wrong("delete Lease %s: %v", l.Name, err)
	}
}

func (w *world) leaseHandle() *store.Handle[*reconcile.Lease] {
	h, err := store.Lookup[*reconcile.Lease](w.st, reconcile.LeaseKind().KindName())
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) allLeases() []*reconcile.Lease {
	page, err := w.leaseHandle().Page(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Items
}

// restart ends a replica, one way or the other, and begins it again after a while.
func (w *world) restart(r *replica, crash bool) {
	if crash {
		r.crash()
	} else {
		r.note("%s is asked to stop", r.identity)
		r.halt()
	}
	time.Sleep(time.Duration(w.random.IntN(40)) * time.Second)
	w.begin(r.identity)
}

// halt stops a replica in order: what is wrong with it is mended before, or it
// would not end.
func (r *replica) halt() {
	r.link.mend()
	r.stop()
	<-r.done
	r.kill()
	r.link.late.Wait()
}

// simulate runs replicas for an hour, with faults until ten minutes before the end,
// and then looks whether everything is worked on again.
func simulate(w *world, names []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var referee sync.WaitGroup
	if w.leases {
		referee.Go(func() { w.watchEpochs(ctx) })
	}
	for _, name := range names {
		w.begin(name)
	}
	for time.Since(w.start) < 50*time.Minute {
		time.Sleep(time.Duration(w.random.IntN(30_000)) * time.Millisecond)
		w.fault()
	}
	for _, r := range w.live() {
		r.link.mend()
	}
	w.note("all is well")
	time.Sleep(90 * time.Second) // a minute for late calls to arrive, and then leases run out
	w.checkShards()
	settled := time.Now()
	time.Sleep(8 * time.Minute)
	w.mu.Lock()
	for _, key := range w.keys {
		if !w.last[key].After(settled) {
			w.t.Errorf("%s was not worked on again after the faults had ended\n%s", key, tail(w.log, 20))
			break
		}
	}
	w.mu.Unlock()
	for _, r := range w.live() {
		r.halt()
	}
	late := 0
	for _, r := range w.replicas {
		late += r.link.refused
	}
	w.t.Logf("%d writes acknowledged, %d refused to the deposed and %d that came late, %d works cut short", w.wrote, w.refused, late, w.cut)
	if w.wrote < 1000 || w.cut < 5 {
		w.t.Error("the simulation tests little")
	}
	if _, sharded := w.replicas[0].owner.(simSharder); sharded && len(w.allLeases()) != 1 {
		w.t.Errorf("%d Leases are left after everybody has stopped, want the table only", len(w.allLeases()))
	}
	cancel()
	referee.Wait()
	if err := w.st.Close(); err != nil {
		w.t.Error(err)
	}
}

// checkShards checks, once all is well, that each shard has one owner, and that
// no Lease is left of sessions that have ended.
func (w *world) checkShards() {
	owners := map[int]string{}
	for _, r := range w.live() {
		s, sharded := r.owner.(simSharder)
		if !sharded {
			return
		}
		for _, shard := range s.Shards() {
			if other, taken := owners[shard]; taken {
				w.wrong("shard %d is owned by %s and %s", shard, other, r.identity)
			}
			owners[shard] = r.identity
		}
	}
	if len(owners) != 16 {
		w.wrong("%d of 16 shards have an owner", len(owners))
	}
	if n := len(w.allLeases()); n != len(w.live())+1 {
		w.wrong("there are %d Leases for %d replicas and a table", n, len(w.live()))
	}
}

type simElector struct{ *reconcile.Elector }

func (e simElector) run(ctx context.Context, work func(context.Context, reconcile.Ownership)) error {
	return e.Run(ctx, func(ctx context.Context, term reconcile.Term) error {
		work(ctx, term.Ownership())
		return ctx.Err()
	})
}

type simSharder struct{ *reconcile.Sharder }

// run works until the sharder has to stop, and a moment longer: it waits for what
// was begun, and begins nothing.
func (s simSharder) run(ctx context.Context, work func(context.Context, reconcile.Ownership)) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	workers.Go(func() { work(ctx, s.Sharder) })
	return s.Run(ctx)
}

func simulatedElector(st store.Store, identity string) (owner, error) {
	e, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "default", Name: "sim", Identity: identity})
	return simElector{e}, err
}

func simulatedSharder(st store.Store, identity string) (owner, error) {
	s, err := reconcile.NewSharder(st, reconcile.SharderOptions{Namespace: "default", Name: "sim", Identity: identity, Shards: 16})
	return simSharder{s}, err
}

func TestElectorSimulation(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		simulate(newWorld(t, seed, true, simulatedElector), []string{"a", "b", "c"})
	})
}

func TestElectorSimulationWithoutLeases(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		simulate(newWorld(t, seed, false, simulatedElector), []string{"a", "b", "c"})
	})
}

func TestSharderSimulation(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		simulate(newWorld(t, seed, true, simulatedSharder), []string{"a", "b", "c", "d"})
	})
}

func TestSharderSimulationWithoutLeases(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		simulate(newWorld(t, seed, false, simulatedSharder), []string{"a", "b", "c", "d"})
	})
}
