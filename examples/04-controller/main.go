// SPDX-License-Identifier: Apache-2.0

// Command 04-controller is a whole controller: a fleet asks for ships, and the
// controller builds and scraps them until there are as many as it asks for.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"slices"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Fleet asks for a number of ships.
type Fleet struct {
	store.Meta `json:"metadata"`
	Ships      int `json:"ships"`
}

// Ship belongs to a fleet.
type Ship struct {
	store.Meta `json:"metadata"`
}

func (f *Fleet) DeepCopy() *Fleet { return store.DeepCopy(f) }
func (s *Ship) DeepCopy() *Ship   { return store.DeepCopy(s) }

// yard is the controller: what it works with.
type yard struct {
	fleets *store.Handle[*Fleet]
	ships  *store.Handle[*Ship]
}

// reconcile makes the ships of one fleet as many as it asks for. It may be called
// at any time, for any reason: it looks at what is there.
func (y *yard) reconcile(ctx context.Context, key store.Key) reconcile.Result {
	fleet, err := y.fleets.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	}
	if err != nil {
		return reconcile.Retry(err)
	}
	has := map[string]bool{} // its ships, by name
	for ship, err := range y.ships.List(ctx, store.ListOptions{Namespace: key.Namespace}) {
		if err != nil {
			return reconcile.Retry(err)
		}
		if reconcile.IsControlledBy(y.ships, ship, y.fleets, fleet) {
			has[ship.Name] = true
		}
	}
	for n := range fleet.Ships {
		ship := &Ship{Meta: store.Meta{Namespace: key.Namespace, Name: fmt.Sprintf("%s-%d", fleet.Name, n+1)}}
		if has[ship.Name] {
			delete(has, ship.Name)
			continue
		}
		if err := reconcile.SetController(y.ships, ship, y.fleets, fleet); err != nil {
			return reconcile.Park(err)
		}
		if _, err := y.ships.Create(ctx, ship); err != nil {
			return reconcile.Retry(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(has)) { // too many
		if _, err := y.ships.Delete(ctx, store.NewKey(key.Namespace, name)); err != nil {
			return reconcile.Retry(err)
		}
	}
	return reconcile.Done()
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	st := memory.New(memory.Options{})
	defer st.Close()
	m := reconcile.NewManager(st, reconcile.ManagerOptions{})
	y := &yard{
		fleets: must(store.Register(m.Store(), store.Kind[*Fleet]{Name: "Fleet", Version: "v1"})),
		ships:  must(store.Register(m.Store(), store.Kind[*Ship]{Name: "Ship", Version: "v1"})),
	}
	must(reconcile.New(m, "yard", y.reconcile, reconcile.Options[store.Key]{},
		reconcile.For(y.fleets), reconcile.Owns(y.ships, y.fleets)))
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()

	// The program's user: asks for three ships, sinks one, then asks for one only.
	baltic := store.NewKey("baltic", "merchant")
	must(y.fleets.Create(ctx, &Fleet{Meta: store.Meta{Namespace: "baltic", Name: "merchant"}, Ships: 3}))
	events := 0
	for ev, err := range y.ships.Watch(ctx, store.WatchOptions{From: 1}) {
		must(ev, err)
		fmt.Println(ev.Type, ev.Object.Name)
		switch events++; events {
		case 3:
			must(y.ships.Delete(ctx, store.NewKey("baltic", "merchant-2")))
		case 5:
			must(y.fleets.Patch(ctx, baltic, func(f *Fleet) error { f.Ships = 1; return nil }))
		}
		if events == 7 {
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
