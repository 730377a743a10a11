// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// Two replicas of a program, of which one works; when it stops, the other does.
func ExampleElector() {
	st := memory.New(memory.Options{})
	defer st.Close()
	replica := func(ctx context.Context, name string) error {
		e, err := reconcile.NewElector(st, reconcile.ElectorOptions{
			Namespace: "default",
			Name:      "backup-operator", // of the Lease object: the same for all
			Identity:  name,              // of the replica: its own
			Timing:    reconcile.LeaseTiming{Duration: 15 * time.Second},
		})
		if err != nil {
			return err
		}
		return e.Run(ctx, func(ctx context.Context, term reconcile.Term) error {
			fmt.Println(name, "leads")
			<-ctx.Done() // or until leadership is lost
			return ctx.Err()
		})
	}
	first, stopFirst := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stopFirst()
	if err := replica(first, "a"); err != nil {
		log.Fatal(err)
	}
	second, stopSecond := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stopSecond()
	if err := replica(second, "b"); err != nil { // a gave the lease back: b need not wait until it has run out
		log.Fatal(err)
	}
	// Output:
	// a leads
	// b leads
}

// A write that demands the term's fence fails once another replica may lead, even
// if the leader does not know yet.
func ExampleTerm() {
	ctx := context.Background()
	st := memory.New(memory.Options{})
	defer st.Close()
	leases, err := store.Register(st, reconcile.LeaseKind())
	if err != nil {
		log.Fatal(err)
	}
	note := &reconcile.Lease{Meta: store.Meta{Namespace: "default", Name: "any-object"}}

	e, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "default", Name: "writer", Identity: "a"})
	if err != nil {
		log.Fatal(err)
	}
	var last reconcile.Term
	err = e.Run(ctx, func(ctx context.Context, term reconcile.Term) error {
		last = term
		_, err := leases.Create(ctx, note, store.WriteOptions{Fence: term.Fence})
		return err
	})
	fmt.Println("as the leader:", err)

	_, err = leases.Delete(ctx, store.KeyOf(note), store.WriteOptions{Fence: last.Fence})
	fmt.Println("afterwards:", errors.Is(err, store.ErrLeaseLost))
	// Output:
	// as the leader: <nil>
	// afterwards: true
}

// Two replicas share the keys.
func ExampleSharder() {
	st := memory.New(memory.Options{})
	defer st.Close()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	var replicas []*reconcile.Sharder
	for _, name := range []string{"a", "b"} {
		s, err := reconcile.NewSharder(st, reconcile.SharderOptions{Namespace: "default", Name: "crawler", Identity: name})
		if err != nil {
			log.Fatal(err)
		}
		go func() { ended <- s.Run(ctx) }()
		replicas = append(replicas, s)
	}
	for len(replicas[0].Shards())+len(replicas[1].Shards()) < 256 || len(replicas[1].Shards()) == 0 {
		time.Sleep(10 * time.Millisecond) // until both have theirs; programs use OnGain
	}
	workers := 0
	for _, s := range replicas {
		if run, ok := s.Begin(ctx, "https://example.com/"); ok {
			workers++
			// … work with run.Context, and write with run.Fence …
			run.End()
		}
	}
	fmt.Println("replicas that may work on the key:", workers)
	stop()
	fmt.Println(<-ended, <-ended)
	// Output:
	// replicas that may work on the key: 1
	// <nil> <nil>
}
