// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/netproxy/trace"
)

// small is a table with a map, a set and a chain of each kind.
const small = `add table ip t
add map ip t m { typeof ip daddr . meta l4proto . th dport : verdict; }
add map ip t to { typeof ip daddr . numgen random mod 2 : ip daddr . tcp dport; }
add set ip t clients { type ipv4_addr; flags dynamic,timeout; timeout 60s; }
add chain ip t pick
add chain ip t in { type nat hook prerouting priority dstnat; }
add rule ip t pick dnat ip to ip daddr . numgen random mod 4 map @to
add rule ip t pick update @clients { ip saddr } dnat to 10.0.0.9:99
add rule ip t in ip daddr . meta l4proto . th dport vmap @m
add element ip t m { 10.96.0.1 . tcp . 80 comment "ns/web" : goto pick, 10.96.0.2 . tcp . 80 : drop }
add element ip t to { 10.96.0.1 . 0 : 10.0.0.1 . 80, 10.96.0.1 . 1 : 10.0.0.2 . 80, 10.96.0.1 . 2 : 10.0.0.3 . 80 }
`

func TestNFTErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"command", "list ruleset", `line 1: command "list" is not known`},
		{"no table", "add chain ip t c", "no table ip t"},
		{"family", "add table bridge t", `family "bridge" is not known`},
		{"expression", small + "add rule ip t in tcp flags syn drop", `line 12: expression "tcp flags" is not known`},
		{"statement", small + "add rule ip t in queue num 1", "is not known"},
		{"no chain to go to", small + "add rule ip t in goto nowhere", `no chain "nowhere"`},
		{"no map", small + "add rule ip t in ip daddr vmap @nothing", `no set or map "nothing"`},
		{"element leads nowhere", small + "add element ip t m { 10.96.0.3 . tcp . 80 : goto nowhere }", `no chain "nowhere"`},
		{"element leads elsewhere", small + "add element ip t m { 10.96.0.2 . tcp . 80 : goto pick }", "exists, and leads elsewhere"},
		{"element without a value", small + "add element ip t m { 10.96.0.3 . tcp . 80 }", "a map's element leads somewhere"},
		{"no element", small + "delete element ip t m { 10.96.0.3 . tcp . 80 }", "no element"},
		{"chain in use", small + "delete chain ip t pick", "is in use by the element"},
		{"map in use", small + "delete map ip t m", "is in use by a rule of chain in"},
		{"other declaration", small + "add map ip t m { typeof ip daddr : verdict; }", "exists, and was declared as"},
		{"address of the other family", small + "add rule ip t in ip daddr ::1 drop", "address ::1 in table ip t"},
		{"name", "add table ip t\nadd chain ip t fwd", `"fwd" can't be a name`},
		{"quote", small + "add rule ip t in iifname \"eth0 drop", "a quote is not closed"},
		{"not closed", "table ip t {\n\tchain c {\n", "is not closed"},
		{"random number in the middle", small + "add rule ip t in dnat to numgen random mod 2 . ip daddr map @to", "a random number at its end"},
		{"random verdict", small + "add rule ip t in numgen random mod 2 vmap @m", "the tracer knows nothing else"},
		{"mark in a key", small + "add rule ip t in meta mark . ip daddr vmap @m", "the tracer knows nothing else"},
		{"number", small + "add rule ip t in meta mark set 0x1ffffffff", "want one of 32 bits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := trace.ParseNFT(c.text)
			if _, ok := errors.AsType[*trace.ParseError](err); !ok || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want a ParseError with %q", err, c.want)
			}
		})
	}
}

func packetTo(dst string) trace.Packet {
	return trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("192.0.2.1:1000"), Dst: netip.MustParseAddrPort(dst)}
}

// TestNFTChance expects that a number that leads nowhere goes on with the next
// rule: three quarters of the packets find a destination in the map.
func TestNFTChance(t *testing.T) {
	rs, err := trace.ParseNFT(small)
	if err != nil {
		t.Fatal(err)
	}
	r := rs.Trace(packetTo("10.96.0.1:80"))
	for _, to := range []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.9:99"} {
		if p := r.Spread()[netip.MustParseAddrPort(to)]; math.Abs(p-0.25) > 1e-12 {
			t.Errorf("%s has the probability %v, want 0.25:\n%v", to, p, &r)
		}
	}
	for _, o := range r.Outcomes {
		if len(o.Remembered) > 0 != (o.Dst.Port() == 99) {
			t.Errorf("%v remembers %v", o.Dst, o.Remembered)
		}
	}
	r = rs.Trace(packetTo("10.96.0.2:80"))
	if o, ok := r.Outcome(); !ok || o.Verdict != trace.Drop {
		t.Errorf("got %v, want a drop", &r)
	}
}

