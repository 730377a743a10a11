// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/crilog"
)

// read returns the output that a log holds, of both streams; nothing if there is no log yet.
func (s *suite) read(path string) string {
	s.Helper()
	var out strings.Builder
	for e, err := range crilog.Read(s.Context(), path, crilog.ReadOptions{}) {
		if errors.Is(err, os.ErrNotExist) {
			return ""
		}
		s.must(err)
		out.Write(e.Line)
		if !e.Partial {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

func (s *suite) log() {
	_, id := s.run("echo one; echo two >&2; exit 3")
	st := s.exited(id)
	if !filepath.IsAbs(st.LogPath) {
		s.Fatalf("log path %q is not absolute", st.LogPath)
	}
	byStream := map[string]string{}
	for e, err := range crilog.Read(s.Context(), st.LogPath, crilog.ReadOptions{}) {
		s.must(err)
		byStream[e.Stream] += string(e.Line) + "\n"
	}
	if byStream["stdout"] != "one\n" || byStream["stderr"] != "two\n" {
		s.Errorf("log has %q, want one on stdout, two on stderr", byStream)
	}
}

func (s *suite) logRotation() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "echo before; exec cat")
	c.Stdin = true
	id := s.create(sandbox, c, sc)
	s.must(s.rt.StartContainer(s.Context(), id))
	path := s.status(id).LogPath
	s.wait("the first line", func() bool { return s.read(path) != "" })
	s.must(os.Rename(path, path+".1"))
	s.must(s.rt.ReopenContainerLog(s.Context(), id))
	if _, err := os.Stat(path); err != nil {
		s.Fatalf("after ReopenContainerLog: %v", err)
	}
	s.send(id, "after\n")
	s.wait("a line in the new file", func() bool { return s.read(path) == "after\n" })
	if got := s.read(path + ".1"); got != "before\n" {
		s.Errorf("the old file has %q", got)
	}
}

// send writes to the stdin of a container and detaches when it has come back.
func (s *suite) send(id, text string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	in, feed := io.Pipe()
	defer feed.Close()
	out := &signalWriter{want: text, seen: cancel}
	go io.WriteString(feed, text)
	if err := s.rt.Attach(ctx, id, runtime.AttachOptions{Stdin: in, Stdout: out}); err != nil && !errors.Is(err, context.Canceled) {
		s.Fatalf("attach: %v", err)
	}
	if !strings.Contains(out.String(), text) {
		s.Fatalf("sent %q, got %q", text, out.String())
	}
}

// signalWriter calls seen when it has got want.
type signalWriter struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen func()
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if strings.Contains(w.buf.String(), w.want) {
		w.seen()
	}
	return len(p), nil
}

func (w *signalWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

func (s *suite) logPathIsDirectory() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "echo hello; sleep 1000")
	s.must(os.MkdirAll(filepath.Join(sc.LogDirectory, c.LogPath), 0o755))
	s.create(sandbox, s.container("other", "true"), sc) // the image is there
	id, err := s.rt.CreateContainer(s.Context(), sandbox, c, sc)
	if err == nil {
		err = s.rt.StartContainer(s.Context(), id)
	}
	if err == nil || !strings.Contains(err.Error(), c.LogPath) {
		s.Errorf("a log path that is a directory: %v, want an error that names it", err)
	}
	if id != "" && s.status(id).State == runtime.ContainerRunning {
		s.Error("the container runs without its log")
	}
}

func (s *suite) execSync() {
	_, id := s.run("sleep 1000")
	r, err := s.rt.ExecSync(s.Context(), id, []string{"sh", "-c", "echo out; echo err >&2; exit 5"}, 0)
	s.must(err)
	if string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" || r.ExitCode != 5 {
		s.Errorf("ExecSync = %q, %q, %d, want out, err, 5", r.Stdout, r.Stderr, r.ExitCode)
	}
	if _, err := s.rt.ExecSync(s.Context(), id, nil, 0); !errors.Is(err, runtime.ErrInvalid) {
		s.Errorf("ExecSync of nothing: %v, want ErrInvalid", err)
	}
}

func (s *suite) execSyncTimeout() {
	_, id := s.run("sleep 1000")
	begin := time.Now()
	_, err := s.rt.ExecSync(s.Context(), id, []string{"sleep", "1000"}, 100*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("ExecSync with a timeout: %v, want context.DeadlineExceeded", err)
	}
	if took := time.Since(begin); took >= patience {
		s.Errorf("it took %v", took)
	}
	if st := s.status(id); st.State != runtime.ContainerRunning {
		s.Errorf("the container is %s", st.State)
	}
}

