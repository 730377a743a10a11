// SPDX-License-Identifier: Apache-2.0

// Package metrics gives the figures of a [reconcile.Manager] to Prometheus:
//
//	figures := metrics.New()
//	prometheus.MustRegister(figures)
//	m := reconcile.NewManager(st, reconcile.ManagerOptions{Hooks: figures.Hooks()})
//	figures.Observe(m)
//
// It is a module of its own, so that nobody who does not use Prometheus downloads
// it. These are the metrics; a controller is known by its name:
//
//	slipway_reconcile_total{controller,outcome}        finished reconciles: see reconcile.Outcome
//	slipway_reconcile_duration_seconds{controller}     how long each took
//	slipway_reconcile_wait_seconds{controller}         how long its key was ready before it ran
//	slipway_reconcile_writes_total{controller,kind}    what reconciles wrote
//	slipway_reconcile_overdue_total{controller}        reconciles that went on after the end of their context
//	slipway_reconcile_loops_total{controller}          reports of keys that nothing but the controller's own writes keeps busy
//	slipway_trigger_panics_total{controller}           predicates and mapping functions that panicked
//	slipway_queue_keys{controller,state}               keys that are ready, waiting, running, parked
//	slipway_controller_ready{controller}               1 if the controller works
//	slipway_leading{name}                              1 while this replica leads, or takes part in the shards
package metrics
