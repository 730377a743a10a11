// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/netproxy/trace"
)

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no table", "-A INPUT -j ACCEPT\n", "line 1: no table is open"},
		{"not closed", "*nat\n:X - [0:0]\n", "not closed by COMMIT"},
		{"no chain", "*nat\n-A NOWHERE -j ACCEPT\nCOMMIT\n", `line 2: no chain "NOWHERE"`},
		{"address", "*nat\n-A PREROUTING -d 10.0.0.300 -j ACCEPT\nCOMMIT\n", `address "10.0.0.300"`},
		{"port", "*nat\n-A PREROUTING -p tcp --dport 70000 -j ACCEPT\nCOMMIT\n", `port "70000"`},
		{"quote", "*nat\n-A PREROUTING -m comment --comment \"x -j ACCEPT\nCOMMIT\n", "quote is not closed"},
		{"option without match", "*nat\n-A PREROUTING --dport 80 -j ACCEPT\nCOMMIT\n", "without -m or -p"},
		{"chain called like a target", "*nat\n:MARK - [0:0]\nCOMMIT\n", "name of a target"},
		{"long chain", "*nat\n:" + strings.Repeat("x", 29) + " - [0:0]\nCOMMIT\n", "at most 28"},
		{"jump to nothing", "*nat\n-A PREROUTING -j my-chain\nCOMMIT\n", "neither a chain nor"},
		{"DNAT without", "*nat\n-A PREROUTING -p tcp -j DNAT\nCOMMIT\n", "without --to-destination"},
		{"probability", "*nat\n-A PREROUTING -m statistic --mode random --probability 2 -j ACCEPT\nCOMMIT\n", "want 0 to 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := trace.Parse(c.text)
			if _, ok := errors.AsType[*trace.ParseError](err); !ok || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want a ParseError with %q", err, c.want)
			}
		})
	}
}

func TestMasks(t *testing.T) {
	for mask, ok := range map[string]bool{
		"255.255.255.0": true, "255.255.255.255": true, "0.0.0.0": true, "255.255.240.0": true, "24": true,
		"255.0.255.0": false, "255.255.1.0": false, "33": false, "0.255.0.0": false,
	} {
		if _, err := trace.Parse("*filter\n-A INPUT -s 10.1.2.3/" + mask + " -j DROP\nCOMMIT\n"); (err == nil) != ok {
			t.Errorf("mask %s: %v", mask, err)
		}
	}
	a, err := trace.Parse("*filter\n-A INPUT -s 10.1.2.3/255.255.240.0 -j DROP\n-A INPUT -s 10.1.0.0/20 -j DROP\nCOMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	if r := a.Table("filter").Chain("INPUT").Rules; !r[0].Same(r[1]) {
		t.Errorf("%q and %q are not the same", r[0].Text, r[1].Text)
	}
}

