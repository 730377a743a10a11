// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/slipway-dev/slipway/store"
)

// Deployment asks for copies of an image.
type Deployment struct {
	store.Meta `json:"metadata"`
	Replicas   int    `json:"replicas"`
	Image      string `json:"image"`
}

// ReplicaSet asks for copies of one image, for good.
type ReplicaSet struct {
	store.Meta `json:"metadata"`
	Replicas   int    `json:"replicas"`
	Image      string `json:"image"`
}

// Pod is one copy: placed on a node, then run there.
type Pod struct {
	store.Meta `json:"metadata"`
	Image      string `json:"image"`
	Owner      string `json:"owner"` // its replica set
	Node       string `json:"node,omitempty"`
	Running    bool   `json:"running,omitempty"`
}

// Node is a machine that says every now and then that it is alive.
type Node struct {
	store.Meta `json:"metadata"`
	Alive      store.Time `json:"alive"`
	Ready      bool       `json:"ready"`
}

func (d *Deployment) DeepCopy() *Deployment { return store.DeepCopy(d) }
func (r *ReplicaSet) DeepCopy() *ReplicaSet { return store.DeepCopy(r) }
func (p *Pod) DeepCopy() *Pod               { return store.DeepCopy(p) }
func (n *Node) DeepCopy() *Node             { return store.DeepCopy(n) }

var (
	podsByOwner = store.NewIndex("owner", func(p *Pod) string { return p.Owner })
	podsByNode  = store.NewIndex("node", func(p *Pod) string { return p.Node })
)

// kinds are handles to all of it, bound to one store or to one manager's.
type kinds struct {
	deployments *store.Handle[*Deployment]
	replicaSets *store.Handle[*ReplicaSet]
	pods        *store.Handle[*Pod]
	nodes       *store.Handle[*Node]
}

// register makes the kinds known to a store.
func register(st store.Store) error {
	if _, err := store.Register(st, store.Kind[*Deployment]{Name: "Deployment", Group: "apps", Version: "v1"}); err != nil {
		return err
	}
	if _, err := store.Register(st, store.Kind[*ReplicaSet]{Name: "ReplicaSet", Group: "apps", Version: "v1"}); err != nil {
		return err
	}
	if _, err := store.Register(st, store.Kind[*Node]{Name: "Node", Version: "v1", Scope: store.Cluster}); err != nil {
		return err
	}
	_, err := store.Register(st, store.Kind[*Pod]{Name: "Pod", Version: "v1", Indexes: []*store.Index[*Pod]{podsByOwner, podsByNode}})
	return err
}

// bind returns handles to the kinds.
func bind(st store.Store) (k kinds, err error) {
	if k.deployments, err = store.Lookup[*Deployment](st, store.KindName{Group: "apps", Name: "Deployment"}); err != nil {
		return k, err
	}
	if k.replicaSets, err = store.Lookup[*ReplicaSet](st, store.KindName{Group: "apps", Name: "ReplicaSet"}); err != nil {
		return k, err
	}
	if k.pods, err = store.Lookup[*Pod](st, store.KindName{Name: "Pod"}); err != nil {
		return k, err
	}
	k.nodes, err = store.Lookup[*Node](st, store.KindName{Name: "Node"})
	return k, err
}
