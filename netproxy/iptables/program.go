// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/kernel"
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
	_, err := kernel.Run(ctx, text, p.restore, "-w", strconv.Itoa(p.wait), "--noflush")
	return err
}

// tables returns what iptables-save prints of the tables that we use.
func (p programs) tables(ctx context.Context) (string, error) {
	var out strings.Builder
	for _, table := range [...]string{"nat", "filter"} {
		text, err := kernel.Run(ctx, nil, p.save, "-t", table)
		if err != nil {
			return "", err
		}
		out.Write(text)
	}
	return out.String(), nil
}

// What iptables-restore says of the place: "Error occurred at line: 7",
// "iptables-restore: line 7 failed", "line 7: RULE_APPEND failed".
var linePattern = regexp.MustCompile(`line:? (\d+)`)

// refusedLine returns the line of the text that a program refused, or "".
func refusedLine(err error, text []byte) string {
	e, ok := errors.AsType[*kernel.ProgramError](err)
	if !ok {
		return ""
	}
	m := linePattern.FindStringSubmatch(e.Said)
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
