// SPDX-License-Identifier: Apache-2.0

package netproxy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

func plainService(name string, n byte) netproxy.Service {
	return netproxy.Service{
		Namespace: "ns", Name: name, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, n})},
		Ports: []netproxy.ServicePort{{Name: "http", Port: 80}},
	}
}

func plainSlice(service, name string, endpoints ...byte) netproxy.EndpointSlice {
	s := netproxy.EndpointSlice{Namespace: "ns", Name: name, Service: service, Ports: []netproxy.EndpointPort{{Name: "http", Port: 8080}}}
	for _, e := range endpoints {
		s.Endpoints = append(s.Endpoints, netproxy.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 0, e})})
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMinimalChanges(t *testing.T) {
	tr := netproxy.NewTracker(netproxy.Node{Name: "n1"})
	want := func(what string) {
		t.Helper()
		got := ""
		for _, c := range tr.Changes() {
			count := func(r *netproxy.Route) string {
				if r == nil {
					return "-"
				}
				return fmt.Sprint(len(r.Cluster))
			}
			got += fmt.Sprintf("%v %s>%s ", c.Route().Name, count(c.Old), count(c.New))
		}
		if strings.TrimSpace(got) != what {
			t.Errorf("changes %q, want %q", got, what)
		}
	}
	want("")
	must(t, tr.SetEndpointSlice(plainSlice("web", "web-1", 1, 2))) // before its service
	want("")
	if o := tr.Orphans(); len(o) != 1 || o[0].Name != "web" {
		t.Errorf("orphans = %v", o)
	}
	must(t, tr.SetService(plainService("web", 1)))
	must(t, tr.SetService(plainService("api", 2)))
	want("ns/api:http ->0 ns/web:http ->2")
	must(t, tr.SetEndpointSlice(plainSlice("web", "web-2", 2, 3))) // 2 is in both
	want("ns/web:http 2>3")
	must(t, tr.SetEndpointSlice(plainSlice("web", "web-2", 3)))
	want("")
	must(t, tr.SetEndpointSlice(plainSlice("web", "web-2", 9)))
	must(t, tr.SetEndpointSlice(plainSlice("web", "web-2", 3))) // there and back
	want("")
	tr.DeleteEndpointSlice("ns", "web-1")
	tr.DeleteService(netproxy.ServiceName{Namespace: "ns", Name: "api"})
	want("ns/api:http 0>- ns/web:http 3>1")
	tr.DeleteService(netproxy.ServiceName{Namespace: "ns", Name: "nobody"})
	tr.DeleteEndpointSlice("ns", "nobody")
	want("")
}

// TestConflict gives two services one node port. The first keeps it; the second
// gets it when the first goes.
func TestConflict(t *testing.T) {
	tr := netproxy.NewTracker(netproxy.Node{})
	a, b := plainService("a", 1), plainService("b", 2)
	a.Ports[0].NodePort, b.Ports[0].NodePort = 30000, 30000
	must(t, tr.SetService(a))
	err := tr.SetService(b)
	if !errors.Is(err, netproxy.ErrConflict) || !strings.Contains(err.Error(), "ns/b") || !strings.Contains(err.Error(), "node port 30000/tcp belongs to service ns/a") {
		t.Errorf("error = %v", err)
	}
	if c := tr.Changes(); len(c) != 1 || c[0].New.Name.Name != "a" {
		t.Errorf("changes = %v, want a alone", c)
	}
	tr.DeleteService(a.ServiceName())
	if c := tr.Changes(); len(c) != 2 || c[0].New != nil || c[1].New == nil || c[1].New.Name.Name != "b" {
		t.Errorf("changes = %v, want a gone and b there", c)
	}
}

