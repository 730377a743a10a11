// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netproxy_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/nftables"
)

// kernels are the back ends that BenchmarkKernel measures.
var kernels = map[string]func(netproxy.Config) (netproxy.Backend, error){
	"iptables-legacy": iptablesBackend("legacy"),
	"iptables-nft":    iptablesBackend("nft"),
	"nftables": func(c netproxy.Config) (netproxy.Backend, error) {
		return nftables.NewBackend(c, nftables.Options{})
	},
}

func iptablesBackend(variant string) func(netproxy.Config) (netproxy.Backend, error) {
	return func(c netproxy.Config) (netproxy.Backend, error) {
		return iptables.NewBackend(c, iptables.Options{Variant: variant, LockSeconds: 30})
	}
}

// BenchmarkKernel loads everything into a fresh kernel table, changes one
// endpoint, sends first packets to the last service, and compares everything. The work is in other
// programs and the kernel: wall time, and the processor time of this process and
// of those that it ran.
func BenchmarkKernel(b *testing.B) {
	for _, s := range slices.Concat([]size{{1, 2}}, sizes) {
		for _, name := range []string{"iptables-legacy", "iptables-nft", "nftables"} {
			b.Run(fmt.Sprintf("%v/%s", s, name), func(b *testing.B) {
				lab.Need(b, "iptables-legacy-restore", "iptables-nft-restore", "nft")
				var k kernelTimes
				for b.Loop() {
					k = measureKernel(b, s, name)
				}
				b.ReportMetric(milliseconds(k.load.wall), "ms/load")
				b.ReportMetric(milliseconds(k.load.cpu), "cpu-ms/load")
				b.ReportMetric(milliseconds(k.change.wall), "ms/change")
				b.ReportMetric(milliseconds(k.change.cpu), "cpu-ms/change")
				b.ReportMetric(milliseconds(k.resync.cpu), "cpu-ms/resync")
				b.ReportMetric(float64(k.packet.Nanoseconds())/1e3, "us/first-packet")
			})
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// times is how long something took.
type times struct{ wall, cpu time.Duration }

type kernelTimes struct {
	load, change, resync times         // of changes, the median
	packet               time.Duration // the median
}

// cpuTime is the processor time of this process and of the programs that it ran.
func cpuTime() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		syscall.Getrusage(who, &r)
		sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return sum
}

func measureKernel(b *testing.B, s size, name string) (k kernelTimes) {
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
	sync := func(slice netproxy.EndpointSlice) (spent times) {
		if err := tr.SetEndpointSlice(slice); err != nil {
			b.Fatal(err)
		}
		l.Node1.Do(func() {
			start, used := time.Now(), cpuTime()
			err = backend.Sync(context.Background(), tr.Changes())
			spent = times{time.Since(start), cpuTime() - used}
		})
		if err != nil {
			b.Fatal(err)
		}
		return spent
	}
	k.load = sync(last)
	var wall, used []time.Duration
	for i := range 5 {
		change := sync(endpointsOf(s, 0, i+1))
		wall, used = append(wall, change.wall), append(used, change.cpu)
		if s.services == 1 {
			sync(last)
		}
	}
	k.change = times{median(wall), median(used)}
	k.packet = median(firstPackets(b, l, netip.AddrPortFrom(vip, 80)))
	repaired := 0
	l.Node1.Do(func() {
		start, used := time.Now(), cpuTime()
		repaired, err = backend.Resync(context.Background())
		k.resync = times{time.Since(start), cpuTime() - used}
	})
	if err != nil || repaired != 0 {
		b.Fatalf("a resync repaired %d objects (%v)", repaired, err)
	}
	return k
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