func (s *suite) exec() {
	_, id := s.run("sleep 1000")
	var out, errs bytes.Buffer
	code, err := s.rt.Exec(s.Context(), id, runtime.ExecOptions{
		Command: []string{"cat"}, Stdin: strings.NewReader("through and through"), Stdout: &out, Stderr: &errs,
	})
	s.must(err)
	if code != 0 || out.String() != "through and through" || errs.Len() != 0 {
		s.Errorf("exec of cat = %d, %q, %q", code, out.String(), errs.String())
	}
	code, err = s.rt.Exec(s.Context(), id, runtime.ExecOptions{Command: []string{"false"}})
	s.must(err)
	if code != 1 {
		s.Errorf("exec of false = %d, want 1", code)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.rt.Exec(ctx, id, runtime.ExecOptions{Command: []string{"sleep", "1000"}}); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("exec with a context that ended: %v, want context.DeadlineExceeded", err)
	}
}

func (s *suite) execDead() {
	_, id := s.run("true")
	s.exited(id)
	if _, err := s.rt.ExecSync(s.Context(), id, []string{"true"}, 0); !errors.Is(err, runtime.ErrState) {
		s.Errorf("ExecSync: %v, want ErrState", err)
	}
	if _, err := s.rt.Exec(s.Context(), id, runtime.ExecOptions{Command: []string{"true"}}); !errors.Is(err, runtime.ErrState) {
		s.Errorf("Exec: %v, want ErrState", err)
	}
	if err := s.rt.Attach(s.Context(), id, runtime.AttachOptions{}); !errors.Is(err, runtime.ErrState) {
		s.Errorf("Attach: %v, want ErrState", err)
	}
}

func (s *suite) attach() {
	sandbox, sc := s.sandbox()
	c := s.container("main", "cat")
	c.Stdin, c.StdinOnce = true, true
	id := s.create(sandbox, c, sc)
	s.must(s.rt.StartContainer(s.Context(), id))
	var out bytes.Buffer
	s.must(s.rt.Attach(s.Context(), id, runtime.AttachOptions{Stdin: strings.NewReader("hello\n"), Stdout: &out}))
	if out.String() != "hello\n" {
		s.Errorf("attached output %q, want hello", out.String())
	}
	if st := s.exited(id); st.ExitCode != 0 {
		s.Errorf("exit code %d after the only input ended, want 0", st.ExitCode)
	}
	_, deaf := s.run("sleep 1000")
	if err := s.rt.Attach(s.Context(), deaf, runtime.AttachOptions{Stdin: strings.NewReader("x")}); !errors.Is(err, runtime.ErrInvalid) {
		s.Errorf("attach stdin to a container without one: %v, want ErrInvalid", err)
	}
}

func (s *suite) portForward() {
	if s.config.Echo == nil {
		s.Skip("no program to connect to (Config.Echo)")
	}
	const port = 7007
	// Two pods on one port: each must reach its own.
	for range 2 {
		sandbox, sc := s.sandbox()
		c := s.container("main", "")
		c.Command = s.config.Echo(port)
		id := s.create(sandbox, c, sc)
		s.must(s.rt.StartContainer(s.Context(), id))
		s.wait("an answer through the port", func() bool { return s.echo(sandbox, port) })
		near, far := net.Pipe()
		near.Close()
		if err := s.rt.PortForward(s.Context(), sandbox, 1, far); !errors.Is(err, runtime.ErrUnavailable) {
			s.Errorf("port forward to a port that is closed: %v, want ErrUnavailable", err)
		}
	}
	near, far := net.Pipe()
	defer near.Close()
	if err := s.rt.PortForward(s.Context(), "none", port, far); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("port forward to no sandbox: %v, want ErrNotFound", err)
	}
}

func (s *suite) echo(sandbox string, port int) bool {
	near, far := net.Pipe()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer near.Close()
	wg.Go(func() { s.rt.PortForward(s.Context(), sandbox, port, far) })
	near.SetDeadline(time.Now().Add(patience))
	if _, err := near.Write([]byte("ping")); err != nil {
		return false
	}
	got := make([]byte, 4)
	_, err := io.ReadFull(near, got)
	return err == nil && string(got) == "ping"
}

