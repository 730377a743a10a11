// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

type pod struct {
	store.Meta `json:"metadata"`
	Spec       struct{ Node string }
	Status     struct{ Phase string }
}

func (p *pod) DeepCopy() *pod { return store.DeepCopy(p) }

var byNode = store.NewIndex("spec.node", func(p *pod) string { return p.Spec.Node })

func TestSmoke(t *testing.T) {
	ctx := t.Context()
	st := memory.New(memory.Options{})
	defer st.Close()
	pods, err := store.Register(st, store.Kind[*pod]{Name: "Pod", Indexes: []*store.Index[*pod]{byNode}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wctx, cancel := context.WithCancel(ctx)
	for w := range 20 {
		opts := store.WatchOptions{Initial: true}
		if w%3 == 1 {
			opts.Fields = byNode.Is("n3")
		}
		if w%3 == 2 {
			opts.Namespace = "ns2"
		}
		wg.Go(func() {
			n := 0
			for ev, err := range pods.Watch(wctx, opts) {
				if err != nil {
					t.Log(w, n, err)
					return
				}
				if ev.Type != store.Synced {
					n++
				}
			}
		})
	}
	for i := range 1000 {
		p := &pod{Meta: store.Meta{Namespace: fmt.Sprint("ns", i%7), Name: fmt.Sprint("p", i)}}
		p.Spec.Node = fmt.Sprint("n", i%10)
		got, err := pods.Create(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			t.Logf("%+v", got)
		}
	}
	n := 0
	for p, err := range pods.List(ctx, store.ListOptions{Fields: byNode.Is("n3"), Namespace: "ns3"}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		_ = p
	}
	t.Log(n)
	for i := range 1000 {
		_, err := pods.Patch(ctx, store.NewKey(fmt.Sprint("ns", i%7), fmt.Sprint("p", i)), func(p *pod) error {
			p.Spec.Node = "n3"
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rev, err := st.Txn(ctx, func(tx store.Tx) error {
		for p, err := range pods.In(tx).List(store.ListOptions{Namespace: "ns1"}) {
			if err != nil {
				return err
			}
			if _, err := pods.In(tx).Delete(store.KeyOf(p)); err != nil {
				return err
			}
		}
		return nil
	})
	t.Log(rev, err)
	pg, err := pods.Page(ctx, store.ListOptions{Limit: 10})
	t.Log(len(pg.Items), pg.ListMeta, err)
	cancel()
	wg.Wait()
}
