// SPDX-License-Identifier: Apache-2.0

package crilog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime/crilog"
)

func read(t *testing.T, path string, o crilog.ReadOptions) string {
	t.Helper()
	var b strings.Builder
	for e, err := range crilog.Read(t.Context(), path, o) {
		if err != nil {
			t.Fatal(err)
		}
		b.Write(e.Line)
		if !e.Partial {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// TestRoundTrip: what a program wrote, in whatever pieces, can be put together again exactly.
func TestRoundTrip(t *testing.T) {
	long := strings.Repeat("x", 3*crilog.MaxLine+7)
	for i, pieces := range [][]string{
		{"a\n"}, {"a", "b\n"}, {"a\nb\nc"}, {"\n\n"}, {long + "\n"}, {long}, {"", "x"},
		{strings.Repeat("y", crilog.MaxLine) + "\n", "z\n"}, {strings.Repeat("y", crilog.MaxLine-1), "y", "y\n"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		log, err := crilog.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		s := log.Stream("stdout")
		for _, p := range pieces {
			if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}
		if err := errors.Join(s.Close(), log.Close()); err != nil {
			t.Error(err)
		}
		if got, want := read(t, path, crilog.ReadOptions{}), strings.Join(pieces, ""); got != want {
			t.Errorf("case %d: read %d bytes, wrote %d", i, len(got), len(want))
		}
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := crilog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s := log.Stream("stdout")
	var lines []string
	for n := range 3000 {
		lines = append(lines, fmt.Sprintf("line %d %s\n", n, strings.Repeat("x", n%50)))
		s.Write([]byte(lines[n]))
	}
	lines = append(lines, strings.Repeat("y", 2*crilog.MaxLine+1)+"\n") // three entries, one line
	s.Write([]byte(lines[3000]))
	log.Close()
	for _, n := range []int{1, 2, 3, 10, 1000, 3000, 3001, 5000} {
		want := strings.Join(lines[max(0, len(lines)-n):], "")
		if got := read(t, path, crilog.ReadOptions{Tail: n}); got != want {
			t.Errorf("Tail %d: %d bytes, want %d", n, len(got), len(want))
		}
	}
	if got := read(t, path, crilog.ReadOptions{Tail: -1}); got != "" {
		t.Errorf("Tail -1: %d bytes", len(got))
	}
}

// TestFollowThroughRotation writes and rotates while a follower reads: it gets every line, in order, once.
func TestFollowThroughRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := crilog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	const lines = 500
	wg.Go(func() {
		defer close(done)
		s := log.Stream("stdout")
		for n := range lines {
			fmt.Fprintf(s, "%d\n", n)
			if n%200 == 150 {
				os.Rename(path, fmt.Sprint(path, ".", n))
				if err := log.Reopen(); err != nil {
					t.Error(err)
				}
				time.Sleep(250 * time.Millisecond) // longer than the follower takes to notice
			}
		}
	})
	next := 0
	for e, err := range crilog.Read(t.Context(), path, crilog.ReadOptions{Follow: true, Done: done}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Line) != fmt.Sprint(next) {
			t.Fatalf("line %q, want %d", e.Line, next)
		}
		next++
	}
	wg.Wait()
	if next != lines {
		t.Errorf("followed %d lines of %d", next, lines)
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := crilog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, err := range crilog.Read(ctx, path, crilog.ReadOptions{Follow: true}) {
		t.Errorf("an entry or error of an empty log: %v", err)
	}
}

// TestCrashLeavesHalfAnEntry: what the next writer adds is not glued to it.
func TestCrashLeavesHalfAnEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	whole := "2026-01-02T03:04:05.000000006Z stdout F whole\n"
	os.WriteFile(path, []byte(whole+"2026-01-02T03:04:05.0000"), 0o600)
	log, err := crilog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	log.Stream("stderr").Write([]byte("next\n"))
	log.Close()
	if got := read(t, path, crilog.ReadOptions{}); got != "whole\nnext\n" {
		t.Errorf("read %q", got)
	}
}

// TestFullDisk: the program goes on, the file stays whole, and the loss is told.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/dev/full is a device of Linux")
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	log, err := crilog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s := log.Stream("stdout")
	if n, err := s.Write([]byte("lost\n")); n != 5 || err == nil {
		t.Errorf("Write to a full disk = %d, %v, want all taken and an error", n, err)
	}
	os.Remove(path)
	if err := log.Reopen(); err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("kept\n"))
	log.Close()
	if got, want := read(t, path, crilog.ReadOptions{}), "slipway: 4 bytes of log lost: the disk was full\nkept\n"; got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

func TestOpenDirectory(t *testing.T) {
	if _, err := crilog.Open(t.TempDir()); err == nil {
		t.Error("a directory was opened as a log")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("2026-10-06T00:17:09.669794202Z stdout F a line"))
	f.Add([]byte("2026-10-06T00:17:09Z stderr P:x "))
	f.Add([]byte("nonsense"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := crilog.Parse(b)
		if err != nil {
			var syntax *crilog.SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("Parse(%q) = %v, want a SyntaxError", b, err)
			}
			return
		}
		if !bytes.HasSuffix(b, e.Line) {
			t.Errorf("Parse(%q) has line %q", b, e.Line)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	log, err := crilog.Open(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	s := log.Stream("stdout")
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 100)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		s.Write(chunk)
	}
}
