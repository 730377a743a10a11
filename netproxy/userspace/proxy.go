// SPDX-License-Identifier: Apache-2.0

package userspace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
)

// Proxy listens for services and copies to their endpoints. It is a
// [netproxy.Backend]. The zero value works. It owns its goroutines; Cleanup
// waits for them.
type Proxy struct {
	// Listen returns where to listen for a route. Nil means DefaultListen.
	Listen func(*netproxy.Route) []Listener
	// NodeIPs are the machine's own addresses. They are for load balancers with
	// source ranges; see netproxy.Config.NodeIP.
	NodeIPs []netip.Addr
	// UDPTimeout is how long a UDP flow lives without a packet in either
	// direction. Zero means one minute.
	UDPTimeout time.Duration
	// DialTimeout is how long to try one endpoint before the next. Zero means
	// 5 seconds.
	DialTimeout time.Duration

	mu     sync.Mutex
	routes map[routeKey]*server
	conns  map[net.Conn]struct{} // of clients and endpoints, to be cut by Cleanup
	wg     sync.WaitGroup
}

var _ netproxy.Backend = (*Proxy)(nil)

// Listener is an address to listen at, and which traffic arrives there.
type Listener struct {
	Addr netip.AddrPort // port 0 means any
	Kind Kind
}

// Kind says which policy holds for a listener.
type Kind uint8

const (
	// Internal traffic is what is meant for the cluster IP.
	Internal Kind = iota
	// External traffic is what is meant for node ports and external IPs. What
	// comes from the machine itself counts as internal.
	External
	// LoadBalancer traffic is external, and has to come from the source ranges.
	LoadBalancer
)

type routeKey struct {
	name   netproxy.PortName
	family netproxy.Family
}

// DefaultListen listens at a loopback port that the system chooses, and at the
// node port of all addresses of the route's family.
func DefaultListen(r *netproxy.Route) []Listener {
	loopback, all := netip.MustParseAddr("127.0.0.1"), netip.IPv4Unspecified()
	if r.Family == netproxy.IPv6 {
		loopback, all = netip.IPv6Loopback(), netip.IPv6Unspecified()
	}
	out := []Listener{{netip.AddrPortFrom(loopback, 0), Internal}}
	if r.NodePort != 0 {
		out = append(out, Listener{netip.AddrPortFrom(all, r.NodePort), External})
	}
	return out
}

// Addr returns where the proxy listens for internal traffic to the service port.
func (p *Proxy) Addr(name netproxy.PortName, f netproxy.Family) (netip.AddrPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.routes[routeKey{name, f}]; s != nil {
		for _, l := range s.open {
			if l.kind == Internal {
				return l.addr, true
			}
		}
	}
	return netip.AddrPort{}, false
}

// Sync opens and closes listeners, and changes where they lead. A port that
// can't be opened is an error that names the service, and is tried again by the
// next call; the others are in effect.
func (p *Proxy) Sync(ctx context.Context, changes []netproxy.Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routes == nil {
		p.routes, p.conns = map[routeKey]*server{}, map[net.Conn]struct{}{}
	}
	var errs []error
	for _, c := range changes {
		r := c.Route()
		key := routeKey{r.Name, r.Family}
		s := p.routes[key]
		switch {
		case c.New == nil:
			if s != nil {
				s.close()
				delete(p.routes, key)
			}
		case c.New.Protocol == netproxy.SCTP:
			errs = append(errs, &netproxy.ServiceError{Service: r.Name, Err: fmt.Errorf("SCTP: %w", errors.ErrUnsupported)})
		case s == nil:
			p.routes[key] = newServer(p, c.New)
		default:
			s.set(c.New)
		}
	}
	for _, s := range p.routes {
		if err := s.listen(ctx); err != nil {
			errs = append(errs, fmt.Errorf("userspace: service %v: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// Resync tries the listeners again that could not be opened.
func (p *Proxy) Resync(ctx context.Context) (int, error) { return 0, p.Sync(ctx, nil) }

// Cleanup closes the listeners, and waits for the connections to end. When ctx
// ends it cuts those that are left, and returns the cause.
func (p *Proxy) Cleanup(ctx context.Context) error {
	p.mu.Lock()
	for _, s := range p.routes {
		s.close()
	}
	clear(p.routes)
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	<-done
	return context.Cause(ctx)
}

// keep notes a connection, so that Cleanup can cut it; drop closes it.
func (p *Proxy) keep(c net.Conn) {
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

func (p *Proxy) dialTimeout() time.Duration {
	if p.DialTimeout == 0 {
		return 5 * time.Second
	}
	return p.DialTimeout
}

func (p *Proxy) udpTimeout() time.Duration {
	if p.UDPTimeout == 0 {
		return time.Minute
	}
	return p.UDPTimeout
}

// server is one route's listeners.
type server struct {
	*balancer
	proxy *Proxy
	name  netproxy.PortName
	open  []*opened // under Proxy.mu, as is everything here but the balancer
}

// opened is a listener that is open.
type opened struct {
	want  Listener
	addr  netip.AddrPort
	kind  Kind
	proto netproxy.Protocol
	close func()
	udp   *udpServer // nil for TCP
}

func newServer(p *Proxy, r *netproxy.Route) *server {
	return &server{balancer: newBalancer(r, p.NodeIPs), proxy: p, name: r.Name}
}

// set changes where the route leads.
func (s *server) set(r *netproxy.Route) {
	s.balancer.set(r)
	for _, l := range s.open {
		if l.udp != nil {
			l.udp.dropStale()
		}
	}
}

func (s *server) close() {
	for _, l := range s.open {
		l.close()
	}
	s.open = nil
}

// listen opens the listeners that the route should have, and closes others.
func (s *server) listen(ctx context.Context) error {
	r := s.balancer.current()
	listen := s.proxy.Listen
	if listen == nil {
		listen = DefaultListen
	}
	want := listen(r)
	s.open = slices.DeleteFunc(s.open, func(o *opened) bool {
		if o.proto == r.Protocol && slices.Contains(want, o.want) {
			return false
		}
		o.close()
		return true
	})
	var errs []error
	for _, w := range want {
		if slices.ContainsFunc(s.open, func(o *opened) bool { return o.want == w }) {
			continue
		}
		o, err := s.start(ctx, w, r.Protocol)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.open = append(s.open, o)
	}
	return errors.Join(errs...)
}

func (s *server) start(ctx context.Context, w Listener, proto netproxy.Protocol) (*opened, error) {
	var lc net.ListenConfig
	network := proto.String() + "4"
	if w.Addr.Addr().Is6() {
		network = proto.String() + "6"
	}
	o := &opened{want: w, kind: w.Kind, proto: proto}
	if proto == netproxy.UDP {
		pc, err := lc.ListenPacket(ctx, network, w.Addr.String())
		if err != nil {
			return nil, err
		}
		o.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		o.udp = &udpServer{server: s, kind: w.Kind, conn: pc.(*net.UDPConn), flows: map[netip.AddrPort]*flow{}}
		o.close = o.udp.close
		s.proxy.wg.Go(o.udp.run)
		return o, nil
	}
	l, err := lc.Listen(ctx, network, w.Addr.String())
	if err != nil {
		return nil, err
	}
	o.addr = l.Addr().(*net.TCPAddr).AddrPort()
	o.close = func() { l.Close() }
	s.proxy.wg.Go(func() { s.acceptTCP(l, w.Kind) })
	return o, nil
}
