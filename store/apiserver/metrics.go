// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// metrics are what /metrics shows, under the names that Kubernetes gives them.
type metrics struct {
	watches  atomic.Int64
	requests sync.Map // requestKey to *requestStats
}

type requestKey struct {
	verb string
	code int
}

// requestStats counts requests and how long they took.
type requestStats struct {
	count   atomic.Int64
	nanos   atomic.Int64
	buckets [len(bucketBounds)]atomic.Int64
}

var bucketBounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond,
	500 * time.Millisecond, 2 * time.Second, 10 * time.Second, time.Minute,
}

func (m *metrics) request(verb string, code int, took time.Duration) {
	v, ok := m.requests.Load(requestKey{verb, code})
	if !ok {
		v, _ = m.requests.LoadOrStore(requestKey{verb, code}, &requestStats{})
	}
	s := v.(*requestStats)
	s.count.Add(1)
	s.nanos.Add(int64(took))
	for i, bound := range bucketBounds {
		if took <= bound {
			s.buckets[i].Add(1)
			break
		}
	}
}

// serveMetrics writes them in the text format of Prometheus.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		requestKey
		*requestStats
	}
	var rows []row
	s.metrics.requests.Range(func(k, v any) bool {
		rows = append(rows, row{k.(requestKey), v.(*requestStats)})
		return true
	})
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.verb, b.verb), cmp.Compare(a.code, b.code)) })
	var b strings.Builder
	fmt.Fprintf(&b, "# TYPE apiserver_longrunning_requests gauge\napiserver_longrunning_requests{verb=\"WATCH\"} %d\n", s.metrics.watches.Load())
	b.WriteString("# TYPE apiserver_request_total counter\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "apiserver_request_total{verb=%q,code=\"%d\"} %d\n", strings.ToUpper(r.verb), r.code, r.count.Load())
	}
	b.WriteString("# TYPE apiserver_request_duration_seconds histogram\n")
	for _, r := range rows {
		labels := fmt.Sprintf("verb=%q,code=\"%d\"", strings.ToUpper(r.verb), r.code)
		below := int64(0)
		for i, bound := range bucketBounds {
			below += r.buckets[i].Load()
			fmt.Fprintf(&b, "apiserver_request_duration_seconds_bucket{%s,le=\"%g\"} %d\n", labels, bound.Seconds(), below)
		}
		fmt.Fprintf(&b, "apiserver_request_duration_seconds_bucket{%s,le=\"+Inf\"} %d\n", labels, r.count.Load())
		fmt.Fprintf(&b, "apiserver_request_duration_seconds_sum{%s} %g\n", labels, time.Duration(r.nanos.Load()).Seconds())
		fmt.Fprintf(&b, "apiserver_request_duration_seconds_count{%s} %d\n", labels, r.count.Load())
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(b.String())) // the client is gone, if this fails
}
