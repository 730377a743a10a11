// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nftables_test

import (
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/nftables"
)

// TestTraffic sends real packets through the rules.
func TestTraffic(t *testing.T) {
	lab.Need(t, "nft")
	labtest.Traffic(t, func(c netproxy.Config) (netproxy.Backend, error) {
		return nftables.NewBackend(c, nftables.Options{})
	})
}

// TestDifferences applies random differences to a real kernel.
func TestDifferences(t *testing.T) {
	lab.Need(t, "nft")
	labtest.Differences(t, func(c netproxy.Config) (netproxy.Backend, error) {
		return nftables.NewBackend(c, nftables.Options{})
	})
}
