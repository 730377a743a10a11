// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nftables_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/nftables"
)

// TestRepair changes the table behind the backend's back.
func TestRepair(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	b, tr := newBackend(t, nftables.Options{})
	sync := func() error {
		var err error
		h.Do(func() { err = b.Sync(context.Background(), tr.Changes()) })
		return err
	}
	resync := func() (n int) {
		t.Helper()
		h.Do(func() {
			var err error
			if n, err = b.Resync(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	if out, err := h.Command("nft", "add table ip foreign; add chain ip foreign c"); err != nil {
		t.Fatal(err, out)
	}
	set(t, tr, "web", 10, "10.244.0.1", "10.244.0.2")
	if err := sync(); err != nil {
		t.Fatal(err)
	}
	if n := resync(); n != 0 {
		t.Errorf("a resync of a fresh table repaired %d objects", n)
	}
	for _, damage := range []string{
		"delete element ip slipway services { 10.96.0.10 . tcp . 80 }",
		"add element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 7 : 10.9.9.9 . 99 }",
		"add rule ip slipway dispatch counter",
		"flush chain ip slipway internal",
		"delete table ip slipway",
	} {
		if out, err := h.Command("nft", damage); err != nil {
			t.Fatalf("%s: %v: %s", damage, err, out)
		}
		if n := resync(); n == 0 {
			t.Errorf("after %q nothing was repaired", damage)
		}
		if n := resync(); n != 0 {
			t.Errorf("after %q and a repair, %d more were repaired", damage, n)
		}
		out, _ := h.Command("nft", "list", "map", "ip", "slipway", "cluster-tcp")
		if !strings.Contains(out, "10.96.0.10 . tcp . 80 . 1 : 10.244.0.2 . 8080") || strings.Contains(out, "10.9.9.9") {
			t.Errorf("after %q and a repair: %s", damage, out)
		}
	}
	h.Do(func() {
		if err := b.Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if out, _ := h.Command("nft", "list", "tables"); strings.Contains(out, "slipway") || !strings.Contains(out, "foreign") {
		t.Errorf("after cleaning up: %s", out)
	}
}

// TestRefused uses an nft that refuses whatever mentions one service.
func TestRefused(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	program := t.TempDir() + "/nft"
	script := "#!/bin/sh\nin=$(cat)\ncase $in in *10.96.0.66*) echo 'Error: Could not process rule' >&2; exit 1;; esac\nprintf '%s\\n' \"$in\" | exec nft \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	b, tr := newBackend(t, nftables.Options{Program: program})
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		set(t, tr, name, 60+i, "10.244.0.1")
	}
	set(t, tr, "bad", 66, "10.244.0.2")
	var err error
	h.Do(func() { err = b.Sync(context.Background(), tr.Changes()) })
	se, ok := errors.AsType[*netproxy.ServiceError](err)
	if !ok || se.Service.Name != "bad" || !netproxy.OnlyServices(err) || !errors.Is(err, netproxy.ErrRefused) {
		t.Errorf("error = %v, want a ServiceError for bad alone", err)
	}
	out, _ := h.Command("nft", "list", "map", "ip", "slipway", "services")
	for i := range 5 {
		if want := fmt.Sprintf("10.96.0.%d ", 60+i); !strings.Contains(out, want) {
			t.Errorf("service %s is not in effect:\n%s", want, out)
		}
	}
}

func TestNoProgram(t *testing.T) {
	b, tr := newBackend(t, nftables.Options{Program: "/nonexistent/nft"})
	set(t, tr, "web", 10, "10.244.0.1")
	if err := b.Sync(t.Context(), tr.Changes()); !errors.Is(err, netproxy.ErrNotInstalled) {
		t.Errorf("error = %v, want ErrNotInstalled", err)
	}
}

func newBackend(t *testing.T, o nftables.Options) (*nftables.Backend, *netproxy.Tracker) {
	t.Helper()
	b, err := nftables.NewBackend(netproxy.Config{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return b, netproxy.NewTracker(netproxy.Node{Name: "n1"})
}

func set(t *testing.T, tr *netproxy.Tracker, name string, n int, endpoints ...string) {
	t.Helper()
	err := tr.SetService(netproxy.Service{
		Namespace: "shop", Name: name, ClusterIPs: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.96.0.%d", n))},
		Ports: []netproxy.ServicePort{{Port: 80}},
	})
	slice := netproxy.EndpointSlice{Namespace: "shop", Name: name + "-1", Service: name, Ports: []netproxy.EndpointPort{{Port: 8080}}}
	for _, e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, netproxy.Endpoint{Addr: netip.MustParseAddr(e), Node: "n1"})
	}
	if err := errors.Join(err, tr.SetEndpointSlice(slice)); err != nil {
		t.Fatal(err)
	}
}

// TestManyEndpoints gives one service 10,000 endpoints.
func TestManyEndpoints(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	b, tr := newBackend(t, nftables.Options{})
	var eps []string
	for i := range 10000 {
		eps = append(eps, netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}).String())
	}
	set(t, tr, "web", 10, eps...)
	var err error
	repaired := 0
	h.Do(func() {
		if err = b.Sync(context.Background(), tr.Changes()); err == nil {
			repaired, err = b.Resync(context.Background())
		}
	})
	if err != nil || repaired != 0 {
		t.Errorf("%d repaired (%v)", repaired, err)
	}
}

// TestLongNames uses the longest names there can be: longer than a comment.
func TestLongNames(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	b, tr := newBackend(t, nftables.Options{})
	label := func(c string) string { return strings.Repeat(c, 63) }
	err := errors.Join(
		tr.SetService(netproxy.Service{
			Namespace: label("n"), Name: label("s"), ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
			Ports: []netproxy.ServicePort{{Name: label("p"), Port: 80}},
		}),
		tr.SetEndpointSlice(netproxy.EndpointSlice{
			Namespace: label("n"), Name: "1", Service: label("s"), Ports: []netproxy.EndpointPort{{Name: label("p"), Port: 8080}},
			Endpoints: []netproxy.Endpoint{{Addr: netip.MustParseAddr("10.244.0.1")}},
		}))
	if err != nil {
		t.Fatal(err)
	}
	repaired := 0
	h.Do(func() {
		if err = b.Sync(context.Background(), tr.Changes()); err == nil {
			repaired, err = b.Resync(context.Background())
		}
	})
	if err != nil || repaired != 0 {
		t.Errorf("%d repaired (%v)", repaired, err)
	}
}
