// SPDX-License-Identifier: Apache-2.0

//go:build linux

package iptables_test

import (
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/iptables"
)

// TestTraffic sends real packets through the rules, with both of the kernel's
// implementations of iptables.
func TestTraffic(t *testing.T) {
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab.Need(t, "iptables-"+variant+"-restore", "ip6tables-"+variant+"-restore")
			labtest.Traffic(t, func(c netproxy.Config) (netproxy.Backend, error) {
				return iptables.NewBackend(c, iptables.Options{Variant: variant, LockSeconds: 30})
			})
		})
	}
}

// TestDifferences applies random differences to real kernels.
func TestDifferences(t *testing.T) {
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab.Need(t, "iptables-"+variant+"-restore", "ip6tables-"+variant+"-restore")
			labtest.Differences(t, func(c netproxy.Config) (netproxy.Backend, error) {
				return iptables.NewBackend(c, iptables.Options{Variant: variant, LockSeconds: 30})
			})
		})
	}
}
