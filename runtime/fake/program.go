// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// Behaviour is what a container does. Zero runs until it is stopped, and exits at
// once with 143 when it is.
type Behaviour struct {
	StartError error // StartContainer fails with it
	// Exits, or any of the three below, makes the container exit after ExitAfter.
	Exits     bool
	ExitAfter time.Duration
	ExitCode  int
	OOM       bool   // the exit is by the OOM killer
	Message   string // what the container leaves as its termination message
	// IgnoreTerm lets nothing but SIGKILL end it. Otherwise it exits StopAfter
	// SIGTERM with StopCode; StopClean makes a StopCode of 0 mean 0, not 143.
	IgnoreTerm bool
	StopAfter  time.Duration
	StopCode   int
	StopClean  bool
	// Stdout and Stderr are written to the log at the start.
	Stdout, Stderr string
	// Exec answers commands in the container; nil: [Program] does.
	Exec func(command []string, stdin string) runtime.ExecResult
	// Serve answers connections by port, and owns them; other ports refuse.
	Serve map[int]func(net.Conn)
	// Usage is what stats say, nil: all zero. CPU is per second of life.
	Usage *runtime.Usage
}

func (b *Behaviour) exits() bool {
	return b.Exits || b.OOM || b.ExitAfter > 0 || b.ExitCode != 0
}

// behaviour returns nil for the zero behaviour, which most simulated pods have.
func (r *Runtime) behaviour(s *runtime.PodSandboxConfig, c *runtime.ContainerConfig) *Behaviour {
	switch {
	case r.options.Script != nil:
		b := r.options.Script(s, c)
		return &b
	case len(c.Command)+len(c.Args) > 0:
		b := Program(slices.Concat(c.Command, c.Args))
		return &b
	}
	return nil
}

// Program is the behaviour of a few commands that every system has: true, false, echo,
// cat, sleep, and sh -c with a list of these separated by ";", "exit n" and "trap ” TERM".
// Any other command runs until it is stopped.
func Program(command []string) Behaviour {
	var b Behaviour
	b.Exits = b.run(command)
	return b
}

// run adds a command to b, and reports whether it has an end.
func (b *Behaviour) run(words []string) (ends bool) {
	if len(words) == 0 {
		return true
	}
	name, args := words[0], words[1:]
	switch name {
	case "true", ":":
		b.ExitCode = 0
	case "false":
		b.ExitCode = 1
	case "echo":
		line, toErr := strings.Join(args, " "), false
		line, toErr = strings.CutSuffix(line, " >&2")
		if toErr {
			b.Stderr += line + "\n"
		} else {
			b.Stdout += line + "\n"
		}
		b.ExitCode = 0
	case "sleep":
		seconds := 0.0
		if len(args) > 0 {
			seconds, _ = strconv.ParseFloat(args[0], 64)
		}
		b.ExitAfter += time.Duration(seconds * float64(time.Second))
		b.ExitCode = 0
	case "trap":
		b.IgnoreTerm = len(args) > 1 && args[0] == "''"
	case "exit":
		if len(args) > 0 {
			b.ExitCode, _ = strconv.Atoi(args[0])
		}
	case "exec":
		return b.run(args)
	case "sh", "/bin/sh":
		if len(args) > 1 && args[0] == "-c" {
			return b.script(args[1])
		}
		return false
	default:
		return false
	}
	return true
}

func (b *Behaviour) script(text string) (ends bool) {
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		words := strings.Fields(line)
		if !b.run(words) {
			return false
		}
		if len(words) > 0 && words[0] == "exit" {
			return true
		}
	}
	return true
}
