// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"net/netip"
	"slices"
	"strings"
)

// maxVisits bounds a trace through chains that call one another so often that
// no kernel would get to the end either.
const maxVisits = 1 << 24

// maxOutcomes bounds a trace through rules that the tracer does not know, each
// of which may match or not. Beyond it, an unknown match counts as not matching.
const maxOutcomes = 4096

// Trace says what becomes of a packet: it follows it through the tables in the
// kernel's order, and takes every branch where chance or a match that it does
// not know decides.
func (rs *RuleSet) Trace(p Packet) Result {
	if p.State == 0 {
		p.State = New
	}
	w, _ := rs.walks.Get().(*walk)
	if w == nil {
		w = &walk{}
	}
	defer w.recycle()
	w.rules, w.packet, w.tracked = rs, p, rs.tracks || rs.Tracking
	w.budget, w.visits = maxOutcomes, 0
	w.steps = append(w.steps, step{}) // so that 0 is none
	f := frame{
		src: p.Src, dst: p.Dst, mark: p.Mark, state: p.State, p: 1,
		in: p.In, out: p.Out, hook: hookPrerouting,
	}
	if p.In == "" {
		f.hook = hookOutput
	}
	w.enter(&f)
	for len(w.pending) > 0 {
		last := len(w.pending) - 1
		f = w.pending[last]
		w.pending = w.pending[:last]
		w.run(&f)
	}
	t := &trail{rs.chains, slices.Clone(w.steps)}
	out := slices.Clone(w.outcomes)
	for i := range out {
		out[i].trail = t
	}
	return Result{Packet: p, Outcomes: out}
}

// recycle keeps the walk's memory for the next one. Without, half of the time of
// a trace goes to the garbage collector (BenchmarkTrace).
func (w *walk) recycle() {
	rs := w.rules
	if cap(w.outcomes) > 1<<10 || cap(w.pending) > 1<<10 {
		return
	}
	clear(w.pending[:cap(w.pending)])
	clear(w.calls)
	clear(w.outcomes)
	*w = walk{pending: w.pending[:0], calls: w.calls[:0], key: w.key[:0], steps: w.steps[:0], outcomes: w.outcomes[:0]}
	rs.walks.Put(w)
}

func (rs *RuleSet) isLocal(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(rs.Local, a)
}

// walk is one trace: a depth-first search, in which each branch is a frame.
type walk struct {
	rules    *RuleSet
	packet   Packet
	tracked  bool // connection tracking is on
	budget   int  // unknown matches that may still be taken both ways
	visits   int  // rules looked at
	pending  []frame
	calls    []call
	key      []byte
	steps    []step // of all branches; they form a tree, as the first ones are common
	outcomes []Outcome
}

// frame is the state of a packet on its way. Frames are copied at a branch, so
// what they point to is never changed.
type frame struct {
	src, dst netip.AddrPort
	in, out  string
	mark     uint32
	state    State
	p        float64
	masq     bool
	decided  bool // the table is done with it
	looped   bool // the packet was sent here, and has come back in through lo

	hook  hook
	table int    // position in tablesOf(hook)
	base  *Chain // the built-in chain that the table began with
	chain *Chain
	rule  int   // the next rule to look at in chain
	stack int32 // the last of walk.calls that it is to return from, +1

	last       int32 // of walk.steps; 0 for none
	remembered *memory
	assumed    *assumption
	depth      int
}

// call is where a chain returns to.
type call struct {
	chain *Chain
	rule  int
	up    int32 // as frame.stack
}

// trail is what the steps of outcomes are read from. It has no pointer per step,
// so that the garbage collector need not look at it.
type trail struct {
	chains []*Chain
	steps  []step
}

// step is a rule that matched: the position of its chain in trail.chains, its
// number in the chain, from 1, and the position of the step before.
type step struct{ chain, number, before int32 }

type memory struct {
	list   string
	before *memory
}

type assumption struct {
	what   string
	holds  bool
	before *assumption
}

type hook uint8

const (
	hookPrerouting hook = iota
	hookInput
	hookForward
	hookOutput
	hookPostrouting
)

