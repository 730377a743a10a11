// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// shardingSession is one stay of a replica among those that shards are spread
// over. It belongs to the goroutine of Run. A replica that was deposed works off
// what it had begun, and then begins another.
type shardingSession struct {
	*Sharder
	id     string
	tenure *tenure // of its own Lease

	closing bool // the replica is to stop: hand everything over
	holds   bool // the table may name this session
	doubt   doubt
	warned  bool // of another replica with this identity
}

// doubt is a write of the table that gave shards back, and of which it is not
// known whether it will still come about: it can as long as the table is at the
// version that the write demanded.
type doubt struct {
	version string
	shards  []int
}

// join makes this replica a member; nil when ctx has ended.
func (s *Sharder) join(ctx context.Context) (*shardingSession, error) {
	id := newSession()
	for ctx.Err() == nil {
		// Not bound to ctx: a replica that joins in the moment in which it has to stop
		// must know of it, to leave again.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Timing.attempt())
		t, err := s.enter(attempt, &id)
		cancel()
		switch {
		case t != nil:
			maps.DeleteFunc(s.former, func(old string, _ bool) bool { return s.witness.members[old] == nil })
			session := &shardingSession{Sharder: s, id: id, tenure: t}
			s.mu.Lock()
			s.tenure = t
			s.mu.Unlock()
			s.opts.Logger.Info("reconcile: joined", "sharder", s.key, "identity", s.opts.Identity, "session", id, "fence", t.fence)
			return session, nil
		case hopeless(err):
			return nil, err
		case err != nil:
			s.opts.Logger.Warn("reconcile: could not join", "sharder", s.key, "identity", s.opts.Identity, "error", err)
		}
		sleep(ctx, s.pace.next(s.opts.Timing.Retry))
	}
	return nil, nil
}

// enter makes sure that there is a table, and then writes the Lease of a new
// session. In this order: where there is a replica and no table, somebody has
// deleted it.
func (s *Sharder) enter(ctx context.Context, id *string) (*tenure, error) {
	if ready, err := s.prepareTable(ctx); !ready {
		return nil, err
	}
	fence, err := s.objects.grant(ctx, s.opts.Timing.Duration)
	if err != nil {
		return nil, fmt.Errorf("grant a fence: %w", err)
	}
	sent := time.Now()
	l := &Lease{
		Meta: store.Meta{Namespace: s.key.Namespace, Name: s.key.Name + "-" + *id, Labels: map[string]string{sharderLabel: s.key.Name}},
		Spec: LeaseSpec{HolderIdentity: new(s.opts.Identity), LeaseDurationSeconds: new(s.opts.Timing.seconds()),
			AcquireTime: after(nil), RenewTime: after(nil)},
	}
	setAnnotation(l, sessionAnnotation, *id)
	setFence(l, fence)
	written, err := s.objects.create(ctx, l)
	if err == nil {
		return newTenure(ctx, s.objects, s.opts.Timing, written, fence, sent)
	}
	_ = s.objects.revoke(ctx, fence) // nobody uses it: should this fail, it ends by itself
	if errors.Is(err, store.ErrAlreadyExists) {
		return nil, s.discard(ctx, store.KeyOf(l), id)
	}
	return nil, err
}

// discard seals the Lease of an attempt to join whose answer was lost: nobody else
// can have used the name.
func (s *Sharder) discard(ctx context.Context, key store.Key, id *string) error {
	l, err := s.objects.get(ctx, key)
	if err == nil {
		l = l.DeepCopy()
		seal(l)
		_, err = s.objects.update(ctx, l)
	}
	if err == nil || errors.Is(err, store.ErrNotFound) {
		*id = newSession()
		return nil
	}
	return err
}

// prepareTable creates the table, or checks the one that is there.
func (s *Sharder) prepareTable(ctx context.Context) (ready bool, err error) {
	found, err := s.objects.get(ctx, s.key)
	if errors.Is(err, store.ErrNotFound) {
		found, err = s.createTable(ctx)
	}
	if err != nil || found == nil {
		return false, err
	}
	s.missing = time.Time{}
	t, err := readShardTable(found)
	switch {
	case err != nil:
		return false, err
	case found.Labels[sharderLabel] != s.key.Name:
		return false, store.Invalidf("Lease %s has lost its label %s=%s", s.key, sharderLabel, s.key.Name)
	case len(t.owners) == s.opts.Shards:
		return true, nil
	case !t.free():
		return false, store.Invalidf("the table in Lease %s has %d shards, and Shards is %d: want the same, or a table of which nobody owns any",
			s.key, len(t.owners), s.opts.Shards)
	}
	next := found.DeepCopy()
	if err := newShardTable(s.opts.Shards).store(next); err != nil {
		return false, err
	}
	_, err = s.objects.update(ctx, next)
	return err == nil, err
}

