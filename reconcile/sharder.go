// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// Sharder spreads keys over the live replicas of a program, so that all of them
// work, and no key is worked on by two at once. A key belongs to one of a fixed
// number of shards; shards are spread over the replicas by rendezvous hashing, and
// a replica works on the shards that it owns in a table that all replicas share.
//
//	replica      Lease  name-<session>   renewed by the replica every Retry
//	shards       Lease  name             who owns which: written when that changes
//
// So N replicas write N objects every few seconds however many shards there are,
// and read a list of N+1.
//
// # What is promised
//
// The contexts of two replicas' work on one key ([Run]) are never alive at once,
// on the same terms as those of two leaders: see [Elector]. Each session of a
// replica has a fence where the store is a [store.Leaser], and whoever deposes the
// session revokes it first: what a replica writes that was paused, cut off or
// slow fails once another may own its shards.
//
// A shard that should move from one live replica to another is handed over: the
// first begins no more work in it, waits for what is in progress, and gives it
// back; the other takes it then. That takes as long as the work does. A replica
// that was cut off loses its shards when nobody has seen it renew its lease for
// LeaseTiming.Duration; one that stops hands them over at once.
//
// When a replica comes, about one shard in N moves to it, and none between the
// others; when one goes, its shards are spread over the rest, and no others move.
// Replicas that share an identity by mistake work one after the other, never at
// once: the one that came first has the shards.
//
// If somebody deletes the table or a replica's Lease, replicas stop, wait until
// whatever was promised has run out, and begin again.
type Sharder struct {
	objects  *leaseObjects
	opts     SharderOptions
	key      store.Key // of the table
	selector store.Selector
	pace     pace
	witness  *witness        // belongs to Run
	missing  time.Time       // since when Run has found no table, though there are replicas
	former   map[string]bool // sessions of this sharder that have ended; belongs to Run

	running atomic.Bool
	hint    chan struct{} // something may be worth a look before the next renewal
	gained  chan struct{} // a listener has something to be told
	wrote   atomic.Value  // string: the version of the table that we wrote last

	mu        sync.Mutex
	tenure    *tenure  // nil between sessions
	epochs    []uint64 // by shard: since which revision it is open to work; 0: it is not
	busy      []int    // by shard: how much work is in progress
	listeners []*gainListener
}

// SharderOptions configure a sharder. Namespace, Name and Identity are required.
type SharderOptions struct {
	// Namespace and Name are the key of the Lease object that holds the table: the
	// same for all replicas. The name is a DNS label, and begins the names of the
	// replicas' Leases.
	Namespace, Name string
	// Identity names this replica: the pod's name or the host's, say. Shards are
	// spread by it, so a replica that comes back under the same gets the same ones.
	Identity string
	// Shards is how many shards there are: the same for all replicas. It should be
	// much more than there ever are replicas. It can be changed while no replica
	// owns any. 0: 256, with which of 16 replicas or fewer none has more than twice
	// its share.
	Shards int
	// Timing is the same for all replicas, or nearly.
	Timing LeaseTiming
	// Logger gets what happens; nil discards it.
	Logger *slog.Logger
	// Hooks are called in turn, from the goroutine that keeps the lease: they must
	// return soon.
	Hooks SharderHooks
}

// SharderHooks are optional functions for metrics and the like.
type SharderHooks struct {
	// Owned: this replica owns another number of shards than before.
	Owned func(shards, of int)
	// Renewed: an attempt at a renewal took that long, and failed where err is not nil.
	Renewed func(took time.Duration, err error)
}

const (
	defaultShards = 256
	maxShards     = 1 << 14 // the table is an annotation, which Kubernetes bounds at 256 KiB
)

// NewSharder returns a sharder that owns nothing until it is run. It registers
// [LeaseKind] with the store, unless a kind of that name is there.
func NewSharder(st store.Store, opts SharderOptions) (*Sharder, error) {
	fail := func(err error) (*Sharder, error) {
		return nil, fmt.Errorf("reconcile: sharder %s/%s: %w", opts.Namespace, opts.Name, err)
	}
	if err := checkReplica(opts.Namespace, opts.Identity); err != nil {
		return fail(err)
	}
	if err := store.DNSLabel(opts.Name); err != nil {
		return fail(err)
	}
	if opts.Shards < 0 || opts.Shards > maxShards {
		return fail(store.Invalidf("Shards is %d: want 1 to %d, or 0 for %d", opts.Shards, maxShards, defaultShards))
	}
	if opts.Shards == 0 {
		opts.Shards = defaultShards
	}
	var err error
	if opts.Timing, err = opts.Timing.complete(); err != nil {
		return fail(err)
	}
	selector, err := store.MatchLabels(map[string]string{sharderLabel: opts.Name})
	if err != nil {
		return fail(err)
	}
	objects, err := openLeases(st)
	if err != nil {
		return fail(err)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sharder{
		objects:  objects,
		opts:     opts,
		key:      store.NewKey(opts.Namespace, opts.Name),
		selector: selector,
		pace:     newPace(opts.Identity),
		witness:  newWitness(opts.Timing.Duration),
		former:   map[string]bool{},
		hint:     make(chan struct{}, 1),
		gained:   make(chan struct{}, 1),
		epochs:   make([]uint64, opts.Shards),
		busy:     make([]int, opts.Shards),
	}
	s.wrote.Store("")
	return s, nil
}

// sharderLabel is on every Lease of a sharder; its value is the sharder's name.
const sharderLabel = "slipway.dev/sharder"

// Run keeps this replica among those that shards are spread over, until the
// context ends. Then it begins no more work, waits for what is in progress (the
// caller ends that, or waits for it), hands its shards over, and returns nil.
//
// It returns an error that no retry would mend: an object of its table's name that
// is none, a table of another number of shards, [store.ErrClosed]. Other errors of
// the store are logged, and tried again. It owns all goroutines that it starts and
// has ended them when it returns. A second Run at the same time is an error.
func (s *Sharder) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return fmt.Errorf("reconcile: sharder %s: it runs already", s.key)
	}
	defer s.running.Store(false)
	helping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	helpers.Go(func() {
		opts := store.WatchOptions{Namespace: s.key.Namespace, Labels: s.selector}
		s.objects.follow(helping, opts, s.opts.Timing.Retry, s.opts.Logger, s.look)
	})
	helpers.Go(func() { s.tell(helping) })
	for {
		session, err := s.join(ctx)
		if err == nil && session == nil { // ctx has ended
			return nil
		}
		if err == nil {
			err = session.serve(ctx)
		}
		if err != nil {
			return fmt.Errorf("reconcile: sharder %s: %w", s.key, err)
		}
	}
}

