// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// A worker takes keys until the queue is shut down, and says how each run ended.
func ExampleQueue() {
	q := reconcile.NewQueue(reconcile.QueueOptions[store.Key]{
		Tenant: func(key store.Key) string { return key.Namespace }, // namespaces take turns
	})
	var workers sync.WaitGroup
	workers.Go(func() {
		for {
			item, err := q.Get(context.Background())
			if err != nil {
				return // the queue is shut down, or the context has ended
			}
			fmt.Println(item.Key, item.Causes)
			q.Done(item.Key)
		}
	})
	web := store.NewKey("default", "web")
	q.Add(web, reconcile.AddOptions{Cause: reconcile.Cause{Reason: "asked"}})
	q.ShutDown() // what is ready is still handed out
	workers.Wait()
	// Output: default/web [asked]
}

// A key that keeps failing is parked, out of the way of the others, until somebody
// brings it back.
func ExampleQueue_Retry() {
	q := reconcile.NewQueue(reconcile.QueueOptions[string]{
		Backoff: reconcile.Backoff{Initial: time.Microsecond}, MaxAttempts: 3,
	})
	ctx := context.Background()
	q.Add("poison")
	for parked := false; !parked; {
		item, err := q.Get(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		parked = q.Retry(item.Key, errors.New("no such image"))
	}
	state, _ := q.Explain("poison")
	fmt.Printf("%v after %d attempts: %v\n", state.Phase, state.Attempts, state.LastError)
	fmt.Println(q.Unpark("poison"), q.Len())
	// Output:
	// parked after 3 attempts: no such image
	// true 1
}

// A key has one deadline, which can be moved and taken back.
func ExampleQueue_AddNotBefore() {
	q := reconcile.NewQueue(reconcile.QueueOptions[string]{})
	until := func() time.Duration {
		state, _ := q.Explain("backup")
		return time.Until(state.Until).Round(time.Minute)
	}
	q.AddAfter("backup", time.Hour)
	q.AddAfter("backup", 2*time.Hour) // the earlier one stands
	fmt.Println(until())
	q.AddNotBefore("backup", time.Now().Add(3*time.Hour))
	fmt.Println(until())
	fmt.Println(q.Cancel("backup"), q.Counts().Waiting)
	// Output:
	// 1h0m0s
	// 3h0m0s
	// true 0
}
