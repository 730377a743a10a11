// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/slipway-dev/slipway/reconcile"
)

var queueSeed = flag.Uint64("queue.seed", 0, "run TestQueueModel with this seed only")

// TestQueueModel does random things to a queue and to a plain model of it, in
// virtual time, and compares all that can be seen after each.
func TestQueueModel(t *testing.T) {
	seeds, steps := 200, 400
	if testing.Short() {
		seeds = 20
	}
	first := rand.Uint64N(1 << 32)
	if *queueSeed != 0 {
		first, seeds = *queueSeed, 1
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		ops := randomOps(seed, steps)
		if err := tryOps(t, seed, ops); err != nil {
			ops = shrink(ops, func(fewer []op) bool {
				e := tryOps(t, seed, fewer)
				if e != nil {
					err = e
				}
				return e != nil
			})
			var list strings.Builder
			for _, o := range ops {
				fmt.Fprintf(&list, "  %v\n", o)
			}
			t.Fatalf("seed %d (go test -run TestQueueModel -queue.seed %d): %v\nafter\n%s", seed, seed, err, &list)
		}
	}
}

// shrink leaves out what the failure does not need.
func shrink(ops []op, fails func([]op) bool) []op {
	for size := len(ops) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(ops); {
			if fewer := slices.Concat(ops[:i], ops[i+size:]); fails(fewer) {
				ops = fewer
			} else {
				i += size
			}
		}
	}
	return ops
}

// An op is one thing done to a queue. What it is done to depends on the state, so
// that any list of ops makes sense.
type op struct {
	verb string
	key  string
	d    time.Duration
	opts reconcile.AddOptions
	n    int // which of the running keys
}

var opVerbs = strings.Fields("add add add after notlater notbefore limited cancel get get get get wait done done again retry retry retry park unpark forget sleep sleep shutdown stop")

func randomOps(seed uint64, steps int) []op {
	r := rand.New(rand.NewPCG(seed, 1))
	ops := make([]op, steps)
	for i := range ops {
		o := op{verb: opVerbs[r.IntN(len(opVerbs))], key: string("abcd"[r.IntN(4)]) + string("01"[r.IntN(2)]), n: r.IntN(100)}
		if (o.verb == "shutdown" || o.verb == "stop") && r.IntN(steps/4) > 0 {
			o.verb = "get"
		}
		// No two deadlines are equal, for the order of their keys is not determined.
		if o.d = time.Duration(r.IntN(8)-1) * time.Second; o.d > 0 {
			o.d += time.Duration(r.IntN(1e8))
		}
		o.opts.Priority = reconcile.Priority(r.IntN(3) - 1)
		o.opts.KeepBackoff = r.IntN(3) == 0
		if r.IntN(2) == 0 {
			o.opts.Cause = reconcile.Cause{Reason: fmt.Sprint("reason ", r.IntN(12)), Revision: uint64(r.IntN(3))}
		}
		ops[i] = o
	}
	return ops
}

var modelOptions = reconcile.QueueOptions[string]{
	Backoff: reconcile.Backoff{Initial: time.Second, Max: 6 * time.Second}, Rate: -1, MaxAttempts: 4,
	MaxWait: 3 * time.Second, Tenant: func(key string) string { return key[:1] },
}

func tryOps(t *testing.T, seed uint64, ops []op) (err error) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		options := modelOptions
		options.Seed = seed
		x := &modelTrial{ctx: t.Context(), q: reconcile.NewQueue(options), m: newQueueModel()}
		for i, o := range ops {
			if err = x.do(o); err == nil {
				err = x.compare()
			}
			if err != nil {
				err = fmt.Errorf("step %d, %v: %w", i, o, err)
				return
			}
		}
	})
	return err
}

// A modelTrial does the same to a queue and to its model.
type modelTrial struct {
	ctx context.Context
	q   *reconcile.Queue[string]
	m   *queueModel
}

