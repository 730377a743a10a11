// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nftables_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/nftables"
)

// TestRepair changes the table behind the backend's back. What is wrong is put
// right, and nothing else: a client keeps its affinity.
func TestRepair(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	b, tr := newBackend(t, nftables.Options{})
	nft := func(command string) string {
		t.Helper()
		out, err := h.Command("nft", command)
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return out
	}
	nft("add table ip foreign; add chain ip foreign c")
	set(t, tr, "web", 10, "10.244.0.1", "10.244.0.2")
	set(t, tr, "three", 11, "10.244.0.1", "10.244.0.2", "10.244.0.3")
	setSticky(t, tr, time.Hour)
	sync(t, h, b, tr.Changes())
	if n := resync(t, h, b); n != 0 {
		t.Errorf("a resync of a fresh table repaired %d objects", n)
	}
	clients := clientSet(t, nft("list table ip slipway"))
	nft("add element ip slipway " + clients + " { 192.0.2.1 }")
	fresh := nft("list table ip slipway")
	for _, c := range []struct {
		damage string
		want   int
	}{
		{"delete element ip slipway services { 10.96.0.10 . tcp . 80 }", 1},
		{"add element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 7 : 10.9.9.9 . 99 }", 1},
		{"delete element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 0 }; add element ip slipway cluster-tcp { 10.96.0.10 . tcp . 80 . 0 : 10.9.9.9 . 99 }", 1},
		{"delete element ip slipway hairpins { 10.244.0.1 . 10.244.0.1 }", 1},
		{"add rule ip slipway dispatch counter drop", 1},
		{"flush chain ip slipway internal", 1},
		{"flush chain ip slipway pick-2; flush chain ip slipway pick-3", 2},
		{"insert rule ip slipway forward ip saddr 192.0.2.1 tcp flags syn drop", 1}, // the tracer can't read it
		{"add chain ip slipway extra; add rule ip slipway extra drop; add rule ip slipway dispatch goto extra", 2},
		{"add map ip slipway detour { type ipv4_addr : verdict; }; add element ip slipway detour { 10.96.0.10 : drop }; add rule ip slipway dispatch ip daddr vmap @detour", 2},
		{"add table ip slipway { flags dormant; }", 1},
		{"add counter ip slipway visits", 1},
		{"flush chain ip slipway input; delete chain ip slipway input", 1},
		{"flush chain ip slipway input; delete chain ip slipway input; add chain ip slipway input { type filter hook input priority 77; }", 1},
		{"flush chain ip slipway guarded; flush chain ip slipway guarded-local; delete set ip slipway allowed", 3},
	} {
		nft(c.damage)
		if n := resync(t, h, b); n != c.want {
			t.Errorf("after %q %d objects were repaired, want %d", c.damage, n, c.want)
		}
		if n := resync(t, h, b); n != 0 {
			t.Errorf("after %q and a repair, %d more were repaired", c.damage, n)
		}
		if now := nft("list table ip slipway"); sortedLines(now) != sortedLines(fresh) {
			t.Errorf("after %q and a repair:\n%s\nwant\n%s", c.damage, now, fresh)
		}
	}
	// A map of another type can't be put right in its place, so the table is
	// made anew; and so it is when it has gone.
	for _, damage := range []string{
		"flush chain ip slipway dispatch; delete map ip slipway node-ports; add map ip slipway node-ports { type ipv4_addr : verdict; }",
		"delete table ip slipway",
	} {
		nft(damage)
		if n := resync(t, h, b); n == 0 {
			t.Errorf("after %q nothing was repaired", damage)
		}
		if n := resync(t, h, b); n != 0 {
			t.Errorf("after %q and a repair, %d more were repaired", damage, n)
		}
	}
	h.Do(func() {
		if err := b.Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if out := nft("list tables"); strings.Contains(out, "slipway") || !strings.Contains(out, "foreign") {
		t.Errorf("after cleaning up: %s", out)
	}
}

// TestAdopt starts a second backend over the table of a first one: it brings the
// table to what it knows, and clients keep their affinity; unless the time for
// which they have it has changed.
func TestAdopt(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	first, tr := newBackend(t, nftables.Options{})
	for i := range 20 {
		set(t, tr, fmt.Sprintf("s%d", i), 100+i, "10.244.0.1", "10.244.0.2", "10.244.0.3")
	}
	setSticky(t, tr, time.Hour)
	sync(t, h, first, tr.Changes())
	list := func() string {
		out, err := h.Command("nft", "list table ip slipway")
		if err != nil {
			t.Fatal(err, out)
		}
		return out
	}
	clients := clientSet(t, list())
	if out, err := h.Command("nft", "add element ip slipway "+clients+" { 192.0.2.1 }"); err != nil {
		t.Fatal(err, out)
	}
	second, tr := newBackend(t, nftables.Options{})
	set(t, tr, "s7", 107, "10.244.0.9")
	setSticky(t, tr, time.Hour)
	sync(t, h, second, tr.Changes())
	now := list()
	if !strings.Contains(now, "192.0.2.1") || !strings.Contains(now, "10.244.0.9 . 8080") || strings.Contains(now, "10.96.0.100") || strings.Contains(now, "pick-3") {
		t.Errorf("the table is now\n%s", now)
	}
	if n := resync(t, h, second); n != 0 {
		t.Errorf("%d objects were repaired in a table just adopted", n)
	}
	third, tr := newBackend(t, nftables.Options{})
	setSticky(t, tr, 24*time.Hour)
	sync(t, h, third, tr.Changes())
	if now := list(); strings.Contains(now, "192.0.2.1") || !strings.Contains(now, "timeout 1d\n") {
		t.Errorf("after the time for affinity has changed:\n%s", now)
	}
	if n := resync(t, h, third); n != 0 {
		t.Errorf("%d objects were repaired in a table just adopted", n)
	}
}

// TestOtherWords uses an nft that shows a chain in words that the tracer can't
// read, as a later version may. The chain is written once more; after that it is
// right as long as nft shows the same.
func TestOtherWords(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	program := t.TempDir() + "/nft"
	script := "#!/bin/sh\nnft \"$@\" | sed 's/ct state invalid drop/discard if ct state is invalid/'\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	b, tr := newBackend(t, nftables.Options{Program: program})
	set(t, tr, "web", 10, "10.244.0.1")
	if out, err := h.Command("nft", "add table ip slipway"); err != nil { // else listing it fails, which sed hides
		t.Fatal(err, out)
	}
	sync(t, h, b, tr.Changes())
	for i, want := range []int{1, 0, 0} {
		if n := resync(t, h, b); n != want {
			t.Errorf("resync %d repaired %d objects, want %d", i, n, want)
		}
	}
	if out, err := h.Command("nft", "insert rule ip slipway forward drop"); err != nil {
		t.Fatal(err, out)
	}
	for i, want := range []int{1, 0} {
		if n := resync(t, h, b); n != want {
			t.Errorf("after a change, resync %d repaired %d objects, want %d", i, n, want)
		}
	}
}

func sync(t *testing.T, h *lab.Host, b *nftables.Backend, changes []netproxy.Change) {
	t.Helper()
	var err error
	h.Do(func() { err = b.Sync(context.Background(), changes) })
	if err != nil {
		t.Fatal(err)
	}
}

func resync(t *testing.T, h *lab.Host, b *nftables.Backend) (n int) {
	t.Helper()
	var err error
	h.Do(func() { n, err = b.Resync(context.Background()) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// setSticky sets a service with affinity and one endpoint.
func setSticky(t *testing.T, tr *netproxy.Tracker, affinity time.Duration) {
	t.Helper()
	set(t, tr, "sticky", 50, "10.244.0.5")
	err := tr.SetService(netproxy.Service{
		Namespace: "shop", Name: "sticky", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.50")},
		Ports: []netproxy.ServicePort{{Port: 80}}, Affinity: affinity,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// clientSet returns the name of the first set of clients in a listing.
func clientSet(t *testing.T, listed string) string {
	t.Helper()
	name := regexp.MustCompile(`clients-\w+`).FindString(listed)
	if name == "" {
		t.Fatalf("no set of clients in\n%s", listed)
	}
	return name
}

// unstable is what differs between two listings of the same table: the time that
// an element has left, and the name of a port in a lookup (see Rule.Same in
// package trace).
var unstable = regexp.MustCompile(` expires \S+|\b(tcp|udp|sctp|th) dport`)

// sortedLines makes two listings comparable whose objects were made in another
// order.
func sortedLines(text string) string {
	text = unstable.ReplaceAllString(text, "")
	words := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ',' })
	for i := range words {
		words[i] = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(words[i]), "elements = { "), " }")
	}
	slices.Sort(words)
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), "\n")
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

// TestNoListing expects that a change is one call of nft, which lists nothing.
func TestNoListing(t *testing.T) {
	lab.Need(t, "nft")
	h := lab.Single(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/nft", []byte("#!/bin/sh\necho \"$@\" >> "+dir+"/calls\nexec nft \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b, tr := newBackend(t, nftables.Options{Program: dir + "/nft"})
	calls := func() string {
		out, _ := os.ReadFile(dir + "/calls") // none: no call
		os.Remove(dir + "/calls")
		return string(out)
	}
	set(t, tr, "web", 10, "10.244.0.1", "10.244.0.2")
	sync(t, h, b, tr.Changes())
	if got, want := calls(), "-s list table ip slipway\n-f -\n"; got != want {
		t.Errorf("the first sync calls nft with\n%swant\n%s", got, want)
	}
	set(t, tr, "web", 10, "10.244.0.1", "10.244.0.3")
	sync(t, h, b, tr.Changes())
	if got, want := calls(), "-f -\n"; got != want {
		t.Errorf("a change calls nft with\n%swant\n%s", got, want)
	}
	sync(t, h, b, nil)
	if got := calls(); got != "" {
		t.Errorf("no change calls nft with\n%s", got)
	}
}

// TestNoPermission runs nft as nobody.
func TestNoPermission(t *testing.T) {
	lab.Need(t, "nft", "setpriv")
	program := t.TempDir() + "/nft"
	script := "#!/bin/sh\nexec setpriv --reuid=65534 --clear-groups --inh-caps=-all --bounding-set=-all nft \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	b, tr := newBackend(t, nftables.Options{Program: program})
	set(t, tr, "web", 10, "10.244.0.1")
	if err := b.Sync(t.Context(), tr.Changes()); !errors.Is(err, netproxy.ErrPermission) {
		t.Errorf("error = %v, want ErrPermission", err)
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
