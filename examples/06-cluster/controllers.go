// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// grace is how long a node may be silent before its pods are made elsewhere.
const grace = 40 * time.Second

// addControlPlane adds the controllers that make pods out of deployments, place
// them, and watch over the nodes.
func addControlPlane(m *reconcile.Manager) error {
	k, err := bind(m.Store())
	if err != nil {
		return err
	}
	opts := reconcile.Options[store.Key]{}
	_, err = reconcile.New(m, "deployment", k.deployment, opts, reconcile.For(k.deployments), reconcile.Owns(k.replicaSets, k.deployments))
	if err != nil {
		return err
	}
	_, err = reconcile.New(m, "replica set", k.replicaSet, opts, reconcile.For(k.replicaSets), reconcile.Owns(k.pods, k.replicaSets))
	if err != nil {
		return err
	}
	// A pod that found no node is tried again when a node becomes ready.
	homeless := reconcile.Watches(k.nodes, func(*Node) []store.Key { return k.homeless() })
	if _, err = reconcile.New(m, "placement", k.place, opts, reconcile.For(k.pods), homeless); err != nil {
		return err
	}
	_, err = reconcile.New(m, "node life", k.nodeLife, opts, reconcile.For(k.nodes))
	return err
}

// deployment makes a replica set for the image, and lets those of former images
// go.
func (k kinds) deployment(ctx context.Context, key store.Key) reconcile.Result {
	d, err := k.deployments.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	} else if err != nil {
		return reconcile.Retry(err)
	}
	want := &ReplicaSet{Meta: store.Meta{Namespace: d.Namespace, Name: d.Name + "-" + d.Image}, Replicas: d.Replicas, Image: d.Image}
	if err := reconcile.SetController(k.replicaSets, want, k.deployments, d); err != nil {
		return reconcile.Park(err)
	}
	if _, err := k.replicaSets.Create(ctx, want); errors.Is(err, store.ErrAlreadyExists) {
		_, err = k.replicaSets.Patch(ctx, store.KeyOf(want), func(r *ReplicaSet) error { r.Replicas = d.Replicas; return nil })
		if err != nil {
			return reconcile.Retry(err)
		}
	} else if err != nil {
		return reconcile.Retry(err)
	}
	for r, err := range k.replicaSets.List(ctx, store.ListOptions{Namespace: d.Namespace}) {
		if err != nil {
			return reconcile.Retry(err)
		}
		if r.Name != want.Name && r.Replicas > 0 && reconcile.IsControlledBy(k.replicaSets, r, k.deployments, d) {
			if _, err := k.replicaSets.Patch(ctx, store.KeyOf(r), func(r *ReplicaSet) error { r.Replicas = 0; return nil }); err != nil {
				return reconcile.Retry(err)
			}
		}
	}
	return reconcile.Done()
}

// replicaSet makes or removes pods. What it has made it sees when it runs again,
// so it never makes one too many.
func (k kinds) replicaSet(ctx context.Context, key store.Key) reconcile.Result {
	r, err := k.replicaSets.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	} else if err != nil {
		return reconcile.Retry(err)
	}
	pods, err := k.pods.Page(ctx, store.ListOptions{Namespace: r.Namespace, Fields: podsByOwner.Is(r.Name)})
	if err != nil {
		return reconcile.Retry(err)
	}
	for range r.Replicas - len(pods.Items) {
		p := &Pod{Meta: store.Meta{Namespace: r.Namespace, GenerateName: r.Name + "-"}, Image: r.Image, Owner: r.Name}
		if err := reconcile.SetController(k.pods, p, k.replicaSets, r); err != nil {
			return reconcile.Park(err)
		}
		if _, err := k.pods.Create(ctx, p); err != nil {
			return reconcile.Retry(err)
		}
	}
	for n := len(pods.Items); n > r.Replicas; n-- {
		if _, err := k.pods.Delete(ctx, store.KeyOf(pods.Items[n-1])); err != nil && !errors.Is(err, store.ErrNotFound) {
			return reconcile.Retry(err)
		}
	}
	return reconcile.Done()
}

// homeless are the pods that no node runs.
func (k kinds) homeless() (keys []store.Key) {
	for p, err := range k.pods.List(context.Background(), store.ListOptions{Fields: podsByNode.Is("")}) {
		if err != nil {
			return nil // the store is closing
		}
		keys = append(keys, store.KeyOf(p))
	}
	return keys
}

// place puts a pod on the ready node with the fewest pods.
func (k kinds) place(ctx context.Context, key store.Key) reconcile.Result {
	p, err := k.pods.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && p.Node != "" {
		return reconcile.Done()
	} else if err != nil {
		return reconcile.Retry(err)
	}
	best, fewest := "", 0
	for n, err := range k.nodes.List(ctx) {
		if err != nil {
			return reconcile.Retry(err)
		}
		on, err := k.pods.Page(ctx, store.ListOptions{Fields: podsByNode.Is(n.Name)})
		if err != nil {
			return reconcile.Retry(err)
		}
		if n.Ready && (best == "" || len(on.Items) < fewest) {
			best, fewest = n.Name, len(on.Items)
		}
	}
	if best == "" {
		return reconcile.Done() // a node that becomes ready brings it back
	}
	_, err = k.pods.Patch(ctx, key, func(p *Pod) error { p.Node = best; return nil })
	return reconcile.OK(err)
}

// nodeLife says whether a node is ready, and removes the pods of one that is not:
// their replica sets make others.
func (k kinds) nodeLife(ctx context.Context, key store.Key) reconcile.Result {
	n, err := k.nodes.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Done()
	} else if err != nil {
		return reconcile.Retry(err)
	}
	silent := time.Since(n.Alive.Time)
	ready := silent < grace
	if _, err := k.nodes.Patch(ctx, key, func(n *Node) error { n.Ready = ready; return nil }); err != nil {
		return reconcile.Retry(err)
	}
	if ready {
		return reconcile.Again(grace - silent)
	}
	pods, err := k.pods.Page(ctx, store.ListOptions{Fields: podsByNode.Is(n.Name)})
	if err != nil {
		return reconcile.Retry(err)
	}
	for _, p := range pods.Items {
		if _, err := k.pods.Delete(ctx, store.KeyOf(p)); err != nil && !errors.Is(err, store.ErrNotFound) {
			return reconcile.Retry(fmt.Errorf("evict %s: %w", p.Name, err))
		}
	}
	return reconcile.Done()
}
