// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"time"

	"github.com/slipway-dev/slipway/store"
)

func closePromises() []promise {
	return []promise{
		{name: "EveryCallFails", test: closeFails},
		{name: "EndsWatches", test: closeWatches},
		{name: "UnderWrites", test: closeUnderWrites},
		{name: "Twice", test: closeTwice},
	}
}

func closeFails(x *trial) {
	x.create(x.widgets, object("a", "x"))
	x.ok(x.st.Close())
	_, err := x.widgets.Get(x.ctx, key("a", "x"))
	x.fails("get", err, store.ErrClosed)
	_, err = x.widgets.Page(x.ctx)
	x.fails("list", err, store.ErrClosed)
	_, err = x.widgets.Create(x.ctx, object("a", "y"))
	x.fails("create", err, store.ErrClosed)
	_, err = x.widgets.Patch(x.ctx, key("a", "x"), apply())
	x.fails("patch", err, store.ErrClosed)
	_, err = x.st.Revision(x.ctx)
	x.fails("revision", err, store.ErrClosed)
	_, err = store.Register(x.st, kind("Late", store.Namespaced))
	x.fails("register", err, store.ErrClosed)
	x.fails("unregister", x.st.Unregister(x.widgets.Schema()), store.ErrClosed)
	x.watch(x.widgets, store.WatchOptions{}).fails(store.ErrClosed)
	if s, ok := x.st.(store.Transactor); ok {
		_, err = s.Txn(x.ctx, func(store.Tx) error { return nil })
		x.fails("transaction", err, store.ErrClosed)
	}
	if s, ok := x.st.(store.Snapshotter); ok {
		_, err = s.Snapshot(x.ctx, store.ReadOptions{})
		x.fails("snapshot", err, store.ErrClosed)
	}
	if s, ok := x.st.(store.Leaser); ok {
		_, err = s.Grant(x.ctx, time.Minute)
		x.fails("grant", err, store.ErrClosed)
		x.fails("keep alive", s.KeepAlive(x.ctx, 1), store.ErrClosed)
		x.fails("revoke", s.Revoke(x.ctx, 1), store.ErrClosed)
	}
	if s, ok := x.st.(store.Compactor); ok {
		x.fails("compact", s.Compact(x.ctx, 1), store.ErrClosed)
		_, _, err = s.Window(x.ctx)
		x.fails("window", err, store.ErrClosed)
	}
}

func closeWatches(x *trial) {
	ends := make(chan error, 3)
	group := x.workers()
	for _, opts := range []store.WatchOptions{{}, {Namespace: "a", Name: "x"}, {Fields: onNode("n1")}} {
		group.Go(func() {
			for _, err := range x.widgets.Watch(x.ctx, opts) {
				ends <- err
			}
		})
	}
	x.wait(50 * time.Millisecond)
	x.ok(x.st.Close())
	for range 3 {
		x.fails("watch", <-ends, store.ErrClosed)
	}
	group.Wait()
}

func closeUnderWrites(x *trial) {
	group := x.workers()
	for i := range 4 {
		group.Go(func() {
			for n := 0; ; n++ {
				_, err := x.widgets.Create(x.ctx, object("a", numbered("x", i*100000+n)))
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil {
					x.Errorf("create: %v", err)
					return
				}
				x.wait(time.Millisecond)
			}
		})
	}
	x.wait(20 * time.Millisecond)
	x.ok(x.st.Close())
	group.Wait()
}

func closeTwice(x *trial) {
	if l, ok := x.st.(store.Leaser); ok {
		_, err := l.Grant(x.ctx, time.Hour)
		x.ok(err)
	}
	x.ok(x.st.Close())
	x.ok(x.st.Close())
}
