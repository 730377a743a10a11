// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// cluster is a control plane and nodes that can die.
type cluster struct {
	kinds
	t     *testing.T
	store *memory.Store
	stops map[string]func()
}

func start(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, store: memory.New(memory.Options{}), stops: map[string]func(){}}
	if err := register(c.store); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.kinds, err = bind(c.store); err != nil {
		t.Fatal(err)
	}
	c.run("control plane", addControlPlane)
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i+1)
		c.run(name, func(m *reconcile.Manager) error { return addAgent(m, name) })
	}
	return c
}

func (c *cluster) run(name string, add func(*reconcile.Manager) error) {
	c.t.Helper()
	m := reconcile.NewManager(c.store, reconcile.ManagerOptions{})
	if err := add(m); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	c.stops[name] = func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("%s: %v", name, err)
		}
		delete(c.stops, name)
	}
}

func (c *cluster) end() {
	for _, stop := range c.stops {
		stop()
	}
	if err := c.store.Close(); err != nil {
		c.t.Error(err)
	}
}

// running returns how many pods of an image run on each node.
func (c *cluster) running(image string) map[string]int {
	c.t.Helper()
	out := map[string]int{}
	for p, err := range c.pods.List(c.t.Context()) {
		if err != nil {
			c.t.Fatal(err)
		}
		if p.Running && p.Image == image {
			out[p.Node]++
		}
	}
	return out
}

func TestPodsOfADeadNodeMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, 3)
		defer c.end()
		time.Sleep(time.Second) // the nodes say that they are there
		d := &Deployment{Meta: store.Meta{Namespace: "default", Name: "web"}, Replicas: 6, Image: "v1"}
		if _, err := c.deployments.Create(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := fmt.Sprint(c.running("v1")); got != "map[node-1:2 node-2:2 node-3:2]" {
			t.Errorf("after a minute %s, want two pods on each node", got)
		}

		time.Sleep(10 * time.Hour) // nothing happens but heartbeats
		c.stops["node-1"]()
		time.Sleep(2 * grace)
		if got := fmt.Sprint(c.running("v1")); got != "map[node-2:3 node-3:3]" {
			t.Errorf("after a node died %s, want its pods on the others", got)
		}

		// A new image replaces the old one.
		_, err := c.deployments.Patch(t.Context(), store.KeyOf(d), func(d *Deployment) error { d.Image = "v2"; return nil })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got, old := fmt.Sprint(c.running("v2")), len(c.running("v1")); got != "map[node-2:3 node-3:3]" || old != 0 {
			t.Errorf("after the new image %s, and the old one on %d nodes, want it on both, and no old one", got, old)
		}

		// With no node left, pods wait; they run when one comes.
		c.stops["node-2"]()
		c.stops["node-3"]()
		time.Sleep(2 * grace)
		if got := len(c.running("v2")); got != 0 {
			t.Errorf("pods run on %d nodes that are dead", got)
		}
		c.run("node-4", func(m *reconcile.Manager) error { return addAgent(m, "node-4") })
		time.Sleep(time.Minute)
		if got := fmt.Sprint(c.running("v2")); got != "map[node-4:6]" {
			t.Errorf("after a node came %s, want all six pods there", got)
		}
	})
}
