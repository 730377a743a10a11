// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/runtimetest"
)

func TestConformance(t *testing.T) {
	options := fake.Options{
		Script: func(_ *runtime.PodSandboxConfig, c *runtime.ContainerConfig) fake.Behaviour {
			if c.Command[0] == "echo-server" {
				port, _ := strconv.Atoi(c.Command[1])
				return fake.Behaviour{Serve: map[int]func(net.Conn){
					port: func(conn net.Conn) { io.Copy(conn, conn); conn.Close() },
				}}
			}
			if c.Command[0] == "/no/such/program" {
				return fake.Behaviour{StartError: fmt.Errorf("%s: no such file or directory", c.Command[0])}
			}
			if c.Resources != nil && c.Resources.MemoryLimit == 16<<20 {
				return fake.Behaviour{OOM: true}
			}
			return fake.Program(append(c.Command, c.Args...))
		},
		Image: func(name string) (runtime.Image, error) {
			if name == "example.com/missing:1" {
				return runtime.Image{}, runtime.ErrNotFound
			}
			return runtime.Image{}, nil
		},
	}
	runtimetest.Run(t, runtimetest.Config{
		New:          func(t *testing.T) runtimetest.Runtime { return fake.New(options) },
		Image:        "example.com/base:1",
		MissingImage: "example.com/missing:1",
		Echo:         func(port int) []string { return []string{"echo-server", strconv.Itoa(port)} },
		Limits:       true,
		// The fake itself is the machine: an agent that restarts finds it as it was.
		Reconnect: func(_ *testing.T, old runtimetest.Runtime) runtimetest.Runtime { return old },
	})
}

func TestProgram(t *testing.T) {
	for _, tt := range []struct {
		command []string
		want    fake.Behaviour
	}{
		{[]string{"true"}, fake.Behaviour{Exits: true}},
		{[]string{"false"}, fake.Behaviour{Exits: true, ExitCode: 1}},
		{[]string{"nginx"}, fake.Behaviour{}},
		{[]string{"sleep", "1.5"}, fake.Behaviour{Exits: true, ExitAfter: 1500e6}},
		{[]string{"echo", "a", "b"}, fake.Behaviour{Exits: true, Stdout: "a b\n"}},
		{[]string{"sh", "-c", "echo a; echo b >&2; sleep 2; exit 3; echo c"}, fake.Behaviour{Exits: true, Stdout: "a\n", Stderr: "b\n", ExitAfter: 2e9, ExitCode: 3}},
		{[]string{"sh", "-c", "trap '' TERM; exec nginx"}, fake.Behaviour{IgnoreTerm: true}},
	} {
		if got := fake.Program(tt.command); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", tt.want) {
			t.Errorf("Program(%q) = %+v, want %+v", tt.command, got, tt.want)
		}
	}
}

func TestAddressesRunOut(t *testing.T) {
	rt := fake.New(fake.Options{Addresses: mustPrefix("10.0.0.0/30")})
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = rt.RunPodSandbox(t.Context(), &runtime.PodSandboxConfig{Metadata: runtime.PodSandboxMetadata{Name: "p", UID: fmt.Sprint(n)}})
	}
	if n != 4 || !errors.Is(err, runtime.ErrExhausted) {
		t.Errorf("sandbox %d: %v, want ErrExhausted at the fourth", n, err)
	}
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
