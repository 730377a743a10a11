// SPDX-License-Identifier: Apache-2.0

//go:build linux

package iptables_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab"
	"github.com/slipway-dev/slipway/netproxy/iptables"
)

func eachVariant(t *testing.T, f func(t *testing.T, variant string, h *lab.Host)) {
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			lab.Need(t, "iptables-"+variant+"-restore", "ip6tables-"+variant+"-restore")
			f(t, variant, lab.Single(t))
		})
	}
}

func newBackend(t *testing.T, o iptables.Options) (*iptables.Backend, *netproxy.Tracker) {
	t.Helper()
	b, err := iptables.NewBackend(netproxy.Config{}, o)
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

// TestRepair changes rules behind the backend's back, among foreign ones.
func TestRepair(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant string, h *lab.Host) {
		ipt := "iptables-" + variant
		run := func(args string) {
			t.Helper()
			if out, err := h.Command(ipt, strings.Fields("-w 30 "+args)...); err != nil {
				t.Fatalf("%s %s: %v: %s", ipt, args, err, out)
			}
		}
		run("-t nat -N FOREIGN")
		run("-t nat -A FOREIGN -s 1.2.3.4 -j RETURN")
		run("-t nat -A PREROUTING -j FOREIGN")
		run("-t filter -A INPUT -s 1.2.3.4 -j DROP")
		foreign, err := h.Command(ipt + "-save")
		if err != nil {
			t.Fatal(err)
		}
		b, tr := newBackend(t, iptables.Options{Variant: variant, LockSeconds: 30})
		set(t, tr, "web", 10, "10.244.0.1", "10.244.0.2")
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
		h.Do(func() {
			if err := b.Sync(context.Background(), tr.Changes()); err != nil {
				t.Error(err)
			}
		})
		if n := resync(); n != 0 {
			t.Errorf("a resync of fresh rules repaired %d chains", n)
		}
		ours, err := h.Command(ipt + "-save")
		if err != nil {
			t.Fatal(err)
		}
		svc := ours[strings.Index(ours, ":SLIPWAY-SVC-")+1:][:25]
		for _, damage := range []string{
			"-t nat -F SLIPWAY-SERVICES",
			"-t nat -D " + svc + " 1",
			"-t nat -A " + svc + " -j RETURN",
			"-t nat -D PREROUTING -j SLIPWAY-SERVICES",
			"-t nat -I OUTPUT -p tcp -j SLIPWAY-SERVICES",
			"-t filter -F SLIPWAY-FORWARD",
			"-t nat -N SLIPWAY-LEFTOVER",
		} {
			run(damage)
			if n := resync(); n != 1 {
				t.Errorf("after %q, %d chains were repaired, want 1", damage, n)
			}
			if n := resync(); n != 0 {
				t.Errorf("after %q and a repair, %d more were repaired", damage, n)
			}
			if now, _ := h.Command(ipt + "-save"); rulesOf(now) != rulesOf(ours) {
				t.Errorf("after %q and a repair:\n%s\nwant:\n%s", damage, now, ours)
			}
		}
		h.Do(func() {
			if err := b.Cleanup(context.Background()); err != nil {
				t.Error(err)
			}
		})
		if now, _ := h.Command(ipt + "-save"); rulesOf(now) != rulesOf(foreign) {
			t.Errorf("after cleaning up:\n%s\nwant:\n%s", now, foreign)
		}
	})
}

// rulesOf returns the rules of iptables-save, sorted by nothing but without
// counters, dates and the order of chains.
func rulesOf(saved string) string {
	var out []string
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, "-A") {
			out = append(out, line)
		}
	}
	byChain := map[string]string{}
	for _, line := range out {
		chain := strings.Fields(line)[1]
		byChain[chain] += line
	}
	return fmt.Sprint(byChain)
}

