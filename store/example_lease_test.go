// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// What is attached to a lease goes with it, all at one revision.
func ExampleLeaser() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	lease, err := st.Grant(ctx, time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := jobs.Create(ctx, NewJob(name, "busybox"), store.WriteOptions{Lease: lease.ID}); err != nil {
			log.Fatal(err)
		}
	}
	if err := st.KeepAlive(ctx, lease.ID); err != nil { // now and then, within the minute
		log.Fatal(err)
	}
	before, err := st.Revision(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := st.Revoke(ctx, lease.ID); err != nil { // or let it run out
		log.Fatal(err)
	}
	for ev, err := range jobs.Watch(ctx, store.WatchOptions{From: before}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Type, ev.Object.Name, "at revision", ev.Revision)
		if ev.Last {
			break
		}
	}
	// Unordered output:
	// DELETED a at revision 4
	// DELETED b at revision 4
}

// A fence makes the writes of a leader fail once it has lost its lease, even if it
// does not know yet.
func ExampleTx_fence() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	jobs, err := store.Register(st, store.Kind[*Job]{Name: "Job"})
	if err != nil {
		log.Fatal(err)
	}
	leader, err := st.Grant(ctx, time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	lead := func(name string) error {
		_, err := st.Txn(ctx, func(tx store.Tx) error {
			tx.Fence(leader.ID)
			_, err := jobs.In(tx).Create(NewJob(name, "busybox"))
			return err
		})
		return err
	}
	fmt.Println(lead("a"))
	if err := st.Revoke(ctx, leader.ID); err != nil { // someone else takes over
		log.Fatal(err)
	}
	fmt.Println(errors.Is(lead("b"), store.ErrLeaseLost))

	// A single write can demand the same.
	_, err = jobs.Create(ctx, NewJob("b", "busybox"), store.WriteOptions{Fence: leader.ID})
	fmt.Println(err)
	// Output:
	// <nil>
	// true
	// store: create Job default/b: lease is not held: lease 1 expired, was revoked, or never was
}
