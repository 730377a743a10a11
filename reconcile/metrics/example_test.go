// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/reconcile/metrics"
	"github.com/slipway-dev/slipway/store/memory"
)

func Example() {
	st := memory.New(memory.Options{})
	defer st.Close()

	figures := metrics.New()
	registry := prometheus.NewRegistry()
	registry.MustRegister(figures)

	m := reconcile.NewManager(st, reconcile.ManagerOptions{Hooks: figures.Hooks()})
	figures.Observe(m)
	// … controllers, m.Run(ctx), and promhttp.HandlerFor(registry, …)

	families, err := registry.Gather()
	fmt.Println(len(families), err)
	// Output: 0 <nil>
}