func (x *modelTrial) do(o op) error {
	x.m.advance()
	at := time.Now().Add(o.d)
	switch o.verb {
	case "add":
		x.q.Add(o.key, o.opts)
		x.m.add(o.key, "notlater", time.Now(), o.opts)
	case "after":
		x.q.AddAfter(o.key, o.d, o.opts)
		x.m.add(o.key, "notlater", at, o.opts)
	case "notlater":
		x.q.AddNotLaterThan(o.key, at, o.opts)
		x.m.add(o.key, "notlater", at, o.opts)
	case "notbefore":
		x.q.AddNotBefore(o.key, at, o.opts)
		x.m.add(o.key, "notbefore", at, o.opts)
	case "limited":
		x.q.AddRateLimited(o.key, o.opts)
		x.m.add(o.key, "limited", time.Time{}, o.opts)
		return x.adopt(o.key)
	case "cancel":
		return same("Cancel", x.q.Cancel(o.key), x.m.cancel(o.key))
	case "unpark":
		return same("Unpark", x.q.Unpark(o.key), x.m.unpark(o.key))
	case "forget":
		x.q.Forget(o.key)
		x.m.forget(o.key)
	case "sleep":
		time.Sleep(max(o.d, 0))
	case "shutdown":
		x.q.ShutDown()
		x.m.shutDown()
	case "stop":
		x.q.Stop()
		x.m.stop()
	case "get", "wait":
		return x.get(o)
	default:
		return x.end(o)
	}
	return nil
}

// get gets a key: "get" only if the model says that one is ready.
func (x *modelTrial) get(o op) error {
	if o.verb == "get" && len(x.m.ready) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(x.ctx, 2500*time.Millisecond)
	defer cancel()
	var want error
	deadline := time.Now().Add(2500 * time.Millisecond)
	next := x.m.next()
	switch {
	case len(x.m.ready) > 0:
		next = time.Now()
	case x.m.drained():
		next, want = time.Now(), reconcile.ErrShutDown
	case next.IsZero() || !next.Before(deadline):
		if next.Equal(deadline) {
			return nil // either would be right
		}
		next, want = deadline, context.DeadlineExceeded
	}
	got, err := x.q.Get(ctx)
	if !time.Now().Equal(next) {
		return fmt.Errorf("Get returned %v after it should", time.Since(next))
	}
	if err != nil || want != nil {
		return same("Get's error", err, want)
	}
	x.m.advance()
	return same("Get", got, x.m.get())
}

// end ends the run of a key, if one is running.
func (x *modelTrial) end(o op) error {
	running := x.m.running()
	if len(running) == 0 {
		return nil
	}
	key := running[o.n%len(running)]
	err := fmt.Errorf("error %d", o.n)
	switch o.verb {
	case "done":
		x.q.Done(key)
		x.m.done(key)
	case "again":
		x.q.Again(key, o.d)
		x.m.again(key, time.Now().Add(o.d))
	case "retry":
		if err := same("Retry", x.q.Retry(key, err), x.m.retry(key, err)); err != nil {
			return err
		}
		return x.adopt(key)
	case "park":
		x.q.Park(key, err)
		x.m.park(key, err)
	}
	return nil
}

// adopt has the model take over the random part of a backoff, if it is in range.
func (x *modelTrial) adopt(key string) error {
	e := x.m.keys[key]
	if e == nil || !e.guess {
		return nil
	}
	e.guess = false
	s, _ := x.q.Explain(key)
	if s.Until.Equal(e.before) {
		return nil // the deadline that it had is earlier
	}
	if s.Until.After(e.most) || s.Until.Before(e.most.Add(-time.Until(e.most)/5)) {
		return fmt.Errorf("%s waits until %v, want at most a fifth less than %v", key, s.Until, e.most)
	}
	e.at, e.backingOff = s.Until, true
	return nil
}

func (x *modelTrial) compare() error {
	x.m.advance()
	got := map[string]reconcile.State[string]{}
	for s := range x.q.All() {
		got[s.Key] = s
	}
	want := map[string]reconcile.State[string]{}
	var counts reconcile.Counts
	for key := range x.m.keys {
		s := x.m.state(key)
		want[key] = s
		*[]*int{&counts.Idle, &counts.Waiting, &counts.Ready, &counts.Running, &counts.Parked}[s.Phase]++
	}
	if got := x.q.Counts(); got != counts {
		return same("Counts", got, counts)
	}
	if maps.EqualFunc(got, want, sameState) {
		return nil // cmp takes its time
	}
	return same("All", got, want)
}

