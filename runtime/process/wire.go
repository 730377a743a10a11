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
// one message at a time in each direction: a request, with files attached where it has streams, and
// its answer. Closing the connection cancels what was asked. A message is
//
//	length of the rest (4 bytes) | length of the head (1 byte) | head | body
//
// where the head of a request is the operation and that of an answer is empty or
// the code of an error, and the body is JSON, or the error's text. Head and body stand apart so that
// the body is encoded and decoded once: JSON within JSON costs more than all else that a call does.

// maxFrame bounds what a confused peer can make us allocate.
const maxFrame = 64 << 20

// maxFiles is how many files one request may carry.
const maxFiles = 4

// conn is one end of a connection, for one goroutine at a time.
type conn struct {
	*net.UnixConn
	buf  []byte
	read int // where in buf the next message begins
	end  int // where what was received ends
	oob  []byte
}

func newConn(c net.Conn) *conn {
	const usual = 4 << 10
	return &conn{UnixConn: c.(*net.UnixConn), buf: make([]byte, usual), oob: make([]byte, syscall.CmsgSpace(4*maxFiles))}
}

const lengthBytes = 4

func (c *conn) send(head string, body []byte, files ...*os.File) error {
	frame := make([]byte, 0, lengthBytes+1+len(head)+len(body))
	frame = binary.BigEndian.AppendUint32(frame, uint32(1+len(head)+len(body)))
	frame = append(frame, byte(len(head)))
	frame = append(frame, head...)
	frame = append(frame, body...)
	if len(files) == 0 {
		_, err := c.Write(frame)
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

// receive returns a message, whose body is valid until the next one, and the files that came
// along, which belong to the caller.
func (c *conn) receive() (head string, body []byte, files []*os.File, err error) {
	need := lengthBytes
	for {
		if have := c.end - c.read; have >= need {
			if need > lengthBytes {
				break
			}
			size := binary.BigEndian.Uint32(c.buf[c.read:])
			if size > maxFrame || size < 1 {
				return "", nil, files, fmt.Errorf("message of %d bytes: want 1 to %d", size, maxFrame)
			}
			need += int(size)
			continue
		}
		more, err := c.fill(need)
		files = append(files, more...)
		if err != nil {
			return "", nil, files, err
		}
	}
	message := c.buf[c.read+lengthBytes : c.read+need]
	c.read += need
	n := int(message[0])
	if n >= len(message) {
		return "", nil, files, fmt.Errorf("message with a head of %d bytes, and %d in all", n, len(message))
	}
	return string(message[1 : 1+n]), message[1+n:], files, nil
}

// fill reads once, with room for need bytes from the beginning of the message.
func (c *conn) fill(need int) (files []*os.File, err error) {
	if c.read > 0 {
		c.end = copy(c.buf, c.buf[c.read:c.end])
		c.read = 0
	}
	if need > len(c.buf) {
		c.buf = append(make([]byte, 0, need), c.buf[:c.end]...)[:need]
	}
	n, oobn, _, _, err := c.ReadMsgUnix(c.buf[c.end:], c.oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	c.end += n
	if oobn == 0 {
		return nil, nil
	}
	return attached(c.oob[:oobn])
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

// otherError is the code of an error that is none of the sentinels.
const otherError = "Error"

// answer sends a result, or an error.
func (c *conn) answer(result any, err error) error {
	var body []byte
	if err == nil {
		body, err = json.Marshal(result)
	}
	if err == nil {
		return c.send("", body)
	}
	for _, known := range codes {
		if errors.Is(err, known.err) {
			return c.send(known.code, []byte(err.Error()))
		}
	}
	return c.send(otherError, []byte(err.Error()))
}

// remoteError has the supervisor's text and is what its code says.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

// receiveAnswer decodes an answer into result. The first error is the supervisor's, the
// second that of the connection.
func (c *conn) receiveAnswer(result any) (answered, err error) {
	code, body, files, err := c.receive()
	for _, f := range files {
		f.Close() // no answer has any
	}
	if err != nil {
		return nil, err
	}
	if code == "" {
		return nil, json.Unmarshal(body, result)
	}
	e := &remoteError{text: string(body)}
	for _, known := range codes {
		if known.code == code {
			e.is = known.err
		}
	}
	return e, nil
}