var hookChain = [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// tablesOf is the order of tables at each hook (netfilter priorities: raw -300,
// mangle -150, DNAT -100, filter 0, security 50, SNAT 100).
var tablesOf = [...][]string{
	hookPrerouting:  {"raw", "mangle", "nat"},
	hookInput:       {"mangle", "filter", "security", "nat"},
	hookForward:     {"mangle", "filter", "security"},
	hookOutput:      {"raw", "mangle", "nat", "filter", "security"},
	hookPostrouting: {"mangle", "nat"},
}

// enter starts a frame at its hook's table f.table.
func (w *walk) enter(f *frame) {
	for {
		chains := w.rules.hooks[f.hook]
		for ; f.table < len(chains); f.table++ {
			c := chains[f.table]
			if c.nat() && (f.state&New == 0 || f.looped || !w.tracked) || c.base != nil && c.table.ip6 != f.dst.Addr().Is6() {
				continue
			}
			f.base, f.chain, f.rule, f.stack, f.depth = c, c, 0, 0, 0
			w.run(f)
			return
		}
		if !w.advance(f) {
			w.finish(f, Accept)
			return
		}
	}
}

// nat says whether the chain is asked only for the first packet of a connection.
func (c *Chain) nat() bool {
	if c.base != nil {
		return c.base.nat
	}
	return c.table.Name == "nat"
}

// advance goes to the next hook, or returns false at the end of the way.
func (w *walk) advance(f *frame) bool {
	f.table = 0
	local := w.rules.isLocal(f.dst.Addr())
	switch {
	case f.hook == hookPrerouting && local:
		f.hook = hookInput
	case f.hook == hookPrerouting:
		f.hook = hookForward
	case f.hook == hookForward || f.hook == hookOutput:
		f.hook = hookPostrouting
		f.in = ""
	case f.hook == hookPostrouting && local && !f.looped:
		// It was sent by the machine to itself: it comes in again by lo.
		f.hook, f.looped, f.in, f.out = hookPrerouting, true, "lo", ""
	default:
		return false
	}
	return true
}

// run follows a frame through chains until the table's verdict, and goes on
// with the next table.
func (w *walk) run(f *frame) {
	for !f.decided {
		if f.rule = f.chain.next(f.rule, f.dst.Addr()); f.rule >= len(f.chain.Rules) {
			if f.stack == 0 {
				if f.base.Policy == "DROP" {
					w.finish(f, Drop)
					return
				}
				break
			}
			c := &w.calls[f.stack-1]
			f.chain, f.rule, f.stack = c.chain, c.rule, c.up
			f.depth--
			continue
		}
		if w.visits++; w.visits > maxVisits {
			f.assumed = &assumption{"the rest of the rules does not matter", true, f.assumed}
			w.finish(f, Accept)
			return
		}
		rule := f.chain.Rules[f.rule]
		f.rule++
		done := goOn
		if rule.nft != nil {
			done = w.statements(rule, f)
		} else if w.matches(rule, f) {
			done = w.apply(rule, f)
		}
		if done == finished {
			return
		}
		if done == decided {
			break
		}
	}
	f.decided = false
	f.table++
	w.enter(f)
}

// matches says whether the rule matches the frame. Where that is open, the
// branch in which it does not match is walked to its end at once.
func (w *walk) matches(r *Rule, f *frame) bool {
	if f.masq && f.looped {
		if a := w.masqueraded(&r.src, f); a.kind != yes && !w.settle(a, f) {
			return false
		}
	} else if !r.src.has(f.src.Addr()) {
		return false
	}
	if !r.dst.has(f.dst.Addr()) || !r.proto.has(w.packet.Protocol.Number()) {
		return false
	}
	if a := r.in.eval(f.in, f.hook <= hookForward, "-i "); a.kind != yes && !w.settle(a, f) {
		return false
	}
	if a := r.out.eval(f.out, f.hook >= hookForward, "-o "); a.kind != yes && !w.settle(a, f) {
		return false
	}
	for _, m := range r.matches {
		if a := m.eval(w, f); a.kind != yes && !w.settle(a, f) {
			return false
		}
	}
	w.note(f)
	return true
}

// note records that the packet has matched the rule before f.rule.
func (w *walk) note(f *frame) {
	w.steps = append(w.steps, step{f.chain.id, int32(f.rule), f.last})
	f.last = int32(len(w.steps) - 1)
}

// masqueraded compares the source of a packet that was masqueraded on its way to
// the machine itself: it has one of the machine's addresses, and which one, the
// routes tell.
func (w *walk) masqueraded(m *prefixMatch, f *frame) answer {
	if !m.prefix.IsValid() {
		return answer{kind: yes}
	}
	hits, of := 0, 0
	for _, a := range w.rules.Local {
		if a.Is4() == f.src.Addr().Is4() {
			of++
			if m.has(a) {
				hits++
			}
		}
	}
	switch {
	case hits == of && of > 0:
		return answer{kind: yes}
	case hits == 0 && of > 0:
		return answer{kind: no}
	}
	return answer{kind: unknown, what: "the masqueraded source for -s " + m.prefix.String()}
}

// settle decides an answer that is not a plain yes, for the frame; for another
// frame, which it walks, it decides the other way.
func (w *walk) settle(a answer, f *frame) bool {
	switch a.kind {
	case no:
		return false
	case chance:
		other := *f
		other.p *= 1 - a.p
		f.p *= a.p
		// The branch that matches comes first among the outcomes, so the other
		// one has to wait: walk this one now, from the same rule on.
		w.later(other)
		return true
	}
	for as := f.assumed; as != nil; as = as.before {
		if as.what == a.what {
			return as.holds
		}
	}
	if w.budget <= 0 {
		f.assumed = &assumption{a.what, false, f.assumed}
		return false
	}
	w.budget--
	other := *f
	other.assumed = &assumption{a.what, false, f.assumed}
	f.assumed = &assumption{a.what, true, f.assumed}
	w.later(other)
	return true
}

func (m *prefixMatch) has(a netip.Addr) bool {
	return !m.prefix.IsValid() || m.prefix.Contains(a) != m.not
}

func (m *protoMatch) has(n uint8) bool { return !m.set || (m.number == n) != m.not }

// eval compares the interface's name. Where a hook has one and the packet does
// not say which, the answer is open.
func (m *ifaceMatch) eval(name string, hooked bool, option string) answer {
	if m.name == "" {
		return answer{kind: yes}
	}
	if name == "" && hooked {
		return answer{kind: unknown, what: option + m.name}
	}
	hit := name == m.name
	if prefix, ok := strings.CutSuffix(m.name, "+"); ok {
		hit = name != "" && strings.HasPrefix(name, prefix)
	}
	return truth(hit != m.not)
}

type progress uint8

const (
	goOn     progress = iota // with the next rule
	decided                  // the table is done
	finished                 // the packet is done
)

// apply carries out the rule's target.
func (w *walk) apply(r *Rule, f *frame) progress {
	if !r.jumps {
		return goOn
	}
	switch r.target { // no chain can have one of these names

	case "ACCEPT":
		return decided
	case "DROP":
		w.finish(f, Drop)
		return finished
	case "REJECT":
		w.finish(f, Reject)
		return finished
	case "RETURN":
		f.rule = len(f.chain.Rules)
		return goOn
	case "MARK":
		a := r.action.(*markAction)
		f.mark = f.mark&^a.mask ^ a.value
		return goOn
	case "LOG", "NFLOG", "TRACE":
		return goOn
	case "DNAT", "REDIRECT":
		// The state tells only of what has really been changed.
		if to := w.destination(r, f); to != f.dst {
			f.dst = to
			f.state |= DNAT
		}
		return decided
	case "SNAT":
		if from := r.action.(*natAction).apply(f.src); from != f.src {
			f.src = from
			f.state |= SNAT
		}
		return decided
	case "MASQUERADE":
		f.masq = true
		f.state |= SNAT
		return decided
	}
	if to := f.chain.links[f.rule-1]; to != nil {
		return w.jump(f, to, r.isGoto)
	}
	f.assumed = &assumption{"-j " + r.target + " lets it go on", true, f.assumed}
	return goOn
}

func (w *walk) jump(f *frame, to *Chain, isGoto bool) progress {
	// The kernel refuses loops; a text may have one.
	if f.depth++; f.depth > 1000 {
		f.assumed = &assumption{"the chains from " + to.Name + " are no loop", true, f.assumed}
		w.finish(f, Drop)
		return finished
	}
	if !isGoto {
		w.calls = append(w.calls, call{f.chain, f.rule, f.stack})
		f.stack = int32(len(w.calls))
	}
	f.chain, f.rule = to, 0
	return goOn
}

func (w *walk) destination(r *Rule, f *frame) netip.AddrPort {
	if a, ok := r.action.(*natAction); ok {
		return a.apply(f.dst)
	}
	port := f.dst.Port()
	if a := r.action.(*redirectAction); a.port != 0 {
		port = a.port
	}
	if f.dst.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), port)
}

// later keeps the other branch for when this one has come to its end.
func (w *walk) later(f frame) { w.pending = append(w.pending, f) }

// finish records what becomes of the frame.
func (w *walk) finish(f *frame, v Verdict) {
	o := Outcome{
		Verdict: v, Probability: f.p, Src: f.src, Dst: f.dst,
		Masquerade: f.masq, Mark: f.mark, last: f.last,
	}
	for r := f.remembered; r != nil; r = r.before {
		o.Remembered = append(o.Remembered, r.list)
	}
	slices.Reverse(o.Remembered)
	for a := f.assumed; a != nil; a = a.before {
		what := a.what
		if !a.holds {
			what = "not " + what
		}
		o.Assumed = append(o.Assumed, what)
	}
	slices.Reverse(o.Assumed)
	w.outcomes = append(w.outcomes, o)
}
