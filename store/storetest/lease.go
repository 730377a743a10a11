// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func leasePromises() []promise {
	return []promise{
		{name: "ExpiryTakesAllAtOneRevision", test: leaseExpires},
		{name: "NeverEndsEarly", test: leaseNotEarly},
		{name: "KeepAlive", test: leaseKeepAlive},
		{name: "Revoke", test: leaseRevoke},
		{name: "RevokeMeetsAttach", test: leaseRace, clock: true},
		{name: "LostIsLost", test: leaseLost},
		{name: "FinalizersMark", test: leaseFinalizers},
		{name: "EndsOneByOne", test: leaseOneByOne},
		{name: "WritesKeepTheAttachment", test: leaseStays},
		{name: "AttachMovesIt", test: leaseMoves},
		{name: "AttachWithoutAChange", test: leaseAttachOnly},
		{name: "RemovalDetaches", test: leaseDetaches},
		{name: "AttachInATransaction", test: leaseTxn},
		{name: "FenceOfAWrite", test: leaseFenceWrite},
		{name: "FenceOfATransaction", test: leaseFenceTxn},
		{name: "KindUnregistered", test: leaseUnregistered},
		{name: "TimeToLiveIsChecked", test: leaseTTL},
	}
}

// grant makes a lease of some seconds, or of minutes of virtual time.
func (x *trial) grant() store.Lease {
	x.Helper()
	ttl := 30 * time.Second
	if x.opts.RealTime {
		ttl = time.Second
	}
	l, err := x.leaser().Grant(x.ctx, ttl)
	x.ok(err)
	if l.ID == 0 || l.TTL < ttl {
		x.Fatalf("granted %+v, asked for %v", l, ttl)
	}
	return l
}

func with(l store.Lease) store.WriteOptions { return store.WriteOptions{Lease: l.ID} }

// gone waits until the object is not there.
func (x *trial) gone(h handle, k store.Key) {
	x.Helper()
	x.eventually(k.String()+" goes with its lease", func() bool {
		_, err := h.Get(x.ctx, k)
		return errors.Is(err, store.ErrNotFound)
	})
}

func leaseExpires(x *trial) {
	l := x.grant()
	for i := range 5 {
		x.create(x.widgets, object("a", numbered("x", i)), with(l))
		x.create(x.gizmos, object("a", numbered("x", i)), with(l))
	}
	x.create(x.widgets, object("a", "stays"))
	before := x.latest()
	widgets := x.watchNow(x.widgets, store.WatchOptions{})
	gizmos := x.watchNow(x.gizmos, store.WatchOptions{})
	x.gone(x.widgets, key("a", "x000"))
	if got := x.names(x.widgets, store.ListOptions{}) + x.names(x.gizmos, store.ListOptions{}); got != "a/stays" {
		x.Errorf("after the lease: %q, want a/stays", got)
	}
	revisions := map[uint64]bool{}
	for _, w := range []*stream{widgets, gizmos} {
		for i := range 5 {
			ev := w.next()
			if ev.Type != store.Deleted || ev.Last != (i == 4) {
				x.Errorf("event %d is %q; want five deletions in one transaction", i, eventText(ev))
			}
			revisions[ev.Revision] = true
		}
	}
	if len(revisions) != 1 || !revisions[x.latest()] || x.latest() <= before {
		x.Errorf("the lease ended at the revisions %v, and the store is at %d", revisions, x.latest())
	}
}

func leaseNotEarly(x *trial) {
	l := x.grant()
	start := time.Now()
	x.create(x.widgets, object("a", "x"), with(l))
	for {
		_, err := x.widgets.Get(x.ctx, key("a", "x"))
		took := time.Since(start)
		if err != nil {
			x.fails("get", err, store.ErrNotFound)
			if took < l.TTL-100*time.Millisecond { // the grant was before the clock started
				x.Errorf("a lease of %v ended after %v", l.TTL, took)
			}
			return
		}
		if took > l.TTL+patience/2 {
			x.Fatalf("a lease of %v has not ended after %v", l.TTL, took)
		}
		x.wait(l.TTL / 20)
	}
}

func leaseKeepAlive(x *trial) {
	l := x.grant()
	x.create(x.widgets, object("a", "x"), with(l))
	for range 5 {
		x.wait(l.TTL / 2)
		x.ok(x.leaser().KeepAlive(x.ctx, l.ID))
	}
	x.get(x.widgets, key("a", "x"))
	x.gone(x.widgets, key("a", "x"))
}

func leaseRevoke(x *trial) {
	l, other := x.grant(), x.grant()
	x.create(x.widgets, object("a", "x"), with(l))
	x.create(x.gizmos, object("a", "x"), with(l))
	x.create(x.widgets, object("a", "y"), with(other))
	w := x.watchNow(x.widgets, store.WatchOptions{})
	x.ok(x.leaser().Revoke(x.ctx, l.ID))
	x.absent(x.widgets, key("a", "x"))
	x.absent(x.gizmos, key("a", "x"))
	x.get(x.widgets, key("a", "y"))
	w.want("DELETED a/x.")
}

