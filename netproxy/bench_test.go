// SPDX-License-Identifier: Apache-2.0

package netproxy_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/nftables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// size is services times endpoints.
type size struct{ services, endpoints int }

func (s size) String() string { return fmt.Sprintf("%dx%d", s.services, s.endpoints) }

var sizes = []size{{1000, 10}, {5000, 10}, {30000, 2}}

// ruleSet is what the two back ends' rule sets have in common here.
type ruleSet interface {
	Update([]netproxy.Change) error
	AppendText([]byte) []byte
}

func diff(rs ruleSet, buf []byte) []byte {
	if ipt, ok := rs.(*iptables.RuleSet); ok {
		return ipt.AppendDiff(buf)
	}
	prepare, change := rs.(*nftables.RuleSet).Diff()
	return append(append(buf, prepare...), change...)
}

func newRuleSets(b *testing.B) map[string]func() ruleSet {
	config := netproxy.Config{PodCIDR: netip.MustParsePrefix("10.128.0.0/9")}
	return map[string]func() ruleSet{
		"iptables": func() ruleSet {
			rs, err := iptables.New(config)
			if err != nil {
				b.Fatal(err)
			}
			return rs
		},
		"nftables": func() ruleSet {
			rs, err := nftables.New(config)
			if err != nil {
				b.Fatal(err)
			}
			return rs
		},
	}
}

var backends = []string{"iptables", "nftables"}

func addr(base string, n int) netip.Addr {
	b := netip.MustParseAddr(base).As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
	return netip.AddrFrom4(b)
}

