// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/kernel"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

// Options are what concerns the programs, not the rules.
type Options struct {
	// Variant is "nft" or "legacy"; empty means what iptables is on this machine.
	Variant string
	// LockSeconds is how long to wait for another iptables program. Zero means 5.
	LockSeconds int
	// SaveProgram and RestoreProgram are other programs to run; empty means
	// those of Variant.
	SaveProgram, RestoreProgram string
}

// Backend keeps a rule set in the kernel, in the network namespace of the
// thread that calls it. It is a [netproxy.Backend].
type Backend struct {
	rules    *RuleSet
	programs programs
	known    bool // the kernel has what the rule set's last diff said

	// suspects are the routes updated since the kernel last took all rules.
	suspects map[netproxy.PortName]bool
}

var _ netproxy.Backend = (*Backend)(nil)

// NewBackend returns a backend that has not touched the kernel yet.
func NewBackend(c netproxy.Config, o Options) (*Backend, error) {
	if o.Variant != "" && o.Variant != "nft" && o.Variant != "legacy" {
		return nil, fmt.Errorf("iptables: variant %q: want nft or legacy", o.Variant)
	}
	rs, err := New(c)
	if err != nil {
		return nil, err
	}
	return &Backend{
		rules: rs, programs: newPrograms(c.Family, o),
		suspects: map[netproxy.PortName]bool{},
	}, nil
}

// Rules returns the rule set, to be read between calls.
func (b *Backend) Rules() *RuleSet { return b.rules }

// Sync writes the chains that the changes concern. After a failure, and the
// first time, it compares everything with the kernel.
func (b *Backend) Sync(ctx context.Context, changes []netproxy.Change) error {
	refused := b.update(changes)
	if !b.known {
		_, err := b.Resync(ctx)
		return errors.Join(refused, err)
	}
	text := b.rules.AppendDiff(nil)
	if len(text) == 0 {
		b.suspects = kernel.Emptied(b.suspects)
		return refused
	}
	err := b.programs.apply(ctx, text)
	switch {
	case err == nil:
		b.suspects = kernel.Emptied(b.suspects)
		return refused
	case errors.Is(err, netproxy.ErrRefused):
		return errors.Join(refused, b.isolate(ctx, err, text))
	}
	b.known = false
	return errors.Join(refused, fmt.Errorf("iptables: apply changes: %w", err))
}

// update puts changes into the rule set, and notes whom to suspect.
func (b *Backend) update(changes []netproxy.Change) error {
	for _, c := range changes {
		if r := c.Route(); r != nil && r.Family == b.rules.config.Family {
			b.suspects[r.Name] = true
		}
	}
	return b.rules.Update(changes)
}

// Resync reads the kernel's rules, writes the chains of ours that are missing or
// have been changed, and deletes those that are left over.
func (b *Backend) Resync(ctx context.Context) (int, error) {
	text, repaired, err := b.push(ctx)
	if errors.Is(err, netproxy.ErrRefused) {
		return repaired, b.isolate(ctx, err, text)
	}
	if err != nil {
		return 0, fmt.Errorf("iptables: resync: %w", err)
	}
	return repaired, nil
}

// Cleanup removes our chains and the jumps to them.
func (b *Backend) Cleanup(ctx context.Context) error {
	have, err := b.read(ctx)
	if err != nil {
		return fmt.Errorf("iptables: clean up: %w", err)
	}
	b.known = false
	if text, _ := Diff(have, &trace.RuleSet{}); text != "" {
		if err := b.programs.apply(ctx, []byte(text)); err != nil {
			return fmt.Errorf("iptables: clean up: %w", err)
		}
	}
	return nil
}

// push compares everything with the kernel, and writes what differs.
func (b *Backend) push(ctx context.Context) (text []byte, chains int, err error) {
	b.known = false
	diff, chains, err := b.compare(ctx)
	if err != nil {
		return nil, 0, err
	}
	text = []byte(diff)
	if len(text) > 0 {
		if err := b.programs.apply(ctx, text); err != nil {
			return text, chains, err
		}
	}
	b.known = true
	b.rules.AppendDiff(nil) // from here on, diffs start from what there is now
	b.suspects = kernel.Emptied(b.suspects)
	return text, chains, nil
}

