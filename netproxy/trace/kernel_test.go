// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trace_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// TestKernel loads random rules into a kernel, sends packets, and expects that
// exactly those rules count the packet that the tracer says it matches.
func TestKernel(t *testing.T) {
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			save, restore := "iptables-"+variant+"-save", "iptables-"+variant+"-restore"
			lab.Need(t, save, restore)
			l := lab.New(t)
			// The endpoints' addresses belong to nobody, so that no replies count.
			for i, a := range []string{"10.244.1.21", "10.244.1.22"} {
				if out, err := l.Node1.Command("ip", "neigh", "add", a, "lladdr", fmt.Sprintf("02:00:00:00:00:%02x", i), "dev", "cbr0"); err != nil {
					t.Fatal(err, out)
				}
			}
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			matched, drops, nats := 0, 0, 0
			for round := range 40 {
				// Now and then no rule needs connection tracking. The kernel switches
				// it off then, and asks the nat table for no packet.
				text := randomRules(r, round%8 != 7)
				if out, err := l.Node1.Pipe(text, restore, "-w", "30"); err != nil {
					t.Fatalf("%v: %s\n%s", err, out, text)
				}
				saved, err := l.Node1.Command(save, "-c")
				if err != nil {
					t.Fatal(err, saved)
				}
				rules, err := trace.Parse(saved)
				if err != nil {
					t.Fatal(err)
				}
				rules.Local = []netip.Addr{l.Node1.V4, netip.MustParseAddr("10.244.1.1")}
				before := counters(saved)
				for i := range 8 {
					p := randomPacket(r, l, uint16(10000+8*round+i)) // a new flow each time
					if p.In == "" {
						send(t, l.Node1, p)
					} else {
						send(t, l.Client, p)
					}
					result := rules.Trace(p)
					if strings.Contains(result.String(), "assuming the masqueraded source") || strings.Contains(result.String(), "assuming not the masqueraded source") {
						// Of a packet to itself, masqueraded, the tracer does not
						// know the source. It says so, and that is all right.
						time.Sleep(20 * time.Millisecond) // the packet may be late
						if saved, err = l.Node1.Command(save, "-c"); err != nil {
							t.Fatal(err, saved)
						}
						before = counters(saved)
						continue
					}
					o, ok := result.Outcome()
					if !ok || len(o.Assumed) > 0 {
						t.Fatalf("round %d: the outcome of %v is open:\n%v", round, p, &result)
					}
					var want []string
					for _, s := range o.Steps() {
						want = append(want, s.Table+" -A "+s.Chain+" "+s.Rule.Text)
					}
					slices.Sort(want)
					// A busy machine may be late with the packet.
					var got []string
					for try := range 50 {
						time.Sleep(time.Duration(min(try, 1)) * 5 * time.Millisecond)
						if saved, err = l.Node1.Command(save, "-c"); err != nil {
							t.Fatal(err, saved)
						}
						if got = difference(before, counters(saved)); slices.Equal(got, want) {
							break
						}
					}
					before = counters(saved)
					if !slices.Equal(got, want) {
						t.Fatalf("round %d, packet %+v: %v\nthe kernel counted\n  %s\nthe tracer says\n  %s\nrules:\n%s", round, p, &result,
							strings.Join(got, "\n  "), strings.Join(want, "\n  "), saved)
					}
					matched += len(want)
					if o.Verdict != trace.Accept {
						drops++
					}
					if o.Dst != p.Dst {
						nats++
					}
				}
			}
			t.Logf("%d rules matched, %d packets refused, %d translated", matched, drops, nats)
			if matched == 0 || drops == 0 || nats == 0 {
				t.Error("the rules were too tame to test anything")
			}
		})
	}
}

// send sends one UDP packet. Whether it arrives does not matter here.
func send(t *testing.T, from *lab.Host, p trace.Packet) {
	t.Helper()
	if err := from.SendUDP(p.Src, p.Dst); err != nil && !strings.Contains(err.Error(), "not permitted") {
		t.Fatal(err) // dropping one's own packets is not permitted
	}
}

var (
	dests = []string{"10.96.0.10", "10.96.0.11", "192.168.50.11", "10.244.1.21", "10.244.1.22"}
	ports = []uint16{53, 80, 8080}
)

func randomPacket(r *rand.Rand, l *lab.Lab, port uint16) trace.Packet {
	p := trace.Packet{
		In: "eth0", Protocol: netproxy.UDP, Src: netip.AddrPortFrom(l.Client.V4, port),
		Dst: netip.AddrPortFrom(netip.MustParseAddr(dests[r.IntN(len(dests))]), ports[r.IntN(len(ports))]),
	}
	if r.IntN(4) == 0 { // from the node itself; to its own address, from that
		p.In = ""
		p.Src = netip.AddrPortFrom(netip.MustParseAddr("10.244.1.1"), port)
		if p.Dst.Addr() == l.Node1.V4 {
			p.Src = netip.AddrPortFrom(l.Node1.V4, port)
		}
	}
	return p
}

