// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package lab builds a small network of real Linux network namespaces for
// tests: a client, two nodes and three pods, joined by a switch.
//
//	client 192.168.50.2 ----- switch ----- node1 192.168.50.11 -- pods 10.244.1.11, 10.244.1.12
//	       fd50::2               |               fd50::11              fd44:1::11,  fd44:1::12
//	                             +-------- node2 192.168.50.12 -- pod  10.244.2.11
//	                                             fd50::12              fd44:2::11
//
// Every pod answers on port 8080, TCP, UDP and SCTP, with its name and the address
// that the request came from. Everything a lab makes is removed when the test
// ends.
package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Lab is a network. Its hosts are there until the test ends.
type Lab struct {
	Client, Node1, Node2 *Host
	Pod1, Pod2, Pod3     *Host // Pod3 is on Node2

	t      testing.TB
	prefix string
}

// Host is a network namespace.
type Host struct {
	Name   string
	V4, V6 netip.Addr
	ns     *os.File
	lab    *Lab
}

// Need skips the test unless it runs as root with the programs installed; in CI
// it fails instead, so that nothing is skipped there unnoticed.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	refuse := t.Skipf
	if os.Getenv("CI") == "true" {
		refuse = t.Fatalf
	}
	if os.Geteuid() != 0 {
		refuse("this test makes network namespaces, which needs root")
	}
	for _, p := range append(programs, "ip") {
		if _, err := exec.LookPath(p); err != nil {
			refuse("this test needs the program %s: %v", p, err)
		}
	}
}

var serial atomic.Int32

// Single makes one namespace with nothing but a loopback interface.
func Single(t testing.TB) *Host {
	l := &Lab{t: t, prefix: fmt.Sprintf("slip%d-%d-", os.Getpid(), serial.Add(1))}
	return l.host("one", "", "")
}

// New makes a lab. Call Need first.
func New(t testing.TB) *Lab {
	t.Helper()
	l := &Lab{t: t, prefix: fmt.Sprintf("slip%d-%d-", os.Getpid(), serial.Add(1))}
	sw := l.host("switch", "", "")
	l.Client = l.host("client", "192.168.50.2", "fd50::2")
	l.Node1 = l.host("node1", "192.168.50.11", "fd50::11")
	l.Node2 = l.host("node2", "192.168.50.12", "fd50::12")
	l.Pod1 = l.host("pod1", "10.244.1.11", "fd44:1::11")
	l.Pod2 = l.host("pod2", "10.244.1.12", "fd44:1::12")
	l.Pod3 = l.host("pod3", "10.244.2.11", "fd44:2::11")

	sw.IP("link add br0 type bridge mcast_snooping 0", "link set br0 up")
	for _, h := range []*Host{l.Client, l.Node1, l.Node2} {
		l.cable(sw, h, "br0", "eth0")
	}
	l.node(l.Node1, 1, l.Pod1, l.Pod2)
	l.node(l.Node2, 2, l.Pod3)
	l.Node1.IP("route add 10.244.2.0/24 via 192.168.50.12", "-6 route add fd44:2::/64 via fd50::12")
	l.Node2.IP("route add 10.244.1.0/24 via 192.168.50.11", "-6 route add fd44:1::/64 via fd50::11")
	// The client sends everything that is not next to it by node1.
	l.Client.IP("route add default via 192.168.50.11", "-6 route add default via fd50::11")
	for _, h := range []*Host{l.Pod1, l.Pod2, l.Pod3} {
		h.serve()
	}
	return l
}

// node sets up a node with its bridge and pods.
func (l *Lab) node(n *Host, number int, pods ...*Host) {
	v4, v6 := fmt.Sprintf("10.244.%d.1", number), fmt.Sprintf("fd44:%d::1", number)
	n.IP("link add cbr0 type bridge mcast_snooping 0",
		"addr add "+v4+"/24 dev cbr0",
		"addr add "+v6+"/64 dev cbr0 nodad",
		"link set cbr0 up",
		// Routes for the service ranges, so that the node's own programs get as
		// far as the OUTPUT chain.
		"route add 10.96.0.0/12 dev cbr0",
		"-6 route add fd96::/64 dev cbr0")
	n.sysctl("net/ipv4/ip_forward", "1")
	n.sysctl("net/ipv6/conf/all/forwarding", "1")
	n.sysctl("net/ipv4/conf/all/route_localnet", "1")
	// Replies between pods of one bridge must pass connection tracking.
	n.sysctl("net/bridge/bridge-nf-call-iptables", "1")
	n.sysctl("net/bridge/bridge-nf-call-ip6tables", "1")
	for _, p := range pods {
		l.cable(n, p, "cbr0", "eth0")
		p.IP("route add default via "+v4, "-6 route add default via "+v6)
		// A pod may be its own endpoint: the bridge must send out where it received.
		n.run("bridge", "link", "set", "dev", "v"+p.Name, "hairpin", "on")
	}
}

