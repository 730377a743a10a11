// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// startup is how long a pod takes to run.
const startup = 2 * time.Second

// agent is what runs on a node: it says that the node is alive, and runs its pods
// on a runtime that only remembers them.
type agent struct {
	kinds
	name    string
	started map[store.Key]time.Time
}

// addAgent adds a node's agent to a manager of its own.
func addAgent(m *reconcile.Manager, name string) error {
	k, err := bind(m.Store())
	if err != nil {
		return err
	}
	a := &agent{kinds: k, name: name, started: map[store.Key]time.Time{}}
	beat, err := reconcile.New(m, "heartbeat", a.heartbeat, reconcile.Options[store.Key]{})
	if err != nil {
		return err
	}
	beat.Add(store.Key{Name: name})
	mine := func(c reconcile.Change[*Pod]) bool { return c.Object().Node == name }
	_, err = reconcile.New(m, "pods", a.pod, reconcile.Options[store.Key]{}, reconcile.For(k.pods, mine))
	return err
}

// heartbeat says that the node is alive.
func (a *agent) heartbeat(ctx context.Context, key store.Key) reconcile.Result {
	alive := store.Time{Time: time.Now()}
	_, err := a.nodes.Patch(ctx, key, func(n *Node) error { n.Alive = alive; return nil })
	if errors.Is(err, store.ErrNotFound) {
		_, err = a.nodes.Create(ctx, &Node{Meta: store.Meta{Name: key.Name}, Alive: alive})
	}
	if err != nil {
		return reconcile.Retry(err)
	}
	return reconcile.Again(grace / 4)
}

// pod runs a pod. One worker calls it, so started needs no lock.
func (a *agent) pod(ctx context.Context, key store.Key) reconcile.Result {
	_, err := a.pods.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		delete(a.started, key)
		return reconcile.Done()
	} else if err != nil {
		return reconcile.Retry(err)
	}
	begun, ok := a.started[key]
	if !ok {
		begun = time.Now()
		a.started[key] = begun
	}
	if wait := startup - time.Since(begun); wait > 0 {
		return reconcile.Again(wait)
	}
	_, err = a.pods.Patch(ctx, key, func(p *Pod) error { p.Running = true; return nil })
	return reconcile.OK(err)
}
