// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/kernel"
)

// Options are what concerns the program, not the rules.
type Options struct {
	// Program is the nft program; empty means "nft".
	Program string
}

// Backend keeps a rule set in the kernel, in the network namespace of the
// thread that calls it. It is a [netproxy.Backend]. A change is one
// nft transaction: it takes effect as a whole or not at all.
type Backend struct {
	rules   *RuleSet
	program string
	known   bool // the kernel has what the rule set's last diff said

	suspects map[netproxy.PortName]bool // routes updated since the kernel last took all rules
	trusted  map[string]seenChain       // see planner.right
}

var _ netproxy.Backend = (*Backend)(nil)

// NewBackend returns a backend that has not touched the kernel yet.
func NewBackend(c netproxy.Config, o Options) (*Backend, error) {
	rs, err := New(c)
	if err != nil {
		return nil, err
	}
	b := &Backend{rules: rs, program: o.Program, suspects: map[netproxy.PortName]bool{}, trusted: map[string]seenChain{}}
	if b.program == "" {
		b.program = "nft"
	}
	return b, nil
}

// Rules returns the rule set, to be read between calls.
func (b *Backend) Rules() *RuleSet { return b.rules }

// Sync applies the elements that the changes concern. The first time, and after
// a failure, it compares everything with the kernel, as Resync does.
func (b *Backend) Sync(ctx context.Context, changes []netproxy.Change) error {
	for _, c := range changes {
		if r := c.Route(); r != nil && r.Family == b.rules.config.Family {
			b.suspects[r.Name] = true
		}
	}
	refused := b.rules.Update(changes)
	err := b.push(ctx)
	if errors.Is(err, netproxy.ErrRefused) {
		err = kernel.Search(ctx, b.search(), b.suspected(), err)
	}
	if err != nil && !netproxy.OnlyServices(err) {
		err = fmt.Errorf("nftables: apply: %w", err)
	}
	return errors.Join(refused, err)
}

// push brings the kernel to the rule set: by a difference if it is known what
// the kernel has, else by a comparison.
func (b *Backend) push(ctx context.Context) error {
	if b.known {
		return b.applyDiff(ctx)
	}
	_, err := b.compare(ctx)
	return err
}

func (b *Backend) applyDiff(ctx context.Context) error {
	prepare, change := b.rules.Diff()
	if err := b.run(ctx, prepare, change); err != nil {
		b.known = false
		return err
	}
	b.suspects = kernel.Emptied(b.suspects)
	return nil
}

func (b *Backend) suspected() []*netproxy.Route {
	var routes []*netproxy.Route
	for _, name := range slices.SortedFunc(maps.Keys(b.suspects), func(x, y netproxy.PortName) int {
		return netproxy.CompareRoutes(&netproxy.Route{Name: x}, &netproxy.Route{Name: y})
	}) {
		if s := b.rules.routes[name]; s != nil {
			routes = append(routes, s.route)
		}
	}
	return routes
}

// search is the backend as kernel.Search wants it.
func (b *Backend) search() kernel.Rules {
	return kernel.Rules{Update: b.rules.Update, Push: b.push}
}

// Cleanup deletes the table.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.known = false
	text := b.rules.appendCommand(nil, "add table", "") // deleting what is not there is an error
	text = b.rules.appendCommand(text, "delete table", "")
	if _, err := kernel.Run(ctx, text, b.program, "-f", "-"); err != nil {
		return fmt.Errorf("nftables: clean up: %w", err)
	}
	return nil
}
