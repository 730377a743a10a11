// SPDX-License-Identifier: Apache-2.0

//go:build linux

package labtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
)

// Traffic proves the back end with packets: each feature, in both families.
func Traffic(t *testing.T, make NewBackend) {
	c := NewCluster(t, make)
	all := []*lab.Host{c.Pod1, c.Pod2, c.Pod3}

	web := service("web", 10)
	web.Ports[0].NodePort = 30080
	web.Ports = append(web.Ports, netproxy.ServicePort{Name: "dns", Protocol: netproxy.UDP, Port: 53, NodePort: 30053},
		netproxy.ServicePort{Name: "sctp", Protocol: netproxy.SCTP, Port: 3868, NodePort: 30868})
	web.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")}
	c.Set(web, all...)

	sticky := service("sticky", 11)
	sticky.Affinity = time.Hour
	c.Set(sticky, all...)

	selfish := service("selfish", 12)
	c.Set(selfish, c.Pod1)

	outside := service("outside", 13)
	outside.Ports[0].NodePort = 30082
	outside.ExternalPolicy = netproxy.Local
	c.Set(outside, c.Pod1)

	inside := service("inside", 14)
	inside.InternalPolicy = netproxy.Local
	c.Set(inside, all...)

	c.Set(service("empty", 15))

	balanced := service("balanced", 16)
	balanced.LoadBalancers = []netproxy.LoadBalancer{{Addr: netip.MustParseAddr("203.0.113.5")}, {Addr: netip.MustParseAddr("2001:db8:1::5")}}
	balanced.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.168.50.2/32"), netip.MustParsePrefix("fd50::2/128")}
	c.Set(balanced, all...)

	// The load balancer's address is one of node1's own too: what node1 sends
	// there has that address as its source.
	own := service("own", 18)
	own.LoadBalancers = []netproxy.LoadBalancer{{Addr: netip.MustParseAddr("203.0.113.7")}, {Addr: netip.MustParseAddr("2001:db8:1::7")}}
	own.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.168.50.11/32"), netip.MustParsePrefix("fd50::11/128")}
	c.Set(own, c.Pod3)
	c.Node1.AddAddr("203.0.113.7/32", "2001:db8:1::7/128")
	c.Node2.AddAddr("203.0.113.6/32", "2001:db8:1::6/128") // of the next service, which node2 may not use

	guarded := service("guarded", 17)
	guarded.LoadBalancers = []netproxy.LoadBalancer{{Addr: netip.MustParseAddr("203.0.113.6")}, {Addr: netip.MustParseAddr("2001:db8:1::6")}}
	guarded.SourceRanges = []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("2001:db8:9::/48")}
	c.Set(guarded, all...)
	c.Sync()

	for i, f := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
		at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
		vip := func(s netproxy.Service) netip.AddrPort { return at(s.ClusterIPs[i], 80) }
		t.Run(f.String(), func(t *testing.T) {
			outer := want{all, c.masqueraded(f)}
			node1 := addrOf(c.Node1, f)
			c.check(t, c.Client, 30, netproxy.TCP, vip(web), outer)
			c.check(t, c.Client, 30, netproxy.UDP, at(web.ClusterIPs[i], 53), outer)
			c.check(t, c.Client, 30, netproxy.TCP, at(node1, 30080), outer)
			c.check(t, c.Client, 30, netproxy.UDP, at(node1, 30053), outer)
			c.check(t, c.Client, 30, netproxy.SCTP, at(web.ClusterIPs[i], 3868), outer)
			c.check(t, c.Client, 30, netproxy.SCTP, at(node1, 30868), outer)
			c.check(t, c.Client, 10, netproxy.TCP, at(web.ExternalIPs[i], 80), outer)
			// The node's own programs, and a pod, which keeps its address.
			c.check(t, c.Node1, 10, netproxy.TCP, vip(web), want{all, anySource})
			c.check(t, c.Pod3, 10, netproxy.TCP, vip(selfish), want{[]*lab.Host{c.Pod1}, source(addrOf(c.Pod3, f))})
			c.check(t, c.Pod2, 10, netproxy.TCP, vip(selfish), want{[]*lab.Host{c.Pod1}, source(addrOf(c.Pod2, f))})
			if f == netproxy.IPv4 {
				c.check(t, c.Node1, 10, netproxy.TCP, at(netip.MustParseAddr("127.0.0.1"), 30080), want{all, c.masqueraded(f)})
			}
			// Hairpin: a pod that is its own endpoint sees the bridge.
			c.check(t, c.Pod1, 5, netproxy.TCP, vip(selfish), want{[]*lab.Host{c.Pod1}, c.masqueraded(f)})
			// Internal policy Local: the endpoints of the node alone.
			c.check(t, c.Pod3, 10, netproxy.TCP, vip(inside), want{[]*lab.Host{c.Pod3}, anySource})
			c.check(t, c.Client, 20, netproxy.TCP, vip(inside), want{all[:2], anySource})
			// External policy Local: the source is kept, and the node without an
			// endpoint drops; but its own pods reach the service there too.
			c.check(t, c.Client, 5, netproxy.TCP, at(node1, 30082), want{all[:1], source(addrOf(c.Client, f))})
			blocked(t, c.Client, at(addrOf(c.Node2, f), 30082))
			c.check(t, c.Pod3, 5, netproxy.TCP, at(addrOf(c.Node2, f), 30082), want{all[:1], source(addrOf(c.Pod3, f))})
			c.check(t, c.Node2, 5, netproxy.TCP, at(addrOf(c.Node2, f), 30082), want{all[:1], anySource})
			// Source ranges.
			c.check(t, c.Client, 10, netproxy.TCP, at(balanced.LoadBalancers[i].Addr, 80), outer)
			blocked(t, c.Client, at(guarded.LoadBalancers[i].Addr, 80))
			c.check(t, c.Node1, 5, netproxy.TCP, at(own.LoadBalancers[i].Addr, 80), want{[]*lab.Host{c.Pod3}, anySource})
			blocked(t, c.Client, at(own.LoadBalancers[i].Addr, 80))
			blocked(t, c.Node2, at(guarded.LoadBalancers[i].Addr, 80))
			// No endpoints: an error at once, and not only for TCP.
			if _, err := c.Client.Request(netproxy.TCP, at(netip.MustParseAddr([]string{"10.96.0.15", "fd96::f"}[i]), 80)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("service without endpoints: %v, want connection refused", err)
			}
			c.affinity(t, sticky, all, vip(sticky))
		})
	}
	t.Run("churn", func(t *testing.T) { c.churn(t, web, all) })
	t.Run("restart", func(t *testing.T) { c.restart(t, web, sticky) })
	t.Run("cleanup", c.cleanup)
}

