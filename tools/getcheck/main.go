// SPDX-License-Identifier: Apache-2.0

// Command getcheck gets a module the way its users will, before it is published:
//
//	go run ./tools/getcheck .
//
// It makes a module proxy of files out of the checkout, starts a module of its
// own outside of it, gets the checkout's module through that proxy, and runs the
// first complete program of README.md against what arrived; without such a
// program, one that only imports the module's root package. What a checkout has
// and a published module lacks (nested modules, replace directives, go.work)
// is thereby found missing here rather than by the first user.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: getcheck DIR\n\nDIR is the root of the module to get.")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := check(ctx, os.Args[1], os.Stdout); err != nil {
		stop()
		fmt.Fprintf(os.Stderr, "getcheck: %v\n", err)
		os.Exit(1)
	}
}

// check gets the module at dir from a proxy made of it and runs a program that
// imports it. What the program and the go command print goes to out.
func check(ctx context.Context, dir string, out io.Writer) (err error) {
	scratch, err := os.MkdirTemp("", "getcheck-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()

	proxy := filepath.Join(scratch, "proxy")
	module, err := writeProxy(proxy, dir)
	if err != nil {
		return fmt.Errorf("making a proxy of %s: %w", dir, err)
	}
	program, origin, err := programFor(dir, module)
	if err != nil {
		return err
	}
	user := filepath.Join(scratch, "user")
	if err := writeUser(user, dir, program); err != nil {
		return fmt.Errorf("writing a user's module: %w", err)
	}
	env, err := environment(ctx, module, proxy, filepath.Join(scratch, "modcache"))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", module, origin)
	for _, args := range [][]string{
		{"get", module + "@latest"},
		{"get", "."},
		{"run", "."},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = user, env, out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go %s, as a user of %s: %w", strings.Join(args, " "), module, err)
		}
	}
	return nil
}

// programFor returns the program to run against the module, and where it is from.
func programFor(dir, module string) (program, origin string, err error) {
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	if program, line := firstProgram(string(readme)); line != 0 {
		return program, fmt.Sprintf("running the program at README.md:%d", line), nil
	}
	program = fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", module)
	return program, "README.md has no program: importing the root package", nil
}

// writeUser starts a module at user that consists of the program. It begins with
// the go.sum of the module at dir, whose sums were verified when they were added,
// so that the check asks no checksum database.
func writeUser(user, dir, program string) error {
	if err := os.MkdirAll(user, 0o777); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(user, "go.mod"), []byte("module example.com/user\n"), 0o666),
		os.WriteFile(filepath.Join(user, "go.sum"), sums, 0o666),
		os.WriteFile(filepath.Join(user, "main.go"), []byte(program), 0o666),
	)
}

// environment returns the environment of a user's go command: the module comes
// from the proxy made of the checkout into a module cache of its own, since the
// same version holds something else tomorrow; everything else comes from the
// machine's module cache, then from wherever this machine gets its modules.
func environment(ctx context.Context, module, proxy, modcache string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	cache, upstream, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return append(os.Environ(),
		"GOWORK=off",
		"GOFLAGS=-modcacherw -buildvcs=false",
		"GOMODCACHE="+modcache,
		"GOPROXY="+fileURL(proxy)+","+fileURL(filepath.Join(cache, "cache", "download"))+","+upstream,
		"GONOPROXY=none",
		"GONOSUMDB="+module,
	), nil
}