// compare returns the text that brings the kernel to the rule set.
func (b *Backend) compare(ctx context.Context) (text string, chains int, err error) {
	have, err := b.read(ctx)
	if err != nil {
		return "", 0, err
	}
	want, err := trace.Parse(b.rules.Save())
	if err != nil {
		return "", 0, err
	}
	text, chains = Diff(have, want)
	return text, chains, nil
}

// read reads the rules that there are. Rules of others may use what the
// parser refuses, so only what concerns us is parsed.
func (b *Backend) read(ctx context.Context) (*trace.RuleSet, error) {
	saved, err := b.programs.tables(ctx)
	if err != nil {
		return nil, err
	}
	var ours strings.Builder
	for line := range strings.Lines(saved) {
		if line[0] == '*' || strings.HasPrefix(line, "COMMIT") || strings.Contains(line, Prefix) {
			if from, ok := strings.CutPrefix(line, "-A "); ok && !concerns(from) {
				continue
			}
			ours.WriteString(line)
		}
	}
	return trace.Parse(ours.String())
}

// concerns says whether a rule is in one of our chains or jumps to one from a
// built-in chain. Jumps from other people's chains are their affair.
func concerns(rule string) bool {
	chain, _, _ := strings.Cut(rule, " ")
	return strings.HasPrefix(chain, Prefix) || slices.ContainsFunc(Jumps(), func(j Jump) bool { return j.From == chain })
}

// isolate finds the services whose rules the kernel refuses, leaves them out,
// and puts all others into effect. Mostly the program names the line at which
// it failed; where that does not lead to a service, halves are tried.
func (b *Backend) isolate(ctx context.Context, cause error, text []byte) error {
	suspects := slices.SortedFunc(maps.Keys(b.suspects), func(x, y netproxy.PortName) int {
		return strings.Compare(x.String(), y.String())
	})
	var left []error
	for errors.Is(cause, netproxy.ErrRefused) {
		line := refusedLine(cause, text)
		s := b.rules.serviceOf(line)
		if s == nil {
			return errors.Join(append(left, kernel.Search(ctx, b.search(), b.routes(suspects), cause))...)
		}
		left = append(left, b.leaveOut(s.route, line, cause))
		text, _, cause = b.push(ctx)
	}
	if cause != nil {
		left = append(left, fmt.Errorf("iptables: apply: %w", cause))
	}
	return errors.Join(left...)
}

// leaveOut takes a refused route out of the rule set.
func (b *Backend) leaveOut(r *netproxy.Route, line string, cause error) error {
	err := &netproxy.ServiceError{Service: r.Name, Rule: line, Err: cause}
	_ = b.rules.Update([]netproxy.Change{{Old: r}}) // to take a route out never fails
	return err
}

func (b *Backend) routes(names []netproxy.PortName) []*netproxy.Route {
	var routes []*netproxy.Route
	for _, name := range names {
		if s := b.rules.routes[name]; s != nil {
			routes = append(routes, s.route)
		}
	}
	return routes
}

// search is the backend as kernel.Search wants it.
func (b *Backend) search() kernel.Rules {
	return kernel.Rules{Update: b.rules.Update, Push: func(ctx context.Context) error {
		_, _, err := b.push(ctx)
		return err
	}}
}

// serviceOf returns the service that a line of rule text belongs to, or nil: by
// the name of its chain, or by its comment.
func (rs *RuleSet) serviceOf(line string) *service {
	for w := range strings.FieldsSeq(line) {
		for _, prefix := range kindPrefix {
			if name, ok := strings.CutPrefix(w, prefix); ok && len(name) == idLen {
				if s := rs.ids[id([]byte(name))]; s != nil {
					return s
				}
			}
		}
	}
	_, comment, _ := strings.Cut(line, `--comment "`)
	comment, _, _ = strings.Cut(comment, `"`)
	namespace, rest, _ := strings.Cut(comment, "/")
	name, port, _ := strings.Cut(rest, ":")
	return rs.routes[netproxy.PortName{Namespace: namespace, Name: name, Port: port}]
}
