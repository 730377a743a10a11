// SPDX-License-Identifier: Apache-2.0

// Command 01-store is a first taste of the store: a type of one's own, created,
// patched, changed in a transaction, and watched.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Ship is an object: it has metadata and can copy itself.
type Ship struct {
	store.Meta `json:"metadata"`
	Cargo      int `json:"cargo"` // in tons
}

func (s *Ship) DeepCopy() *Ship { return store.DeepCopy(s) }

// load returns a change to a ship, for Patch.
func load(tons int) func(*Ship) error {
	return func(s *Ship) error { s.Cargo += tons; return nil }
}

func main() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	ships := must(store.Register(st, store.Kind[*Ship]{Name: "Ship"}))

	// Create two ships. Each write takes one revision.
	must(ships.Create(ctx, &Ship{Meta: store.Meta{Namespace: "baltic", Name: "argo"}}))
	must(ships.Create(ctx, &Ship{Meta: store.Meta{Namespace: "baltic", Name: "vasa"}}))
	argo, vasa := store.NewKey("baltic", "argo"), store.NewKey("baltic", "vasa")

	// Patch one by a function, which runs again if another writer comes first.
	must(ships.Patch(ctx, argo, load(+30)))

	// Move cargo in a transaction: both ships change at one revision, or neither.
	moved := must(st.Txn(ctx, func(tx store.Tx) error {
		if _, err := ships.In(tx).Patch(argo, load(-10)); err != nil {
			return err
		}
		_, err := ships.In(tx).Patch(vasa, load(+10))
		return err
	}))

	// Watch what happened since revision 1, the empty store, and what happens next.
	for ev, err := range ships.Watch(ctx, store.WatchOptions{From: 1}) {
		must(ev, err)
		fmt.Printf("revision %d: %-8s %s carries %d tons\n", ev.Revision, ev.Type, ev.Object.Name, ev.Object.Cargo)
		if ev.Revision == moved && ev.Last {
			break
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
