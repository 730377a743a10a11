// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"strconv"

	"github.com/slipway-dev/slipway/store"
)

func txnPromises() []promise {
	return []promise{
		{name: "OneRevision", test: txnOneRevision},
		{name: "ErrorHasNoEffect", test: txnError},
		{name: "PanicHasNoEffect", test: txnPanic},
		{name: "RefusedWriteLeavesTheRest", test: txnRefused},
		{name: "ReadsItsWrites", test: txnReadsWrites},
		{name: "ListsItsWrites", test: txnListsWrites},
		{name: "PagesItsWrites", test: txnPages},
		{name: "ReadsOneState", test: txnOneState},
		{name: "ConflictOfARead", test: txnReadConflict},
		{name: "ConflictOfAnAbsence", test: txnAbsenceConflict},
		{name: "ConflictOfAList", test: txnListConflict},
		{name: "ConflictOfAListBeyondTheWindow", test: txnListConflictCompacted},
		{name: "ConflictOfAWrite", test: txnWriteConflict},
		{name: "TakesOverAgain", test: txnTakeOver},
		{name: "NoConflictElsewhere", test: txnNoConflict},
		{name: "TransfersKeepTheSum", test: txnTransfers, clock: true},
		{name: "DeleteAndCreateShowsBoth", test: txnDeleteCreate},
		{name: "CreateAndDeleteShowsNothing", test: txnCreateDelete},
		{name: "ReadOnlyReturnsItsRevision", test: txnReadOnly},
		{name: "PreconditionsCount", test: txnPreconditions},
		{name: "OverWhenItReturns", test: txnOver},
		{name: "KindRegisteredAgainInTheMiddle", test: txnKindAgain},
	}
}

func txnOneRevision(x *trial) {
	x.create(x.widgets, object("a", "old"))
	x.create(x.widgets, object("a", "gone"))
	rev := x.txn(func(tx store.Tx) error {
		_, err1 := x.widgets.In(tx).Create(object("a", "new"))
		_, err2 := x.gizmos.In(tx).Create(object("b", "new"))
		_, err3 := x.racks.In(tx).Create(object("", "new"))
		_, err4 := x.widgets.In(tx).Patch(key("a", "old"), apply(size(1)))
		_, err5 := x.widgets.In(tx).Delete(key("a", "gone"))
		return errors.Join(err1, err2, err3, err4, err5)
	})
	if rev != x.latest() {
		x.Errorf("the transaction is of revision %d, and the store at %d", rev, x.latest())
	}
	for _, o := range []*widget{
		x.get(x.widgets, key("a", "new")), x.get(x.gizmos, key("b", "new")),
		x.get(x.racks, key("", "new")), x.get(x.widgets, key("a", "old")),
	} {
		if x.revision(o) != rev {
			x.Errorf("%s is of revision %s, want %d", store.KeyOf(o), o.ResourceVersion, rev)
		}
	}
	x.absent(x.widgets, key("a", "gone"))
}

func txnError(x *trial) {
	t := x.transactor()
	o := x.create(x.widgets, object("a", "x"))
	before := x.latest()
	w := x.watchNow(x.widgets, store.WatchOptions{})
	_, err := t.Txn(x.ctx, func(tx store.Tx) error {
		_, err1 := x.widgets.In(tx).Patch(key("a", "x"), apply(size(1)))
		_, err2 := x.widgets.In(tx).Create(object("a", "y"))
		return errors.Join(err1, err2, errMine)
	})
	x.fails("transaction", err, errMine)
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
	x.absent(x.widgets, key("a", "y"))
	if x.latest() != before {
		x.Errorf("the revision went from %d to %d", before, x.latest())
	}
	x.create(x.widgets, object("a", "z"))
	w.want("ADDED a/z.")
}

func txnPanic(x *trial) {
	t := x.transactor()
	o := x.create(x.widgets, object("a", "x"))
	func() {
		defer func() { _ = recover() }() // whether it comes out as a panic is the engine's affair
		_, err := t.Txn(x.ctx, func(tx store.Tx) error {
			if _, err := x.widgets.In(tx).Patch(key("a", "x"), apply(size(1))); err != nil {
				return err
			}
			panic("the caller's own panic")
		})
		if err == nil {
			x.Error("a transaction that panics: no error")
		}
	}()
	x.same("the object", x.get(x.widgets, key("a", "x")), o)
	x.patch(x.widgets, key("a", "x"), size(2)) // and nothing is locked
}

