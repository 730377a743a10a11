// SPDX-License-Identifier: Apache-2.0

package netproxy_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/nftables"
)

func TestBadConfig(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		name   string
		config netproxy.Config
		want   string
	}{
		{"family", netproxy.Config{Family: 2}, "config: family: 2: want IPv4 or IPv6"},
		{"pods of the other family", netproxy.Config{PodCIDR: prefix("fd44::/16")}, "podCIDR: fd44::/16: want an IPv4 range"},
		{"node of the other family", netproxy.Config{Family: netproxy.IPv6, NodeIP: netip.MustParseAddr("192.168.1.1")}, "nodeIP: 192.168.1.1: want an IPv6 address"},
		{"node is loopback", netproxy.Config{NodeIP: netip.MustParseAddr("127.0.0.1")}, "nodeIP: 127.0.0.1: a loopback address"},
		{"two ways to tell pods", netproxy.Config{PodCIDR: prefix("10.244.0.0/16"), PodInterface: "cbr0"}, "podInterface"},
		{"interface with an option", netproxy.Config{PodInterface: "eth0 -j DROP"}, "want the name of an interface"},
		{"two bits", netproxy.Config{MasqueradeMark: 3}, "masqueradeMark: 0x3: want a single bit"},
		{"node port addresses", netproxy.Config{NodePortAddresses: []netip.Prefix{prefix("10.0.0.0/8"), {}}}, "nodePortAddresses[1]"},
		{"localhost of IPv6", netproxy.Config{Family: netproxy.IPv6, LocalhostNodePorts: true}, "localhostNodePorts: is for IPv4 only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, ipt := iptables.New(c.config)
			_, nft := nftables.New(c.config)
			for _, err := range []error{c.config.Validate(), ipt, nft} {
				if _, ok := errors.AsType[*netproxy.FieldError](err); !ok || !errors.Is(err, netproxy.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error = %v, want a FieldError with %q", err, c.want)
				}
			}
		})
	}
}