func TestBadServices(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(s *netproxy.Service)
		want   string
	}{
		{"no address", func(s *netproxy.Service) { s.ClusterIPs = []netip.Addr{{}} }, "clusterIPs[0]: invalid IP: no valid IP address"},
		{"two of a family", func(s *netproxy.Service) {
			s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr("10.96.0.99"))
		}, "clusterIPs[1]: 10.96.0.99: a second IPv4 address"},
		{"mapped", func(s *netproxy.Service) { s.ClusterIPs = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")} }, "mapped into IPv6"},
		{"loopback", func(s *netproxy.Service) { s.ExternalIPs = []netip.Addr{netip.MustParseAddr("127.0.0.1")} }, "externalIPs[0]: 127.0.0.1: a loopback address"},
		{"port 0", func(s *netproxy.Service) { s.Ports[0].Port = 0 }, "ports[0].port: 0: want 1 to 65535"},
		{"port 70000", func(s *netproxy.Service) { s.Ports[0].Port = 70000 }, "ports[0].port: 70000: want 1 to 65535"},
		{"no ports", func(s *netproxy.Service) { s.Ports = nil }, "ports: is empty"},
		{"shell", func(s *netproxy.Service) { s.Name = `web"; rm -rf /` }, "only letters, digits"},
		{"newline", func(s *netproxy.Service) { s.Namespace = "a\n-A INPUT" }, "only letters, digits"},
		{"option", func(s *netproxy.Service) { s.Name = "-j" }, "a letter or digit at both ends"},
		{"long", func(s *netproxy.Service) { s.Name = strings.Repeat("x", 64) }, "has 64 characters; at most 63"},
		{"unnamed of two", func(s *netproxy.Service) { s.Ports = append(s.Ports, netproxy.ServicePort{Port: 81}) }, "ports[1].name: is empty"},
		{"twice", func(s *netproxy.Service) {
			s.Ports = append(s.Ports, netproxy.ServicePort{Name: "b", Port: 80})
		}, "80/tcp is ports[0] too"},
		{"range", func(s *netproxy.Service) { s.SourceRanges = []netip.Prefix{{}} }, "sourceRanges[0]"},
		{"affinity", func(s *netproxy.Service) { s.Affinity = time.Millisecond }, "affinity: 1ms: want 0, or 1s to 24h"},
		{"health", func(s *netproxy.Service) { s.HealthCheckNodePort = -1 }, "healthCheckNodePort: -1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := netproxy.NewTracker(netproxy.Node{})
			must(t, tr.SetService(plainService("web", 1)))
			tr.Changes()
			s := plainService("web", 1)
			c.change(&s)
			err := tr.SetService(s)
			if _, ok := errors.AsType[*netproxy.FieldError](err); !ok || !errors.Is(err, netproxy.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want a FieldError with %q", err, c.want)
			}
			if got := tr.Changes(); got != nil {
				t.Errorf("a refused update changed %v", got)
			}
		})
	}
}

func TestBadEndpoints(t *testing.T) {
	tr := netproxy.NewTracker(netproxy.Node{})
	must(t, tr.SetService(plainService("web", 1)))
	s := plainSlice("web", "web-1", 1, 2)
	s.Endpoints[0].Addr = netip.Addr{}
	s.Ports = append(s.Ports, netproxy.EndpointPort{Name: "http", Port: 70000})
	err := tr.SetEndpointSlice(s)
	for _, want := range []string{"endpoint slice ns/web-1: endpoints[0]: of service web", "ports[1]: port 70000"} {
		if !errors.Is(err, netproxy.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
	if c := tr.Changes(); len(c) != 1 || len(c[0].New.Cluster) != 1 {
		t.Errorf("changes = %+v, want the good endpoint", c)
	}
}

// TestTrackerModel compares the sum of all changes with a fresh tracker.
func TestTrackerModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		tr := netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})
		services, slices := map[string]netproxy.Service{}, map[string]netproxy.EndpointSlice{}
		sum := map[string]*netproxy.Route{}
		for step := range 300 {
			i := byte(r.IntN(10))
			name := fmt.Sprintf("s%d", i)
			switch r.IntN(5) {
			case 0:
				tr.DeleteService(netproxy.ServiceName{Namespace: "ns", Name: name})
				delete(services, name)
			case 1:
				s := plainService(name, i)
				s.InternalPolicy = netproxy.Policy(r.IntN(2))
				s.Ports[0].NodePort = r.IntN(2) * (30000 + int(i))
				must(t, tr.SetService(s))
				services[name] = s
			case 2:
				tr.DeleteEndpointSlice("ns", name+"-x")
				delete(slices, name+"-x")
			default:
				s := plainSlice(name, name+[]string{"-x", "-y"}[r.IntN(2)], byte(r.IntN(5)), byte(5+r.IntN(5)))
				s.Endpoints[0].State = netproxy.EndpointState(r.IntN(4))
				s.Endpoints[1].Node = []string{"n1", "n2"}[r.IntN(2)]
				must(t, tr.SetEndpointSlice(s))
				slices[s.Name] = s
			}
			if r.IntN(3) > 0 {
				continue
			}
			for _, c := range tr.Changes() {
				key := c.Route().Name.String()
				if !sum[key].Equal(c.Old) || c.Old.Equal(c.New) {
					t.Fatalf("seed %d, step %d: a change of %s from %+v, but it was %+v", seed, step, key, c.Old, sum[key])
				}
				if sum[key] = c.New; c.New == nil {
					delete(sum, key)
				}
			}
			fresh := netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})
			for _, s := range services {
				must(t, fresh.SetService(s))
			}
			for _, s := range slices {
				must(t, fresh.SetEndpointSlice(s))
			}
			want := fresh.Changes()
			if len(want) != len(sum) {
				t.Fatalf("seed %d, step %d: %d routes, want %d", seed, step, len(sum), len(want))
			}
			for _, c := range want {
				if got := sum[c.New.Name.String()]; !got.Equal(c.New) {
					t.Fatalf("seed %d, step %d: %+v, want %+v", seed, step, got, c.New)
				}
			}
		}
	}
}
