// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
)

// programs runs iptables-save and iptables-restore.
type programs struct {
	save, restore string
	wait          int // seconds
}

func newPrograms(f netproxy.Family, o Options) programs {
	name := "iptables"
	if f == netproxy.IPv6 {
		name = "ip6tables"
	}
	if o.Variant != "" {
		name += "-" + o.Variant
	}
	p := programs{save: name + "-save", restore: name + "-restore", wait: o.LockSeconds}
	if o.SaveProgram != "" {
		p.save = o.SaveProgram
	}
	if o.RestoreProgram != "" {
		p.restore = o.RestoreProgram
	}
	if p.wait == 0 {
		p.wait = 5
	}
	return p
}

// apply runs iptables-restore. It waits for the lock that iptables programs
// share, and leaves alone what the text does not mention.
func (p programs) apply(ctx context.Context, text []byte) error {
	_, err := run(ctx, text, p.restore, "-w", strconv.Itoa(p.wait), "--noflush")
	return err
}

// tables returns what iptables-save prints of the tables that we use.
func (p programs) tables(ctx context.Context) (string, error) {
	var out strings.Builder
	for _, table := range [...]string{"nat", "filter"} {
		text, err := run(ctx, nil, p.save, "-t", table)
		if err != nil {
			return "", err
		}
		out.Write(text)
	}
	return out.String(), nil
}

func run(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	said := strings.TrimSpace(stderr.String())
	return nil, &programError{name: name, said: said, kind: kindOf(err, said), err: err}
}

// programError is a program that failed.
type programError struct {
	name, said string
	kind       error
	err        error
}

func (e *programError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("%s: %v: %v", e.name, e.kind, e.err)
	}
	return fmt.Sprintf("%s: %v: %s", e.name, e.kind, e.said)
}

func (e *programError) Unwrap() []error { return []error{e.kind, e.err} }

func kindOf(err error, said string) error {
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return netproxy.ErrNotInstalled
	case strings.Contains(said, "xtables lock"):
		return netproxy.ErrLocked
	case strings.Contains(said, "Permission denied"), strings.Contains(said, "Operation not permitted"), strings.Contains(said, "you must be root"):
		return netproxy.ErrPermission
	}
	return netproxy.ErrRefused
}

// What iptables-restore says of the place: "Error occurred at line: 7",
// "iptables-restore: line 7 failed", "line 7: RULE_APPEND failed".
var linePattern = regexp.MustCompile(`line:? (\d+)`)

// line returns the line of the text that a program refused, or "".
func refusedLine(err error, text []byte) string {
	e, ok := errors.AsType[*programError](err)
	if !ok {
		return ""
	}
	m := linePattern.FindStringSubmatch(e.said)
	if m == nil {
		return ""
	}
	want, _ := strconv.Atoi(m[1])
	n := 0
	for line := range bytes.Lines(text) {
		if n++; n == want {
			return strings.TrimSpace(string(line))
		}
	}
	return ""
}
