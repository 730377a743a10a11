// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/kernel"
)

// Resync lists the table, compares it with what should be there, and applies the
// difference: elements, chains, sets and maps that are missing, changed or left
// over. What is right is not touched, so no connection notices, and clients keep
// their affinity. Only where the kernel refuses the difference, because somebody
// has made one of our maps with another type, say, the table is replaced as a
// whole, and clients lose their affinity.
//
// nft takes 2 to 3 s of processor time to list 5,000 services of 10 endpoints, the
// comparison 0.1 s (BenchmarkKernel). Nothing else lists, but the first Sync and
// one after a failure.
func (b *Backend) Resync(ctx context.Context) (int, error) {
	repaired, err := b.compare(ctx)
	if errors.Is(err, netproxy.ErrRefused) {
		err = kernel.Search(ctx, b.search(), b.suspected(), err)
	}
	if err != nil && !netproxy.OnlyServices(err) {
		err = fmt.Errorf("nftables: resync: %w", err)
	}
	return repaired, err
}

// compare brings the kernel from whatever it has to the rule set, and says how
// many objects it had to put right. What is merely not in effect yet does not
// count.
func (b *Backend) compare(ctx context.Context) (int, error) {
	if b.known {
		if err := b.applyDiff(ctx); err != nil {
			return 0, err
		}
		b.known = false
	}
	now, err := b.list(ctx)
	if err != nil {
		return 0, err
	}
	if !now.there {
		return 1, b.replace(ctx)
	}
	p := b.plan(now)
	err = b.run(ctx, p.prepare, p.change)
	if errors.Is(err, netproxy.ErrRefused) {
		return p.wrong, b.replace(ctx)
	}
	if err == nil {
		b.settle(p.kept)
	}
	return p.wrong, err
}

// replace makes the table anew.
func (b *Backend) replace(ctx context.Context) error {
	clear(b.trusted)
	if err := b.run(ctx, b.rules.AppendText(nil)); err != nil {
		return err
	}
	b.settle(nil)
	return nil
}

// settle notes that the kernel has the rule set, and also the choosing chains
// kept, which are not in use.
func (b *Backend) settle(kept map[pick]bool) {
	b.rules.settle()
	clear(b.rules.created)
	maps.Copy(b.rules.created, kept)
	for p := range b.rules.picks {
		b.rules.created[p] = true
	}
	b.known = true
	b.suspects = kernel.Emptied(b.suspects)
}

// list returns the table as the kernel has it; an empty one if there is none.
func (b *Backend) list(ctx context.Context) (listing, error) {
	text, err := kernel.Run(ctx, nil, b.program, "-s", "list", "table", b.rules.dialect.family, TableName)
	if errors.Is(err, netproxy.ErrRefused) && strings.Contains(err.Error(), "No such file") {
		return listing{}, nil
	}
	if err != nil {
		return listing{}, err
	}
	return parseListing(text), nil
}

// run applies texts, each a transaction of its own.
func (b *Backend) run(ctx context.Context, texts ...[]byte) error {
	for _, text := range texts {
		if len(text) == 0 {
			continue
		}
		if _, err := kernel.Run(ctx, text, b.program, "-f", "-"); err != nil {
			return err
		}
	}
	return nil
}
