// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/slipway-dev/slipway/runtime"
)

// The agent and its supervisor talk over a Unix socket. A connection carries
// one request at a time: a frame with the request, with files attached where it has streams, and a frame
// with the answer. Closing the connection cancels what was asked. A frame is its length, four bytes,
// and JSON.

type request struct {
	Op   string
	Args json.RawMessage
}

type answer struct {
	Code   string `json:",omitempty"` // of the error, see codes
	Error  string `json:",omitempty"`
	Result json.RawMessage
}

// maxFrame bounds what a confused peer can make us allocate.
const maxFrame = 64 << 20

// maxFiles is how many files one request may carry.
const maxFiles = 4

func send(c *net.UnixConn, v any, files ...*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	frame = append(frame, body...)
	if len(files) == 0 {
		_, err = c.Write(frame)
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	n, _, err := c.WriteMsgUnix(frame, syscall.UnixRights(fds...), nil)
	if err == nil && n < len(frame) {
		_, err = c.Write(frame[n:])
	}
	return err
}

// receive returns the files that came along; they belong to the caller.
func receive(c *net.UnixConn, v any) (files []*os.File, err error) {
	var head [4]byte
	oob := make([]byte, syscall.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := c.ReadMsgUnix(head[:], oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if oobn > 0 {
		if files, err = attached(oob[:oobn]); err != nil {
			return nil, err
		}
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return files, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return files, fmt.Errorf("frame of %d bytes: the limit is %d", size, maxFrame)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return files, err
	}
	return files, json.Unmarshal(body, v)
}

func attached(oob []byte) (files []*os.File, err error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "attached"))
		}
	}
	return files, nil
}

// codes lets sentinels cross the wire.
var codes = []struct {
	code string
	err  error
}{
	{"NotFound", runtime.ErrNotFound},
	{"AlreadyExists", runtime.ErrAlreadyExists},
	{"Invalid", runtime.ErrInvalid},
	{"State", runtime.ErrState},
	{"Unsupported", runtime.ErrUnsupported},
	{"Unavailable", runtime.ErrUnavailable},
	{"Exhausted", runtime.ErrExhausted},
	{"Lagged", runtime.ErrLagged},
	{"DeadlineExceeded", context.DeadlineExceeded},
	{"Canceled", context.Canceled},
}

func answerFor(result any, err error) answer {
	if err != nil {
		a := answer{Error: err.Error()}
		for _, c := range codes {
			if errors.Is(err, c.err) {
				a.Code = c.code
				break
			}
		}
		return a
	}
	b, err := json.Marshal(result)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Result: b}
}

// remoteError has the supervisor's text and is what its code says.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func (a *answer) err() error {
	if a.Error == "" {
		return nil
	}
	e := &remoteError{text: a.Error}
	for _, c := range codes {
		if c.code == a.Code {
			e.is = c.err
		}
	}
	return e
}