// cable joins the host's dev to the bridge of the other side.
func (l *Lab) cable(side, h *Host, bridge, dev string) {
	port := "v" + h.Name
	l.ip("link", "add", port, "netns", l.prefix+side.Name, "type", "veth", "peer", "name", dev, "netns", l.prefix+h.Name)
	side.IP("link set "+port+" master "+bridge, "link set "+port+" up")
	h.IP(fmt.Sprintf("addr add %v/24 dev %s", h.V4, dev), fmt.Sprintf("addr add %v/64 dev %s nodad", h.V6, dev), "link set "+dev+" up")
}

func (l *Lab) host(name, v4, v6 string) *Host {
	l.t.Helper()
	full := l.prefix + name
	l.ip("netns", "add", full)
	l.t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", full).CombinedOutput(); err != nil {
			l.t.Errorf("ip netns del %s: %v: %s", full, err, out)
		}
	})
	ns, err := os.Open("/run/netns/" + full)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { ns.Close() })
	h := &Host{Name: name, ns: ns, lab: l}
	if v4 != "" {
		h.V4, h.V6 = netip.MustParseAddr(v4), netip.MustParseAddr(v6)
	}
	h.sysctl("net/ipv6/conf/all/accept_dad", "0")
	h.sysctl("net/ipv6/conf/default/accept_dad", "0")
	h.IP("link set lo up")
	return h
}

func (l *Lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// IP runs ip commands in the host's namespace.
func (h *Host) IP(commands ...string) {
	h.lab.t.Helper()
	for _, c := range commands {
		h.run("ip", strings.Fields(c)...)
	}
}

// AddAddr gives the host further addresses, as "ip addr add" takes them.
func (h *Host) AddAddr(addrs ...string) {
	h.lab.t.Helper()
	for _, a := range addrs {
		h.IP("addr add " + a + " dev lo")
	}
}

func (h *Host) run(name string, args ...string) {
	h.lab.t.Helper()
	if out, err := h.Command(name, args...); err != nil {
		h.lab.t.Fatalf("%s: %s %s: %v: %s", h.Name, name, strings.Join(args, " "), err, out)
	}
}

// Command runs a program in the host's namespace and returns what it printed.
func (h *Host) Command(name string, args ...string) (string, error) {
	var out []byte
	var err error
	h.Do(func() { out, err = exec.Command(name, args...).CombinedOutput() })
	return string(out), err
}

// Pipe is Command with an input.
func (h *Host) Pipe(input, name string, args ...string) (string, error) {
	var out []byte
	var err error
	h.Do(func() {
		c := exec.Command(name, args...)
		c.Stdin = strings.NewReader(input)
		out, err = c.CombinedOutput()
	})
	return string(out), err
}

func (h *Host) sysctl(name, value string) {
	h.lab.t.Helper()
	var err error
	h.Do(func() { err = os.WriteFile("/proc/sys/"+name, []byte(value), 0o644) })
	if err != nil {
		h.lab.t.Fatalf("%s: sysctl: %v", h.Name, err)
	}
}

// Do runs f in the host's network namespace: sockets that f makes, and programs
// that it starts, belong to the host. f must not call t.Fatal.
func (h *Host) Do(f func()) {
	done := make(chan error)
	go func() {
		var err error
		defer func() { done <- err }()
		// The thread is not unlocked, so it ends with the goroutine and never
		// runs anything else in this namespace.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(sysSetns, h.ns.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
			err = errno
			return
		}
		f()
	}()
	if err := <-done; err != nil {
		panic(fmt.Sprintf("lab: setns %s: %v", h.Name, err))
	}
}
