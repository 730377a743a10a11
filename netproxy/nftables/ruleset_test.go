// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nftables_test

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/nftables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestFeatures follows packets through the rules of each feature.
func TestFeatures(t *testing.T) {
	labtest.Features(t, func(c netproxy.Config, changes []netproxy.Change) (*trace.RuleSet, error) {
		rs, err := nftables.New(c)
		if err == nil {
			err = rs.Update(changes)
		}
		if err != nil {
			return nil, err
		}
		return trace.ParseNFT(rs.Text())
	})
}

func TestGolden(t *testing.T) {
	for _, f := range []netproxy.Family{netproxy.IPv4, netproxy.IPv6} {
		tr := netproxy.NewTracker(netproxy.Node{Name: "n1"})
		service := netproxy.Service{
			Namespace: "shop", Name: "web",
			ClusterIPs:     []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd96::10")},
			LoadBalancers:  []netproxy.LoadBalancer{{Addr: netip.MustParseAddr("203.0.113.5")}, {Addr: netip.MustParseAddr("2001:db8:1::5")}},
			SourceRanges:   []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("2001:db8:9::/48")},
			ExternalPolicy: netproxy.Local,
			Ports:          []netproxy.ServicePort{{Name: "http", Port: 80, NodePort: 30080}},
		}
		slice := netproxy.EndpointSlice{Namespace: "shop", Name: "web-1", Service: "web", Ports: []netproxy.EndpointPort{{Name: "http", Port: 8080}}}
		for i := range 3 {
			node := fmt.Sprintf("n%d", i+1)
			slice.Endpoints = append(slice.Endpoints,
				netproxy.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i), 11}), Node: node},
				netproxy.Endpoint{Addr: netip.AddrFrom16([16]byte{0xfd, 0x44, 3: byte(i), 15: 0x11}), Node: node})
		}
		sticky, stickySlice := service, slice
		sticky.Name, sticky.Affinity, sticky.LoadBalancers, sticky.SourceRanges = "sticky", time.Hour, nil, nil
		sticky.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.96.0.11"), netip.MustParseAddr("fd96::11")}
		sticky.Ports = []netproxy.ServicePort{{Name: "http", Port: 80}}
		stickySlice.Name, stickySlice.Service = "sticky-1", "sticky"
		if err := errors.Join(tr.SetService(service), tr.SetEndpointSlice(slice), tr.SetService(sticky), tr.SetEndpointSlice(stickySlice)); err != nil {
			t.Fatal(err)
		}
		pods := netip.MustParsePrefix("10.244.0.0/16")
		if f == netproxy.IPv6 {
			pods = netip.MustParsePrefix("fd44::/16")
		}
		rs, err := nftables.New(netproxy.Config{Family: f, PodCIDR: pods})
		if err != nil {
			t.Fatal(err)
		}
		if err := rs.Update(tr.Changes()); err != nil {
			t.Fatal(err)
		}
		got, file := rs.Text(), "testdata/"+f.String()+".nft"
		if *update {
			os.MkdirAll("testdata", 0o755)
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the text has changed; see it with -update and git diff", file)
		}
	}
}

// TestSpread expects the same probability for each of many endpoints.
func TestSpread(t *testing.T) {
	rs, err := nftables.New(netproxy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tr := netproxy.NewTracker(netproxy.Node{})
	var eps []string
	for i := range 10000 {
		eps = append(eps, netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}).String())
	}
	set(t, tr, "web", 10, eps...)
	if err := rs.Update(tr.Changes()); err != nil {
		t.Fatal(err)
	}
	rules, err := trace.ParseNFT(rs.Text())
	if err != nil {
		t.Fatal(err)
	}
	r := rules.Trace(trace.Packet{In: "eth0", Src: netip.MustParseAddrPort("192.0.2.7:4000"), Dst: netip.MustParseAddrPort("10.96.0.10:80")})
	if len(r.Spread()) != len(eps) {
		t.Errorf("%d destinations, want %d", len(r.Spread()), len(eps))
	}
	for to, p := range r.Spread() {
		if math.Abs(p*float64(len(eps))-1) > 1e-9 {
			t.Errorf("%v has the probability %v", to, p)
		}
	}
}

// TestFewElements expects that an endpoint in the middle goes without the
// others' moving, but for one.
func TestFewElements(t *testing.T) {
	rs, err := nftables.New(netproxy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tr := netproxy.NewTracker(netproxy.Node{})
	set(t, tr, "web", 10, "10.244.0.1", "10.244.0.2", "10.244.0.3", "10.244.0.4")
	set(t, tr, "other", 11, "10.244.0.1", "10.244.0.2", "10.244.0.3")
	if err := rs.Update(tr.Changes()); err != nil {
		t.Fatal(err)
	}
	rs.Diff()
	set(t, tr, "web", 10, "10.244.0.1", "10.244.0.3", "10.244.0.4")
	if err := rs.Update(tr.Changes()); err != nil {
		t.Fatal(err)
	}
	prepare, change := rs.Diff()
	want := strings.Join([]string{
		"delete element ip slipway cluster-picks { 10.96.0.10 . tcp . 80 }",
		"delete element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 1, 10.96.0.10 . tcp . 80 . 3 }",
		"add element ip slipway cluster-picks { 10.96.0.10 . tcp . 80 : goto pick-3 }",
		"add element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 1 : 10.244.0.4 . 8080 }", "",
	}, "\n")
	if string(change) != want || len(prepare) > 0 {
		t.Errorf("prepare %q, change\n%swant\n%s", prepare, change, want)
	}
}