// TestRefused uses an iptables-restore that refuses one service's address, with
// and without saying at which line.
func TestRefused(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant string, h *lab.Host) {
		for _, says := range []string{"iptables-restore: line $line failed", "iptables-restore: something is wrong"} {
			program := t.TempDir() + "/restore"
			script := "#!/bin/sh\nin=$(cat)\nline=$(printf '%s\\n' \"$in\" | grep -n 'DNAT.*10.244.0.66' | head -1 | cut -d: -f1)\n" +
				"if [ -n \"$line\" ]; then echo \"" + says + "\" >&2; exit 1; fi\nprintf '%s\\n' \"$in\" | exec iptables-" + variant + "-restore \"$@\"\n"
			if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			b, tr := newBackend(t, iptables.Options{Variant: variant, RestoreProgram: program, LockSeconds: 30})
			for i, name := range []string{"a", "b", "c", "d", "e"} {
				set(t, tr, name, 60+i, "10.244.0.1")
			}
			set(t, tr, "bad", 70, "10.244.0.66")
			var err error
			h.Do(func() { err = b.Sync(context.Background(), tr.Changes()) })
			se, ok := errors.AsType[*netproxy.ServiceError](err)
			if !ok || se.Service.Name != "bad" || !netproxy.OnlyServices(err) {
				t.Errorf("%s: error = %v, want a ServiceError for bad alone", says, err)
			}
			if ok && strings.Contains(says, "$line") && !strings.Contains(se.Rule, "10.244.0.66") {
				t.Errorf("the error does not name the rule: %v", err)
			}
			saved, _ := h.Command("iptables-" + variant + "-save")
			for i := range 5 {
				if want := fmt.Sprintf("-d 10.96.0.%d/32", 60+i); !strings.Contains(saved, want) {
					t.Errorf("%s: service %s is not in effect:\n%s", says, want, saved)
				}
			}
			// Put right, it goes in.
			set(t, tr, "bad", 70, "10.244.0.67")
			h.Do(func() { err = b.Sync(context.Background(), tr.Changes()) })
			if saved, _ := h.Command("iptables-" + variant + "-save"); err != nil || !strings.Contains(saved, "10.244.0.67") {
				t.Errorf("after the service was put right: %v\n%s", err, saved)
			}
			h.Do(func() { err = b.Cleanup(context.Background()) })
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHalfRefused refuses a rule in the second table, when the first one has been
// committed. Nothing of the service may stay in either.
func TestHalfRefused(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant string, h *lab.Host) {
		program := t.TempDir() + "/restore"
		script := `#!/bin/sh
in=$(cat)
line=$(printf '%s\n' "$in" | grep -n -e '-d 198.51.100.9/32 .* -j DROP' | head -1 | cut -d: -f1)
if [ -n "$line" ]; then
	printf '%s\n' "$in" | sed '/^COMMIT/q' | iptables-` + variant + `-restore "$@" || exit
	echo "iptables-restore: line $line failed" >&2
	exit 1
fi
printf '%s\n' "$in" | exec iptables-` + variant + `-restore "$@"
`
		if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		b, tr := newBackend(t, iptables.Options{Variant: variant, RestoreProgram: program, LockSeconds: 30})
		set(t, tr, "web", 30, "10.244.0.1")
		crowd{endpoints: []int{1, 2}}.set(t, tr) // on another node
		err := tr.SetService(netproxy.Service{
			Namespace: "shop", Name: "crowd", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.20")},
			ExternalIPs: []netip.Addr{netip.MustParseAddr("198.51.100.9")}, ExternalPolicy: netproxy.Local,
			Ports: []netproxy.ServicePort{{Port: 80}},
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Do(func() { err = b.Sync(context.Background(), tr.Changes()) })
		se, ok := errors.AsType[*netproxy.ServiceError](err)
		if !ok || se.Service.Name != "crowd" || !netproxy.OnlyServices(err) || !strings.Contains(se.Rule, "198.51.100.9") {
			t.Errorf("error = %v, want a ServiceError for crowd alone that names the rule", err)
		}
		saved, _ := h.Command("iptables-" + variant + "-save")
		if !strings.Contains(saved, "10.244.0.1:8080") || strings.Contains(saved, "10.96.0.20") || strings.Contains(saved, "198.51.100.9") || strings.Contains(saved, "10.0.0.1:8080") {
			t.Errorf("the rules are\n%s", saved)
		}
	})
}

// TestNoSCTP uses an iptables-restore that has no match for SCTP, as on a kernel
// without it. The service that needs it is left out, with an error that says so;
// that includes the rule that leads to it, which is in a chain with others.
func TestNoSCTP(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant string, h *lab.Host) {
		program := t.TempDir() + "/restore"
		script := `#!/bin/sh
in=$(cat)
line=$(printf '%s\n' "$in" | grep -n -e '-m sctp' | head -1 | cut -d: -f1)
if [ -n "$line" ]; then
	printf "iptables-restore: Couldn't load match \140sctp':No such file or directory\n\nError occurred at line: %s\n" $line >&2
	exit 2
fi
printf '%s\n' "$in" | exec iptables-` + variant + `-restore "$@"
`
		if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		b, tr := newBackend(t, iptables.Options{Variant: variant, RestoreProgram: program, LockSeconds: 30})
		set(t, tr, "web", 30, "10.244.0.1")
		crowd{endpoints: []int{1, 2}, protocol: netproxy.SCTP}.set(t, tr)
		empty := crowd{protocol: netproxy.SCTP}
		var err error
		for _, want := range []string{"with endpoints", "without endpoints"} {
			h.Do(func() { err = b.Sync(context.Background(), tr.Changes()) })
			se, ok := errors.AsType[*netproxy.ServiceError](err)
			if !ok || se.Service.Name != "crowd" || !netproxy.OnlyServices(err) || !strings.Contains(err.Error(), "sctp") {
				t.Errorf("%s: error = %v, want a ServiceError for crowd alone that names sctp", want, err)
			}
			saved, _ := h.Command("iptables-" + variant + "-save")
			if !strings.Contains(saved, "10.244.0.1:8080") || strings.Contains(saved, "sctp") {
				t.Errorf("%s: the rules are\n%s", want, saved)
			}
			empty.set(t, tr)
		}
	})
}

