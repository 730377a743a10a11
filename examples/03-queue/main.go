// SPDX-License-Identifier: Apache-2.0

// Command 03-queue works through a work queue: each key once however often it is
// added, never twice at once, again after failures, and put aside in the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
)

func main() {
	ctx := context.Background()
	queue := reconcile.NewQueue(reconcile.QueueOptions[string]{
		Backoff:     reconcile.Backoff{Initial: time.Millisecond, Max: time.Second},
		MaxAttempts: 3,
	})
	queue.Add("argo")
	queue.Add("argo") // is there already
	queue.Add("wreck")
	queue.Add("ferry", reconcile.AddOptions{Priority: reconcile.PriorityHigh})
	queue.AddAfter("vasa", 500*time.Millisecond)

	for served := 0; served < 4; {
		item, err := queue.Get(ctx) // waits until a key is ready
		if err != nil {
			log.Fatal(err)
		}
		if item.Key == "wreck" { // fails each time
			parked := queue.Retry(item.Key, errors.New("aground"))
			fmt.Printf("%s failed after %d attempts before; put aside: %t\n", item.Key, item.Attempts, parked)
			if parked {
				served++
			}
			continue
		}
		fmt.Println("served", item.Key)
		queue.Done(item.Key)
		served++
	}

	state, _ := queue.Explain("wreck")
	fmt.Println("wreck:", state.Phase, "after", state.Attempts, "attempts:", state.LastError)
	queue.ShutDown()
	_, err := queue.Get(ctx)
	fmt.Println("shut down:", errors.Is(err, reconcile.ErrShutDown))
}
