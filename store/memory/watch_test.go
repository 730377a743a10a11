// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// TestWatchEndsInInitialState: a watch ends at the next event, in the middle of
// the initial state too.
func TestWatchEndsInInitialState(t *testing.T) {
	for what, c := range map[string]struct {
		end  func(s store.Store, h *store.Handle[*note], cancel func()) error
		want error
	}{
		"context":    {func(_ store.Store, _ *store.Handle[*note], cancel func()) error { cancel(); return nil }, context.Canceled},
		"close":      {func(s store.Store, _ *store.Handle[*note], _ func()) error { return s.Close() }, store.ErrClosed},
		"unregister": {func(s store.Store, h *store.Handle[*note], _ func()) error { return s.Unregister(h.Schema()) }, store.ErrUnknownKind},
	} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := memory.New(memory.Options{})
			defer s.Close()
			h := register(t, s, store.Kind[*note]{})
			for i := range 3 {
				must(h.Create(ctx, newNote(fmt.Sprint(i), "")))(t)
			}
			n := 0
			for _, err := range h.Watch(ctx, store.WatchOptions{Initial: true}) {
				if n++; n == 1 {
					if err := c.end(s, h, cancel); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if !errors.Is(err, c.want) {
					t.Errorf("pair %d: error %v, want %v", n, err, c.want)
				}
				break
			}
		})
	}
}
