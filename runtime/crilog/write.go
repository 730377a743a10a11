// SPDX-License-Identifier: Apache-2.0

package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// MaxLine is the most that one entry holds; a longer line becomes several.
const MaxLine = 16 << 10

// Log is one log file that several streams write to.
type Log struct {
	path string

	mu   sync.Mutex
	file *os.File // nil after Close
	size int64    // where the last whole entry ends
	lost int64    // bytes of output that could not be written since
}

// Open opens a log for appending and makes its directory. A path that is
// a directory is an error.
func Open(path string) (*Log, error) {
	l := &Log{path: path}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open container log: %w", err)
	}
	return l, l.Reopen()
}

// Reopen goes on in whatever file is at the path now, which is made if
// missing. If that fails the old file stays in use. When a new file can be
// seen at the path nothing is written to the old one any more: readers rely on it.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o640)
	if err != nil {
		return fmt.Errorf("open container log: %w", err)
	}
	size, err := wholeEntries(f)
	if err != nil {
		return errors.Join(fmt.Errorf("open container log: %w", err), f.Close())
	}
	old := l.file
	l.file, l.size = f, size
	if old != nil {
		return old.Close()
	}
	return nil
}

// wholeEntries cuts off half an entry that a crash left at the end of the file,
// so that what follows does not become a part of it.
func wholeEntries(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	tail := make([]byte, min(info.Size(), 2*MaxLine))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return 0, err
	}
	size := info.Size() - int64(len(tail)) + int64(bytes.LastIndexByte(tail, '\n')+1)
	if size < info.Size() {
		err = f.Truncate(size)
	}
	return size, err
}

// Close ends the log. Streams that still hold half a line are flushed by their own Close, before.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// append writes whole entries, which carry n bytes of output.
func (l *Log) append(entries []byte, n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return os.ErrClosed
	}
	if l.lost > 0 {
		note := entry(nil, time.Now(), "stderr", fmt.Appendf(nil, "slipway: %d bytes of log lost: the disk was full", l.lost), true)
		entries = append(note, entries...)
	}
	wrote, err := l.file.Write(entries)
	if err != nil {
		l.lost += int64(n)
		if wrote > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return err
	}
	l.size += int64(wrote)
	l.lost = 0
	return nil
}

// Stream is one of the outputs of a program. It is an io.Writer for one goroutine.
type Stream struct {
	log  *Log
	name string
	rest []byte // the beginning of a line whose end has not come
}

// Stream returns a writer for "stdout" or "stderr".
func (l *Log) Stream(name string) *Stream { return &Stream{log: l, name: name} }

// Write adds output. It always takes all of p: what the disk does not is counted and
// reported in the log later, and the error returned here is for information.
func (s *Stream) Write(p []byte) (int, error) {
	now := time.Now()
	out := buffers.Get().(*[]byte)
	defer buffers.Put(out)
	*out = (*out)[:0]
	carried := 0
	rest := p
	for len(rest) > 0 {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		if room := MaxLine - len(s.rest); len(line) > room {
			line, after, ended = rest[:room], rest[room:], false
		} else if !ended {
			s.rest = append(s.rest, line...)
			break
		}
		carried += len(s.rest) + len(line)
		if len(s.rest) > 0 {
			line = append(s.rest, line...)
			s.rest = nil
		}
		*out = entry(*out, now, s.name, line, ended)
		rest = after
	}
	if len(*out) == 0 {
		return len(p), nil
	}
	return len(p), s.log.append(*out, carried)
}

// Close writes a last line that has no end.
func (s *Stream) Close() error {
	if len(s.rest) == 0 {
		return nil
	}
	line := s.rest
	s.rest = nil
	return s.log.append(entry(nil, time.Now(), s.name, line, false), len(line))
}

// buffers saves an allocation and a copy for each write: one batch of entries
// becomes one system call.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

func entry(to []byte, at time.Time, stream string, line []byte, ended bool) []byte {
	to = at.UTC().AppendFormat(to, timeFormat)
	to = append(to, ' ')
	to = append(to, stream...)
	if ended {
		to = append(to, " F "...)
	} else {
		to = append(to, " P "...)
	}
	to = append(to, line...)
	return append(to, '\n')
}

// timeFormat is RFC 3339 with nine digits always, so that entries sort as text.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"