func sameState(a, b reconcile.State[string]) bool {
	return slices.Equal(a.Causes, b.Causes) && slices.Equal(a.Pending, b.Pending) && a.MoreCauses == b.MoreCauses &&
		a.Key == b.Key && a.Phase == b.Phase && a.Since.Equal(b.Since) && a.Added == b.Added && a.Until.Equal(b.Until) &&
		a.Attempts == b.Attempts && a.LastError == b.LastError && a.Priority == b.Priority && a.Tenant == b.Tenant
}

func same(what string, got, want any) error {
	opts := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) || errors.Is(b, a) || fmt.Sprint(a) == fmt.Sprint(b) })}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		return fmt.Errorf("%s (-want +got):\n%s", what, diff)
	}
	return nil
}

// queueModel is what a queue should do, in the plainest way.
type queueModel struct {
	keys   map[string]*modelEntry
	ready  []string               // by age
	rounds map[int8][]modelTenant // by priority; the first has the turn
	gets   int
	closed bool
}

type modelTenant struct {
	name string
	keys []string
}

type modelEntry struct {
	delayed, due, running, parked bool
	news, backingOff, failed      bool
	reasons                       []string // of the queue's own
	at                            time.Time
	guess                         bool // at may be a little less than most
	most, before                  time.Time
	since                         time.Time
	attempts                      int
	err                           error
	priority                      int8
	causes, runCauses             []reconcile.Cause
	more, runMore                 int
}

func newQueueModel() *queueModel {
	return &queueModel{keys: map[string]*modelEntry{}, rounds: map[int8][]modelTenant{}}
}

func (m *queueModel) advance() {
	var due []string
	for key, e := range m.keys {
		if e.delayed && !e.at.After(time.Now()) {
			due = append(due, key)
		}
	}
	// Of two that became due since, the earlier is older.
	slices.SortFunc(due, func(a, b string) int { return m.keys[a].at.Compare(m.keys[b].at) })
	for _, key := range due {
		m.makeDue(key)
		if e := m.keys[key]; !e.running {
			e.since = e.at
		}
	}
}

func (m *queueModel) makeDue(key string) {
	e := m.keys[key]
	e.delayed, e.backingOff, e.due = false, false, true
	if !e.running {
		m.push(key)
	}
}

func (m *queueModel) push(key string) {
	e := m.keys[key]
	e.since = time.Now()
	m.ready = append(m.ready, key)
	m.join(key)
}

func (m *queueModel) join(key string) {
	p := m.keys[key].priority
	for i := range m.rounds[p] {
		if r := &m.rounds[p][i]; r.name == key[:1] {
			r.keys = append(r.keys, key)
			return
		}
	}
	m.rounds[p] = append(m.rounds[p], modelTenant{key[:1], []string{key}})
}

func (m *queueModel) leave(key string) {
	p := m.keys[key].priority
	for i := range m.rounds[p] {
		r := &m.rounds[p][i]
		r.keys = slices.DeleteFunc(r.keys, func(k string) bool { return k == key })
	}
	m.rounds[p] = slices.DeleteFunc(m.rounds[p], func(r modelTenant) bool { return len(r.keys) == 0 })
}

func (m *queueModel) remove(key string) {
	m.ready = slices.DeleteFunc(m.ready, func(k string) bool { return k == key })
	m.leave(key)
}

func (m *queueModel) next() (next time.Time) {
	for _, e := range m.keys {
		if e.delayed && !e.running && (next.IsZero() || e.at.Before(next)) {
			next = e.at
		}
	}
	return next
}

func note(list []reconcile.Cause, more int, c reconcile.Cause, merge bool) ([]reconcile.Cause, int) {
	if c.Reason == "" {
		return list, more
	}
	for i := range list {
		if list[i].Reason == c.Reason && (merge || list[i].Revision == c.Revision) {
			list[i].Revision = max(list[i].Revision, c.Revision)
			return list, more
		}
	}
	if len(list) == 8 {
		return list, more + 1
	}
	return append(list, c), more
}

