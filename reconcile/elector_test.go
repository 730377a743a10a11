// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store/memory"
)

func TestElectorHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		terms := make(chan reconcile.Term, 10)
		run := func(id string) (stop func() error) {
			e, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "default", Name: "x", Identity: id})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- e.Run(ctx, func(ctx context.Context, term reconcile.Term) error {
					terms <- term
					<-ctx.Done()
					time.Sleep(time.Minute)
					return ctx.Err()
				})
			}()
			return func() error { cancel(); return <-done }
		}
		stopA := run("a")
		first := <-terms
		stopB := run("b")
		time.Sleep(time.Hour)
		begin := time.Now()
		if err := stopA(); err != nil {
			t.Error(err)
		}
		second := <-terms
		if d := time.Since(begin); d != time.Minute {
			t.Error("handed over after", d)
		}
		if second.Epoch <= first.Epoch || first.Fence == 0 || second.Fence == first.Fence {
			t.Error(first, second)
		}
		if err := stopB(); err != nil {
			t.Error(err)
		}
	})
}