// createTable creates a table in which nobody owns anything. Where there are
// replicas, somebody has deleted theirs: then it returns nil until they have noticed.
func (s *Sharder) createTable(ctx context.Context) (*Lease, error) {
	v, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	wait := time.Duration(0)
	for _, m := range v.members {
		if !m.sealed() {
			wait = max(wait, s.opts.Timing.Duration, time.Duration(value(m.Spec.LeaseDurationSeconds))*time.Second)
		}
	}
	if s.missing.IsZero() {
		s.missing = now
	}
	if now.Sub(s.missing) < wait {
		return nil, nil
	}
	l := &Lease{Meta: store.Meta{Namespace: s.key.Namespace, Name: s.key.Name, Labels: map[string]string{sharderLabel: s.key.Name}}}
	if err := newShardTable(s.opts.Shards).store(l); err != nil {
		return nil, err
	}
	written, err := s.objects.create(ctx, l)
	if errors.Is(err, store.ErrAlreadyExists) { // another was faster
		return s.objects.get(ctx, s.key)
	}
	return written, err
}

// list reads table and replicas at one revision.
func (s *Sharder) list(ctx context.Context) (view, error) {
	leases, err := s.objects.list(ctx, store.ListOptions{Namespace: s.key.Namespace, Labels: s.selector})
	if err != nil {
		return view{}, err
	}
	return readView(s.key.Name, leases)
}

// serve keeps the session until it is lost, or has handed everything over because
// ctx has ended. An error is one that no retry would mend.
func (s *shardingSession) serve(ctx context.Context) error {
	failed := s.keep(ctx)
	why := context.Cause(s.tenure.ctx)
	s.close()
	s.await()
	s.former[s.id] = true
	if err := s.leave(ctx); err != nil {
		s.opts.Logger.Warn("reconcile: the replica's lease could not be given back", "sharder", s.key, "session", s.id, "error", err)
	}
	s.opts.Logger.Info("reconcile: left", "sharder", s.key, "identity", s.opts.Identity, "session", s.id, "why", why)
	return failed
}

// keep runs cycles: at each renewal, and when something has happened.
func (s *shardingSession) keep(ctx context.Context) error {
	stop := ctx.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due := time.Now(); ; {
		renew := !time.Now().Before(due)
		if renew {
			due = time.Now().Add(s.opts.Timing.Retry)
		}
		if err := s.cycle(context.WithoutCancel(ctx), renew); err != nil {
			s.opts.Logger.Warn("reconcile: the shards are not confirmed", "sharder", s.key, "identity", s.opts.Identity, "error", err)
			if hopeless(err) {
				s.tenure.lose(err)
				return err
			}
		}
		if s.tenure.ctx.Err() != nil || s.closing && !s.holds {
			return nil
		}
		timer.Reset(time.Until(due))
		select {
		case <-s.tenure.ctx.Done():
			return nil
		case <-stop:
			stop, s.closing, due = nil, true, time.Now()
		case <-timer.C:
		case <-s.hint: // others may have more to say in a moment
			sleep(s.tenure.ctx, s.pace.next(s.opts.Timing.Retry/20))
		}
	}
}

// cycle brings what this replica owns and what it should own together by one step.
func (s *shardingSession) cycle(ctx context.Context, renew bool) error {
	var v view
	look := func(ctx context.Context) (err error) {
		v, err = s.read(ctx)
		return err
	}
	if err := s.confirm(ctx, renew, look); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timing.attempt())
	defer cancel()
	s.evict(ctx, v)
	want := s.want(v)
	idle := s.shut(want)
	dead := s.undertaker(ctx, v)
	owners, changed := v.claim(s.id, want, idle, dead)
	at := v.lease
	if changed {
		written, err := s.write(ctx, v, owners)
		if err != nil {
			return err
		}
		at = written
	}
	revision, err := store.RevisionOf(at)
	if err != nil {
		return err
	}
	s.admit(owners, want, revision)
	s.holds = slices.Contains(owners, s.id)
	for _, l := range v.unreferenced() {
		if err := s.objects.remove(ctx, l); err != nil && !gone(err) {
			return fmt.Errorf("remove the Lease of a session that has ended: %w", err)
		}
	}
	return nil
}