func (m *queueModel) add(key, verb string, at time.Time, o reconcile.AddOptions) {
	if m.closed {
		return
	}
	e := m.keys[key]
	if e == nil {
		e = &modelEntry{}
		m.keys[key] = e
	}
	e.causes, e.more = note(e.causes, e.more, o.Cause, !e.running)
	if e.parked && o.KeepBackoff {
		return
	}
	if e.parked {
		m.endParking(e)
	}
	m.prioritise(key, int8(o.Priority))
	e.news = e.news || !o.KeepBackoff
	if e.backingOff && (o.KeepBackoff || verb == "limited") {
		return
	}
	if verb != "limited" {
		m.schedule(key, verb, at)
		return
	}
	if e.running && !e.failed || !e.running && !e.delayed && !e.due {
		e.attempts++
		e.failed = true
	}
	if !e.due {
		m.backOff(key, "notlater")
	}
}

// backOff schedules the key after its backoff, of which the model knows the most.
func (m *queueModel) backOff(key, verb string) {
	e := m.keys[key]
	e.most = time.Now().Add(min(time.Second<<min(max(e.attempts-1, 0), 10), 6*time.Second))
	e.before = time.Time{}
	if e.delayed {
		e.before = e.at
	}
	m.schedule(key, verb, e.most)
	e.backingOff = e.delayed && e.at.Equal(e.most)
	e.guess = e.delayed
}

func (m *queueModel) prioritise(key string, p int8) {
	e := m.keys[key]
	switch {
	case !e.delayed && !e.due:
		e.priority = p
	case p > e.priority && e.due && !e.running:
		m.leave(key)
		e.priority = p
		m.join(key)
	default:
		e.priority = max(e.priority, p)
	}
}

func (m *queueModel) schedule(key, verb string, at time.Time) {
	e := m.keys[key]
	future := at.After(time.Now())
	switch {
	case e.due && (verb != "notbefore" || !future):
		return
	case e.due:
		e.due = false
		if !e.running {
			m.remove(key)
		}
	case e.delayed && verb != "notbefore" && !e.at.After(at):
		return
	}
	wasDelayed := e.delayed
	e.delayed, e.backingOff = false, false
	if !future {
		m.makeDue(key)
		return
	}
	e.delayed, e.at = true, at
	if !e.running && !wasDelayed {
		e.since = time.Now()
	}
}

func (m *queueModel) get() reconcile.Item[string] {
	m.gets++
	key := m.ready[0]
	if m.gets%4 != 0 || time.Since(m.keys[key].since) < modelOptions.MaxWait {
		for p := int8(1); p >= -1; p-- {
			if r := m.rounds[p]; len(r) > 0 {
				key = r[0].keys[0]
				m.rounds[p] = append(r[1:], r[0])
				break
			}
		}
	}
	m.remove(key)
	e := m.keys[key]
	for _, r := range e.reasons {
		e.causes, e.more = note(e.causes, e.more, reconcile.Cause{Reason: r}, true)
	}
	item := reconcile.Item[string]{
		Key: key, Causes: slices.Clone(e.causes), MoreCauses: e.more, Attempts: e.attempts,
		Priority: reconcile.Priority(e.priority), Waited: time.Since(e.since),
	}
	e.runCauses, e.runMore, e.causes, e.more, e.reasons = e.causes, e.more, nil, 0, nil
	e.due, e.running, e.news, e.failed, e.since = false, true, false, false, time.Now()
	return item
}

func (m *queueModel) running() (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(m.keys)) {
		if m.keys[key].running {
			keys = append(keys, key)
		}
	}
	return keys
}

func (m *queueModel) endRun(key string) *modelEntry {
	e := m.keys[key]
	e.running, e.since = false, time.Now()
	if e.due {
		m.push(key)
	}
	return e
}

func (m *queueModel) release(key string) {
	if e := m.keys[key]; e != nil && !e.delayed && !e.due && !e.running && !e.parked && e.attempts == 0 {
		delete(m.keys, key)
	}
}

func (m *queueModel) done(key string) {
	e := m.endRun(key)
	if !e.failed {
		e.attempts, e.err = 0, nil
	}
	e.runCauses, e.runMore = nil, 0
	m.release(key)
}

func (m *queueModel) again(key string, at time.Time) {
	e := m.endRun(key)
	e.attempts, e.err, e.runCauses, e.runMore = 0, nil, nil, 0
	if !m.closed {
		m.prioritise(key, 0)
		e.reasons = append(e.reasons, "again")
		m.schedule(key, "notlater", at)
	}
	m.release(key)
}

