// SPDX-License-Identifier: Apache-2.0

package netproxy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/nftables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// TestEquivalence makes random changes to services, applies the differences to a
// model of each kernel table, and sends packets through both: iptables and
// nftables must do the same with each, with the same probabilities; and the
// differences must have led to what a fresh rule set would make.
func TestEquivalence(t *testing.T) {
	for seed := range uint64(4) {
		for _, family := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
			t.Run(fmt.Sprintf("%v/seed=%d", family, seed), func(t *testing.T) {
				e := newEquivalence(t, rand.New(rand.NewPCG(seed, 3)), family)
				for range 60 {
					e.step()
				}
				if e.served < 100 || e.refused < 20 || e.sticky < 20 {
					t.Errorf("%d packets served, %d refused, %d with affinity: the services were too tame", e.served, e.refused, e.sticky)
				}
			})
		}
	}
}

// equivalence is the two rule sets with their models.
type equivalence struct {
	t       *testing.T
	r       *rand.Rand
	config  netproxy.Config
	tracker *netproxy.Tracker
	ipt     *iptables.RuleSet
	nft     *nftables.RuleSet
	// models are the kernel tables: of iptables; of nftables; and of nftables
	// without a history, made anew in each step.
	models [3]*trace.RuleSet

	served, refused, sticky int
}

func newEquivalence(t *testing.T, r *rand.Rand, family netproxy.Family) *equivalence {
	config := netproxy.Config{Family: family, PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), NodeIP: netip.MustParseAddr("172.16.0.1")}
	if family == netproxy.IPv6 {
		config.PodCIDR, config.NodeIP = netip.MustParsePrefix("fd44::/16"), netip.MustParseAddr("fd50::1")
	}
	e := &equivalence{t: t, r: r, config: config, tracker: netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})}
	e.ipt, e.nft = e.fresh()
	e.models = [3]*trace.RuleSet{e.parse(trace.Parse, e.ipt.Save()), e.parse(trace.ParseNFT, ""), nil}
	return e
}

func (e *equivalence) parse(parse func(string) (*trace.RuleSet, error), text string) *trace.RuleSet {
	rs, err := parse(text)
	must(e.t, err)
	rs.Local = []netip.Addr{e.config.NodeIP}
	return rs
}

func (e *equivalence) fresh() (*iptables.RuleSet, *nftables.RuleSet) {
	ipt, err := iptables.New(e.config)
	must(e.t, err)
	nft, err := nftables.New(e.config)
	must(e.t, err)
	return ipt, nft
}

func (e *equivalence) step() {
	e.t.Helper()
	for range 1 + e.r.IntN(8) {
		labtest.RandomEvent(e.t, e.r, e.tracker)
	}
	changes := e.tracker.Changes()
	must(e.t, e.ipt.Update(changes))
	must(e.t, e.nft.Update(changes))
	must(e.t, e.models[0].Restore(string(e.ipt.AppendDiff(nil))))
	prepare, change := e.nft.Diff()
	must(e.t, e.models[1].Restore(string(prepare)))
	must(e.t, e.models[1].Restore(string(change)))
	routes := e.tracker.Routes()
	_, fresh := e.fresh()
	for _, r := range routes {
		must(e.t, fresh.Update([]netproxy.Change{{New: r}}))
	}
	e.models[2] = e.parse(trace.ParseNFT, fresh.Text())
	for range 60 {
		if len(routes) > 0 {
			e.check(e.packet(routes[e.r.IntN(len(routes))]))
		}
	}
}

// packet makes a packet for one of the route's addresses, or near it.
func (e *equivalence) packet(r *netproxy.Route) trace.Packet {
	pick := func(as ...netip.Addr) netip.Addr { return as[e.r.IntN(len(as))] }
	client, friend, pod := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("172.16.9.9"), netip.MustParseAddr("10.244.0.200")
	if e.config.Family == netproxy.IPv6 {
		client, friend, pod = netip.MustParseAddr("2001:db8:2::7"), netip.MustParseAddr("2001:db8:9::9"), netip.MustParseAddr("fd44::200")
	}
	if len(r.Cluster) > 0 && e.r.IntN(3) == 0 {
		pod = r.Cluster[e.r.IntN(len(r.Cluster))].Addr.Addr()
	}
	dst := netip.AddrPortFrom(pick(slices.Concat([]netip.Addr{r.ClusterIP, e.config.NodeIP}, r.ExternalIPs, r.LoadBalancers)...), r.Port)
	if dst.Addr() == e.config.NodeIP && r.NodePort != 0 {
		dst = netip.AddrPortFrom(dst.Addr(), r.NodePort)
	}
	p := trace.Packet{In: "eth0", Protocol: r.Protocol, Dst: dst}
	switch src := pick(client, friend, pod, e.config.NodeIP, dst.Addr()); src {
	case e.config.NodeIP, dst.Addr():
		p.In, p.Src = "", netip.AddrPortFrom(src, 40000)
	default:
		p.Src = netip.AddrPortFrom(src, 40000)
	}
	if e.r.IntN(10) == 0 {
		p.Protocol = netproxy.Protocol(e.r.IntN(3))
	}
	return p
}

type fate struct {
	verdict trace.Verdict
	to      netip.AddrPort
	masq    bool
}

func fates(r *trace.Result) map[fate]float64 {
	out := map[fate]float64{}
	for _, o := range r.Outcomes {
		out[fate{o.Verdict, o.Dst, o.Masquerade}] += o.Probability
	}
	return out
}

func (e *equivalence) check(p trace.Packet) {
	e.t.Helper()
	var results [3]trace.Result
	for i, m := range e.models {
		results[i] = m.Trace(p)
		for _, o := range results[i].Outcomes {
			if len(o.Assumed) > 0 {
				e.t.Fatalf("%+v: %v", p, &results[i])
			}
		}
	}
	a := fates(&results[0])
	for i := range results {
		b := fates(&results[i])
		same := len(a) == len(b)
		for f, probability := range a {
			same = same && math.Abs(b[f]-probability) < 1e-6
		}
		if !same {
			e.t.Fatalf("%+v\niptables:\n%v\n%v\nnftables (%d):\n%v\n%v", p, &results[0], results[0].Outcomes[0].Steps(), i, &results[i], results[i].Outcomes[0].Steps())
		}
	}
	for f := range a {
		if f.verdict != trace.Accept {
			e.refused++
		} else if f.to != p.Dst {
			e.served++
		}
	}
	e.checkAffinity(p, results)
}

// checkAffinity sends the packet once more from a client that is known by now.
func (e *equivalence) checkAffinity(p trace.Packet, results [3]trace.Result) {
	e.t.Helper()
	for i, first := range results {
		for _, o := range first.Outcomes {
			if len(o.Remembered) == 0 {
				continue
			}
			e.sticky++
			again := p
			again.Recent = o.Remembered
			r := e.models[i].Trace(again)
			if next, ok := r.Outcome(); !ok || next.Dst != o.Dst || next.Masquerade != o.Masquerade {
				e.t.Fatalf("%+v came to %v; then\n%v", p, o.Dst, &r)
			}
		}
	}
}
