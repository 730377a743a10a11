// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// TestIncremental makes random changes and applies only the differences to a
// model of the kernel. It must always have what a fresh rule set would write.
func TestIncremental(t *testing.T) {
	for seed := range uint64(6) {
		for _, family := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
			r := rand.New(rand.NewPCG(seed, 1))
			c := netproxy.Config{Family: family}
			rs, err := iptables.New(c)
			if err != nil {
				t.Fatal(err)
			}
			tr := netproxy.NewTracker(netproxy.Node{Name: "n1", Zone: "a"})
			kernel, err := trace.Parse("")
			if err != nil {
				t.Fatal(err)
			}
			for step := range 120 {
				for range 1 + r.IntN(8) {
					labtest.RandomEvent(t, r, tr)
				}
				if err := rs.Update(tr.Changes()); err != nil {
					t.Fatal(err)
				}
				text := string(rs.AppendDiff(nil))
				if err := kernel.Restore(text); err != nil {
					t.Fatalf("seed %d, step %d: %v in\n%s", seed, step, err, text)
				}
				fresh, err := iptables.New(c)
				if err != nil {
					t.Fatal(err)
				}
				routes := tr.Routes()
				r.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
				for _, route := range routes { // one by one, in another order
					if err := fresh.Update([]netproxy.Change{{New: route}}); err != nil {
						t.Fatal(err)
					}
				}
				want := fresh.Text()
				if got := rs.Text(); got != want {
					t.Fatalf("seed %d, step %d: the text depends on the history:\n%s\nfresh:\n%s", seed, step, got, want)
				}
				wanted, err := trace.Parse(want)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := chains(kernel), chains(wanted); !slices.Equal(got, want) {
					t.Fatalf("seed %d, step %d: the kernel has\n%q\nwant\n%q\nafter\n%s", seed, step, got, want, text)
				}
				if again := rs.AppendDiff(nil); len(again) > 0 {
					t.Fatalf("a second difference: %s", again)
				}
			}
		}
	}
}

func chains(rs *trace.RuleSet) []string {
	var out []string
	for _, table := range []string{"nat", "filter"} {
		for _, c := range rs.Table(table).Chains() {
			line := table + " " + c.Name
			for _, r := range c.Rules {
				line += "\n" + r.Text
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}
