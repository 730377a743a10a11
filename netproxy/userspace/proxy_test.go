// SPDX-License-Identifier: Apache-2.0

package userspace_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/userspace"
)

var name = netproxy.PortName{Namespace: "shop", Name: "web"}

// backend answers with its own name, then echoes.
func backend(t *testing.T, proto netproxy.Protocol) netproxy.Destination {
	t.Helper()
	if proto == netproxy.UDP {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		me := c.LocalAddr().String()
		go func() { // ends with c
			buf := make([]byte, 1500)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				c.WriteTo([]byte(me), from)
			}
		}()
		return netproxy.Destination{Addr: netip.MustParseAddrPort(me)}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	me := l.Addr().String()
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, me+"\n")
				io.Copy(c, c)
			}()
		}
	}()
	return netproxy.Destination{Addr: netip.MustParseAddrPort(me)}
}

func route(proto netproxy.Protocol, cluster ...netproxy.Destination) *netproxy.Route {
	return &netproxy.Route{Name: name, Protocol: proto, Port: 80, ClusterIP: netip.MustParseAddr("10.96.0.10"), Cluster: cluster, HasEndpoints: len(cluster) > 0}
}

func start(t *testing.T, p *userspace.Proxy, r *netproxy.Route) netip.AddrPort {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.Cleanup(ctx)
	})
	if err := p.Sync(t.Context(), []netproxy.Change{{New: r}}); err != nil {
		t.Fatal(err)
	}
	a, ok := p.Addr(name, netproxy.IPv4)
	if !ok {
		t.Fatal("no listener")
	}
	return a
}

