// SPDX-License-Identifier: Apache-2.0

package healthcheck_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/healthcheck"
)

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestServer(t *testing.T) {
	port := freePort(t)
	tr := netproxy.NewTracker(netproxy.Node{Name: "n1"})
	service := netproxy.Service{
		Namespace: "shop", Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		ExternalPolicy: netproxy.Local, HealthCheckNodePort: port,
		Ports: []netproxy.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}},
	}
	slice := netproxy.EndpointSlice{Namespace: "shop", Name: "web-1", Service: "web",
		Ports: []netproxy.EndpointPort{{Name: "a", Port: 8080}, {Name: "b", Port: 8081}},
		Endpoints: []netproxy.Endpoint{
			{Addr: netip.MustParseAddr("10.244.0.1"), Node: "n1"},
			{Addr: netip.MustParseAddr("10.244.0.2"), Node: "n1"},
			{Addr: netip.MustParseAddr("10.244.0.3"), Node: "n1", State: netproxy.ServingTerminating},
			{Addr: netip.MustParseAddr("10.244.0.4"), Node: "n2"},
		}}
	if err := errors.Join(tr.SetService(service), tr.SetEndpointSlice(slice)); err != nil {
		t.Fatal(err)
	}
	health := &healthcheck.Health{Timeout: time.Nanosecond}
	s := &healthcheck.Server{Health: health, Host: "127.0.0.1"}
	defer s.Cleanup(t.Context())
	sync := func() {
		t.Helper()
		if err := s.Sync(t.Context(), tr.Changes()); err != nil {
			t.Fatal(err)
		}
	}
	check := func(code, ready int) {
		t.Helper()
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/anything", port))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != code || resp.Header.Get("X-Load-Balancing-Endpoint-Weight") != fmt.Sprint(ready) ||
			!strings.Contains(string(body), fmt.Sprintf(`"localEndpoints":%d`, ready)) {
			t.Errorf("got %d %v %s, want %d with %d endpoints", resp.StatusCode, resp.Header, body, code, ready)
		}
	}
	sync()
	check(200, 2)
	health.Queued()
	time.Sleep(time.Millisecond)
	check(503, 2)
	health.Synced()
	check(200, 2)
	slice.Endpoints = slice.Endpoints[2:]
	if err := tr.SetEndpointSlice(slice); err != nil {
		t.Fatal(err)
	}
	sync()
	check(503, 0)
	tr.DeleteService(service.ServiceName())
	sync()
	if resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port)); err == nil {
		resp.Body.Close()
		t.Error("the port is open after the service has gone")
	}
}

// TestPortTaken expects an error while somebody else has the port, and service
// afterwards.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	tr := netproxy.NewTracker(netproxy.Node{Name: "n1"})
	err = tr.SetService(netproxy.Service{Namespace: "shop", Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		HealthCheckNodePort: port, Ports: []netproxy.ServicePort{{Port: 80}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &healthcheck.Server{Host: "127.0.0.1"}
	defer s.Cleanup(t.Context())
	if err := s.Sync(t.Context(), tr.Changes()); err == nil || !strings.Contains(err.Error(), "shop/web") {
		t.Errorf("error = %v, want one that names the service", err)
	}
	l.Close()
	if _, err := s.Resync(t.Context()); err != nil {
		t.Error(err)
	}
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &healthcheck.Health{}
		code := func(path string) int {
			w := httptest.NewRecorder()
			h.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			return w.Code
		}
		want := func(healthz, livez int) {
			t.Helper()
			if a, b := code("/healthz"), code("/livez"); a != healthz || b != livez {
				t.Errorf("healthz %d, livez %d, want %d and %d", a, b, healthz, livez)
			}
		}
		want(200, 200)
		hooks := h.Hooks(2)
		hooks.Queued(1)
		time.Sleep(59 * time.Second)
		want(200, 200)
		time.Sleep(time.Second)
		want(503, 503)
		a, b := &healthcheck.Server{}, &healthcheck.Server{}
		hooks.Synced(netproxy.Sync{Backend: a, Changes: 1})
		want(503, 503)
		hooks.Synced(netproxy.Sync{Backend: b, Changes: 1, Err: netproxy.ErrLocked})
		want(503, 503)
		hooks.Synced(netproxy.Sync{Backend: b})
		want(200, 200)
		h.SetDraining(true)
		want(503, 200)
	})
}