// blocked expects that connections time out: packets are dropped.
func blocked(t *testing.T, from *lab.Host, to netip.AddrPort) {
	t.Helper()
	c, err := from.DialFor(300*time.Millisecond, netproxy.TCP, to)
	if err == nil {
		c.Close()
		t.Errorf("%s connected to %v, which should drop it", from.Name, to)
	} else if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s to %v: %v, want a time-out", from.Name, to, err)
	}
}

// affinity expects that a client always gets the pod that it got first, and that
// it gets a live one when that one goes.
func (c *Cluster) affinity(t *testing.T, sticky netproxy.Service, all []*lab.Host, to netip.AddrPort) {
	t.Helper()
	one := func() string {
		t.Helper()
		got, err := c.Client.Requests(20, netproxy.TCP, to)
		if err != nil || len(got) != 1 {
			t.Errorf("affinity: %v answered (%v), want one pod", got, err)
		}
		for r := range got {
			return r.Pod
		}
		return ""
	}
	first := one()
	c.Set(sticky, slices.DeleteFunc(slices.Clone(all), func(h *lab.Host) bool { return h.Name == first })...)
	c.Sync()
	second := one()
	if second == first {
		t.Errorf("affinity: %s answers, which is no endpoint any more", first)
	}
	c.Set(sticky, all...)
	c.Sync()
	if third := one(); third != second {
		t.Errorf("affinity: %s answers after %s, though that is an endpoint still", third, second)
	}
}

