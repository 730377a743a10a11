// SPDX-License-Identifier: Apache-2.0

// Command 06-cluster is a tiny cluster in one process: a deployment makes a
// replica set, that makes pods, a placement picks nodes, and agents run the pods.
// Two minutes after the start a node dies, and its pods move. Its test runs hours
// of that in virtual time.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sync/errgroup"

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
	if err := register(st); err != nil {
		return err
	}
	k, err := bind(st)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	control := reconcile.NewManager(st, reconcile.ManagerOptions{})
	if err := addControlPlane(control); err != nil {
		return err
	}
	g.Go(func() error { return control.Run(ctx) })
	for i := range 3 {
		life := ctx
		if i == 0 {
			var die context.CancelFunc
			life, die = context.WithTimeout(ctx, 2*time.Minute)
			defer die()
		}
		m := reconcile.NewManager(st, reconcile.ManagerOptions{})
		if err := addAgent(m, fmt.Sprintf("node-%d", i+1)); err != nil {
			return err
		}
		g.Go(func() error { return m.Run(life) })
	}
	if _, err := k.deployments.Create(ctx, &Deployment{Meta: store.Meta{Namespace: "default", Name: "web"}, Replicas: 6, Image: "v1"}); err != nil {
		return err
	}
	g.Go(func() error { return show(ctx, k) })
	return g.Wait()
}

// show prints what happens to nodes and pods.
func show(ctx context.Context, k kinds) error {
	for ev, err := range k.pods.Watch(ctx, store.WatchOptions{Initial: true}) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if p := ev.Object; p != nil {
			fmt.Printf("%-8s %s on %q running %t\n", ev.Type, p.Name, p.Node, p.Running)
		}
	}
	return nil
}
