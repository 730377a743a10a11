// SPDX-License-Identifier: Apache-2.0

// Package probe asks a server whether it is well, as kubelet does: by HTTP, by TCP, or by
// the gRPC health protocol
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
//
//	ctx, cancel := context.WithTimeout(ctx, time.Second)
//	defer cancel()
//	err := probe.HTTP(ctx, probe.HTTPGet{Host: "127.0.0.1", Port: 8080, Path: "/healthz"})
//
// An error means "not well", and its text is what belongs into an event. The
// caller's context bounds everything: a server that hangs is not well.
package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// HTTPGet is a request that a healthy server answers with a status from 200 to 399.
type HTTPGet struct {
	Scheme  string // "HTTP" (also if empty) or "HTTPS"; certificates are not checked
	Host    string // empty in a pod's probe: the pod's address
	Port    int
	Path    string // with query
	Headers []Header
}

// Header is a request header; "Host" sets the request's host.
type Header struct{ Name, Value string }

// TCPSocket is an address that a healthy server accepts connections on.
type TCPSocket struct {
	Host string // empty in a pod's probe: the pod's address
	Port int
}

// GRPC is a server with the standard health service, without TLS.
type GRPC struct {
	Host    string // empty in a pod's probe: the pod's address
	Port    int
	Service string
}

// maxBody is how much of an answer is read.
const maxBody = 10 << 10

// HTTP sends the request. Redirects to the same host are followed; one to another
// host counts as well, since the server was able to answer.
func HTTP(ctx context.Context, g HTTPGet) error {
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(g.Host, strconv.Itoa(g.Port))}
	if g.Scheme != "" {
		u.Scheme = strings.ToLower(g.Scheme)
	}
	u.Path, u.RawQuery, _ = strings.Cut(g.Path, "?")
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("HTTP probe: %w", err)
	}
	req.Header.Set("User-Agent", "slipway-probe/1")
	req.Header.Set("Accept", "*/*")
	for _, h := range g.Headers {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
		} else {
			req.Header.Add(h.Name, h.Value)
		}
	}
	// One connection for one question: a probe must not find yesterday's server.
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as kubelet: health, not identity
		DisableKeepAlives: true,
		Proxy:             nil,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if next.URL.Hostname() != u.Hostname() || len(via) >= 10 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}

// TCP opens a connection, and closes it.
func TCP(ctx context.Context, s TCPSocket) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

// Check calls grpc.health.v1.Health/Check. The protocol is small enough to be
// spoken by hand over HTTP/2, which keeps gRPC out of programs that use this package.
func Check(ctx context.Context, g GRPC) error {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	target := "http://" + net.JoinHostPort(g.Host, strconv.Itoa(g.Port)) + "/grpc.health.v1.Health/Check"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(frame(request(g.Service))))
	if err != nil {
		return fmt.Errorf("gRPC probe: %w", err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	req.Header.Set("User-Agent", "slipway-probe/1")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("service unhealthy: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("service unhealthy: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("service unhealthy: HTTP status %d: this is no gRPC server", resp.StatusCode)
	}
	// An answer without a message carries its status in the headers.
	status, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if status == "" {
		status, message = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if status == "12" {
		return errors.New("this server does not implement the grpc health protocol (grpc.health.v1.Health)")
	}
	if status != "0" {
		return fmt.Errorf("service unhealthy: gRPC status %q: %s", status, message)
	}
	state, err := response(body)
	if err != nil {
		return fmt.Errorf("service unhealthy: %w", err)
	}
	if state != serving {
		return fmt.Errorf("service unhealthy (responded with %q)", stateName(state))
	}
	return nil
}

// serving is HealthCheckResponse.ServingStatus.SERVING.
const serving = 1

func stateName(n uint64) string {
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if n < uint64(len(names)) {
		return names[n]
	}
	return strconv.FormatUint(n, 10)
}

// request is HealthCheckRequest{service = 1} in protocol buffers.
func request(service string) []byte {
	if service == "" {
		return nil
	}
	b := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
	return append(b, service...)
}

// frame puts gRPC's prefix before a message: no compression, and its length.
func frame(message []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(b, message...)
}

var errResponse = errors.New("the answer is not a health check response")

// response reads HealthCheckResponse{status = 1} with its frame.
func response(b []byte) (uint64, error) {
	if len(b) < 5 || b[0] != 0 || uint32(len(b)-5) != binary.BigEndian.Uint32(b[1:5]) {
		return 0, errResponse
	}
	state := uint64(0)
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errResponse
		}
		b = b[n:]
		var size int
		switch tag & 7 {
		case 0:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errResponse
			}
			if size = n; tag>>3 == 1 {
				state = v
			}
		case 1:
			size = 8
		case 2:
			length, n := binary.Uvarint(b)
			if n <= 0 || length > uint64(len(b)-n) {
				return 0, errResponse
			}
			size = n + int(length)
		case 5:
			size = 4
		default:
			return 0, errResponse
		}
		if size > len(b) {
			return 0, errResponse
		}
		b = b[size:]
	}
	return state, nil
}
