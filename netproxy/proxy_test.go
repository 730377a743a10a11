// SPDX-License-Identifier: Apache-2.0

package netproxy_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// recorder is a back end that fails as often as it is told to.
type recorder struct {
	fail    int
	err     error
	at      []time.Duration // of each Sync, since the start
	changes []int
	resyncs int
	start   time.Time
}

func (r *recorder) Sync(_ context.Context, c []netproxy.Change) error {
	r.at = append(r.at, time.Since(r.start))
	r.changes = append(r.changes, len(c))
	if r.fail > 0 {
		r.fail--
		return r.err
	}
	return nil
}
func (r *recorder) Resync(context.Context) (int, error) { r.resyncs++; return 3, nil }
func (r *recorder) Cleanup(context.Context) error       { return nil }

func TestProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := netproxy.NewTracker(netproxy.Node{})
		good := &recorder{start: time.Now()}
		bad := &recorder{start: time.Now(), fail: 3, err: netproxy.ErrLocked}
		refusing := &recorder{start: time.Now(), fail: 1, err: &netproxy.ServiceError{Err: netproxy.ErrRefused}}
		queued, repaired := 0, 0
		p := &netproxy.Proxy{
			Tracker: tr, Backends: []netproxy.Backend{good, bad, refusing}, ResyncInterval: time.Hour,
			Hooks: netproxy.Hooks{
				Queued: func(n int) { queued += n },
				Synced: func(s netproxy.Sync) { repaired += s.Repaired },
			},
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		must(t, tr.SetService(plainService("a", 1)))
		synctest.Wait()
		for i := range byte(5) { // within the least interval: one batch
			must(t, tr.SetService(plainService(string('b'+rune(i)), 2+i)))
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(good.changes) != 2 || good.changes[0] != 1 || good.changes[1] != 5 || good.at[1] != 100*time.Millisecond {
			t.Errorf("batches of %v at %v", good.changes, good.at)
		}
		// The bad one failed at 0 and at 100 ms, and is tried again after two
		// seconds, then after four.
		if len(bad.at) != 4 || bad.at[2] != 2100*time.Millisecond || bad.at[3] < 6*time.Second || bad.changes[3] != 0 {
			t.Errorf("tries at %v", bad.at)
		}
		if len(refusing.at) != 2 {
			t.Errorf("a refused service was tried again: %v", refusing.at)
		}
		if queued != 6 {
			t.Errorf("%d changes queued, want 6", queued)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if good.resyncs != 2 || repaired != 2*3*3 {
			t.Errorf("%d resyncs, %d repaired", good.resyncs, repaired)
		}
		why := errors.New("enough")
		cancel(why)
		if err := <-done; err != why {
			t.Errorf("Run = %v, want the cause", err)
		}
	})
}
