// SPDX-License-Identifier: Apache-2.0

package feed_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/internal/feed"
)

func event(n int) runtime.ContainerEvent { return runtime.ContainerEvent{ContainerID: strconv.Itoa(n)} }

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f feed.Feed
		f.Publish(event(-1)) // nobody listens
		stream := f.Subscribe(t.Context())
		go func() {
			for n := range 1000 {
				f.Publish(event(n))
			}
			f.Close(nil)
		}()
		next := 0
		for e, err := range stream {
			if err != nil || e.ContainerID != strconv.Itoa(next) {
				t.Fatalf("got %s, %v, want %d", e.ContainerID, err, next)
			}
			next++
		}
		if next != 1000 {
			t.Errorf("%d events, want 1000", next)
		}
	})
}

// A slow reader gets what it did not miss, then is told that it fell behind. Others are not held up.
func TestLagging(t *testing.T) {
	var f feed.Feed
	stream := f.Subscribe(t.Context())
	for n := range feed.Limit + 1 {
		f.Publish(event(n))
	}
	got := 0
	var last error
	for _, err := range stream {
		if last = err; err == nil {
			got++
		}
	}
	if got != feed.Limit || !errors.Is(last, runtime.ErrLagged) {
		t.Errorf("%d events, then %v, want %d and ErrLagged", got, last, feed.Limit)
	}
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f feed.Feed
		ctx, cancel := context.WithCancel(t.Context())
		stream := f.Subscribe(ctx)
		cancel()
		for range stream {
			t.Error("an event after cancel")
		}
	})
}
