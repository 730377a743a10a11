// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-dev/slipway/runtime"
)

// sandboxRecord and containerRecord are what the supervisor knows, and what its journal keeps.
type sandboxRecord struct {
	ID        string
	Config    runtime.PodSandboxConfig
	State     runtime.SandboxState
	CreatedAt time.Time
	IP        string
	Dir       string // name of the directory in which its processes begin; empty when it is stopped
}

type containerRecord struct {
	ID, SandboxID string
	Config        runtime.ContainerConfig
	CreatedAt     time.Time
	LogPath       string
	ImageRef      string
	containerState
}

// containerState is the part of a container that changes.
type containerState struct {
	State                 runtime.ContainerState
	StartedAt, FinishedAt time.Time
	ExitCode              int
	Reason, Message       string
	PID                   int
	Born                  span // with PID it names a process for good
	Resources             *runtime.Resources
}

// entry is one line of the journal: exactly one field besides ID is set.
type entry struct {
	Sandbox   *sandboxRecord   `json:",omitempty"`
	Container *containerRecord `json:",omitempty"`
	ID        string           `json:",omitempty"`
	State     *containerState  `json:",omitempty"` // of the container ID
	Stopped   bool             `json:",omitempty"` // the sandbox ID
	Gone      bool             `json:",omitempty"` // the sandbox ID with its containers, or the container ID
}

// journal survives the supervisor. Each change is one line and one write: a
// kill -9 loses none that was made, and can leave half a line only at the end. It
// need not survive the machine, since no process does.
type journal struct {
	path string
	file *os.File
	size int64
}

// compactAt is the size from which a journal is rewritten, if less than half of it is live.
const compactAt = 1 << 20

func (j *journal) write(e entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	n, err := j.file.Write(append(b, '\n'))
	if err != nil {
		if n > 0 {
			err = errors.Join(err, j.file.Truncate(j.size))
		}
		return fmt.Errorf("write the journal %s: %w: %w", j.path, runtime.ErrExhausted, err)
	}
	j.size += int64(n)
	return nil
}

// readJournal replays a journal. A missing one is empty; half a line at the end is dropped,
// damage anywhere else is an error.
func readJournal(path string, apply func(entry)) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for offset := int64(0); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s is damaged at offset %d: %w", path, offset, err)
		}
		apply(e)
		offset += int64(len(line))
	}
}

// rewriteJournal replaces a journal by one with only what is live, at one instant.
func rewriteJournal(path string, live []entry) (*journal, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "journal")
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, file: f}
	for _, e := range live {
		if err := j.write(e); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return j, nil
}
