// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime/probe"
)

func address(t *testing.T, s *httptest.Server) (string, int) {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return u.Hostname(), port
}

func TestHTTP(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.URL.RawQuery != "" && r.URL.RawQuery != "full=1" {
				w.WriteHeader(500)
			}
		case "/header":
			if r.Header.Get("X-Probe") != "yes" || r.Host != "example.com" {
				w.WriteHeader(500)
			}
		case "/bad":
			w.WriteHeader(503)
		case "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/elsewhere":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case "/hang":
			<-r.Context().Done()
		}
	})
	for _, tls := range []bool{false, true} {
		s := httptest.NewUnstartedServer(handler)
		scheme := "HTTP"
		if tls {
			scheme = "HTTPS"
			s.StartTLS()
		} else {
			s.Start()
		}
		defer s.Close()
		host, port := address(t, s)
		for path, want := range map[string]string{
			"/ok": "", "ok": "", "/ok?full=1": "", "/header": "", "/elsewhere": "",
			"/bad": "statuscode: 503", "/moved": "statuscode: 503", "/hang": "deadline exceeded",
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := probe.HTTP(ctx, probe.HTTPGet{Scheme: scheme, Host: host, Port: port, Path: path, Headers: []probe.Header{{Name: "X-Probe", Value: "yes"}, {Name: "Host", Value: "example.com"}}})
			cancel()
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s %s: %v, want %q", scheme, path, err, want)
			}
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := probe.TCP(t.Context(), probe.TCPSocket{Host: "127.0.0.1", Port: port}); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := probe.TCP(t.Context(), probe.TCPSocket{Host: "127.0.0.1", Port: port}); err == nil {
		t.Error("a closed port is well")
	}
}

func TestCheck(t *testing.T) {
	var body string // what the server answers, in bytes
	var status string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		if r.ProtoMajor != 2 || r.URL.Path != "/grpc.health.v1.Health/Check" || string(asked) != "\x00\x00\x00\x00\x05\x0a\x03web" {
			t.Errorf("request %s %s %q", r.Proto, r.URL.Path, asked)
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		io.WriteString(w, body)
		w.Header().Set("Grpc-Status", status)
	}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols = &protocols
	s.Start()
	defer s.Close()
	host, port := address(t, s)
	for _, tt := range []struct{ body, status, want string }{
		{"\x00\x00\x00\x00\x02\x08\x01", "0", ""},
		{"\x00\x00\x00\x00\x02\x08\x02", "0", "NOT_SERVING"},
		{"\x00\x00\x00\x00\x00", "0", "UNKNOWN"},
		{"\x00\x00\x00\x00\x06\x12\x02xx\x08\x01", "0", ""}, // an unknown field before
		{"", "12", "does not implement"},
		{"", "5", `gRPC status "5"`},
		{"\x00\x00\x00\x00\x09\x08\x01", "0", "not a health check response"},
		{"\x00\x00\x00\x00\x02\x08\xff", "0", "not a health check response"},
	} {
		body, status = tt.body, tt.status
		err := probe.Check(t.Context(), probe.GRPC{Host: host, Port: port, Service: "web"})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("answer %q, status %s: %v, want %q", tt.body, tt.status, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := probe.Check(ctx, probe.GRPC{Host: host, Port: port}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
