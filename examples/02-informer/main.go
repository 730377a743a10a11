// SPDX-License-Identifier: Apache-2.0

// Command 02-informer keeps up with a kind: an informer tells a handler what
// there is and what changes, and answers questions from what it knows.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/watch"
)

// Ship is an object: it has metadata and can copy itself.
type Ship struct {
	store.Meta `json:"metadata"`
	Port       string `json:"port"`
}

func (s *Ship) DeepCopy() *Ship { return store.DeepCopy(s) }

// byPort finds ships by where they are.
var byPort = store.NewIndex("port", func(s *Ship) string { return s.Port })

func main() {
	ctx, stop := context.WithCancel(context.Background())
	st := memory.New(memory.Options{})
	defer st.Close()
	ships := must(store.Register(st, store.Kind[*Ship]{Name: "Ship", Indexes: []*store.Index[*Ship]{byPort}}))
	must(ships.Create(ctx, &Ship{Meta: store.Meta{Namespace: "baltic", Name: "argo"}, Port: "Riga"}))

	// An informer lists, watches, and begins again after errors.
	informer := watch.New(ships, watch.Options[*Ship]{})
	arrived, sunk := make(chan struct{}), make(chan struct{})
	registration := informer.Handle(watch.Handler[*Ship]{
		Add: func(s *Ship, initial bool) { fmt.Printf("%s is in %s (initial: %t)\n", s.Name, s.Port, initial) },
		Update: func(old, new *Ship) {
			fmt.Printf("%s went from %s to %s\n", new.Name, old.Port, new.Port)
			close(arrived)
		},
		Delete: func(last *Ship) {
			fmt.Printf("%s was last seen in %s\n", last.Name, last.Port)
			close(sunk)
		},
	})
	ended := make(chan error)
	go func() { ended <- informer.Run(ctx) }()
	<-registration.Synced() // the handler has been told of everything that was there

	must(ships.Create(ctx, &Ship{Meta: store.Meta{Namespace: "baltic", Name: "vasa"}, Port: "Riga"}))
	moved := must(ships.Patch(ctx, store.NewKey("baltic", "argo"), func(s *Ship) error { s.Port = "Turku"; return nil }))

	// Handlers run beside the program. The cache can be asked to be as new as a write.
	<-arrived
	check(informer.WaitFor(ctx, must(store.RevisionOf(moved))))
	for s, err := range informer.List(store.ListOptions{Fields: byPort.Is("Turku")}) {
		check(err)
		fmt.Println("in Turku:", s.Name)
	}
	must(ships.Delete(ctx, store.KeyOf(moved)))
	<-sunk

	stop()
	check(<-ended)
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