// randomRules makes rules in all tables: with chains of their own that call
// later ones, so that there are no loops. Without tracking, none of them needs
// connection tracking.
func randomRules(r *rand.Rand, tracking bool) string {
	var b strings.Builder
	for _, t := range []struct {
		name    string
		hooks   []string
		targets []string
	}{
		{"mangle", []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, []string{"MARK --set-xmark 0x%x/0x%x", "ACCEPT", "RETURN"}},
		{"nat", []string{"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}, []string{"MARK --or-mark 0x%x", "ACCEPT", "RETURN", "DNAT", "MASQUERADE"}},
		{"filter", []string{"INPUT", "FORWARD", "OUTPUT"}, []string{"ACCEPT", "DROP", "REJECT", "RETURN"}},
	} {
		fmt.Fprintf(&b, "*%s\n", t.name)
		for i := range 4 {
			fmt.Fprintf(&b, ":%s%d - [0:0]\n", t.name, i)
		}
		serial := 0
		rule := func(chain, hook string, level int) {
			target := t.targets[r.IntN(len(t.targets))]
			if t.name == "nat" && r.IntN(3) == 0 {
				target = "DNAT"
			}
			if !tracking && (target == "DNAT" || target == "MASQUERADE") {
				target = "ACCEPT"
			}
			m := randomMatch(r, level < 0, tracking)
			switch {
			case level < 3 && r.IntN(3) == 0:
				target = fmt.Sprintf("%s%d", t.name, level+1+r.IntN(3-level))
				if r.IntN(2) == 0 {
					fmt.Fprintf(&b, "-A %s %s -m comment --comment \"r%d\" -g %s\n", chain, m, serial, target)
					serial++
					return
				}
			case target == "DNAT":
				if hook != "PREROUTING" && hook != "OUTPUT" {
					target = "RETURN"
					break
				}
				if m = "-p udp"; r.IntN(2) == 0 {
					m += " -m mark ! --mark 0x1/0x1"
				}
				target = "DNAT --to-destination " + []string{"10.244.1.21:8080", "10.244.1.22:53", "192.168.50.11:80"}[r.IntN(3)]
			case target == "MASQUERADE":
				if hook != "POSTROUTING" {
					target = "ACCEPT"
				}
			case strings.Contains(target, "0x%x"):
				n := strings.Count(target, "%x")
				target = fmt.Sprintf(target, []any{1 << r.IntN(4), 1 << r.IntN(4)}[:n]...)
			}
			fmt.Fprintf(&b, "-A %s %s -m comment --comment \"r%d\" -j %s\n", chain, m, serial, target)
			serial++
		}
		for _, h := range t.hooks {
			for range 1 + r.IntN(3) {
				rule(h, h, -1)
			}
		}
		for i := range 4 {
			for range 1 + r.IntN(4) {
				rule(fmt.Sprintf("%s%d", t.name, i), "", i)
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// randomMatch makes up to two matches. The first rules of the way take UDP alone:
// the kernel's own ICMP errors must not count.
func randomMatch(r *rand.Rand, udp, tracking bool) string {
	not := func() string {
		if r.IntN(4) == 0 {
			return "! "
		}
		return ""
	}
	var out []string
	if udp {
		out = []string{"-p udp"}
	}
	for range r.IntN(3) {
		var m string
		switch r.IntN(10) {
		case 0:
			m = not() + "-d " + []string{"10.96.0.0/12", "10.96.0.10/32", "10.244.0.0/16", "192.168.50.11/32"}[r.IntN(4)]
		case 1:
			m = not() + "-s " + []string{"192.168.50.0/24", "192.168.50.2/32", "10.0.0.0/8"}[r.IntN(3)]
		case 2:
			m = "-p udp -m udp " + not() + "--dport " + []string{"53", "80", "1:1024", "8080:"}[r.IntN(4)]
		case 3:
			m = "-m mark " + not() + fmt.Sprintf("--mark %#x/%#x", 1<<r.IntN(4), 1<<r.IntN(4))
		case 4:
			m = "-m conntrack " + not() + "--ctstate " + []string{"NEW", "ESTABLISHED", "NEW,DNAT", "DNAT", "INVALID"}[r.IntN(5)]
		case 5:
			m = "-m addrtype " + not() + "--dst-type LOCAL"
		case 6:
			m = "-p udp -m multiport " + not() + "--dports 53,100:8080"
		case 7:
			m = "-m addrtype " + not() + "--src-type LOCAL"
		case 8:
			m = "-m statistic --mode random --probability " + strconv.Itoa(r.IntN(2))
		case 9:
			m = not() + "-p " + []string{"tcp", "udp"}[r.IntN(2)]
		}
		if !tracking && strings.Contains(m, "conntrack") {
			continue
		}
		option := strings.Fields(strings.TrimPrefix(m, "! "))[0]
		if !slices.ContainsFunc(out, func(o string) bool {
			return strings.Contains(o, option+" ") || strings.Contains(o, "-p ") && strings.Contains(m, "-p ")
		}) {
			out = append(out, m)
		}
	}
	// An option of the same name must not come twice, so -m comes once as well.
	return strings.Join(out, " ")
}

var counted = regexp.MustCompile(`^\[(\d+):\d+\] (-A .*)`)

// counters returns how many packets each rule has counted.
func counters(saved string) map[string]int {
	out := map[string]int{}
	table := ""
	for line := range strings.Lines(saved) {
		if line[0] == '*' {
			table = strings.TrimSpace(line[1:])
		}
		if m := counted.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			n, _ := strconv.Atoi(m[1])
			out[table+" "+m[2]] = n
		}
	}
	return out
}

func difference(before, after map[string]int) []string {
	var out []string
	for rule, n := range after {
		for range n - before[rule] {
			out = append(out, rule)
		}
	}
	slices.Sort(out)
	return out
}