func dial(t *testing.T, proto netproxy.Protocol, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial(proto.String(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

// ask returns which backend answers.
func ask(t *testing.T, c net.Conn) (string, error) {
	t.Helper()
	if c.RemoteAddr().Network() == "udp" {
		c.Write([]byte("?"))
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	for n > 0 && buf[n-1] == '\n' {
		n--
	}
	return string(buf[:n]), err
}

func TestBalance(t *testing.T) {
	for _, proto := range []netproxy.Protocol{netproxy.TCP, netproxy.UDP} {
		a, b := backend(t, proto), backend(t, proto)
		at := start(t, &userspace.Proxy{}, route(proto, a, b))
		got := map[string]int{}
		for range 60 {
			who, err := ask(t, dial(t, proto, at))
			if err != nil {
				t.Fatal(err)
			}
			got[who]++
		}
		if got[a.Addr.String()] == 0 || got[b.Addr.String()] == 0 {
			t.Errorf("%v: %v answered, want both", proto, got)
		}
	}
}

func TestAffinity(t *testing.T) {
	a, b := backend(t, netproxy.TCP), backend(t, netproxy.TCP)
	p := &userspace.Proxy{}
	r := route(netproxy.TCP, a, b)
	r.Affinity = time.Hour
	at := start(t, p, r)
	first, err := ask(t, dial(t, netproxy.TCP, at))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if who, err := ask(t, dial(t, netproxy.TCP, at)); who != first || err != nil {
			t.Fatalf("%s answered after %s (%v)", who, first, err)
		}
	}
	// The endpoint goes: the client gets the other one, and stays there.
	other := a
	if a.Addr.String() == first {
		other = b
	}
	now := *r
	now.Cluster = []netproxy.Destination{other}
	if err := p.Sync(t.Context(), []netproxy.Change{{Old: r, New: &now}}); err != nil {
		t.Fatal(err)
	}
	if who, _ := ask(t, dial(t, netproxy.TCP, at)); who != other.Addr.String() {
		t.Errorf("%s answered, want %v", who, other.Addr)
	}
}

// TestDeadEndpoint expects that an endpoint that refuses costs no connection.
func TestDeadEndpoint(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := netproxy.Destination{Addr: netip.MustParseAddrPort(l.Addr().String())}
	l.Close()
	live := backend(t, netproxy.TCP)
	at := start(t, &userspace.Proxy{}, route(netproxy.TCP, dead, live))
	for range 20 {
		if who, err := ask(t, dial(t, netproxy.TCP, at)); who != live.Addr.String() {
			t.Fatalf("%q answered (%v), want %v", who, err, live.Addr)
		}
	}
}

func TestNoEndpoints(t *testing.T) {
	at := start(t, &userspace.Proxy{}, route(netproxy.TCP))
	refused(t, at)
}

// refused expects a reset, which may come while the client still connects.
func refused(t *testing.T, at netip.AddrPort) {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if who, err := ask(t, c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q answered (%v)", who, err)
	}
}

// TestGracefulEnd removes the service under an open connection: new ones are
// refused, this one goes on, in both directions to its end.
func TestGracefulEnd(t *testing.T) {
	p := &userspace.Proxy{}
	r := route(netproxy.TCP, backend(t, netproxy.TCP))
	at := start(t, p, r)
	c := dial(t, netproxy.TCP, at)
	if _, err := ask(t, c); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(t.Context(), []netproxy.Change{{Old: r}}); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", at.String()); err == nil {
		c.Close()
		t.Error("the listener is open after the service has gone")
	}
	io.WriteString(c, "still there?")
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "still there?" || err != nil {
		t.Errorf("the open connection said %q (%v)", got, err)
	}
	if err := p.Cleanup(t.Context()); err != nil {
		t.Errorf("cleanup: %v", err)
	}
}

// TestCut expects that Cleanup ends with its context.
func TestCut(t *testing.T) {
	p := &userspace.Proxy{}
	at := start(t, p, route(netproxy.TCP, backend(t, netproxy.TCP)))
	c := dial(t, netproxy.TCP, at)
	if _, err := ask(t, c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Cleanup(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cleanup: %v, want the end of its time", err)
	}
	if _, err := ask(t, c); err == nil {
		t.Error("the connection survived")
	}
}

// TestUDPMoves takes the endpoint away from a client that goes on sending.
func TestUDPMoves(t *testing.T) {
	a, b := backend(t, netproxy.UDP), backend(t, netproxy.UDP)
	p := &userspace.Proxy{}
	r := route(netproxy.UDP, a)
	c := dial(t, netproxy.UDP, start(t, p, r))
	if who, err := ask(t, c); who != a.Addr.String() {
		t.Fatalf("%q answered (%v)", who, err)
	}
	if err := p.Sync(t.Context(), []netproxy.Change{{Old: r, New: route(netproxy.UDP, b)}}); err != nil {
		t.Fatal(err)
	}
	if who, err := ask(t, c); who != b.Addr.String() {
		t.Errorf("%q answered (%v), want %v", who, err, b.Addr)
	}
}

// TestPolicies checks source ranges and the external policy at listeners that
// the caller chose.
func TestPolicies(t *testing.T) {
	any, local := backend(t, netproxy.TCP), backend(t, netproxy.TCP)
	var kind userspace.Kind
	for _, c := range []struct {
		name   string
		kind   userspace.Kind
		ranges string
		policy netproxy.Policy
		want   string
	}{
		{"internal", userspace.Internal, "192.0.2.0/24", netproxy.Local, any.Addr.String()},
		{"external from this machine", userspace.External, "", netproxy.Local, any.Addr.String()},
		{"source not allowed", userspace.LoadBalancer, "192.0.2.0/24", netproxy.Cluster, ""},
		{"the node itself", userspace.LoadBalancer, "198.51.100.0/24", netproxy.Cluster, any.Addr.String()},
		{"source allowed", userspace.LoadBalancer, "127.0.0.0/8", netproxy.Cluster, any.Addr.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind = c.kind
			var at netip.AddrPort
			// The node has the load balancer's address, so it is its own source.
			p := &userspace.Proxy{NodeIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}, Listen: func(r *netproxy.Route) []userspace.Listener {
				if !at.IsValid() {
					l, err := net.Listen("tcp4", "127.0.0.1:0")
					if err != nil {
						t.Error(err)
						return nil
					}
					at = netip.MustParseAddrPort(l.Addr().String())
					l.Close()
				}
				return []userspace.Listener{{Addr: at, Kind: kind}}
			}}
			defer p.Cleanup(t.Context())
			r := route(netproxy.TCP, any)
			r.LoadBalancers = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
			r.Local, r.ExternalPolicy = []netproxy.Destination{local}, c.policy
			if c.ranges != "" {
				r.SourceRanges = []netip.Prefix{netip.MustParsePrefix(c.ranges)}
			}
			if err := p.Sync(t.Context(), []netproxy.Change{{New: r}}); err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				refused(t, at)
				return
			}
			conn := dial(t, netproxy.TCP, at)
			if who, _ := ask(t, conn); who != c.want {
				t.Errorf("%q answered, want %q", who, c.want)
			}
			conn.Close()
		})
	}
}

func TestSCTP(t *testing.T) {
	p := &userspace.Proxy{}
	err := p.Sync(t.Context(), []netproxy.Change{{New: route(netproxy.SCTP)}})
	if !errors.Is(err, errors.ErrUnsupported) || !netproxy.OnlyServices(err) {
		t.Errorf("error = %v, want a ServiceError that is ErrUnsupported", err)
	}
}
