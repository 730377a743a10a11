// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trace_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/nftables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// TestKernelNFT loads tables for random services into a kernel, sends packets,
// and compares what the kernel says of each (nft monitor trace) with the tracer:
// the same rules in the same order, and the same destination.
func TestKernelNFT(t *testing.T) {
	for _, family := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
		t.Run(family.String(), func(t *testing.T) {
			t.Parallel()
			lab.Need(t, "nft")
			k := newNFTKernel(t, family)
			for range 15 {
				k.load()
				for range 12 {
					k.packet()
				}
			}
			t.Logf("%d rules matched, %d packets refused, %d translated, %d of them by affinity", k.matched, k.refused, k.translated, k.sticky)
			if k.matched == 0 || k.refused == 0 || k.translated == 0 || k.sticky == 0 {
				t.Error("the services were too tame to test anything")
			}
		})
	}
}

type nftKernel struct {
	t       *testing.T
	r       *rand.Rand
	lab     *lab.Lab
	config  netproxy.Config
	command string // what the tables are called in commands: ip, ip6
	rules   *trace.RuleSet
	routes  []*netproxy.Route
	served  []*netproxy.Route // those with endpoints
	lines   <-chan string     // of the monitor
	stop    func()            // ends the monitor
	port    uint16
	// clients are the sets that a source has been put into by earlier packets.
	clients map[netip.Addr][]string

	matched, refused, translated, sticky int
}

func newNFTKernel(t *testing.T, family netproxy.Family) *nftKernel {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &nftKernel{t: t, r: rand.New(rand.NewPCG(seed, 0)), lab: lab.New(t), command: "ip", port: 10000}
	node := k.lab.Node1
	k.config = netproxy.Config{Family: family, PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), NodeIP: node.V4}
	// Endpoints and addresses of services belong to nobody, so that there are no
	// replies, but the way to them is known.
	route, neighbour := "route add %s dev cbr0", "neigh add %s lladdr 02:00:00:00:00:01 dev cbr0"
	for _, a := range []string{"10.244.0.0/24", "198.51.100.0/24", "203.0.113.0/24"} {
		node.IP(fmt.Sprintf(route, a))
	}
	if family == netproxy.IPv6 {
		k.command = "ip6"
		k.config.PodCIDR, k.config.NodeIP = netip.MustParsePrefix("fd44::/16"), node.V6
		for _, a := range []string{"fd44::/112", "2001:db8::/32", "fd00::/112"} {
			node.IP("-6 " + fmt.Sprintf(route, a))
		}
	}
	for i := range 40 {
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), netip.AddrFrom16([16]byte{0xfd, 0x44, 15: byte(i)})} {
			node.IP(fmt.Sprintf(neighbour, a))
		}
	}
	k.nft("add table ip watch; add table ip6 watch")
	for _, f := range []string{"ip", "ip6"} {
		for _, h := range []string{"output", "prerouting"} {
			k.nft(fmt.Sprintf("add chain %s watch %s { type filter hook %s priority -400; }", f, h, h))
			k.nft(fmt.Sprintf("add rule %s watch %s meta l4proto udp th sport >= 10000 meta nftrace set 1", f, h))
		}
	}
	return k
}

func (k *nftKernel) nft(command string) string {
	k.t.Helper()
	out, err := k.lab.Node1.Command("nft", command)
	if err != nil {
		k.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return out
}

// load makes random services, all of them UDP, and puts their table into the
// kernel. The tracer reads what nft lists of it.
func (k *nftKernel) load() {
	k.t.Helper()
	tr := netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})
	for range 400 {
		labtest.RandomEvent(k.t, k.r, tr)
	}
	rs, err := nftables.New(k.config)
	if err != nil {
		k.t.Fatal(err)
	}
	tr.Changes()
	k.routes, k.served = nil, nil
	for _, r := range tr.Routes() {
		if udp := *r; r.Family == k.config.Family {
			udp.Protocol = netproxy.UDP
			k.routes = append(k.routes, &udp)
			if len(r.Cluster)+len(r.Local) > 0 {
				k.served = append(k.served, &udp)
			}
			if err := rs.Update([]netproxy.Change{{New: &udp}}); err != nil {
				k.t.Fatal(err)
			}
		}
	}
	if out, err := k.lab.Node1.Pipe(rs.Text(), "nft", "-f", "-"); err != nil {
		k.t.Fatalf("%v: %s", err, out)
	}
	listed := k.nft("list table " + k.command + " slipway")
	if k.rules, err = trace.ParseNFT(listed); err != nil {
		k.t.Fatal(err)
	}
	k.rules.Local = []netip.Addr{k.config.NodeIP}
	k.clients = map[netip.Addr][]string{}
	// The monitor knows only the rules that there are when it starts.
	if k.stop != nil {
		k.stop()
	}
	ctx, cancel := context.WithCancel(k.t.Context())
	k.stop = cancel
	k.lines = k.lab.Node1.Watch(ctx, "nft", "monitor", "trace")
	k.wake()
}