func (m *queueModel) retry(key string, err error) bool {
	e := m.keys[key]
	m.failRun(e, err)
	if e.attempts >= modelOptions.MaxAttempts {
		return m.setAside(key)
	}
	m.endRun(key)
	if m.closed {
		e.runCauses, e.runMore = nil, 0
		return false
	}
	later, more := e.causes, e.more+e.runMore
	e.causes, e.runCauses, e.more, e.runMore = e.runCauses, nil, more, 0
	for _, c := range later {
		e.causes, e.more = note(e.causes, e.more, c, true)
	}
	e.reasons = append(e.reasons, "retry")
	switch {
	case e.due && e.news || e.backingOff:
	case e.news:
		m.backOff(key, "notlater")
	default:
		m.backOff(key, "notbefore")
	}
	return false
}

func (m *queueModel) failRun(e *modelEntry, err error) {
	if !e.failed || e.attempts == 0 {
		e.attempts++
	}
	e.failed, e.err = true, err
}

func (m *queueModel) park(key string, err error) {
	m.failRun(m.keys[key], err)
	m.setAside(key)
}

func (m *queueModel) setAside(key string) bool {
	e := m.keys[key]
	if (e.delayed || e.due) && e.news {
		m.endRun(key)
		e.attempts, e.err, e.runCauses, e.runMore = 0, nil, nil, 0
		return false
	}
	e.delayed, e.due, e.backingOff, e.parked = false, false, false, true
	m.endRun(key)
	return true
}

func (m *queueModel) endParking(e *modelEntry) {
	e.parked, e.attempts, e.err, e.runCauses, e.runMore, e.failed, e.news = false, 0, nil, nil, 0, false, false
}

func (m *queueModel) unpark(key string) bool {
	e := m.keys[key]
	if e == nil || !e.parked || m.closed {
		return false
	}
	m.endParking(e)
	e.priority = 0
	e.news = true
	m.makeDue(key)
	return true
}

func (m *queueModel) cancel(key string) bool {
	e := m.keys[key]
	if e == nil || !e.delayed {
		return false
	}
	e.since = cancelSince(e)
	m.drop(key)
	return true
}

// cancelSince: a key that was waiting becomes idle now.
func cancelSince(e *modelEntry) time.Time {
	if e.running {
		return e.since
	}
	return time.Now()
}

func (m *queueModel) drop(key string) {
	e := m.keys[key]
	if e.due && !e.running {
		m.remove(key)
	}
	e.delayed, e.due, e.news, e.backingOff, e.reasons, e.causes, e.more = false, false, false, false, nil, nil, 0
	e.since = cancelSince(e)
	m.release(key)
}

func (m *queueModel) forget(key string) {
	if e := m.keys[key]; e != nil {
		e.attempts, e.err = 0, nil
		m.release(key)
	}
}

func (m *queueModel) shutDown() {
	if m.closed {
		return
	}
	m.closed = true
	for key, e := range m.keys {
		if e.delayed {
			m.drop(key)
		}
	}
}

func (m *queueModel) stop() {
	m.shutDown()
	for key, e := range m.keys {
		if e.due {
			m.drop(key)
		}
	}
}

func (m *queueModel) drained() bool {
	for _, e := range m.keys {
		if e.due {
			return false
		}
	}
	return m.closed
}

func (m *queueModel) state(key string) reconcile.State[string] {
	e := m.keys[key]
	s := reconcile.State[string]{
		Key: key, Since: e.since, Added: e.delayed || e.due, Attempts: e.attempts, LastError: e.err,
		Priority: reconcile.Priority(e.priority), Tenant: key[:1],
		Causes: e.runCauses, Pending: e.causes, MoreCauses: e.more + e.runMore,
	}
	if e.delayed {
		s.Until = e.at
	}
	switch {
	case e.running:
		s.Phase = reconcile.PhaseRunning
	case e.parked:
		s.Phase = reconcile.PhaseParked
	default:
		s.Causes, s.Pending = e.causes, nil
		if e.due {
			s.Phase = reconcile.PhaseReady
		} else if e.delayed {
			s.Phase = reconcile.PhaseWaiting
		}
	}
	return s
}