// gone reports whether the error says that another was faster.
func gone(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict)
}

// confirm looks, and renews the lease before if that is due.
func (s *shardingSession) confirm(ctx context.Context, renew bool, look func(context.Context) error) error {
	if !renew {
		ctx, cancel := context.WithTimeout(ctx, s.opts.Timing.attempt())
		defer cancel()
		return look(ctx)
	}
	began := time.Now()
	err := s.tenure.renew(ctx, func(l *Lease) {
		if s.closing {
			setAnnotation(l, leavingAnnotation, "true")
		}
	}, look)
	if f := s.opts.Hooks.Renewed; f != nil {
		f(time.Since(began), err)
	}
	return err
}

// read reads table and replicas at one revision, and ends the session if it is
// not what this replica believes.
func (s *shardingSession) read(ctx context.Context) (view, error) {
	v, err := s.list(ctx)
	if err != nil {
		return view{}, err
	}
	s.witness.see(v, time.Now()) // after the list: what it shows is no younger
	me, there := v.members[s.id]
	switch {
	case v.lease == nil:
		err = fmt.Errorf("the table was deleted: %w", store.ErrNotFound)
	case len(v.table.owners) != s.opts.Shards:
		err = fmt.Errorf("the table has %d shards, and not %d", len(v.table.owners), s.opts.Shards)
	case !there || me.sealed():
		err = errors.New("another has ended the session")
	default:
		err = s.robbed(v)
	}
	if err != nil {
		s.tenure.lose(err)
		return view{}, err
	}
	s.tenure.record = me.Lease
	return v, nil
}

// robbed returns an error if the table gives what this replica works on to another.
func (s *shardingSession) robbed(v view) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for shard, owner := range v.table.owners {
		if owner != s.id && (s.epochs[shard] != 0 || s.busy[shard] > 0) {
			return fmt.Errorf("shard %d was taken away", shard)
		}
	}
	return nil
}

// evict seals the sessions whose leases have run out, and earlier ones of this very
// replica, which have ended. The fence goes first: see [Elector.take] for why.
func (s *shardingSession) evict(ctx context.Context, v view) {
	now := time.Now()
	for session, m := range v.members {
		if session == s.id || m.sealed() || !s.former[session] && !s.witness.expired(session, now) {
			continue
		}
		next := m.Lease.DeepCopy()
		seal(next)
		err := s.objects.revoke(ctx, fenceOf(m.Lease))
		if err == nil {
			next, err = s.objects.update(ctx, next)
		}
		if err != nil {
			if !gone(err) {
				s.opts.Logger.Warn("reconcile: could not end a session that has run out", "sharder", s.key, "session", session, "error", err)
			}
			continue
		}
		v.members[session] = member{next, session}
		s.opts.Logger.Info("reconcile: ended a session that has run out", "sharder", s.key,
			"identity", value(m.Spec.HolderIdentity), "session", session)
	}
}

// undertaker returns the function that tells whether a session has ended and can
// write no more.
func (s *shardingSession) undertaker(ctx context.Context, v view) func(session string) bool {
	known, now := map[string]bool{}, time.Now()
	return func(session string) bool {
		dead, asked := known[session]
		if asked {
			return dead
		}
		fence := v.table.sessions[session].fence
		if m, there := v.members[session]; there {
			dead, fence = m.sealed(), fenceOf(m.Lease) // there is one if its own replica could not revoke it
		} else {
			dead = s.witness.vanished(session, v.table.sessions[session], now)
		}
		if dead {
			if err := s.objects.revoke(ctx, fence); err != nil {
				s.opts.Logger.Warn("reconcile: could not revoke the fence of a session that has ended", "sharder", s.key, "session", session, "error", err)
				dead = false
			}
		}
		known[session] = dead
		return dead
	}
}