// look wakes the sharder where a change concerns it. Renewals do not: it sees
// them at its own.
func (s *Sharder) look(change store.EventType, l *Lease) {
	m := member{Lease: l}
	switch {
	case l.Name == s.key.Name && l.ResourceVersion != s.wrote.Load():
	case l.Name != s.key.Name && (change != store.Modified || m.sealed() || m.leaving()):
	default:
		return
	}
	s.nudge()
}

func (s *Sharder) nudge() {
	select {
	case s.hint <- struct{}{}:
	default:
	}
}

// Begin implements [Ownership].
func (s *Sharder) Begin(ctx context.Context, key string) (Run, bool) {
	shard := ShardOf(key, s.opts.Shards)
	s.mu.Lock()
	t, epoch := s.tenure, s.epochs[shard]
	if epoch == 0 || t == nil || !t.valid() {
		s.mu.Unlock()
		return Run{}, false
	}
	s.busy[shard]++
	s.mu.Unlock()
	working, unbind := bind(ctx, t.ctx)
	end := sync.OnceFunc(func() {
		unbind()
		s.end(shard)
	})
	return Run{Context: working, Epoch: epoch, Fence: t.fence, End: end}, true
}

// end counts down the work in a shard, and wakes the sharder where somebody waits
// for it.
func (s *Sharder) end(shard int) {
	s.mu.Lock()
	s.busy[shard]--
	waiting := s.busy[shard] == 0 && s.epochs[shard] == 0
	s.mu.Unlock()
	if waiting {
		s.nudge()
	}
}

// Shards returns the shards that this replica owns now, in ascending order. See
// [ShardOf].
func (s *Sharder) Shards() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tenure == nil || !s.tenure.valid() {
		return nil
	}
	return s.open()
}

// open returns the shards that are open to work. The mutex is held.
func (s *Sharder) open() []int {
	var open []int
	for shard, epoch := range s.epochs {
		if epoch != 0 {
			open = append(open, shard)
		}
	}
	return open
}

// gainListener is a function that wants to be told of shards gained.
type gainListener struct {
	f       func(mine func(key string) bool)
	pending map[int]bool // shards that it is yet to be told of; under the sharder's mutex

	calling sync.Mutex // held while f runs
	stopped bool       // under calling
}

// OnGain implements [Ownership]. The calls come from a goroutine of Run: a
// function that takes long delays other functions' calls, and nothing else.
func (s *Sharder) OnGain(f func(mine func(key string) bool)) (stop func()) {
	l := &gainListener{f: f}
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.add(l, s.open())
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.listeners = slices.DeleteFunc(s.listeners, func(x *gainListener) bool { return x == l })
		s.mu.Unlock()
		l.calling.Lock()
		defer l.calling.Unlock()
		l.stopped = true
	}
}

// add remembers what a listener is to be told. The mutex is held.
func (s *Sharder) add(l *gainListener, shards []int) {
	if len(shards) == 0 {
		return
	}
	if l.pending == nil {
		l.pending = map[int]bool{}
	}
	for _, shard := range shards {
		l.pending[shard] = true
	}
	select {
	case s.gained <- struct{}{}:
	default:
	}
}

// tell calls the listeners, until the context ends.
func (s *Sharder) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.gained:
		}
		s.mu.Lock()
		listeners := slices.Clone(s.listeners)
		s.mu.Unlock()
		for _, l := range listeners {
			s.call(l)
		}
	}
}

func (s *Sharder) call(l *gainListener) {
	s.mu.Lock()
	gained := l.pending
	l.pending = nil
	s.mu.Unlock()
	l.calling.Lock()
	defer l.calling.Unlock()
	if len(gained) > 0 && !l.stopped {
		l.f(func(key string) bool { return gained[ShardOf(key, s.opts.Shards)] })
	}
}