// churn takes endpoints away and brings them back while the client makes
// connections. None may fail, and connections to a pod that is no longer an
// endpoint live on.
func (c *Cluster) churn(t *testing.T, web netproxy.Service, all []*lab.Host) {
	to := netip.AddrPortFrom(web.ClusterIPs[0], 80)
	long, err := c.Client.Dial(netproxy.TCP, to)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	holder, err := lab.Ask(long)
	if err != nil {
		t.Fatal(err)
	}
	made := c.connecting(t, to)
	for i := range 12 {
		var rest []*lab.Host
		for _, p := range all {
			if p != all[i%3] {
				rest = append(rest, p)
			}
		}
		c.Set(web, rest...)
		c.Sync()
	}
	// Without the pod that the long connection leads to, it still works.
	var rest []*lab.Host
	for _, p := range all {
		if p.Name != holder.Pod {
			rest = append(rest, p)
		}
	}
	c.Set(web, rest...)
	c.Sync()
	if err := echo(long); err != nil {
		t.Errorf("a connection to %s broke when it stopped being an endpoint: %v", holder.Pod, err)
	}
	c.check(t, c.Client, 30, netproxy.TCP, to, want{rest, anySource})
	if n := made(); n < 5 { // it tested nothing
		t.Errorf("only %d connections were made during 12 changes", n)
	}
}

// connecting makes connections, none of which may fail, until the function that it
// returns is called, which returns how many there were.
func (c *Cluster) connecting(t *testing.T, to netip.AddrPort) func() int {
	stop := make(chan struct{})
	made := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; ; made++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := c.Client.Request(netproxy.TCP, to); err != nil {
				t.Errorf("after %d connections: %v", made, err)
				return
			}
		}
	})
	return func() int {
		close(stop)
		wg.Wait()
		return made
	}
}

// restart starts new back ends over the rules of the old ones, while the client
// makes connections. None may fail, and clients keep their affinity.
func (c *Cluster) restart(t *testing.T, web, sticky netproxy.Service) {
	before := map[netip.AddrPort]map[lab.Reply]int{}
	for _, a := range sticky.ClusterIPs {
		to := netip.AddrPortFrom(a, 80)
		got, err := c.Client.Requests(2, netproxy.TCP, to)
		if err != nil || len(got) != 1 {
			t.Fatalf("affinity: %v answered (%v), want one pod", got, err)
		}
		before[to] = got
	}
	made := c.connecting(t, netip.AddrPortFrom(web.ClusterIPs[0], 80))
	for range 3 {
		c.Restart()
	}
	if n := made(); n < 5 {
		t.Errorf("only %d connections were made during 3 restarts", n)
	}
	for to, had := range before {
		got, err := c.Client.Requests(10, netproxy.TCP, to)
		if err != nil {
			t.Error(err)
		}
		for r := range got {
			if had[r] == 0 {
				t.Errorf("%v: after a restart %v answers, before it was %v", to, r, had)
			}
		}
	}
}

func echo(c interface {
	Write([]byte) (int, error)
	Read([]byte) (int, error)
	SetDeadline(time.Time) error
}) error {
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write([]byte("still there?")); err != nil {
		return err
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err == nil && string(buf[:n]) != "still there?" {
		err = fmt.Errorf("it answered %q", buf[:n])
	}
	return err
}

// cleanup expects that nothing is repaired while nobody interferes, and that
// cleaning up ends the service.
func (c *Cluster) cleanup(t *testing.T) {
	for _, n := range c.nodes {
		for f, b := range n.backends {
			n.host.Do(func() {
				if repaired, err := b.Resync(context.Background()); err != nil || repaired != 0 {
					t.Errorf("%s %v: a resync repaired %d chains (%v), want 0", n.host.Name, netproxy.Family(f), repaired, err)
				}
				if err := b.Cleanup(context.Background()); err != nil {
					t.Errorf("%s %v: %v", n.host.Name, netproxy.Family(f), err)
				}
			})
		}
	}
	if conn, err := c.Client.DialFor(300*time.Millisecond, netproxy.TCP, netip.MustParseAddrPort("10.96.0.10:80")); err == nil {
		conn.Close()
		t.Error("the cluster IP answers after cleaning up")
	}
}