// leaseRace: what is attached while the lease ends goes with it, or is refused.
func leaseRace(x *trial) {
	for round := range scaled(40) {
		l := x.grant()
		writers := x.workers()
		for i := range 2 {
			writers.Go(func() {
				for n := 0; ; n++ {
					_, err := x.widgets.Create(x.ctx, object("a", fmt.Sprint("x", round, "-", i, "-", n)), with(l))
					if errors.Is(err, store.ErrLeaseLost) {
						return
					}
					if err != nil {
						x.Errorf("create: %v", err)
						return
					}
				}
			})
		}
		letOthers()
		x.ok(x.leaser().Revoke(x.ctx, l.ID))
		writers.Wait()
		if got := x.names(x.widgets, store.ListOptions{}); got != "" {
			x.Fatalf("attached to a lease that has ended: %s", got)
		}
	}
}

func leaseLost(x *trial) {
	revoked, expired := x.grant(), x.grant()
	x.create(x.widgets, object("a", "x"), with(expired))
	x.ok(x.leaser().Revoke(x.ctx, revoked.ID))
	x.gone(x.widgets, key("a", "x"))
	for what, id := range map[string]store.LeaseID{"revoked": revoked.ID, "expired": expired.ID, "unknown": 1 << 40} {
		x.fails("keep alive: "+what, x.leaser().KeepAlive(x.ctx, id), store.ErrLeaseLost)
		x.fails("revoke: "+what, x.leaser().Revoke(x.ctx, id), store.ErrLeaseLost)
		_, err := x.widgets.Create(x.ctx, object("a", "y"), store.WriteOptions{Lease: id})
		x.fails("attach: "+what, err, store.ErrLeaseLost)
		x.absent(x.widgets, key("a", "y"))
	}
}

func leaseFinalizers(x *trial) {
	l := x.grant()
	x.create(x.widgets, object("a", "x", finalizers("f")), with(l))
	x.create(x.widgets, object("a", "y"), with(l))
	w := x.watchNow(x.widgets, store.WatchOptions{})
	x.gone(x.widgets, key("a", "y"))
	o := x.get(x.widgets, key("a", "x"))
	if o.DeletionTimestamp == nil || x.revision(o) != x.latest() {
		x.Errorf("the lease ended at %d and left %+v", x.latest(), o.Meta)
	}
	first, second := w.next(), w.next()
	if first.Revision != second.Revision || first.Last || !second.Last || first.Type == second.Type {
		x.Errorf("events %s", eventsText([]event{first, second}))
	}
	x.patch(x.widgets, key("a", "x"), func(w *widget) { w.Finalizers = nil })
	x.absent(x.widgets, key("a", "x"))
}

func leaseOneByOne(x *trial) {
	if x.opts.RealTime {
		x.Skip("by design: minutes of real time")
	}
	w := x.watchNow(x.widgets, store.WatchOptions{})
	var want []string
	for i := range 5 {
		l, err := x.leaser().Grant(x.ctx, time.Duration(50-10*i)*time.Second) // the last ends first
		x.ok(err)
		x.create(x.widgets, object("a", numbered("x", i)), with(l))
		want = append(want, "ADDED a/"+numbered("x", i)+".")
	}
	for i := 4; i >= 0; i-- {
		want = append(want, "DELETED a/"+numbered("x", i)+".")
	}
	w.want(want...)
}

func leaseStays(x *trial) {
	l := x.grant()
	x.create(x.widgets, object("a", "x"), with(l))
	x.patch(x.widgets, key("a", "x"), size(1))
	x.update(x.widgets, object("a", "x", size(2)))
	x.gone(x.widgets, key("a", "x"))
}

func leaseMoves(x *trial) {
	first, second := x.grant(), x.grant()
	x.create(x.widgets, object("a", "x"), with(first))
	_, err := x.widgets.Patch(x.ctx, key("a", "x"), apply(size(1)), with(second))
	x.ok(err)
	x.ok(x.leaser().Revoke(x.ctx, first.ID))
	x.get(x.widgets, key("a", "x"))
	x.ok(x.leaser().Revoke(x.ctx, second.ID))
	x.absent(x.widgets, key("a", "x"))
}

func leaseAttachOnly(x *trial) {
	o := x.create(x.widgets, object("a", "x"))
	l := x.grant()
	same, err := x.widgets.Patch(x.ctx, key("a", "x"), apply(), with(l))
	x.ok(err)
	x.same("the object", same, o)
	x.ok(x.leaser().Revoke(x.ctx, l.ID))
	x.absent(x.widgets, key("a", "x"))
}