// TestLocked holds the lock that iptables-legacy takes.
func TestLocked(t *testing.T) {
	lab.Need(t, "iptables-legacy-restore")
	h := lab.Single(t)
	file := t.TempDir() + "/lock"
	t.Setenv("XTABLES_LOCKFILE", file)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	b, tr := newBackend(t, iptables.Options{Variant: "legacy", LockSeconds: 1})
	set(t, tr, "web", 10, "10.244.0.1")
	changes := tr.Changes()
	h.Do(func() { err = b.Sync(context.Background(), changes) })
	if !errors.Is(err, netproxy.ErrLocked) {
		t.Errorf("with the lock held: %v, want ErrLocked", err)
	}
	syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	h.Do(func() { err = b.Sync(context.Background(), nil) })
	if saved, _ := h.Command("iptables-legacy-save"); err != nil || !strings.Contains(saved, "10.244.0.1:8080") {
		t.Errorf("after the lock was free: %v\n%s", err, saved)
	}
}

func TestNoProgram(t *testing.T) {
	b, tr := newBackend(t, iptables.Options{SaveProgram: "/nonexistent/iptables-save"})
	set(t, tr, "web", 10, "10.244.0.1")
	if err := b.Sync(t.Context(), tr.Changes()); !errors.Is(err, netproxy.ErrNotInstalled) {
		t.Errorf("error = %v, want ErrNotInstalled", err)
	}
}

// TestNoPermission runs iptables as nobody.
func TestNoPermission(t *testing.T) {
	lab.Need(t, "iptables-nft-save", "setpriv")
	program := t.TempDir() + "/save"
	os.Chmod(t.TempDir(), 0o755)
	script := "#!/bin/sh\nexec setpriv --reuid=65534 --clear-groups --inh-caps=-all --bounding-set=-all iptables-legacy-save \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	b, _ := newBackend(t, iptables.Options{SaveProgram: program})
	if err := b.Sync(t.Context(), nil); !errors.Is(err, netproxy.ErrPermission) {
		t.Errorf("error = %v, want ErrPermission", err)
	}
}

// TestManyEndpoints gives one service 10,000 endpoints, and changes one.
func TestManyEndpoints(t *testing.T) {
	lab.Need(t, "iptables-legacy-restore")
	h := lab.Single(t)
	b, tr := newBackend(t, iptables.Options{Variant: "legacy", LockSeconds: 30})
	var eps []string
	for i := range 10000 {
		eps = append(eps, netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}).String())
	}
	for _, first := range []string{eps[0], "10.245.0.1"} {
		eps[0] = first
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
}

// TestKernelSpread sends packets to a service with 100 endpoints, and expects that
// the kernel's counters are as a fair choice would have them.
func TestKernelSpread(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant string, h *lab.Host) {
		const endpoints, packets = 100, 3000
		h.IP("route add 10.0.0.0/8 dev lo")
		b, tr := newBackend(t, iptables.Options{Variant: variant, LockSeconds: 30})
		crowd{endpoints: spread(rand.New(rand.NewPCG(1, 1)), endpoints), protocol: netproxy.UDP}.set(t, tr)
		var err error
		h.Do(func() { err = b.Sync(context.Background(), tr.Changes()) })
		if err != nil {
			t.Fatal(err)
		}
		for i := range packets {
			src := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20000+i))
			if err := h.SendUDP(src, netip.MustParseAddrPort("10.96.0.10:80")); err != nil {
				t.Fatal(err)
			}
		}
		saved, err := h.Command("iptables-"+variant+"-save", "-c", "-t", "nat")
		if err != nil {
			t.Fatal(err, saved)
		}
		sum, square, rules := 0, 0.0, 0
		for _, m := range regexp.MustCompile(`(?m)^\[(\d+):\d+\] .* -j DNAT`).FindAllStringSubmatch(saved, -1) {
			n, _ := strconv.Atoi(m[1])
			rules++
			sum += n
			expected := float64(packets) / endpoints
			square += (float64(n) - expected) * (float64(n) - expected) / expected
		}
		t.Logf("%d packets, chi square %.1f", sum, square)
		// With 99 degrees of freedom, a fair choice exceeds 200 once in 100 million times.
		if rules != endpoints || sum != packets || square > 200 {
			t.Errorf("%d rules chose for %d packets, chi square %.1f; want %d, %d, at most 200", rules, sum, square, endpoints, packets)
		}
	})
}

// TestLongNames uses the longest names there can be: longer than a comment.
func TestLongNames(t *testing.T) {
	lab.Need(t, "iptables-legacy-restore")
	h := lab.Single(t)
	b, tr := newBackend(t, iptables.Options{Variant: "legacy", LockSeconds: 30})
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
