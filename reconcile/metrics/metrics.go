// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipway-dev/slipway/reconcile"
)

// Metrics is a [prometheus.Collector] of what managers do: see [New]. It is safe
// for concurrent use.
type Metrics struct {
	total, writes, overdue, loops, panics *prometheus.CounterVec
	duration, wait                        *prometheus.HistogramVec
	leading                               *prometheus.GaugeVec
	queue, ready                          *prometheus.Desc

	mu       sync.Mutex
	managers []*reconcile.Manager
}

// New returns metrics that nothing feeds yet: give Hooks to the managers, and the
// managers to Observe.
func New() *Metrics {
	// From 100 µs, a reconcile that finds nothing to do in process, to 2 minutes.
	buckets := prometheus.ExponentialBuckets(0.0001, 2.5, 16)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"controller"})
	}
	return &Metrics{
		total:    counter("slipway_reconcile_total", "Finished reconciles.", "controller", "outcome"),
		writes:   counter("slipway_reconcile_writes_total", "Writes of reconciles.", "controller", "kind"),
		overdue:  counter("slipway_reconcile_overdue_total", "Reconciles that went on after the end of their context.", "controller"),
		loops:    counter("slipway_reconcile_loops_total", "Reports of keys that only the controller's own writes keep busy.", "controller"),
		panics:   counter("slipway_trigger_panics_total", "Predicates and mapping functions that panicked.", "controller"),
		duration: histogram("slipway_reconcile_duration_seconds", "How long reconciles took."),
		wait:     histogram("slipway_reconcile_wait_seconds", "How long keys were ready before they ran."),
		leading:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "slipway_leading", Help: "1 while this replica leads, or takes part in the shards."}, []string{"name"}),
		queue:    prometheus.NewDesc("slipway_queue_keys", "Keys in the queue.", []string{"controller", "state"}, nil),
		ready:    prometheus.NewDesc("slipway_controller_ready", "1 if the controller works.", []string{"controller"}, nil),
	}
}

// Hooks returns the hooks that feed the metrics. To have hooks of one's own
// besides, call these from them.
func (m *Metrics) Hooks() reconcile.Hooks {
	return reconcile.Hooks{
		Reconciled: func(r reconcile.Reconciled) {
			m.total.WithLabelValues(r.Controller, string(r.Outcome)).Inc()
			m.duration.WithLabelValues(r.Controller).Observe(r.Duration.Seconds())
			m.wait.WithLabelValues(r.Controller).Observe(r.Waited.Seconds())
			for _, w := range r.Wrote {
				m.writes.WithLabelValues(r.Controller, w.Kind.String()).Inc()
			}
		},
		Overdue:  func(o reconcile.Overdue) { m.overdue.WithLabelValues(o.Controller).Inc() },
		Loop:     func(l reconcile.Loop) { m.loops.WithLabelValues(l.Controller).Inc() },
		Panicked: func(p reconcile.Panicked) { m.panics.WithLabelValues(p.Controller).Inc() },
		Leading: func(name string, leading bool) {
			value := 0.0
			if leading {
				value = 1
			}
			m.leading.WithLabelValues(name).Set(value)
		},
	}
}

// Observe adds the queues of a manager to the metrics. Controllers of one name, in
// several managers, count together.
func (m *Metrics) Observe(manager *reconcile.Manager) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.managers = append(m.managers, manager)
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.total, m.writes, m.overdue, m.loops, m.panics, m.duration, m.wait, m.leading}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
	ch <- m.queue
	ch <- m.ready
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	for name, s := range m.stats() {
		for state, n := range map[string]int{"ready": s.Ready, "waiting": s.Waiting, "running": s.Running, "parked": s.Parked} {
			ch <- prometheus.MustNewConstMetric(m.queue, prometheus.GaugeValue, float64(n), name, state)
		}
		works := 0.0
		if s.Blocked == nil {
			works = 1
		}
		ch <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, works, name)
	}
}

// stats returns the figures of each controller; those of one name, in several
// managers, together.
func (m *Metrics) stats() map[string]reconcile.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]reconcile.Stats{}
	for _, manager := range m.managers {
		for _, s := range manager.Stats() {
			sum := all[s.Controller]
			sum.Ready += s.Ready
			sum.Waiting += s.Waiting
			sum.Running += s.Running
			sum.Parked += s.Parked
			sum.Blocked = errors.Join(sum.Blocked, s.Blocked)
			all[s.Controller] = sum
		}
	}
	return all
}
