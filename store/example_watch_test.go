// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// A watch with the initial state delivers what there is, a marker, and then every
// change.
func ExampleHandle_Watch() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := jobs.Create(ctx, NewJob(name, "busybox")); err != nil {
			log.Fatal(err)
		}
	}
	for ev, err := range jobs.Watch(ctx, store.WatchOptions{Initial: true}) {
		if err != nil {
			log.Fatal(err)
		}
		if ev.Type == store.Synced {
			fmt.Println(ev.Type, "at revision", ev.Revision)
			// Changes are made elsewhere, usually.
			if _, err := jobs.Delete(ctx, store.NewKey("default", "a")); err != nil {
				log.Fatal(err)
			}
			continue
		}
		fmt.Println(ev.Type, ev.Object.Name)
		if ev.Type == store.Deleted {
			break // leaving the loop ends the watch
		}
	}
	// Output:
	// ADDED a
	// ADDED b
	// SYNCED at revision 3
	// DELETED a
}

// A watch resumes after the last transaction that it has seen whole. To its
// consumer, what its selectors do not match does not exist.
func ExampleHandle_Watch_resume() {
	byNode := store.NewIndex("spec.node", func(j *Job) string { return j.Spec.Node })

	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job", Indexes: []*store.Index[*Job]{byNode}})
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.Create(ctx, NewJob("a", "busybox"))
	if err != nil {
		log.Fatal(err)
	}
	seen, err := store.RevisionOf(job)
	if err != nil {
		log.Fatal(err)
	}
	for _, node := range []string{"node-1", "node-2"} { // while nobody watches
		_, err := jobs.Patch(ctx, store.KeyOf(job), func(j *Job) error { j.Spec.Node = node; return nil })
		if err != nil {
			log.Fatal(err)
		}
	}
	for ev, err := range jobs.Watch(ctx, store.WatchOptions{From: seen, Fields: byNode.Is("node-1")}) {
		if err != nil {
			log.Fatal(err) // store.ErrTooOld: begin anew, with Initial
		}
		if ev.Last { // the transaction's last event: a place to resume from
			seen = ev.Revision
		}
		fmt.Println(ev.Type, ev.Object.Name, "on", ev.Object.Spec.Node, "at revision", seen)
		if ev.Type == store.Deleted {
			break
		}
	}
	// Output:
	// ADDED a on node-1 at revision 3
	// DELETED a on node-1 at revision 4
}