func txnRefused(x *trial) {
	x.create(x.widgets, object("a", "x", size(1)))
	x.txn(func(tx store.Tx) error {
		in := x.widgets.In(tx)
		_, err := in.Create(object("a", "x"))
		x.fails("create", err, store.ErrAlreadyExists)
		_, err = in.Delete(key("a", "none"))
		x.fails("delete", err, store.ErrNotFound)
		_, err = in.Update(object("a", "x", uid("another")))
		x.fails("update", err, store.ErrConflict)
		_, err = in.Patch(key("a", "x"), func(w *widget) error {
			w.Spec.Size = 9
			return errMine
		})
		x.fails("patch", err, errMine)
		if o, err := in.Get(key("a", "x")); err != nil || o.Spec.Size != 1 {
			x.Errorf("after the refused writes: %+v, %v", o, err)
		}
		_, err = in.Create(object("a", "y"))
		return err
	})
	if got := x.names(x.widgets, store.ListOptions{}); got != "a/x a/y" {
		x.Errorf("list: %q, want a/x a/y", got)
	}
}

func txnReadsWrites(x *trial) {
	x.create(x.widgets, object("a", "x", size(1)))
	x.create(x.widgets, object("a", "y"))
	x.txn(func(tx store.Tx) error {
		in := x.widgets.In(tx)
		made, err := in.Create(object("a", "z", size(7)))
		x.ok(err)
		if made.UID == "" || made.Generation != 1 {
			x.Errorf("created in the transaction: %+v", made.Meta)
		}
		if o, err := in.Get(key("a", "z")); err != nil || o.Spec.Size != 7 || o.UID != made.UID {
			x.Errorf("created and read: %+v, %v", o, err)
		}
		_, err = in.Patch(key("a", "x"), func(w *widget) error { w.Spec.Size++; return nil })
		x.ok(err)
		_, err = in.Patch(key("a", "x"), func(w *widget) error { w.Spec.Size++; return nil })
		x.ok(err)
		if o, err := in.Get(key("a", "x")); err != nil || o.Spec.Size != 3 {
			x.Errorf("patched twice and read: %+v, %v", o, err)
		}
		_, err = in.Delete(key("a", "y"))
		x.ok(err)
		_, err = in.Get(key("a", "y"))
		x.fails("deleted and read", err, store.ErrNotFound)
		_, err = in.Delete(key("a", "y"))
		x.fails("deleted twice", err, store.ErrNotFound)
		return nil
	})
	if o := x.get(x.widgets, key("a", "x")); o.Spec.Size != 3 {
		x.Errorf("after the transaction: %+v", o.Spec)
	}
}

func txnListsWrites(x *trial) {
	x.needListsInTxn()
	x.create(x.widgets, object("a", "leaves", node("n1"), label("app", "web"), tags("t")))
	x.create(x.widgets, object("a", "stays", node("n1"), label("app", "web"), tags("t")))
	x.create(x.widgets, object("a", "gone", node("n1"), label("app", "web"), tags("t")))
	x.create(x.widgets, object("b", "joins", node("n2"), label("app", "db")))
	x.txn(func(tx store.Tx) error {
		in := x.widgets.In(tx)
		_, err1 := in.Patch(key("a", "leaves"), apply(node("n2"), label("app", "db"), tags()))
		_, err2 := in.Patch(key("b", "joins"), apply(node("n1"), label("app", "web"), tags("u", "t")))
		_, err3 := in.Delete(key("a", "gone"))
		_, err4 := in.Create(object("a", "new", node("n1"), label("app", "web"), tags("t")))
		x.ok(errors.Join(err1, err2, err3, err4))
		for _, c := range []struct {
			opts store.ListOptions
			want string
		}{
			{store.ListOptions{}, "a/leaves a/new a/stays b/joins"},
			{store.ListOptions{Namespace: "a"}, "a/leaves a/new a/stays"},
			{store.ListOptions{Namespace: "b"}, "b/joins"},
			{store.ListOptions{Fields: onNode("n1")}, "a/new a/stays b/joins"},
			{store.ListOptions{Fields: onNode("n2")}, "a/leaves"},
			{store.ListOptions{Fields: onNode("n1"), Namespace: "a"}, "a/new a/stays"},
			{store.ListOptions{Fields: tagged("t")}, "a/new a/stays b/joins"},
			{store.ListOptions{Fields: tagged("u")}, "b/joins"},
			{store.ListOptions{Labels: x.selector("app=web")}, "a/new a/stays b/joins"},
			{store.ListOptions{Labels: x.selector("app=db")}, "a/leaves"},
		} {
			if got := x.collect(in.List(c.opts)); got != c.want {
				x.Errorf("list with %+v: %q, want %q", c.opts, got, c.want)
			}
		}
		return nil
	})
}