func leaseDetaches(x *trial) {
	l := x.grant()
	x.create(x.widgets, object("a", "x"), with(l))
	x.create(x.widgets, object("a", "y"), with(l))
	x.delete(x.widgets, key("a", "x"))
	x.create(x.widgets, object("a", "x"))
	if _, ok := x.st.(store.Transactor); ok {
		x.txn(func(tx store.Tx) error {
			_, err1 := x.widgets.In(tx).Delete(key("a", "y"))
			_, err2 := x.widgets.In(tx).Create(object("a", "y"))
			return errors.Join(err1, err2)
		})
	} else {
		x.delete(x.widgets, key("a", "y"))
		x.create(x.widgets, object("a", "y"))
	}
	x.ok(x.leaser().Revoke(x.ctx, l.ID))
	if got := x.names(x.widgets, store.ListOptions{}); got != "a/x a/y" {
		x.Errorf("list: %q, want a/x a/y: other objects than those that had the lease", got)
	}
}

func leaseTxn(x *trial) {
	x.transactor()
	l := x.grant()
	x.create(x.widgets, object("a", "x"))
	x.txn(func(tx store.Tx) error {
		_, err1 := x.widgets.In(tx).Patch(key("a", "x"), apply(), with(l))
		_, err2 := x.gizmos.In(tx).Create(object("a", "y"), with(l))
		return errors.Join(err1, err2)
	})
	x.ok(x.leaser().Revoke(x.ctx, l.ID))
	x.absent(x.widgets, key("a", "x"))
	x.absent(x.gizmos, key("a", "y"))
}

func leaseFenceWrite(x *trial) {
	l := x.grant()
	fence := store.WriteOptions{Fence: l.ID}
	if x.opts.NoFences {
		_, err := x.widgets.Create(x.ctx, object("a", "x"), fence)
		x.fails("write with a fence", err, store.ErrUnsupported)
		return
	}
	o := x.create(x.widgets, object("a", "x"), fence)
	x.ok(x.leaser().Revoke(x.ctx, l.ID))
	_, err := x.widgets.Create(x.ctx, object("a", "y"), fence)
	x.fails("create", err, store.ErrLeaseLost)
	_, err = x.widgets.Update(x.ctx, object("a", "x", size(1)), fence)
	x.fails("update", err, store.ErrLeaseLost)
	_, err = x.widgets.Patch(x.ctx, key("a", "x"), apply(size(1)), fence)
	x.fails("patch", err, store.ErrLeaseLost)
	_, err = x.widgets.Patch(x.ctx, key("a", "x"), apply(), fence)
	x.fails("patch without a change", err, store.ErrLeaseLost)
	_, err = x.widgets.Delete(x.ctx, key("a", "x"), fence)
	x.fails("delete", err, store.ErrLeaseLost)
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
	x.absent(x.widgets, key("a", "y"))
}

func leaseFenceTxn(x *trial) {
	t := x.transactor()
	x.needFences()
	l := x.grant()
	leader := func(name string) error {
		_, err := t.Txn(x.ctx, func(tx store.Tx) error {
			tx.Fence(l.ID)
			_, err := x.widgets.In(tx).Create(object("a", name))
			return err
		})
		return err
	}
	x.ok(leader("x"))
	_, err := t.Txn(x.ctx, func(tx store.Tx) error { // deposed between its reads and its commit
		tx.Fence(l.ID)
		if err := x.leaser().Revoke(x.ctx, l.ID); err != nil && !errors.Is(err, store.ErrLeaseLost) {
			return err
		}
		_, err := x.widgets.In(tx).Create(object("a", "y"))
		return err
	})
	x.fails("deposed in the transaction", err, store.ErrLeaseLost)
	x.fails("deposed before", leader("z"), store.ErrLeaseLost)
	_, err = t.Txn(x.ctx, func(tx store.Tx) error {
		_, err := x.widgets.In(tx).Create(object("a", "w"), store.WriteOptions{Fence: l.ID})
		return err
	})
	x.fails("a fence of one write in it", err, store.ErrLeaseLost)
	if got := x.names(x.widgets, store.ListOptions{}); got != "a/x" {
		x.Errorf("list: %q, want a/x", got)
	}
}

func leaseUnregistered(x *trial) {
	l := x.grant()
	x.create(x.widgets, object("a", "x"), with(l))
	x.create(x.gizmos, object("a", "x"), with(l))
	x.create(x.widgets, object("a", "y"))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	x.gone(x.gizmos, key("a", "x"))
	x.widgets = x.register(widgetKind())
	if got := x.names(x.widgets, store.ListOptions{}); got != "a/y" {
		x.Errorf("list: %q, want a/y", got)
	}
	l = x.grant()
	x.create(x.widgets, object("a", "z"), with(l))
	x.ok(x.st.Unregister(x.widgets.Schema()))
	x.widgets = x.register(widgetKind())
	x.get(x.widgets, key("a", "z"))
	x.gone(x.widgets, key("a", "z"))
}

func leaseTTL(x *trial) {
	for _, ttl := range []time.Duration{0, -time.Second} {
		_, err := x.leaser().Grant(x.ctx, ttl)
		x.fails("grant for "+ttl.String(), err, store.ErrInvalid)
	}
}
