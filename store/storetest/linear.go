// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/anishathalye/porcupine"

	"github.com/slipway-dev/slipway/store"
)

func linearPromises() []promise {
	return []promise{
		{name: "SingleObjects", clock: true, test: func(x *trial) { linearizable(x, "get", "create", "update", "patch", "delete") }},
		{name: "Lists", clock: true, test: func(x *trial) { linearizable(x, "list", "list", "create", "patch", "delete") }},
		{name: "Transactions", clock: true, test: func(x *trial) {
			x.transactor()
			linearizable(x, "get", "create", "update", "patch", "delete", "transaction", "derive", "derive", "list")
		}},
	}
}

const (
	linearKeys    = 3
	linearClients = 4
	linearOps     = 30
)

// cell is one object in the plain model; revision 0 says that there is none.
type cell struct {
	revision uint64
	value    int
}

// cells is the state of the plain model.
type cells [linearKeys]cell

// call is an operation, as porcupine sees it.
type call struct {
	op      string
	a, b    int    // keys; b for transactions
	value   int    // to write
	version uint64 // demanded by update and delete; 0: none
}

// answer is what the store said.
type answer struct {
	err      error // a sentinel, or nil
	revision uint64
	value    int
	seen     cells // by list and transaction
}

// linearizable lets clients work on few objects and looks for an order of their
// operations that a plain map explains.
func linearizable(x *trial, ops ...string) {
	r := rand.New(rand.NewPCG(seed(x.T), 1))
	for round := range scaled(40) {
		h := x.register(kind(fmt.Sprint("Linear", round), store.Namespaced))
		var clock atomic.Int64
		histories := make([][]porcupine.Operation, linearClients)
		clients := x.workers()
		for c := range linearClients {
			mine := rand.New(rand.NewPCG(r.Uint64(), uint64(c)))
			clients.Go(func() { histories[c] = x.client(h, c, mine, &clock, ops) })
		}
		clients.Wait()
		var history []porcupine.Operation
		for _, h := range histories {
			history = append(history, h...)
		}
		if !porcupine.CheckOperations(linearModel(), history) {
			x.Fatalf("round %d: no order of these operations explains the answers:\n%s", round, historyText(history))
		}
		x.ok(x.st.Unregister(h.Schema()))
	}
}

// client carries out random operations and records them.
func (x *trial) client(h handle, id int, r *rand.Rand, clock *atomic.Int64, ops []string) []porcupine.Operation {
	var history []porcupine.Operation
	var known cells // what this client has seen last
	for n := range linearOps {
		in := call{op: pick(r, ops...), a: r.IntN(linearKeys), value: (id*linearOps + n + 1) * 1000} // far apart: patches count up from there
		in.b = (in.a + 1 + r.IntN(linearKeys-1)) % linearKeys
		if r.IntN(2) == 0 || in.op == "update" {
			in.version = known[in.a].revision
		}
		if n%4 == id%4 {
			letOthers()
		}
		if in.op == "update" && in.version == 0 {
			in.op = "get"
		}
		start := clock.Add(1)
		out, err := x.call(h, in)
		end := clock.Add(1)
		if err != nil {
			x.Errorf("%v: %v", in, err)
			return history
		}
		history = append(history, porcupine.Operation{ClientId: id, Input: in, Call: start, Output: out, Return: end})
		if out.err == nil && out.revision != 0 && in.op != "transaction" && in.op != "derive" {
			known[in.a] = cell{out.revision, out.value}
		}
	}
	return history
}

