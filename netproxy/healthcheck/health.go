// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// Health says whether a proxy keeps up: it does not if changes have been waiting
// to be applied for longer than Timeout. The zero value is healthy. Its methods
// may be called from any goroutine.
type Health struct {
	// Timeout is how long changes may wait. Zero means one minute.
	Timeout time.Duration

	mu       sync.Mutex
	queued   time.Time // of the oldest change that is not applied; zero: none
	synced   time.Time
	draining bool
}

// Hooks returns hooks for a netproxy.Proxy with n back ends that keep the Health
// up to date: it is well when the last n attempts all were.
func (h *Health) Hooks(n int) netproxy.Hooks {
	failed := map[netproxy.Backend]bool{}
	done := 0
	return netproxy.Hooks{
		Queued: func(int) { h.Queued(); done = 0 },
		Synced: func(s netproxy.Sync) {
			failed[s.Backend] = s.Err != nil && !netproxy.OnlyServices(s.Err)
			if s.Changes > 0 {
				done++
			}
			for _, bad := range failed {
				if bad {
					h.Queued()
					return
				}
			}
			if done >= n || s.Changes == 0 {
				h.Synced()
			}
		},
	}
}

// Queued says that there are changes to apply.
func (h *Health) Queued() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.queued.IsZero() {
		h.queued = time.Now()
	}
}

// Synced says that all changes have been applied.
func (h *Health) Synced() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queued, h.synced = time.Time{}, time.Now()
}

// SetDraining says that the node is about to go, so that load balancers should
// send it no new connections. The proxy itself stays healthy.
func (h *Health) SetDraining(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = yes
}

// Healthy says whether the proxy keeps up.
func (h *Health) Healthy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.healthy()
}

func (h *Health) healthy() bool {
	limit := h.Timeout
	if limit == 0 {
		limit = time.Minute
	}
	return h.queued.IsZero() || time.Since(h.queued) < limit
}

// Handler answers /healthz, which fails while the node is draining as well, and
// /livez, which does not (KEP-3836).
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { h.answer(w, true) })
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { h.answer(w, false) })
	return mux
}

func (h *Health) answer(w http.ResponseWriter, drain bool) {
	h.mu.Lock()
	healthy := h.healthy() && !(drain && h.draining)
	body := struct {
		LastUpdated time.Time `json:"lastUpdated"`
		CurrentTime time.Time `json:"currentTime"`
		Draining    bool      `json:"draining"`
	}{h.synced, time.Now(), h.draining}
	h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(body) // the client has gone if this fails
}
