// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"strings"

	"github.com/slipway-dev/slipway/netproxy/trace"
)

// Diff returns the text for iptables-restore --noflush that turns the rules have
// into the rules want, as far as they are ours: the chains whose names begin
// with Prefix, and the jumps to them. Chains that are the same, and everything
// foreign, are not mentioned. The text is empty if there is nothing to do, and
// chains says how many chains it writes or deletes.
//
// have is usually what iptables-save printed, and want is Save of a rule set. An
// empty want removes everything.
func Diff(have, want *trace.RuleSet) (text string, chains int) {
	var b strings.Builder
	for _, table := range [...]string{"nat", "filter"} {
		d := differ{have: have.Table(table), want: want.Table(table)}
		d.jumps(table)
		d.chains()
		if d.heads.Len() == 0 && d.rules.Len() == 0 {
			continue
		}
		chains += d.count
		fmt.Fprintf(&b, "*%s\n%s%s%sCOMMIT\n", table, d.heads.String(), d.rules.String(), d.deletes.String())
	}
	return b.String(), chains
}

type differ struct {
	have, want            *trace.Table
	heads, rules, deletes strings.Builder
	count                 int
}

func ours(name string) bool { return strings.HasPrefix(name, Prefix) }

// chains writes the chains that are missing or differ, and deletes those that
// should not be there.
func (d *differ) chains() {
	for _, c := range d.want.Chains() {
		if !ours(c.Name) {
			continue
		}
		if old := d.have.Chain(c.Name); old.Same(c) {
			continue
		}
		d.count++
		fmt.Fprintf(&d.heads, ":%s - [0:0]\n", c.Name)
		for _, r := range c.Rules {
			fmt.Fprintf(&d.rules, "-A %s %s\n", c.Name, r.Text)
		}
	}
	for _, c := range d.have.Chains() {
		if ours(c.Name) && d.want.Chain(c.Name) == nil {
			d.count++
			fmt.Fprintf(&d.heads, ":%s - [0:0]\n", c.Name)
			fmt.Fprintf(&d.deletes, "-X %s\n", c.Name)
		}
	}
}

// jumps leaves exactly one jump in each built-in chain that should have one.
func (d *differ) jumps(table string) {
	for _, j := range Jumps() {
		if j.Table != table {
			continue
		}
		before := d.count
		wanted := 0
		if d.want.Chain(j.From) != nil {
			wanted = 1
		}
		found := 0
		if c := d.have.Chain(j.From); c != nil {
			for _, r := range c.Rules {
				// Also a jump that somebody has narrowed is ours, and wrong.
				if target := r.Target(); target == j.To {
					if r.Text == "-j "+j.To && found < wanted {
						found++
						continue
					}
					fmt.Fprintf(&d.rules, "-D %s %s\n", j.From, r.Text)
					d.count = before + 1
				}
			}
		}
		if found < wanted {
			fmt.Fprintf(&d.rules, "-I %s 1 -j %s\n", j.From, j.To)
			d.count = before + 1
		}
	}
}
