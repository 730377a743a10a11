// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/slipway-dev/slipway/runtime"
	"github.com/slipway-dev/slipway/runtime/crilog"
)

// LogLimits bounds the logs of one container. Zero fields mean Kubernetes' defaults.
type LogLimits struct {
	MaxSize  int64         // bytes of a file before it is rotated (10 MiB)
	MaxFiles int           // files kept, the present one included (5)
	Interval time.Duration // between looks at the size (10 s)
}

func (l LogLimits) withDefaults() LogLimits {
	l.MaxSize = or(l.MaxSize, 10<<20)
	l.MaxFiles = max(2, or(l.MaxFiles, 5))
	l.Interval = or(l.Interval, 10*time.Second)
	return l
}

// LogOptions says what of a container's log to read.
type LogOptions struct {
	Previous bool // of the execution before the present one
	Follow   bool // until the container exits
	Tail     int  // only the last n lines; zero: all; negative: none of what is there
	Since    time.Time
}

// Logs returns the output of a container: of its present or last execution. The present file is read; rotated ones
// are left out, as kubelet does.
func (m *Manager) Logs(ctx context.Context, uid, container string, o LogOptions) (iter.Seq2[crilog.Entry, error], error) {
	id, err := m.Container(uid, container)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	if o.Previous {
		if id = m.previous(uid, container); id == "" {
			return nil, fmt.Errorf("logs: previous terminated container %q in pod %s: %w", container, uid, ErrUnknownPod)
		}
	}
	st, err := m.config.Runtime.ContainerStatus(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	if st.LogPath == "" {
		return nil, fmt.Errorf("logs of container %s: %w: it has no log", container, runtime.ErrUnsupported)
	}
	options := crilog.ReadOptions{Since: o.Since, Tail: o.Tail, Follow: o.Follow && st.State != runtime.ContainerExited}
	return func(yield func(crilog.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		finished := make(chan struct{})
		if options.Follow {
			options.Done = done
			go func() {
				defer close(finished)
				m.awaitExit(ctx, id, done)
			}()
		} else {
			close(finished)
		}
		defer func() { cancel(); <-finished }()
		for e, err := range crilog.Read(ctx, st.LogPath, options) {
			if !yield(e, err) {
				return
			}
		}
	}, nil
}

// awaitExit closes done when a container does not run any more.
func (m *Manager) awaitExit(ctx context.Context, id string, done chan struct{}) {
	const interval = time.Second
	for {
		st, err := m.config.Runtime.ContainerStatus(ctx, id)
		if errors.Is(err, runtime.ErrNotFound) || err == nil && st.State == runtime.ContainerExited {
			close(done)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

func (m *Manager) previous(uid, container string) string {
	st := m.Status(uid)
	for _, list := range [][]ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for _, c := range list {
			if c.Name == container && c.LastState.Terminated != nil {
				return c.LastState.Terminated.ContainerID
			}
		}
	}
	return ""
}

// rotateLogs starts a new file for each running container whose log has grown too large.
func (m *Manager) rotateLogs(ctx context.Context) {
	for _, w := range m.workers() {
		st := m.Status(w.uid)
		if st == nil || st.Phase.Finished() {
			continue
		}
		for _, list := range [][]ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses, st.EphemeralContainerStatuses} {
			for _, c := range list {
				if c.State.Running == nil || ctx.Err() != nil {
					continue
				}
				if err := m.rotate(ctx, c.ContainerID); err != nil && !errors.Is(err, runtime.ErrNotFound) {
					w.mu.Lock()
					p := w.pod
					w.mu.Unlock()
					w.warn(p, c.Name, EventContainerLogRotation, "rotate the log: %v", err)
				}
			}
		}
	}
}

// rotate renames files from the oldest on, so that a crash between two steps loses nothing
// but the file that was due to go.
func (m *Manager) rotate(ctx context.Context, id string) error {
	st, err := m.config.Runtime.ContainerStatus(ctx, id)
	if err != nil || st.LogPath == "" {
		return err
	}
	info, err := os.Stat(st.LogPath)
	if errors.Is(err, fs.ErrNotExist) {
		// A rotation stopped between the rename and the reopening.
		return m.config.Runtime.ReopenContainerLog(ctx, id)
	}
	if err != nil || info.Size() < m.config.Logs.MaxSize {
		return err
	}
	old := func(n int) string { return fmt.Sprintf("%s.%d", st.LogPath, n) }
	for n := m.config.Logs.MaxFiles - 1; n >= 1; n-- {
		from := old(n - 1)
		if n == 1 {
			from = st.LogPath
		}
		if err := os.Rename(from, old(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return m.config.Runtime.ReopenContainerLog(ctx, id)
}

// tailOf is the end of a log, for a termination message.
func tailOf(path string) string {
	var b strings.Builder
	for e, err := range crilog.Read(context.Background(), path, crilog.ReadOptions{Tail: maxMessageLines}) {
		if err != nil {
			continue
		}
		b.Write(e.Line)
		if !e.Partial {
			b.WriteByte('\n')
		}
	}
	s := b.String()
	return s[max(0, len(s)-maxLogMessage):]
}
