// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"testing"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store/memory"
)

// BenchmarkOwnership is what each reconcile pays for being allowed to work: Begin
// and End.
func BenchmarkOwnership(b *testing.B) {
	st := memory.New(memory.Options{})
	defer st.Close()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	begin := func(b *testing.B, own reconcile.Ownership) {
		b.ReportAllocs()
		for b.Loop() {
			run, ok := own.Begin(ctx, "default/web")
			if !ok {
				b.Fatal("the key is another's")
			}
			run.End()
		}
	}
	b.Run("owner=term/slipway", func(b *testing.B) {
		e, err := reconcile.NewElector(st, reconcile.ElectorOptions{Namespace: "default", Name: "leader", Identity: "a"})
		if err != nil {
			b.Fatal(err)
		}
		if err := e.Run(ctx, func(_ context.Context, t reconcile.Term) error { begin(b, t.Ownership()); return nil }); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("owner=sharder/slipway", func(b *testing.B) {
		s, err := reconcile.NewSharder(st, reconcile.SharderOptions{Namespace: "default", Name: "shards", Identity: "a"})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(ctx)
		ended, gained := make(chan error, 1), make(chan struct{}, 1)
		defer s.OnGain(func(func(string) bool) { gained <- struct{}{} })()
		go func() { ended <- s.Run(ctx) }()
		<-gained
		begin(b, s)
		stop()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	})
}