func txnPages(x *trial) {
	x.needListsInTxn()
	x.fill(x.widgets, "a", 5)
	x.txn(func(tx store.Tx) error {
		in := x.widgets.In(tx)
		_, err1 := in.Create(object("a", "x0005"))
		_, err2 := in.Delete(key("a", "x003"))
		x.ok(errors.Join(err1, err2))
		got, left := "", 5
		for opts := (store.ListOptions{Limit: 2}); ; {
			p, err := in.Page(opts)
			x.ok(err)
			for _, w := range p.Items {
				got += w.Name + " "
				left--
			}
			if p.Remaining != left && p.Remaining != -1 && p.Continue != "" {
				x.Errorf("%d objects remain, says the page; it is %d", p.Remaining, left)
			}
			if opts.Continue = p.Continue; opts.Continue == "" {
				break
			}
		}
		if got != "x000 x0005 x001 x002 x004 " {
			x.Errorf("pages in a transaction: %s", got)
		}
		return nil
	})
}

func txnOneState(x *trial) {
	x.create(x.widgets, object("a", "x", size(1)))
	x.create(x.gizmos, object("a", "x", size(1)))
	runs := 0
	x.txn(func(tx store.Tx) error {
		runs++
		w, err := x.widgets.In(tx).Get(key("a", "x"))
		x.ok(err)
		if runs == 1 { // another write of both comes in between
			x.patch(x.widgets, key("a", "x"), size(2))
			x.patch(x.gizmos, key("a", "x"), size(2))
		}
		g, err := x.gizmos.In(tx).Get(key("a", "x"))
		x.ok(err)
		if w.Spec.Size != g.Spec.Size {
			x.Errorf("run %d reads %d and %d: of two states", runs, w.Spec.Size, g.Spec.Size)
		}
		return nil
	})
}

// rerun runs a transaction that reads with read and then writes a/out; between
// the two, other writes once. It returns how often the function ran.
func (x *trial) rerun(read func(store.Tx) int, other func()) (runs int) {
	x.Helper()
	x.txn(func(tx store.Tx) error {
		runs++
		n := read(tx)
		if runs == 1 {
			other()
		}
		_, err := x.gizmos.In(tx).Create(object("a", "out", size(n)))
		return err
	})
	return runs
}

func txnReadConflict(x *trial) {
	x.create(x.widgets, object("a", "x", size(1)))
	x.rerun(func(tx store.Tx) int {
		o, err := x.widgets.In(tx).Get(key("a", "x"))
		x.ok(err)
		return o.Spec.Size
	}, func() { x.patch(x.widgets, key("a", "x"), size(2)) })
	if got := x.get(x.gizmos, key("a", "out")).Spec.Size; got != 2 {
		x.Errorf("committed on a read of %d, which was 2 at the commit", got)
	}
}

func txnAbsenceConflict(x *trial) {
	x.rerun(func(tx store.Tx) int {
		if _, err := x.widgets.In(tx).Get(key("a", "x")); err != nil {
			x.fails("get", err, store.ErrNotFound)
			return 0
		}
		return 1
	}, func() { x.create(x.widgets, object("a", "x")) })
	if got := x.get(x.gizmos, key("a", "out")).Spec.Size; got != 1 {
		x.Error("committed on an absence that was no longer so")
	}
}

func txnListConflict(x *trial) {
	x.needListsInTxn()
	x.create(x.widgets, object("a", "x", node("n1")))
	x.create(x.widgets, object("a", "y", node("n2")))
	for i, c := range []struct {
		opts  store.ListOptions
		other func()
	}{
		{store.ListOptions{Fields: onNode("n1")}, func() { x.create(x.widgets, object("b", "joins", node("n1"))) }},
		{store.ListOptions{Fields: onNode("n1")}, func() { x.patch(x.widgets, key("a", "y"), node("n1")) }},
		{store.ListOptions{Fields: onNode("n1")}, func() { x.patch(x.widgets, key("a", "x"), node("n3")) }},
		{store.ListOptions{Namespace: "b"}, func() { x.delete(x.widgets, key("b", "joins")) }},
		{store.ListOptions{Labels: x.selector("app")}, func() { x.patch(x.widgets, key("a", "y"), label("app", "web")) }},
		{store.ListOptions{}, func() { x.create(x.widgets, object("c", "z")) }},
	} {
		runs := x.rerun(func(tx store.Tx) int {
			p, err := x.widgets.In(tx).Page(c.opts)
			x.ok(err)
			return len(p.Items)
		}, c.other)
		out := x.get(x.gizmos, key("a", "out"))
		want := len(x.page(x.widgets, c.opts).Items)
		if runs < 2 || out.Spec.Size != want {
			x.Errorf("case %d: committed after %d runs on a list of %d, which was of %d at the commit", i, runs, out.Spec.Size, want)
		}
		x.delete(x.gizmos, key("a", "out"))
	}
}

