// SPDX-License-Identifier: Apache-2.0

//go:build linux

package labtest

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
)

// Differences makes random changes to services, and applies the differences to a
// real kernel. After each, a comparison must find nothing to repair.
func Differences(t *testing.T, make NewBackend) {
	h := lab.Single(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, f := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
		r := rand.New(rand.NewPCG(seed, uint64(f)))
		b, err := make(netproxy.Config{Family: f})
		if err != nil {
			t.Fatal(err)
		}
		tr := netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})
		for step := range 25 {
			for range 1 + r.IntN(12) {
				RandomEvent(t, r, tr)
			}
			changes := tr.Changes()
			var repaired int
			h.Do(func() {
				if err = b.Sync(context.Background(), changes); err == nil {
					repaired, err = b.Resync(context.Background())
				}
			})
			if err != nil || repaired != 0 {
				t.Fatalf("%v, step %d: %d repaired (%v)", f, step, repaired, err)
			}
		}
	}
}