// TestRestoreIsAtomic expects that a text with an error changes nothing.
func TestRestoreIsAtomic(t *testing.T) {
	rs, err := trace.Parse("*nat\n:A - [0:0]\n-A A -j ACCEPT\n-A PREROUTING -j A\nCOMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	p := trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("1.1.1.1:1"), Dst: netip.MustParseAddrPort("2.2.2.2:2")}
	before := rs.Trace(p)
	if err := rs.Restore("*nat\n:A - [0:0]\n-A A -j DROP\n-A OUTPUT -j A\n-D PREROUTING 1\n-A A -s bad\nCOMMIT\n"); err == nil {
		t.Fatal("no error")
	}
	if after := rs.Trace(p); len(after.Outcomes[0].Steps()) != len(before.Outcomes[0].Steps()) || after.Outcomes[0].Verdict != trace.Accept {
		t.Errorf("before %v, after %v", &before, &after)
	}
}

// TestRestoreLinks changes a chain that an unchanged one jumps to.
func TestRestoreLinks(t *testing.T) {
	rs, err := trace.Parse("*filter\n:A - [0:0]\n-A A -j ACCEPT\n-A FORWARD -j A\nCOMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	p := trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("1.1.1.1:1"), Dst: netip.MustParseAddrPort("2.2.2.2:2")}
	for _, c := range []struct {
		text string
		want trace.Verdict
	}{
		{"*filter\n:A - [0:0]\n-A A -j DROP\nCOMMIT\n", trace.Drop},
		{"*filter\n-I A 1 -j REJECT\nCOMMIT\n", trace.Reject},
		{"*filter\n:A - [0:0]\nCOMMIT\n", trace.Accept},
	} {
		if err := rs.Restore(c.text); err != nil {
			t.Fatal(err)
		}
		r := rs.Trace(p)
		if o, ok := r.Outcome(); !ok || o.Verdict != c.want {
			t.Errorf("after %q: %v, want %v", c.text, &r, c.want)
		}
	}
}

// TestUnknown expects both branches where the tracer can't know.
func TestUnknown(t *testing.T) {
	rs, err := trace.Parse("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set ! --match-set bad src -m tcp -p tcp -j ACCEPT\n-A INPUT -m limit --limit 5/sec -j DROP\n-A INPUT -j NFQUEUE --queue-num 1\nCOMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	rs.Local = []netip.Addr{netip.MustParseAddr("2.2.2.2")}
	r := rs.Trace(trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("1.1.1.1:1"), Dst: netip.MustParseAddrPort("2.2.2.2:2")})
	want := "100% accept, assuming -m set ! --match-set bad src\n" +
		"100% drop, assuming not -m set ! --match-set bad src, assuming -m limit --limit 5/sec\n" +
		"100% accept, assuming not -m set ! --match-set bad src, assuming not -m limit --limit 5/sec, assuming -j NFQUEUE lets it go on"
	if r.String() != want {
		t.Errorf("got\n%v\nwant\n%s", &r, want)
	}
}

// TestTracking expects that the nat table is asked only where something needs
// connection tracking, as in the kernel.
func TestTracking(t *testing.T) {
	const mark = "*nat\n-A PREROUTING -p tcp -j MARK --set-xmark 0x1/0x1\nCOMMIT\n"
	for _, c := range []struct {
		name, more string
		elsewhere  bool
		asked      bool
	}{
		{"nothing needs it", "", false, false},
		{"a rule of nftables does", "", true, true},
		{"a match does", "*filter\n-A OUTPUT -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n", false, true},
		{"a target does", "*nat\n-A POSTROUTING -p udp -j MASQUERADE\nCOMMIT\n", false, true},
		{"a target that switches it off does not", "*raw\n-A PREROUTING -p udp -j CT --notrack\nCOMMIT\n", false, false},
	} {
		rs, err := trace.Parse(mark)
		if err == nil {
			err = rs.Restore(c.more)
		}
		if err != nil {
			t.Fatal(err)
		}
		rs.Tracking = c.elsewhere
		r := rs.Trace(trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("1.1.1.1:1"), Dst: netip.MustParseAddrPort("2.2.2.2:2")})
		if o, ok := r.Outcome(); !ok || (o.Mark == 1) != c.asked {
			t.Errorf("%s: %v with the mark %#x", c.name, &r, o.Mark)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*nat\n:PREROUTING ACCEPT [0:0]\n:K - [0:0]\n-A PREROUTING ! -s 10.0.0.0/8 -p tcp -m tcp --dport 1:2 -m comment --comment \"a \\\" b\" -j K\n-A K -m statistic --mode random --probability 0.5 -j DNAT --to-destination [::1]:80\nCOMMIT\n")
	f.Add("*filter\n-A INPUT -m recent --rcheck --seconds 3 --name x -m mark ! --mark 0x1/0x1 -g ACCEPT\n-I INPUT 1 -j DROP\n-D INPUT 1\n-R INPUT 1 -j REJECT\n-X\nCOMMIT\n")
	f.Add("*nat\n:A - [0:0]\n:B - [0:0]\n-A PREROUTING -j A\n-A A -j B\n-A B -g A\n-A A -j B\nCOMMIT\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		rs, err := trace.Parse(text)
		if err != nil {
			return
		}
		for _, table := range []string{"nat", "filter", "mangle", "raw"} {
			for _, c := range rs.Table(table).Chains() {
				for _, r := range c.Rules {
					if !r.Same(r) {
						t.Errorf("%q is not the same as itself", r.Text)
					}
				}
			}
		}
		rs.Trace(trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("1.1.1.1:1"), Dst: netip.MustParseAddrPort("2.2.2.2:2")})
	})
}
