// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/conntrack"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/iptables"
)

// withConntrack is a rule back end followed by a Cleaner.
type withConntrack struct {
	netproxy.Backend
	cleaner *conntrack.Cleaner
}

func (b withConntrack) Sync(ctx context.Context, changes []netproxy.Change) error {
	if err := b.Backend.Sync(ctx, changes); err != nil {
		return err
	}
	return b.cleaner.Sync(ctx, changes)
}

// TestStaleFlows keeps one UDP socket sending while its endpoint goes: to
// another one, to none, and back to one. Without the cleaner it would go on
// sending to the first.
func TestStaleFlows(t *testing.T) {
	lab.Need(t, "iptables-nft-restore", "ip6tables-nft-restore")
	var deleted []conntrack.Flow
	c := labtest.NewCluster(t, func(config netproxy.Config) (netproxy.Backend, error) {
		b, err := iptables.NewBackend(config, iptables.Options{Variant: "nft"})
		return withConntrack{b, &conntrack.Cleaner{Deleted: func(f conntrack.Flow) { deleted = append(deleted, f) }}}, err
	})
	dns := netproxy.Service{
		Namespace: "kube-system", Name: "dns",
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.53"), netip.MustParseAddr("fd96::53")},
		Ports:      []netproxy.ServicePort{{Name: "dns", Protocol: netproxy.UDP, Port: 53, NodePort: 30053}},
	}
	for i, front := range []string{"10.96.0.53:53", "[fd96::53]:53", "192.168.50.11:30053"} {
		deleted = nil
		other, err := c.Client.Dial(netproxy.UDP, netip.MustParseAddrPort("192.168.50.11:30999"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		other.Write([]byte("an innocent flow"))
		c.Set(dns, c.Pod1)
		c.Sync()
		conn, err := c.Client.Dial(netproxy.UDP, netip.MustParseAddrPort(front))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		want := func(pod string) {
			t.Helper()
			if r, err := lab.Ask(conn); err != nil || r.Pod != pod {
				t.Errorf("%s: %q answered (%v), want %s", front, r.Pod, err, pod)
			}
		}
		want("pod1")
		want("pod1")
		c.Set(dns, c.Pod2)
		c.Sync()
		want("pod2")
		c.Set(dns) // to none: the client gets an error, and the flow leads nowhere
		c.Sync()
		lab.Ask(conn)
		c.Set(dns, c.Pod3)
		c.Sync()
		want("pod3")
		if i == 0 && len(deleted) == 0 {
			t.Error("nothing was deleted")
		}
		for _, f := range deleted {
			if f.Dst.Port() != 53 && f.Dst.Port() != 30053 {
				t.Errorf("%s: the flow to %v was deleted", front, f.Dst)
			}
		}
	}
}

// fake is a table in memory.
type fake []conntrack.Flow

func (t fake) Flows(_ context.Context, f netproxy.Family) (out []conntrack.Flow, _ error) {
	for _, fl := range t {
		if fl.Family == f {
			out = append(out, fl)
		}
	}
	return out, nil
}
func (fake) Delete(context.Context, conntrack.Flow) error { return nil }

// TestWhich says for each flow whether it has to go.
func TestWhich(t *testing.T) {
	flow := func(s string) conntrack.Flow {
		f := strings.Fields(s)
		return conntrack.Flow{Protocol: 17, Src: netip.MustParseAddrPort("1.1.1.1:1000"), Dst: netip.MustParseAddrPort(f[0]), ReplySrc: netip.MustParseAddrPort(f[1])}
	}
	table := fake{
		flow("10.96.0.10:53 10.244.0.1:5353"),     // alive
		flow("10.96.0.10:53 10.244.0.9:5353"),     // stale
		flow("10.96.0.10:53 10.96.0.10:53"),       // from before there were endpoints: stale
		flow("198.51.100.1:53 10.244.0.9:5353"),   // stale, by an external IP
		flow("192.168.1.1:30053 10.244.0.9:5353"), // stale, by the node port
		flow("8.8.8.8:30053 8.8.8.8:30053"),       // not ours
		flow("10.96.0.99:53 10.244.0.9:5353"),     // another service
	}
	var gone []string
	c := &conntrack.Cleaner{Table: table, Deleted: func(f conntrack.Flow) { gone = append(gone, f.Dst.String()+" "+f.ReplySrc.String()) }}
	route := &netproxy.Route{
		Name: netproxy.PortName{Namespace: "ns", Name: "dns"}, Protocol: netproxy.UDP, Port: 53, NodePort: 30053,
		ClusterIP: netip.MustParseAddr("10.96.0.10"), ExternalIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
		Cluster: []netproxy.Destination{{Addr: netip.MustParseAddrPort("10.244.0.1:5353")}}, HasEndpoints: true,
	}
	if err := c.Sync(t.Context(), []netproxy.Change{{New: route}}); err != nil {
		t.Fatal(err)
	}
	want := "10.96.0.10:53 10.244.0.9:5353,10.96.0.10:53 10.96.0.10:53,198.51.100.1:53 10.244.0.9:5353,192.168.1.1:30053 10.244.0.9:5353"
	if got := strings.Join(gone, ","); got != want {
		t.Errorf("deleted %s\nwant %s", got, want)
	}
	gone = nil
	if n, err := c.Resync(t.Context()); n != 4 || err != nil || len(gone) != 4 {
		t.Errorf("a resync deleted %d (%v), want the same 4", n, err)
	}
	// The service goes: what lives goes too.
	gone = nil
	if err := c.Sync(t.Context(), []netproxy.Change{{Old: route}}); err != nil || len(gone) != 5 {
		t.Errorf("without the service %q were deleted (%v), want 5", gone, err)
	}
}
