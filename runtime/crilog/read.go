// SPDX-License-Identifier: Apache-2.0

package crilog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"
)

// Entry is one line of output, or a part of one.
type Entry struct {
	Time    time.Time
	Stream  string // "stdout" or "stderr"
	Partial bool   // the line goes on in the next entry of this stream
	Line    []byte // without the line's end
}

// SyntaxError names an entry that is not in CRI's format.
type SyntaxError struct {
	Line string
	Want string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("log entry %.80q: want %s", e.Line, e.Want)
}

// Parse reads one entry, without its line end. Line points into b.
func Parse(b []byte) (Entry, error) {
	stamp, rest, ok := bytes.Cut(b, []byte{' '})
	if !ok {
		return Entry{}, &SyntaxError{string(b), "a time, a stream, a tag and the text"}
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Entry{}, &SyntaxError{string(b), "an RFC 3339 time at the beginning"}
	}
	stream, rest, _ := bytes.Cut(rest, []byte{' '})
	if name := string(stream); name != "stdout" && name != "stderr" {
		return Entry{}, &SyntaxError{string(b), `"stdout" or "stderr" after the time`}
	}
	tags, line, _ := bytes.Cut(rest, []byte{' '})
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	if string(tag) != "F" && string(tag) != "P" {
		return Entry{}, &SyntaxError{string(b), `the tag "F" or "P" after the stream`}
	}
	return Entry{Time: at, Stream: string(stream), Partial: tag[0] == 'P', Line: line}, nil
}

// ReadOptions says what of a log to read; zero is all that is there now.
type ReadOptions struct {
	Since  time.Time // entries from then on
	Tail   int       // only the last n lines that are there now; zero: all; negative: none
	Follow bool      // go on when the end is reached, also in a new file after rotation
	// Done, if not nil, is closed when the container has exited: what is there
	// then is read to its end, and following stops.
	Done <-chan struct{}
}

// poll is how often a follower looks for more.
const poll = 100 * time.Millisecond

// Read returns the entries of a log. It ends at the end of the file, or with Follow when ctx
// ends or Done is closed. An entry that can't be parsed is yielded as an error, and reading goes on.
// Entries share no memory.
func Read(ctx context.Context, path string, o ReadOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		r := &reader{ctx: ctx, path: path, options: o, file: f, yield: yield}
		defer func() { r.file.Close() }()
		if err := r.skip(); err != nil {
			yield(Entry{}, err)
			return
		}
		r.run()
	}
}

type reader struct {
	ctx     context.Context
	path    string
	options ReadOptions
	file    *os.File
	yield   func(Entry, error) bool
	buf     *bufio.Reader
	half    []byte // an entry whose end is not written yet
}

// skip moves to the last o.Tail lines. Parts of a line count as one line.
func (r *reader) skip() error {
	if r.options.Tail == 0 {
		return nil
	}
	end, err := r.file.Seek(0, io.SeekEnd)
	if err != nil || r.options.Tail < 0 {
		return err
	}
	offset, err := tailOffset(r.file, end, r.options.Tail)
	if err != nil {
		return err
	}
	_, err = r.file.Seek(offset, io.SeekStart)
	return err
}

// tailOffset returns where the last n lines of the first end bytes begin,
// reading backwards so that a large file costs no more than its tail.
func tailOffset(f io.ReaderAt, end int64, n int) (int64, error) {
	const block = 32 << 10
	var tail []byte
	for start := end; start > 0; {
		size := min(block, start)
		start -= size
		b := make([]byte, size, int(size)+len(tail))
		if _, err := f.ReadAt(b, start); err != nil {
			return 0, err
		}
		tail = append(b, tail...)
		lines := 0
		for pos := len(tail); pos > 0; {
			begin := bytes.LastIndexByte(tail[:pos-1], '\n') + 1
			if begin == 0 && start > 0 {
				break // the entry begins in an earlier block
			}
			e, err := Parse(bytes.TrimSuffix(tail[begin:pos], []byte{'\n'}))
			// The last entry of the file always begins the count, also when it is partial.
			if err == nil && (!e.Partial || lines == 0) {
				if lines++; lines > n {
					return start + int64(pos), nil
				}
			}
			pos = begin
		}
	}
	return 0, nil
}

func (r *reader) run() {
	r.buf = bufio.NewReader(r.file)
	for {
		// Asked before reading: what is written before Done closes is read after.
		last := !r.options.Follow || closed(r.options.Done)
		if !r.drain() {
			return
		}
		switch moved, err := r.rotated(); {
		case err != nil:
			r.yield(Entry{}, err)
			return
		case moved:
			continue
		case last:
			return
		}
		select {
		case <-r.ctx.Done():
			return
		case <-r.options.Done:
		case <-time.After(poll):
		}
	}
}

// drain yields what is in the file, and reports whether to go on.
func (r *reader) drain() bool {
	for r.ctx.Err() == nil {
		line, err := r.buf.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			r.half = append(r.half, line...)
			return true
		}
		if err != nil {
			r.yield(Entry{}, err)
			return false
		}
		line = append(r.half, line[:len(line)-1]...)
		r.half = nil
		e, err := Parse(line)
		if err == nil && e.Time.Before(r.options.Since) {
			continue
		}
		if !r.yield(e, err) {
			return false
		}
	}
	return false
}

// rotated goes on in the file that is at the path now, if that is another one.
func (r *reader) rotated() (bool, error) {
	if !r.options.Follow {
		return false, nil
	}
	now, err := os.Stat(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // between the rename and the new file
	}
	if err != nil {
		return false, err
	}
	have, err := r.file.Stat()
	if err != nil || os.SameFile(now, have) {
		return false, err
	}
	// The writer may have written between our last read and the rename.
	if !r.drain() {
		return false, nil
	}
	f, err := os.Open(r.path)
	if err != nil {
		return false, err
	}
	r.file.Close()
	r.file, r.half = f, nil
	r.buf.Reset(f)
	return true, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
