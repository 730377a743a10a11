// SPDX-License-Identifier: Apache-2.0

// Command 05-leader runs two replicas of a controller over one store: one leads
// and works, and when it stops the other takes over.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Ship is an object: it has metadata and can copy itself.
type Ship struct {
	store.Meta `json:"metadata"`
	Pilot      string `json:"pilot"`
}

func (s *Ship) DeepCopy() *Ship { return store.DeepCopy(s) }

// replica is one process of a controller that puts a pilot on each ship.
type replica struct {
	stop  context.CancelFunc
	ended chan error
}

func start(st store.Store, name string) *replica {
	m := reconcile.NewManager(st, reconcile.ManagerOptions{
		Election: &reconcile.ElectorOptions{Namespace: "harbour", Name: "pilots", Identity: name},
		Hooks: reconcile.Hooks{Leading: func(_ string, leads bool) {
			if leads {
				fmt.Println(name, "leads")
			} else {
				fmt.Println(name, "no longer leads")
			}
		}},
	})
	ships := must(store.Lookup[*Ship](m.Store(), store.KindName{Name: "Ship"}))
	must(reconcile.New(m, "pilot", func(ctx context.Context, key store.Key) reconcile.Result {
		// A write of a replica that has been deposed meanwhile fails in the store.
		_, err := ships.Patch(ctx, key, func(s *Ship) error {
			if s.Pilot == "" {
				s.Pilot = name
			}
			return nil
		})
		return reconcile.OK(err)
	}, reconcile.Options[store.Key]{}, reconcile.For(ships)))
	ctx, stop := context.WithCancel(context.Background())
	r := &replica{stop, make(chan error, 1)}
	go func() { r.ended <- m.Run(ctx) }()
	return r
}

// end stops a replica: it finishes what it does and gives the lead back.
func (r *replica) end() {
	r.stop()
	if err := <-r.ended; err != nil {
		log.Fatal(err)
	}
}

func main() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	ships := must(store.Register(st, store.Kind[*Ship]{Name: "Ship"}))

	first := start(st, "first")
	piloted(ctx, ships, "argo")
	second := start(st, "second")
	piloted(ctx, ships, "vasa")
	first.end()
	piloted(ctx, ships, "bounty")
	second.end()
}

// piloted creates a ship and waits until it has a pilot.
func piloted(ctx context.Context, ships *store.Handle[*Ship], name string) {
	created := must(ships.Create(ctx, &Ship{Meta: store.Meta{Namespace: "harbour", Name: name}}))
	for ev, err := range ships.Watch(ctx, store.WatchOptions{Name: name, From: must(store.RevisionOf(created))}) {
		if must(ev, err).Object.Pilot != "" {
			fmt.Println(ev.Object.Pilot, "pilots", name)
			return
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
