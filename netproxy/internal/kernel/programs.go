// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"

	"github.com/slipway-dev/slipway/netproxy"
)

// Run runs a program and returns what it printed. A failure is a *ProgramError.
func Run(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
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
	return nil, &ProgramError{Name: name, Said: said, Kind: kindOf(err, said), Err: err}
}

// ProgramError is a program that failed. It is one of netproxy's sentinel
// errors for errors.Is.
type ProgramError struct {
	Name, Said string
	Kind       error
	Err        error
}

func (e *ProgramError) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("%s: %v: %v", e.Name, e.Kind, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Name, e.Kind, e.Said)
}

func (e *ProgramError) Unwrap() []error { return []error{e.Kind, e.Err} }

func kindOf(err error, said string) error {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return netproxy.ErrNotInstalled
	case strings.Contains(said, "xtables lock"):
		return netproxy.ErrLocked
	case strings.Contains(said, "Permission denied"), strings.Contains(said, "Operation not permitted"), strings.Contains(said, "you must be root"):
		return netproxy.ErrPermission
	}
	return netproxy.ErrRefused
}
