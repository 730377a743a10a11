// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/reconcile/metrics"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

type boat struct {
	store.Meta `json:"metadata"`
	Painted    bool
}

func (b *boat) DeepCopy() *boat { return store.DeepCopy(b) }

func TestMetricsOfAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(memory.Options{})
		defer st.Close()
		figures := metrics.New()
		m := reconcile.NewManager(st, reconcile.ManagerOptions{Hooks: figures.Hooks()})
		figures.Observe(m)
		boats, err := store.Register(m.Store(), store.Kind[*boat]{Name: "Boat"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = reconcile.New(m, "paint", func(ctx context.Context, key store.Key) reconcile.Result {
			if key.Name == "wreck" {
				return reconcile.Park(errors.New("nothing to paint"))
			}
			_, err := boats.Patch(ctx, key, func(b *boat) error { b.Painted = true; return nil })
			return reconcile.OK(err)
		}, reconcile.Options[store.Key]{}, reconcile.For(boats))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()
		for _, name := range []string{"ark", "wreck"} {
			if _, err := boats.Create(ctx, &boat{Meta: store.Meta{Namespace: "sea", Name: name}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)

		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(figures)
		want := `
# HELP slipway_controller_ready 1 if the controller works.
# TYPE slipway_controller_ready gauge
slipway_controller_ready{controller="paint"} 1
# HELP slipway_queue_keys Keys in the queue.
# TYPE slipway_queue_keys gauge
slipway_queue_keys{controller="paint",state="parked"} 1
slipway_queue_keys{controller="paint",state="ready"} 0
slipway_queue_keys{controller="paint",state="running"} 0
slipway_queue_keys{controller="paint",state="waiting"} 0
# HELP slipway_reconcile_total Finished reconciles.
# TYPE slipway_reconcile_total counter
slipway_reconcile_total{controller="paint",outcome="done"} 2
slipway_reconcile_total{controller="paint",outcome="parked"} 1
# HELP slipway_reconcile_writes_total Writes of reconciles.
# TYPE slipway_reconcile_writes_total counter
slipway_reconcile_writes_total{controller="paint",kind="Boat"} 1
`
		err = testutil.GatherAndCompare(registry, strings.NewReader(want),
			"slipway_controller_ready", "slipway_queue_keys", "slipway_reconcile_total", "slipway_reconcile_writes_total")
		if err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}

		// A second manager with a controller of that name counts together with the first.
		second := reconcile.NewManager(st, reconcile.ManagerOptions{})
		figures.Observe(second)
		_, err = reconcile.New(second, "paint", func(context.Context, store.Key) reconcile.Result { return reconcile.Done() }, reconcile.Options[store.Key]{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := registry.Gather(); err != nil {
			t.Errorf("two managers: %v", err)
		}
	})
}
