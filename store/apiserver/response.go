// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"compress/gzip"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// response remembers what was answered, for metrics and the audit log.
type response struct {
	http.ResponseWriter
	code  int
	bytes int64
}

func (w *response) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// frame is how much is handed to HTTP/2 at a time: as much as fits, with the
// header of the frame, into one record of TLS. A byte more takes a second record
// and a second system call (10 us for each event to a thousand watchers, not 8).
const frame = 16<<10 - 64

func (w *response) Write(data []byte) (n int, err error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	for first := true; err == nil && (first || n < len(data)); first = false {
		var m int
		m, err = w.ResponseWriter.Write(data[n:min(n+frame, len(data))])
		n += m
	}
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush and Hijack are here because libraries that serve streams ask for them by
// type assertion.
func (w *response) Flush() {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush() // the next write fails, if this did
}

// Hijack implements http.Hijacker.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.code = http.StatusSwitchingProtocols
	}
	return c, rw, err
}

// maxWarning is how much of warnings an answer carries.
const maxWarning = 4096

// warn adds a warning, which kubectl prints.
func (w *response) warn(text string) {
	if len(text) > maxWarning || len(w.Header()["Warning"]) >= 64 {
		return
	}
	text = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ").Replace(text)
	w.Header().Add("Warning", `299 - "`+text+`"`)
}

// gzipFrom is the size from which an answer is worth compressing: a client on
// the same machine only loses by it below that.
const gzipFrom = 128 << 10

var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one of the package's own
	}
	return w
}}

// send writes a whole answer, compressed where that is wanted and worth it.
func (w *response) send(r *http.Request, code int, contentType string, parts ...[]byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size >= gzipFrom {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			w.WriteHeader(code)
			w.compress(parts)
			return
		}
	}
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return
	}
	w.gather(parts)
}

func (w *response) compress(parts [][]byte) {
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(w)
	for _, p := range parts {
		if _, err := z.Write(p); err != nil {
			return // the client is gone
		}
	}
	_ = z.Close() // likewise
}

// gather writes many small parts as few large ones: each write costs a frame and
// a hand-over between goroutines in HTTP/2.
func (w *response) gather(parts [][]byte) {
	if len(parts) == 1 {
		_, _ = w.Write(parts[0]) // the client is gone, if this fails
		return
	}
	b := chunks.Get().(*[]byte)
	defer chunks.Put(b)
	buf := (*b)[:0]
	for _, p := range parts {
		if len(buf)+len(p) > cap(buf) && len(buf) > 0 {
			if _, err := w.Write(buf); err != nil {
				return
			}
			buf = buf[:0]
		}
		if len(p) > cap(buf) {
			if _, err := w.Write(p); err != nil {
				return
			}
			continue
		}
		buf = append(buf, p...)
	}
	_, _ = w.Write(buf)
}

const chunkSize = 256 << 10

var chunks = sync.Pool{New: func() any { return new(make([]byte, 0, chunkSize)) }}