// wake waits until the monitor sees packets.
func (k *nftKernel) wake() {
	for range 100 {
		src := netip.AddrPortFrom(k.config.NodeIP, 9999+1)
		send(k.t, k.lab.Node1, trace.Packet{Src: src, Dst: netip.AddrPortFrom(k.config.NodeIP, 1)})
		if k.collect(50*time.Millisecond, nil).awake {
			k.collect(100*time.Millisecond, nil)
			return
		}
	}
	k.t.Fatal("nft monitor trace says nothing")
}

// seen is what the kernel says of a packet.
type seen struct {
	rules []string // "chain rule"
	dst   netip.AddrPort
	awake bool // the monitor saw it, whatever became of it
}

var (
	ruleLine   = regexp.MustCompile(`^trace id \w+ (ip6?) slipway (\S+) rule (.*) \(verdict .*\)$`)
	watchLine  = regexp.MustCompile(`^trace id \w+ ip6? watch \S+ rule `)
	packetLine = regexp.MustCompile(`^trace id \w+ ip6? slipway .* ip6? daddr (\S+) .*udp dport (\d+)`)
)

// collect reads what the kernel says until it is done, which is when enough says
// so, or when it has said nothing for so long.
func (k *nftKernel) collect(quiet time.Duration, enough func(seen) bool) (s seen) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		select {
		case line := <-k.lines:
			line = strings.TrimSpace(line)
			if m := ruleLine.FindStringSubmatch(line); m != nil {
				s.rules = append(s.rules, m[2]+" "+m[3])
			} else if m := packetLine.FindStringSubmatch(line); m != nil {
				s.dst = netip.MustParseAddrPort(fmt.Sprintf("%s:%s", bracket(m[1]), m[2]))
			} else if watchLine.MatchString(line) {
				s.awake = true
			}
			if enough != nil && enough(s) {
				// There must be no more.
				quiet, enough = 3*time.Millisecond, nil
			}
			timer.Reset(quiet)
		case <-timer.C:
			return s
		}
	}
}

func bracket(a string) string {
	if strings.Contains(a, ":") {
		return "[" + a + "]"
	}
	return a
}

// packet sends a random packet and compares.
func (k *nftKernel) packet() {
	k.t.Helper()
	p := k.random()
	p.Recent = k.clients[p.Src.Addr()]
	result := k.rules.Trace(p)
	if strings.Contains(result.String(), "the masqueraded source") {
		return // of a packet to itself, masqueraded, the tracer says that it can't know the source
	}
	var wants []seen
	for _, o := range result.Outcomes {
		if len(o.Assumed) > 0 {
			k.t.Fatalf("the outcome of %+v is open:\n%v", p, &result)
		}
		want := seen{dst: o.Dst}
		for _, s := range o.Steps() {
			want.rules = append(want.rules, s.Chain+" "+s.Rule.Text)
		}
		wants = append(wants, want)
	}
	from := k.lab.Node1
	if p.In != "" {
		from = k.lab.Client
	}
	send(k.t, from, p)
	is := func(s seen) int {
		return slices.IndexFunc(wants, func(w seen) bool { return w.dst == s.dst && slices.Equal(w.rules, s.rules) })
	}
	got := k.collect(2*time.Second, func(s seen) bool { return is(s) >= 0 })
	i := is(got)
	if i < 0 {
		k.t.Fatalf("%+v: the kernel says\n  %s\n  to %v\nthe tracer says\n%v\n  %s", p, strings.Join(got.rules, "\n  "), got.dst, &result, strings.Join(wants[0].rules, "\n  "))
	}
	o := result.Outcomes[i]
	for _, set := range o.Remembered {
		if !slices.Contains(k.clients[p.Src.Addr()], set) {
			k.clients[p.Src.Addr()] = append(k.clients[p.Src.Addr()], set)
		} else {
			k.sticky++
		}
	}
	k.matched += len(got.rules)
	if o.Verdict != trace.Accept {
		k.refused++
	} else if o.Dst != p.Dst {
		k.translated++
	}
}

// random makes a packet for one of the services, or near one.
func (k *nftKernel) random() trace.Packet {
	r := k.routes[k.r.IntN(len(k.routes))]
	if k.r.IntN(4) > 0 {
		r = k.served[k.r.IntN(len(k.served))]
	}
	k.port++
	client, node := k.lab.Client.V4, netip.MustParseAddr("10.244.1.1")
	if k.config.Family == netproxy.IPv6 {
		client, node = k.lab.Client.V6, netip.MustParseAddr("fd44:1::1")
	}
	to := slices.Concat([]netip.Addr{r.ClusterIP, r.ClusterIP, k.config.NodeIP}, r.ExternalIPs, r.LoadBalancers)
	p := trace.Packet{In: "eth0", Protocol: netproxy.UDP, Src: netip.AddrPortFrom(client, k.port)}
	p.Dst = netip.AddrPortFrom(to[k.r.IntN(len(to))], r.Port)
	if p.Dst.Addr() == k.config.NodeIP && r.NodePort != 0 {
		p.Dst = netip.AddrPortFrom(k.config.NodeIP, r.NodePort)
	}
	if k.r.IntN(3) == 0 {
		p.In, p.Src = "", netip.AddrPortFrom(node, k.port)
		if p.Dst.Addr() == k.config.NodeIP {
			p.Src = netip.AddrPortFrom(k.config.NodeIP, k.port)
		}
	}
	return p
}