// call carries out one operation. Its error is one that no operation should give.
func (x *trial) call(h handle, in call) (answer, error) {
	k := key("a", fmt.Sprint("k", in.a))
	var o *widget
	var err error
	switch in.op {
	case "get":
		o, err = h.Get(x.ctx, k)
	case "create":
		o, err = h.Create(x.ctx, object("a", k.Name, size(in.value)))
	case "update":
		o, err = h.Update(x.ctx, object("a", k.Name, size(in.value), version(store.FormatRevision(in.version))))
	case "patch":
		o, err = h.Patch(x.ctx, k, func(w *widget) error {
			letOthers()
			w.Spec.Size++
			return nil
		})
	case "delete":
		var opts store.WriteOptions
		if in.version != 0 {
			opts.ResourceVersion = store.FormatRevision(in.version)
		}
		o, err = h.Delete(x.ctx, k, opts)
	case "list":
		var seen cells
		err = seen.read(h.List(x.ctx))
		return answer{seen: seen}, err
	case "transaction", "derive":
		return x.linearTxn(h, in)
	}
	for _, expected := range []error{store.ErrNotFound, store.ErrAlreadyExists, store.ErrConflict} {
		if errors.Is(err, expected) {
			return answer{err: expected}, nil
		}
	}
	if err != nil {
		return answer{}, err
	}
	rev, err := store.RevisionOf(o)
	return answer{revision: rev, value: o.Spec.Size}, err
}

func (c *cells) read(list func(func(*widget, error) bool)) error {
	for w, err := range list {
		if err != nil {
			return err
		}
		rev, err := store.RevisionOf(w)
		if err != nil {
			return err
		}
		c[w.Name[1]-'0'] = cell{rev, w.Spec.Size}
	}
	return nil
}

// linearTxn reads two objects and writes both, or b only to derive it from a.
func (x *trial) linearTxn(h handle, in call) (answer, error) {
	var seen cells
	rev, err := x.st.(store.Transactor).Txn(x.ctx, func(tx store.Tx) error {
		seen = cells{}
		for _, i := range []int{in.a, in.b} {
			k := key("a", fmt.Sprint("k", i))
			w, err := h.In(tx).Get(k)
			letOthers()
			absent := errors.Is(err, store.ErrNotFound)
			if err == nil {
				seen[i].revision, err = store.RevisionOf(w)
				seen[i].value = w.Spec.Size
			}
			switch {
			case err != nil && !absent:
				return err
			case in.op == "derive" && i == in.a:
				continue
			case absent:
				_, err = h.In(tx).Create(object("a", k.Name, size(in.value)))
			default:
				_, err = h.In(tx).Patch(k, apply(size(in.value)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return answer{revision: rev, seen: seen}, err
}

func linearModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return cells{} },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(cells), input.(call), output.(answer)
			ok := s.step(in, out)
			return ok, s
		},
	}
}

// step reports whether the answer is right in that state, and makes the next.
func (s *cells) step(in call, out answer) bool {
	cur := s[in.a]
	want := s.refusal(in)
	if want != nil || out.err != nil {
		return want == out.err
	}
	switch in.op {
	case "get":
		return cur == cell{out.revision, out.value}
	case "list":
		return *s == out.seen
	case "transaction", "derive":
		if out.seen[in.a] != cur || out.seen[in.b] != s[in.b] {
			return false
		}
		if in.op == "derive" {
			return s.put(in.b, cell{out.revision, in.value})
		}
		return s.put(in.a, cell{out.revision, in.value}) && s.put(in.b, cell{out.revision, in.value})
	case "delete":
		s[in.a] = cell{}
		return out.value == cur.value && (out.revision == 0 || out.revision > cur.revision)
	case "patch":
		return out.value == cur.value+1 && s.put(in.a, cell{out.revision, out.value})
	}
	return out.value == in.value && s.put(in.a, cell{out.revision, out.value})
}

// refusal returns the error that the operation should give in that state.
func (s *cells) refusal(in call) error {
	cur := s[in.a]
	switch {
	case in.op == "list" || in.op == "transaction" || in.op == "derive":
		return nil
	case in.op == "create":
		if cur.revision != 0 {
			return store.ErrAlreadyExists
		}
		return nil
	case cur.revision == 0:
		return store.ErrNotFound
	case (in.op == "update" || in.op == "delete") && in.version != 0 && in.version != cur.revision:
		return store.ErrConflict
	}
	return nil
}

// put writes a cell, whose revision must be newer than what it replaces.
func (s *cells) put(i int, c cell) bool {
	newer := c.revision > s[i].revision
	s[i] = c
	return newer
}

func historyText(history []porcupine.Operation) string {
	var b strings.Builder
	for _, o := range history {
		fmt.Fprintf(&b, "client %d, %d to %d: %+v gives %+v\n", o.ClientId, o.Call, o.Return, o.Input, o.Output)
	}
	return b.String()
}
