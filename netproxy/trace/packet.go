// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
)

// Packet is a packet as it arrives at a machine, or as a program on the machine
// sends it.
type Packet struct {
	// In is the interface that it comes in by; empty means that it is sent by
	// the machine itself.
	In string
	// Out is the interface that it leaves by, which only rules with -o ask.
	Out string

	Protocol netproxy.Protocol
	Src, Dst netip.AddrPort
	Mark     uint32

	// State is what connection tracking says. Zero means New. The nat table is
	// asked only for new connections.
	State State

	// Recent are the names of the lists (-m recent; sets of nftables whose
	// elements come with packets) that the source address is in, and young
	// enough to count: Outcome.Remembered of earlier packets.
	Recent []string
}

// State is a set of connection tracking states.
type State uint8

// The states that rules can ask for. DNAT and SNAT are added by the tracer when
// an address has been rewritten.
const (
	New State = 1 << iota
	Established
	Related
	Invalid
	Untracked
	DNAT
	SNAT
)

var stateNames = map[string]State{
	"NEW": New, "ESTABLISHED": Established, "RELATED": Related, "INVALID": Invalid,
	"UNTRACKED": Untracked, "DNAT": DNAT, "SNAT": SNAT,
}

// Verdict is what becomes of a packet.
type Verdict uint8

const (
	// Accept: it is delivered or forwarded.
	Accept Verdict = iota
	// Drop: it vanishes.
	Drop
	// Reject: it is answered with an error.
	Reject
)

func (v Verdict) String() string { return [...]string{"accept", "drop", "reject"}[v] }

// Result is everything that can become of a packet.
type Result struct {
	Packet   Packet
	Outcomes []Outcome
}

// Outcome is one thing that can become of a packet.
type Outcome struct {
	Verdict Verdict
	// Probability is how often this happens, from 0 to 1. Outcomes that rest on
	// different assumptions each have the probability under that assumption.
	Probability float64
	// Src and Dst are the addresses with which the packet goes on.
	Src, Dst   netip.AddrPort
	Masquerade bool // Src is replaced by the address of the interface it leaves by
	Mark       uint32

	// Remembered are the lists (see Packet.Recent) that the source was put into.
	Remembered []string
	// Assumed says, for each match or target that the tracer does not know,
	// what this outcome takes for granted.
	Assumed []string

	trail *trail
	last  int32
}

// Steps returns the rules that the packet matched, in order.
func (o *Outcome) Steps() []Step {
	var steps []Step
	for at := o.last; at != 0; {
		s := o.trail.steps[at]
		c := o.trail.chains[s.chain]
		steps = append(steps, Step{c.table.Name, c.Name, int(s.number), c.Rules[s.number-1]})
		at = s.before
	}
	slices.Reverse(steps)
	return steps
}

// Step is one rule that a packet matched.
type Step struct {
	Table, Chain string
	Number       int // of the rule in its chain, from 1
	Rule         *Rule
}

// String returns "nat KUBE-SERVICES 3: -d 10.96.0.1/32 ...".
func (s Step) String() string {
	return fmt.Sprintf("%s %s %d: %s", s.Table, s.Chain, s.Number, s.Rule.Text)
}

// Outcome returns the only thing that can become of the packet, or false if
// there are several.
func (r *Result) Outcome() (Outcome, bool) {
	if len(r.Outcomes) != 1 {
		return Outcome{}, false
	}
	return r.Outcomes[0], true
}

// Spread returns the probability of each destination among accepted packets.
func (r *Result) Spread() map[netip.AddrPort]float64 {
	out := map[netip.AddrPort]float64{}
	for _, o := range r.Outcomes {
		if o.Verdict == Accept {
			out[o.Dst] += o.Probability
		}
	}
	return out
}

// String says in one line per outcome what becomes of the packet.
func (r *Result) String() string {
	var b strings.Builder
	for i, o := range r.Outcomes {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%v", o.summary(r.Packet))
	}
	return b.String()
}

func (o *Outcome) summary(p Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.4g%% %v", o.Probability*100, o.Verdict)
	if o.Dst != p.Dst {
		fmt.Fprintf(&b, ", to %v", o.Dst)
	}
	switch {
	case o.Masquerade:
		b.WriteString(", masqueraded")
	case o.Src != p.Src:
		fmt.Fprintf(&b, ", from %v", o.Src)
	}
	for _, a := range o.Assumed {
		fmt.Fprintf(&b, ", assuming %s", a)
	}
	return b.String()
}
