// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bufio"
	"context"
	"os/exec"
	"sync"
)

// Watch starts a program in the host's namespace that runs until ctx ends, which
// must be before the test does, and returns the lines that it prints. The
// channel is closed when the program has ended.
func (h *Host) Watch(ctx context.Context, name string, args ...string) <-chan string {
	h.lab.t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.lab.t.Fatal(err)
	}
	h.Do(func() { err = cmd.Start() })
	if err != nil {
		h.lab.t.Fatal(err)
	}
	lines := make(chan string, 1<<10)
	var wg sync.WaitGroup
	h.lab.t.Cleanup(wg.Wait)
	wg.Go(func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
			}
		}
		cmd.Wait() // it was killed
	})
	return lines
}