// txnListConflictCompacted: the history that would tell of the conflict has gone
// before the commit.
func txnListConflictCompacted(x *trial) {
	x.needListsInTxn()
	c := x.compactor()
	x.create(x.widgets, object("a", "x", node("n1")))
	x.rerun(func(tx store.Tx) int {
		p, err := x.widgets.In(tx).Page(store.ListOptions{Fields: onNode("n1")})
		x.ok(err)
		return len(p.Items)
	}, func() {
		x.create(x.widgets, object("a", "y", node("n1")))
		for i := range 400 { // beyond what an engine might keep in one piece
			x.patch(x.widgets, key("a", "x"), size(i+1))
		}
		x.ok(c.Compact(x.ctx, x.latest()))
	})
	if got := x.get(x.gizmos, key("a", "out")).Spec.Size; got != 2 {
		x.Errorf("committed on a list of %d, which was of 2 at the commit", got)
	}
}

func txnWriteConflict(x *trial) {
	x.create(x.widgets, object("a", "x", size(1)))
	runs := 0
	x.txn(func(tx store.Tx) error {
		runs++
		_, err := x.widgets.In(tx).Patch(key("a", "x"), func(w *widget) error { w.Spec.Size *= 10; return nil })
		x.ok(err)
		if runs == 1 {
			x.patch(x.widgets, key("a", "x"), size(2))
		}
		return nil
	})
	if got := x.get(x.widgets, key("a", "x")).Spec.Size; got != 20 {
		x.Errorf("size %d, want 20: another write was lost", got)
	}
}

// txnTakeOver hands over an object that stands outside of the function: what
// the first run did to it must not refuse it in the second.
func txnTakeOver(x *trial) {
	x.create(x.widgets, object("a", "it"))
	mine, runs := object("a", "it", size(7)), 0
	x.txn(func(tx store.Tx) error {
		runs++
		_, err := x.widgets.In(tx).Update(mine, store.WriteOptions{TakeOver: true})
		if runs == 1 {
			x.patch(x.widgets, key("a", "it"), size(1))
		}
		return err
	})
	if got := x.get(x.widgets, key("a", "it")); runs != 2 || got.Spec.Size != 7 {
		x.Errorf("after %d runs its size is %d, want 2 runs and 7", runs, got.Spec.Size)
	}
}

func txnNoConflict(x *trial) {
	x.create(x.widgets, object("a", "x"))
	x.create(x.widgets, object("a", "y"))
	runs := x.rerun(func(tx store.Tx) int {
		_, err := x.widgets.In(tx).Get(key("a", "x"))
		x.ok(err)
		return 0
	}, func() { x.patch(x.widgets, key("a", "y"), size(1)) })
	if runs != 1 {
		x.Errorf("the function ran %d times, and nothing that it read has changed", runs)
	}
}

func txnTransfers(x *trial) {
	const accounts, workers, each, start = 4, 4, 40, 100
	t := x.transactor()
	account := func(i int) store.Key { return key("a", "x"+strconv.Itoa(i)) }
	for i := range accounts {
		x.create(x.widgets, object("a", account(i).Name, size(start)))
	}
	all := x.workers()
	for w := range workers {
		all.Go(func() {
			for n := range each {
				from, to := account((w+n)%accounts), account((w+2*n+1)%accounts)
				if from == to {
					continue
				}
				_, err := t.Txn(x.ctx, func(tx store.Tx) error {
					_, err1 := x.widgets.In(tx).Patch(from, func(w *widget) error { w.Spec.Size--; return nil })
					letOthers()
					_, err2 := x.widgets.In(tx).Patch(to, func(w *widget) error { w.Spec.Size++; return nil })
					return errors.Join(err1, err2)
				})
				if err != nil {
					x.Errorf("transfer: %v", err)
					return
				}
				sum := 0
				for o, err := range x.widgets.List(x.ctx) {
					if err != nil {
						x.Errorf("list: %v", err)
						return
					}
					sum += o.Spec.Size
				}
				if sum != accounts*start {
					x.Errorf("a list sums up to %d, want %d", sum, accounts*start)
					return
				}
			}
		})
	}
	all.Wait()
}

