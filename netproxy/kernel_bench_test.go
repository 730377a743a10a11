// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netproxy_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/nftables"
)

// kernels are the back ends that BenchmarkKernel measures. iptables-nft is not
// among them: its time grows faster than the square of the chains.
var kernels = map[string]func(netproxy.Config) (netproxy.Backend, error){
	"iptables-legacy": func(c netproxy.Config) (netproxy.Backend, error) {
		return iptables.NewBackend(c, iptables.Options{Variant: "legacy", LockSeconds: 30})
	},
	"nftables": func(c netproxy.Config) (netproxy.Backend, error) {
		return nftables.NewBackend(c, nftables.Options{})
	},
}

// BenchmarkKernel loads everything into a fresh kernel table, changes one
// endpoint, and sends first packets to the last service. Wall time, because the
// work is in other programs and the kernel.
func BenchmarkKernel(b *testing.B) {
	for _, s := range slices.Concat([]size{{1, 2}}, sizes) {
		for _, name := range []string{"iptables-legacy", "nftables"} {
			b.Run(fmt.Sprintf("%v/%s", s, name), func(b *testing.B) {
				lab.Need(b, "iptables-legacy-restore", "nft")
				var load, change, packet time.Duration
				for b.Loop() {
					load, change, packet = measureKernel(b, s, name)
				}
				b.ReportMetric(float64(load.Microseconds())/1e3, "ms/load")
				b.ReportMetric(float64(change.Microseconds())/1e3, "ms/change")
				b.ReportMetric(float64(packet.Nanoseconds())/1e3, "us/first-packet")
			})
		}
	}
}

func measureKernel(b *testing.B, s size, name string) (load, change, packet time.Duration) {
	l := lab.New(b)
	backend, err := kernels[name](netproxy.Config{PodCIDR: netip.MustParsePrefix("10.244.0.0/16")})
	if err != nil {
		b.Fatal(err)
	}
	tr := newTracker()
	fill(b, tr, s)
	// The last service leads to a pod that answers.
	last := endpointsOf(s, s.services-1, 0)
	last.Ports[0] = netproxy.EndpointPort{Name: "http", Protocol: netproxy.UDP, Port: 8080}
	last.Endpoints = []netproxy.Endpoint{{Addr: l.Pod1.V4}}
	vip := addr("10.96.0.1", s.services-1)
	err = tr.SetService(netproxy.Service{
		Namespace: last.Namespace, Name: last.Service, ClusterIPs: []netip.Addr{vip},
		Ports: []netproxy.ServicePort{{Name: "http", Protocol: netproxy.UDP, Port: 80}},
	})
	if err != nil {
		b.Fatal(err)
	}
	sync := func(slice netproxy.EndpointSlice) (spent time.Duration) {
		if err := tr.SetEndpointSlice(slice); err != nil {
			b.Fatal(err)
		}
		l.Node1.Do(func() {
			start := time.Now()
			err = backend.Sync(context.Background(), tr.Changes())
			spent = time.Since(start)
		})
		if err != nil {
			b.Fatal(err)
		}
		return spent
	}
	load = sync(last)
	var changes []time.Duration
	for i := range 5 {
		changes = append(changes, sync(endpointsOf(s, 0, i+1)))
		if s.services == 1 {
			sync(last)
		}
	}
	return load, median(changes), median(firstPackets(b, l, netip.AddrPortFrom(vip, 80)))
}

// firstPackets makes new flows and returns their round trips.
func firstPackets(b *testing.B, l *lab.Lab, to netip.AddrPort) []time.Duration {
	var out []time.Duration
	for range 200 {
		c, err := l.Client.Dial(netproxy.UDP, to)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		_, err = lab.Ask(c)
		out = append(out, time.Since(start))
		c.Close()
		if err != nil {
			b.Fatal(err)
		}
	}
	return out
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}
