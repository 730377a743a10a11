// SPDX-License-Identifier: Apache-2.0

// Command cmd runs the backup operator on a store in memory, with a schedule that
// backs up a service once a minute, until it is interrupted.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-dev/slipway/examples/backup"
	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	st := memory.New(memory.Options{})
	defer st.Close()
	if err := backup.Register(st); err != nil {
		return err
	}
	schedules, err := store.Lookup[*backup.Schedule](st, store.KindName{Group: "backup.example", Name: "Schedule"})
	if err != nil {
		return err
	}
	backups, err := store.Lookup[*backup.Backup](st, store.KindName{Group: "backup.example", Name: "Backup"})
	if err != nil {
		return err
	}

	services := &backup.MemoryServices{}
	services.Set("orders", "1", "tea")
	m := reconcile.NewManager(st, reconcile.ManagerOptions{Logger: slog.Default()})
	if err := backup.Add(m, services, &backup.MemoryVault{}); err != nil {
		return err
	}
	s := &backup.Schedule{Meta: store.Meta{Namespace: "shop", Name: "orders"}}
	s.Spec.Service, s.Spec.Minutes, s.Spec.Keep = "orders", 1, 3
	if _, err := schedules.Create(ctx, s); err != nil {
		return err
	}

	// What depends on what: the manager, and the garbage collector beside it, which
	// removes the backups of a schedule that is deleted.
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Run(ctx) })
	g.Go(func() error {
		for ev, err := range backups.Watch(ctx, store.WatchOptions{Initial: true}) {
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			if ev.Type != store.Synced {
				fmt.Println(ev.Type, store.KeyOf(ev.Object), "done:", ev.Object.Status.Done)
			}
		}
		return nil
	})
	return g.Wait()
}
