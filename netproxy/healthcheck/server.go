// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// Server answers load balancers at the health check node ports of services:
// 200 if the node has a ready endpoint of the service and its rules are up to
// date, else 503. It is a [netproxy.Backend]: put it after the rules.
type Server struct {
	// Health says whether the rules are up to date. Nil means that they are.
	Health *Health
	// Host is the address to listen at; empty means all.
	Host string

	mu       sync.Mutex
	services map[netproxy.ServiceName]*service
	wg       sync.WaitGroup
}

var _ netproxy.Backend = (*Server)(nil)

// service is what the server knows of one service. Its fields are under
// Server.mu.
type service struct {
	name   netproxy.ServiceName
	routes map[routeKey]*netproxy.Route
	port   uint16
	ready  int
	http   *http.Server // nil: the port could not be opened yet
}

type routeKey struct {
	port   string
	family netproxy.Family
}

// Sync opens and closes ports, and updates counts. A port that can't be opened
// is an error, and is tried again by the next call.
func (s *Server) Sync(ctx context.Context, changes []netproxy.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		s.update(c)
	}
	var errs []error
	for _, svc := range s.services {
		if svc.http == nil {
			if err := s.open(ctx, svc); err != nil {
				errs = append(errs, fmt.Errorf("healthcheck: service %v: %w", svc.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Resync tries the ports again that could not be opened.
func (s *Server) Resync(ctx context.Context) (int, error) { return 0, s.Sync(ctx, nil) }

// Cleanup closes all ports and waits for the requests in them.
func (s *Server) Cleanup(context.Context) error {
	s.mu.Lock()
	for _, svc := range s.services {
		svc.close()
	}
	s.services = nil
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

func (s *Server) update(c netproxy.Change) {
	r := c.Route()
	name, key := r.Name.Service(), routeKey{r.Name.Port, r.Family}
	svc := s.services[name]
	if svc == nil {
		if c.New == nil || c.New.HealthCheckNodePort == 0 {
			return
		}
		if s.services == nil {
			s.services = map[netproxy.ServiceName]*service{}
		}
		svc = &service{name: name, routes: map[routeKey]*netproxy.Route{}}
		s.services[name] = svc
	}
	delete(svc.routes, key)
	if c.New != nil && c.New.HealthCheckNodePort != 0 {
		svc.routes[key] = c.New
	}
	svc.count()
	if len(svc.routes) == 0 {
		svc.close()
		delete(s.services, name)
	}
}

// count finds the port and the number of endpoints. Every port of a service has
// the same number; of two families, the larger one counts.
func (svc *service) count() {
	svc.ready = 0
	for _, r := range svc.routes {
		svc.ready = max(svc.ready, r.LocalReady)
		if svc.port != r.HealthCheckNodePort {
			svc.close()
			svc.port = r.HealthCheckNodePort
		}
	}
}

func (svc *service) close() {
	if svc.http != nil {
		svc.http.Close()
		svc.http = nil
	}
}

func (s *Server) open(ctx context.Context, svc *service) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(int(svc.port))))
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.answer(w, svc) }),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: time.Minute,
	}
	svc.http = srv
	s.wg.Go(func() { srv.Serve(l) }) // ends with srv.Close
	return nil
}

// answer is in the form that kube-proxy's answers have.
func (s *Server) answer(w http.ResponseWriter, svc *service) {
	s.mu.Lock()
	ready := svc.ready
	s.mu.Unlock()
	healthy := s.Health == nil || s.Health.Healthy()
	body := struct {
		Service struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"service"`
		LocalEndpoints      int  `json:"localEndpoints"`
		ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
	}{LocalEndpoints: ready, ServiceProxyHealthy: healthy}
	body.Service.Namespace, body.Service.Name = svc.name.Namespace, svc.name.Name
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(ready))
	if ready == 0 || !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(body) // the client has gone if this fails
}