// fill gives the tracker services with one port each, whose endpoints are
// spread over 50 nodes, as the measurements of kube-proxy have them.
func fill(b *testing.B, tr *netproxy.Tracker, s size) {
	for i := range s.services {
		err := tr.SetService(netproxy.Service{
			Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("svc-%d", i),
			ClusterIPs: []netip.Addr{addr("10.96.0.1", i)},
			Ports:      []netproxy.ServicePort{{Name: "http", Port: 80}},
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := tr.SetEndpointSlice(endpointsOf(s, i, 0)); err != nil {
			b.Fatal(err)
		}
	}
}

// endpointsOf returns the endpoints of service i, the first of which moves.
func endpointsOf(s size, i, move int) netproxy.EndpointSlice {
	out := netproxy.EndpointSlice{
		Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("svc-%d-1", i), Service: fmt.Sprintf("svc-%d", i),
		Ports:     []netproxy.EndpointPort{{Name: "http", Port: 8080}},
		Endpoints: make([]netproxy.Endpoint, s.endpoints),
	}
	for j := range out.Endpoints {
		n := i*s.endpoints + j
		out.Endpoints[j] = netproxy.Endpoint{Addr: addr("10.128.0.1", n), Node: nodeNames[n%50]}
	}
	if move > 0 {
		out.Endpoints[0].Addr = addr("10.200.0.1", move)
	}
	return out
}

var nodeNames = func() (names [50]string) {
	for i := range names {
		names[i] = fmt.Sprintf("node-%d", i)
	}
	return names
}()

func newTracker() *netproxy.Tracker { return netproxy.NewTracker(netproxy.Node{Name: "node-0"}) }

// cpu starts measuring processor time; the function returned reports it.
func cpu(b *testing.B, unit string) func() {
	runtime.GC()
	var before syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	return func() {
		var after syscall.Rusage
		runtime.GC()
		syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		spent := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/"+unit)
	}
}

func eachSize(b *testing.B, sizes []size, f func(b *testing.B, s size, make func() ruleSet)) {
	for _, s := range sizes {
		for _, name := range backends {
			b.Run(fmt.Sprintf("%v/%s", s, name), func(b *testing.B) { f(b, s, newRuleSets(b)[name]) })
		}
	}
}

// BenchmarkFull renders the whole text.
func BenchmarkFull(b *testing.B) {
	eachSize(b, sizes, func(b *testing.B, s size, make func() ruleSet) {
		tr, rs := newTracker(), make()
		fill(b, tr, s)
		if err := rs.Update(tr.Changes()); err != nil {
			b.Fatal(err)
		}
		text := rs.AppendText(nil)
		b.ReportAllocs()
		report := cpu(b, "full")
		for b.Loop() {
			text = rs.AppendText(text[:0])
		}
		report()
		b.ReportMetric(float64(len(text)), "bytes/full")
		b.ReportMetric(float64(bytes.Count(text, []byte("\n-A "))+bytes.Count(text, []byte("\nadd rule "))), "rules/full")
		b.ReportMetric(float64(bytes.Count(text, []byte("\n:"))+bytes.Count(text, []byte("\nadd chain "))), "chains/full")
	})
}

// BenchmarkIncremental changes one endpoint, from event to text.
func BenchmarkIncremental(b *testing.B) {
	eachSize(b, sizes, func(b *testing.B, s size, make func() ruleSet) {
		tr, rs := newTracker(), make()
		fill(b, tr, s)
		if err := rs.Update(tr.Changes()); err != nil {
			b.Fatal(err)
		}
		text := diff(rs, nil)
		n, total := 0, 0
		b.ReportAllocs()
		report := cpu(b, "change")
		for b.Loop() {
			n++
			if err := tr.SetEndpointSlice(endpointsOf(s, s.services/2+1, n)); err != nil {
				b.Fatal(err)
			}
			if err := rs.Update(tr.Changes()); err != nil {
				b.Fatal(err)
			}
			text = diff(rs, text[:0])
			total += len(text)
		}
		report()
		b.ReportMetric(float64(total)/float64(n), "bytes/change")
	})
}

// BenchmarkNoop looks for changes when there are none.
func BenchmarkNoop(b *testing.B) {
	eachSize(b, []size{{30000, 2}}, func(b *testing.B, s size, make func() ruleSet) {
		tr, rs := newTracker(), make()
		fill(b, tr, s)
		if err := rs.Update(tr.Changes()); err != nil {
			b.Fatal(err)
		}
		text := diff(rs, nil)
		b.ReportAllocs()
		for b.Loop() {
			if err := rs.Update(tr.Changes()); err != nil {
				b.Fatal(err)
			}
			if text = diff(rs, text[:0]); len(text) > 0 {
				b.Fatalf("a change came from nowhere: %s", text)
			}
		}
	})
}

// BenchmarkColdStart goes from the first event to the whole text, and reports
// the heap that remains.
func BenchmarkColdStart(b *testing.B) {
	eachSize(b, []size{{30000, 2}}, func(b *testing.B, s size, make func() ruleSet) {
		var heap uint64
		b.ReportAllocs()
		report := cpu(b, "start")
		for b.Loop() {
			tr, rs := newTracker(), make()
			fill(b, tr, s)
			if err := rs.Update(tr.Changes()); err != nil {
				b.Fatal(err)
			}
			text := diff(rs, nil)
			b.StopTimer()
			if len(text) < 1<<20 {
				b.Fatal("the text is too short")
			}
			text = nil
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap = m.HeapAlloc
			runtime.KeepAlive(tr)
			runtime.KeepAlive(rs)
			b.StartTimer()
		}
		report()
		b.ReportMetric(float64(heap)/1e6, "MB-heap")
	})
}

// BenchmarkTrace reads and walks rules for 1,000 services of 10 endpoints: in
// kube-proxy's shape, with a chain for each endpoint, 32,000 rules; and our own.
func BenchmarkTrace(b *testing.B) {
	kubeProxy := kubeProxyRules(1000, 10)
	tr := newTracker()
	fill(b, tr, size{1000, 10})
	changes := tr.Changes()
	texts := map[string]string{"kube-proxy": kubeProxy}
	for name, make := range newRuleSets(b) {
		rs := make()
		if err := rs.Update(changes); err != nil {
			b.Fatal(err)
		}
		if ipt, ok := rs.(*iptables.RuleSet); ok {
			texts[name] = ipt.Save()
		} else {
			texts[name] = string(rs.AppendText(nil))
		}
	}
	for _, name := range []string{"kube-proxy", "iptables", "nftables"} {
		text := texts[name]
		parse := trace.Parse
		if name == "nftables" {
			parse = trace.ParseNFT
		}
		b.Run("parse/"+name, func(b *testing.B) {
			b.ReportAllocs()
			report := cpu(b, "parse")
			for b.Loop() {
				if _, err := parse(text); err != nil {
					b.Fatal(err)
				}
			}
			report()
			b.ReportMetric(float64(strings.Count(text, "\n-A ")+strings.Count(text, "\nadd rule ")), "rules")
		})
		b.Run("packet/"+name, func(b *testing.B) {
			rules, err := parse(text)
			if err != nil {
				b.Fatal(err)
			}
			p := trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("192.0.2.9:4444"), Dst: netip.MustParseAddrPort("10.96.3.200:80")}
			b.ReportAllocs()
			report := cpu(b, "packet")
			for b.Loop() {
				if r := rules.Trace(p); len(r.Outcomes) != 10 {
					b.Fatalf("%d outcomes:\n%v", len(r.Outcomes), &r)
				}
			}
			report()
		})
	}
}

// kubeProxyRules writes rules as kube-proxy arranges them.
func kubeProxyRules(services, endpoints int) string {
	var heads, rules strings.Builder
	for i := range services {
		svc := fmt.Sprintf("KUBE-SVC-%016d", i)
		fmt.Fprintf(&heads, ":%s - [0:0]\n", svc)
		fmt.Fprintf(&rules, "-A KUBE-SERVICES -d %v/32 -p tcp -m comment --comment \"ns/svc-%d:http cluster IP\" -m tcp --dport 80 -j %s\n", addr("10.96.0.1", i), i, svc)
		fmt.Fprintf(&rules, "-A %s ! -s 10.128.0.0/9 -d %v/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ\n", svc, addr("10.96.0.1", i))
		for j := range endpoints {
			sep := fmt.Sprintf("KUBE-SEP-%016d", i*endpoints+j)
			ep := addr("10.128.0.1", i*endpoints+j)
			fmt.Fprintf(&heads, ":%s - [0:0]\n", sep)
			chance := ""
			if left := endpoints - j; left > 1 {
				chance = fmt.Sprintf(" -m statistic --mode random --probability %.11f", 1/float64(left))
			}
			fmt.Fprintf(&rules, "-A %s -m comment --comment \"ns/svc-%d:http -> %v:8080\"%s -j %s\n", svc, i, ep, chance, sep)
			fmt.Fprintf(&rules, "-A %s -s %v/32 -j KUBE-MARK-MASQ\n-A %s -p tcp -m tcp -j DNAT --to-destination %v:8080\n", sep, ep, sep, ep)
		}
	}
	return "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-FORWARD - [0:0]\n" +
		"-A FORWARD -j KUBE-FORWARD\n-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP\n" +
		"-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n" +
		"*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n" +
		":KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-NODEPORTS - [0:0]\n" + heads.String() +
		"-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n" +
		"-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n" +
		"-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n-A KUBE-POSTROUTING -j MASQUERADE --random-fully\n" +
		rules.String() + "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n"
}
