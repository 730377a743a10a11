// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// TestWatchMore: an event says whether others follow at once, so that a consumer
// can gather them, and the last of what there is says that none do.
func TestWatchMore(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func(memory.Options) engine) {
		s := open(memory.Options{})
		defer s.Close()
		h := register(t, s, store.Kind[*note]{})
		from := must(s.Revision(t.Context()))(t)
		for i := range 4 {
			n := newNote(fmt.Sprint(i), "")
			n.Labels = map[string]string{"odd": fmt.Sprint(i % 2)}
			must(h.Create(t.Context(), n))(t)
		}
		odd := must(store.ParseSelector("odd=1"))(t)
		even := must(store.ParseSelector("odd=0"))(t)
		for what, c := range map[string]struct {
			opts store.WatchOptions
			want []bool
		}{
			"all":     {store.WatchOptions{From: from}, []bool{true, true, true, false}},
			"last":    {store.WatchOptions{From: from, Labels: odd}, []bool{false, false}},
			"between": {store.WatchOptions{From: from, Labels: even}, []bool{false, false}},
			"initial": {store.WatchOptions{Initial: true}, []bool{true, true, true, true, false}},
		} {
			t.Run(what, func(t *testing.T) {
				var got []bool
				for ev, err := range h.Watch(t.Context(), c.opts) {
					if err != nil {
						t.Fatal(err)
					}
					if got = append(got, ev.More); len(got) == len(c.want) {
						break
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("More is %v, want %v", got, c.want)
				}
			})
		}
	})
}