// want returns the shards that are to be this replica's.
func (s *shardingSession) want(v view) []bool {
	if s.closing {
		return make([]bool, s.opts.Shards)
	}
	candidates := s.witness.candidates(v, time.Now())
	if !s.warned && !slices.ContainsFunc(candidates, func(m member) bool { return m.session == s.id }) {
		s.warned = true
		s.opts.Logger.Warn("reconcile: another replica has the same identity, and keeps the shards", "sharder", s.key, "identity", s.opts.Identity)
	}
	want := wanted(s.id, candidates, s.opts.Shards)
	if s.doubt.version != v.lease.ResourceVersion {
		s.doubt = doubt{}
	}
	for _, shard := range s.doubt.shards {
		want[shard] = false // give it back again: what is certain is that it was to be
	}
	return want
}

// shut closes the shards that are not wanted to new work, and returns which have
// none in progress.
func (s *shardingSession) shut(want []bool) (idle []bool) {
	idle = make([]bool, len(want))
	s.change(func() {
		for shard := range want {
			if !want[shard] {
				s.epochs[shard] = 0
			}
			idle[shard] = s.busy[shard] == 0
		}
	})
	return idle
}

// write writes the table, at the version that was read.
func (s *shardingSession) write(ctx context.Context, v view, owners []string) (*Lease, error) {
	next := v.lease.DeepCopy()
	me := shardSession{s.tenure.fence, s.opts.Timing.seconds()}
	if err := v.table.with(owners, s.id, me).store(next); err != nil {
		return nil, err
	}
	s.holds = true // until it is known
	written, err := s.objects.update(ctx, next)
	if err == nil {
		s.wrote.Store(written.ResourceVersion)
		return written, nil
	}
	s.doubt = doubt{version: v.lease.ResourceVersion}
	for shard, owner := range v.table.owners {
		if owner == s.id && owners[shard] == "" {
			s.doubt.shards = append(s.doubt.shards, shard)
		}
	}
	s.nudge()
	return nil, fmt.Errorf("write the table: %w", err)
}

// admit opens the shards that are this replica's to work.
func (s *shardingSession) admit(owners []string, want []bool, revision uint64) {
	s.change(func() {
		var gained []int
		for shard, owner := range owners {
			if owner == s.id && want[shard] && s.epochs[shard] == 0 {
				s.epochs[shard] = revision
				gained = append(gained, shard)
			}
		}
		for _, l := range s.listeners {
			s.add(l, gained)
		}
	})
}

// close closes every shard, at the end of the session.
func (s *shardingSession) close() {
	s.change(func() {
		clear(s.epochs)
		s.Sharder.tenure = nil
	})
}

// change runs f with the mutex held, and tells of the number of shards if that
// has changed.
func (s *shardingSession) change(f func()) {
	s.mu.Lock()
	before := len(s.open())
	f()
	n := len(s.open())
	s.mu.Unlock()
	if n == before {
		return
	}
	s.opts.Logger.Info("reconcile: shards owned", "sharder", s.key, "identity", s.opts.Identity, "shards", n, "of", s.opts.Shards)
	if f := s.opts.Hooks.Owned; f != nil {
		f(n, s.opts.Shards)
	}
}

// await waits for the work in progress, and says when it takes long: its context
// has ended, or the caller was asked to stop.
func (s *shardingSession) await() {
	ticker := time.NewTicker(s.opts.Timing.Duration)
	defer ticker.Stop()
	for since := time.Now(); ; {
		s.mu.Lock()
		busy := 0
		for _, n := range s.busy {
			busy += n
		}
		s.mu.Unlock()
		if busy == 0 {
			return
		}
		select {
		case <-s.hint:
		case <-ticker.C:
			s.opts.Logger.Warn("reconcile: work goes on after its shard was lost", "sharder", s.key, "identity", s.opts.Identity,
				"keys", busy, "for", time.Since(since))
		}
	}
}

// leave ends the session for everybody to see, and removes its Lease if nobody
// needs that any more.
func (s *shardingSession) leave(ctx context.Context) error {
	if err := s.tenure.end(ctx); err != nil {
		return err
	}
	if s.holds {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Timing.attempt())
	defer cancel()
	l, err := s.objects.get(ctx, store.KeyOf(s.tenure.record))
	if err == nil && (member{Lease: l}).sealed() {
		err = s.objects.remove(ctx, l)
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}