// TestNFTRestoreIsAtomic expects that a text with an error changes nothing.
func TestNFTRestoreIsAtomic(t *testing.T) {
	rs, err := trace.ParseNFT(small)
	if err != nil {
		t.Fatal(err)
	}
	p := packetTo("10.96.0.1:80")
	before := rs.Trace(p)
	text := "add rule ip t pick drop\nflush map ip t to\ndelete element ip t m { 10.96.0.1 . tcp . 80 }\nadd rule ip t in drop\n"
	if err := rs.Restore(text + "add rule ip t in nonsense\n"); err == nil {
		t.Fatal("no error")
	}
	if after := rs.Trace(p); after.String() != before.String() {
		t.Errorf("before %v\nafter %v", &before, &after)
	}
	if err := rs.Restore(text); err != nil {
		t.Fatal(err)
	}
	after := rs.Trace(p)
	if o, ok := after.Outcome(); !ok || o.Verdict != trace.Drop {
		t.Errorf("after the text without the error: %v", &after)
	}
	if len(before.Outcomes[0].Steps()) != 2 { // still those of the rules as they were
		t.Errorf("the steps of the packet before have become %v", before.Outcomes[0].Steps())
	}
}

// TestSameNFT compares rules as we write them with what nft lists of them.
func TestSameNFT(t *testing.T) {
	for _, c := range []struct {
		ours, listed string
		same         bool
	}{
		{"meta mark set meta mark | 0x4000", "meta mark set meta mark | 0x00004000", true},
		{"meta mark set meta mark | 0x4000", "meta mark set meta mark ^ 0x00004000", false},
		{"ct status & dnat == 0 drop", "ct status ! dnat drop", true},
		{"ct status & dnat == dnat drop", "ct status ! dnat drop", false},
		{"ct status & dnat == dnat drop", "ct status dnat drop", true},
		{"numgen random mod 3 == 0 drop", "numgen random mod 3 0 drop", true},
		{"numgen random mod 3 == 0 drop", "numgen random mod 2 0 drop", false},
		{"ip daddr { 10.0.0.0/8, 11.0.0.0/8, 10.1.0.0/16 } drop", "ip daddr { 10.0.0.0/7 } drop", true},
		{"ip daddr { 10.0.0.0/8, 11.0.0.0/8 } drop", "ip daddr 10.0.0.0/7 drop", true},
		{"ip daddr { 10.0.0.1/32 } drop", "ip daddr { 10.0.0.1 } drop", true},
		{"ip daddr { 10.0.0.0/8, 12.0.0.0/8 } drop", "ip daddr { 10.0.0.0/7 } drop", false},
		{"ip saddr == 10.0.0.0/8 drop", "ip saddr 10.0.0.0/8 counter packets 3 bytes 4 drop", true},
		{"ip saddr 10.0.0.0/8 drop", "ip saddr != 10.0.0.0/8 drop", false},
		{"ip saddr 10.0.0.0/8 drop", "ip daddr 10.0.0.0/8 drop", false},
		{"reject", "reject with icmp port-unreachable", true},
		{"reject", "reject with tcp reset", false},
		{"goto a", "jump a", false},
		{"dnat ip to ip daddr . th dport map @to", "dnat ip to ip daddr . tcp dport map @to", true},
		{"ip daddr . th dport @to drop", "ip daddr . tcp dport @to drop", false},
		{"dnat to 10.0.0.1:80", "dnat to 10.0.0.1:81", false},
	} {
		var rules [2]*trace.Chain
		for i, rule := range []string{c.ours, c.listed} {
			rs, err := trace.ParseNFT("add table ip t; add set ip t to { }; add chain ip t a\nadd rule ip t a " + rule)
			if err != nil {
				t.Fatalf("%s: %v", rule, err)
			}
			rules[i] = rs.Table("ip t").Chain("a")
		}
		if rules[0].Same(rules[1]) != c.same || rules[1].Same(rules[0]) != c.same {
			t.Errorf("%q and %q are the same: %v, want %v", c.ours, c.listed, !c.same, c.same)
		}
	}
}

func FuzzParseNFT(f *testing.F) {
	f.Add(small)
	f.Add("table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.0/8, 1.2.3.4 }\n\t}\n\tchain c {\n\t\ttype filter hook input priority 0 + 5; policy drop;\n\t\tip saddr @s counter packets 1 bytes 2 accept comment \"x\"\n\t\tct state { new, established } reject with icmp type port-unreachable\n\t}\n}\n")
	for _, name := range []string{"IPv4", "IPv6"} {
		text, err := os.ReadFile("../nftables/testdata/" + name + ".nft")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<15 {
			return
		}
		rs, err := trace.ParseNFT(text)
		if err != nil {
			if _, ok := errors.AsType[*trace.ParseError](err); !ok {
				t.Errorf("error %v is no ParseError", err)
			}
			return
		}
		for _, p := range []trace.Packet{packetTo("10.96.0.10:80"), {Src: netip.MustParseAddrPort("[::1]:1"), Dst: netip.MustParseAddrPort("[::1]:1")}} {
			r := rs.Trace(p)
			for _, o := range r.Outcomes {
				o.Steps()
			}
		}
	})
}