func txnDeleteCreate(x *trial) {
	first := x.create(x.widgets, object("a", "x", size(1), node("n1")))
	w := x.watchNow(x.widgets, store.WatchOptions{})
	onlyN1 := x.watchNow(x.widgets, store.WatchOptions{Fields: onNode("n1")})
	rev := x.txn(func(tx store.Tx) error {
		_, err1 := x.widgets.In(tx).Delete(key("a", "x"))
		_, err2 := x.widgets.In(tx).Create(object("a", "x", size(2), node("n2")))
		return errors.Join(err1, err2)
	})
	events := w.want("DELETED a/x", "ADDED a/x.")
	if events[0].Object.UID != first.UID || events[1].Object.UID == first.UID || events[1].Old != nil {
		x.Errorf("the UID was %s: deleted %s, added %s (old %v)", first.UID, events[0].Object.UID, events[1].Object.UID, events[1].Old)
	}
	for _, ev := range append(events, onlyN1.want("DELETED a/x.")...) {
		if ev.Revision != rev {
			x.Errorf("event of revision %d, want %d", ev.Revision, rev)
		}
	}
	if o := x.get(x.widgets, key("a", "x")); o.Generation != 1 || o.Spec.Size != 2 {
		x.Errorf("there is %+v", o)
	}
}

func txnCreateDelete(x *trial) {
	x.transactor()
	w := x.watchNow(x.widgets, store.WatchOptions{})
	x.txn(func(tx store.Tx) error {
		_, err1 := x.widgets.In(tx).Create(object("a", "brief"))
		_, err2 := x.widgets.In(tx).Delete(key("a", "brief"))
		_, err3 := x.widgets.In(tx).Create(object("a", "stays"))
		return errors.Join(err1, err2, err3)
	})
	w.want("ADDED a/stays.")
	x.absent(x.widgets, key("a", "brief"))
}

func txnReadOnly(x *trial) {
	x.create(x.widgets, object("a", "x"))
	before := x.latest()
	rev := x.txn(func(tx store.Tx) error {
		_, err := x.widgets.In(tx).Get(key("a", "x"))
		return err
	})
	if rev != before || x.latest() != before {
		x.Errorf("the transaction returns %d and the store is at %d, want %d", rev, x.latest(), before)
	}
}

func txnPreconditions(x *trial) {
	t := x.transactor()
	first := x.create(x.widgets, object("a", "x"))
	x.patch(x.widgets, key("a", "x"), size(2))
	_, err := t.Txn(x.ctx, func(tx store.Tx) error {
		if _, err := x.widgets.In(tx).Create(object("a", "y")); err != nil {
			return err
		}
		_, err := x.widgets.In(tx).Update(object("a", "x", version(first.ResourceVersion), size(3)))
		return err
	})
	x.fails("transaction with a stale version", err, store.ErrConflict)
	x.absent(x.widgets, key("a", "y"))
}

func txnOver(x *trial) {
	var kept store.Tx
	x.txn(func(tx store.Tx) error {
		kept = tx
		return nil
	})
	_, err := x.widgets.In(kept).Create(object("a", "x"))
	x.fails("write in a transaction that is over", err, store.ErrInvalid)
	x.absent(x.widgets, key("a", "x"))
}

// txnKindAgain: what a transaction read is validated even if the kind was
// unregistered and registered again in the middle.
func txnKindAgain(x *trial) {
	for what, read := range map[string]func(store.Tx) (*widget, error){
		"get": func(tx store.Tx) (*widget, error) { return x.widgets.In(tx).Get(key("a", "x")) },
		"list": func(tx store.Tx) (*widget, error) {
			page, err := x.widgets.In(tx).Page(store.ListOptions{Namespace: "a"})
			if err != nil {
				return nil, err
			}
			return page.Items[0], nil
		},
	} {
		if what == "list" && x.opts.NoListsInTxn {
			continue
		}
		x.create(x.widgets, object("a", "x", size(1)))
		runs := 0
		_, err := x.transactor().Txn(x.ctx, func(tx store.Tx) error {
			runs++
			o, err := read(tx)
			if err != nil {
				return err
			}
			if runs == 1 {
				x.ok(x.st.Unregister(x.widgets.Schema()))
				x.ok(x.st.Register(x.widgets.Schema()))
				x.patch(x.widgets, key("a", "x"), size(2))
			}
			_, err = x.gizmos.In(tx).Create(object("a", what, size(o.Spec.Size)))
			return err
		})
		x.ok(err)
		if o := x.get(x.gizmos, key("a", what)); o.Spec.Size != 2 {
			x.Errorf("%s: the transaction wrote %d of what it read before, want 2", what, o.Spec.Size)
		}
		x.delete(x.widgets, key("a", "x"))
	}
}