func (s *suite) stats() {
	sandbox, id := s.run("sleep 1000")
	st, err := s.rt.ContainerStats(s.Context(), id)
	s.must(err)
	if st.ID != id || st.SandboxID != sandbox || st.Metadata.Name != "main" || st.Timestamp.IsZero() {
		s.Errorf("ContainerStats = %+v", st)
	}
	pod, err := s.rt.PodSandboxStats(s.Context(), sandbox)
	s.must(err)
	if pod.ID != sandbox || len(pod.Containers) != 1 || pod.MemoryWorkingSet < pod.Containers[0].MemoryWorkingSet {
		s.Errorf("PodSandboxStats = %+v", pod)
	}
	list, err := s.rt.ListContainerStats(s.Context(), runtime.ContainerFilter{SandboxID: sandbox})
	s.must(err)
	pods, err := s.rt.ListPodSandboxStats(s.Context(), runtime.PodSandboxFilter{ID: sandbox})
	s.must(err)
	if len(list) != 1 || len(pods) != 1 {
		s.Errorf("lists of stats have %d containers and %d sandboxes, want 1 and 1", len(list), len(pods))
	}
}

func (s *suite) events() {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	stream, err := s.rt.GetContainerEvents(ctx)
	if errors.Is(err, runtime.ErrUnsupported) {
		s.Skip("this runtime has no events")
	}
	s.must(err)
	_, id := s.run("sleep 1000")
	s.must(s.rt.StopContainer(ctx, id, 0))
	s.must(s.rt.RemoveContainer(ctx, id))
	var got []runtime.EventType
	for e, err := range stream {
		s.must(err)
		if e.ContainerID != id {
			continue
		}
		if e.PodUID != "uid-1" || e.SandboxID == "" || e.Time.IsZero() {
			s.Errorf("event %+v lacks the pod or the time", e)
		}
		if got = append(got, e.Type); e.Type == runtime.EventDeleted {
			break
		}
	}
	want := []runtime.EventType{runtime.EventCreated, runtime.EventStarted, runtime.EventStopped, runtime.EventDeleted}
	if !slices.Equal(got, want) {
		s.Errorf("events %v, want %v", got, want)
	}
	cancel()
	ended, err := s.rt.GetContainerEvents(s.Context())
	s.must(err)
	_ = ended // a stream that is never read costs nothing lasting
}

func (s *suite) images() {
	infos, err := s.rt.ImageFsInfo(s.Context())
	s.must(err)
	if len(infos) == 0 || infos[0].Mountpoint == "" {
		s.Errorf("ImageFsInfo = %+v", infos)
	}
	if st, err := s.rt.ImageStatus(s.Context(), runtime.ImageSpec{Image: "none:such"}); st != nil || err != nil {
		s.Errorf("status of an absent image = %v, %v, want nil, nil", st, err)
	}
	s.must(s.rt.RemoveImage(s.Context(), runtime.ImageSpec{Image: "none:such"}))
	if s.config.Image == "" {
		return
	}
	spec := runtime.ImageSpec{Image: s.config.Image}
	ref, err := s.rt.PullImage(s.Context(), spec, nil, nil)
	s.must(err)
	again, err := s.rt.PullImage(s.Context(), spec, nil, nil)
	s.must(err)
	if ref == "" || ref != again {
		s.Errorf("two pulls of %s gave %q and %q", s.config.Image, ref, again)
	}
	for _, name := range []string{s.config.Image, ref} {
		st, err := s.rt.ImageStatus(s.Context(), runtime.ImageSpec{Image: name})
		s.must(err)
		if st == nil {
			s.Errorf("status of %q: nil after the pull", name)
		}
	}
	list, err := s.rt.ListImages(s.Context(), runtime.ImageSpec{})
	s.must(err)
	if len(list) == 0 {
		s.Error("no images after a pull")
	}
}

func (s *suite) missingImage() {
	if s.config.MissingImage == "" {
		s.Skip("this runtime needs no images")
	}
	_, err := s.rt.PullImage(s.Context(), runtime.ImageSpec{Image: s.config.MissingImage}, nil, nil)
	if !errors.Is(err, runtime.ErrNotFound) || !strings.Contains(err.Error(), s.config.MissingImage) {
		s.Errorf("pull: %v, want ErrNotFound with the name", err)
	}
	sandbox, sc := s.sandbox()
	c := s.container("main", "true")
	c.Image.Image = s.config.MissingImage
	if _, err := s.rt.CreateContainer(s.Context(), sandbox, c, sc); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("create from an image that was never pulled: %v, want ErrNotFound", err)
	}
}
