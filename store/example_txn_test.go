// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Node is a kind without namespaces.
type Node struct {
	store.Meta `json:"metadata"`
	Free       int `json:"free"`
}

func (n *Node) DeepCopy() *Node { return store.DeepCopy(n) }

// A transaction changes any objects of any kinds, at one revision, or nothing.
func ExampleTransactor() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	nodes, err := store.Register(st, store.Kind[*Node]{Name: "Node", Scope: store.Cluster})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := nodes.Create(ctx, &Node{Meta: store.Meta{Name: "node-1"}, Free: 1}); err != nil {
		log.Fatal(err)
	}

	full := errors.New("the node is full")
	place := func(name string) (uint64, error) {
		// The function may run again on a newer state, so it has no side effects.
		return st.Txn(ctx, func(tx store.Tx) error {
			node, err := nodes.In(tx).Patch(store.NewKey("", "node-1"), func(n *Node) error {
				n.Free--
				return nil
			})
			if err != nil {
				return err
			}
			if node.Free < 0 { // reads and writes here see what was written before
				return full
			}
			job := NewJob(name, "busybox")
			job.Spec.Node = node.Name
			_, err = jobs.In(tx).Create(job)
			return err
		})
	}
	fmt.Println(place("first"))
	_, err = place("second")
	fmt.Println(err)

	node, err := nodes.Get(ctx, store.NewKey("", "node-1"))
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.Get(ctx, store.NewKey("default", "first"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("node at", node.ResourceVersion, "free", node.Free, "job at", job.ResourceVersion)
	// Output:
	// 3 <nil>
	// the node is full
	// node at 3 free 0 job at 3
}

// A snapshot is the state of all kinds at one revision. It stays as it is.
func ExampleSnapshotter() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := jobs.Create(ctx, NewJob("a", "busybox")); err != nil {
		log.Fatal(err)
	}
	snap, err := st.Snapshot(ctx, store.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := jobs.Create(ctx, NewJob("b", "busybox")); err != nil {
		log.Fatal(err)
	}
	for job, err := range jobs.At(snap).List() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("revision", snap.Revision(), "has", job.Name)
	}
	// Output: revision 2 has a
}
