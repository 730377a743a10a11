// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// ServeOptions say how a server listens. The zero value serves TLS with a
// certificate of an authority that is made for the occasion.
type ServeOptions struct {
	// Authority signs the server's certificate, and clients' certificates are asked
	// for that it has signed (to be accepted by authn.Certificates). nil: a new one.
	Authority *authn.Authority
	// Hosts are the names and addresses that the certificate is for, beside
	// localhost, the machine's name, the listener's address and the names by which
	// pods know the API server.
	Hosts []string
	// TLS replaces all of that. nil: as above.
	TLS *tls.Config
	// Plain serves without TLS: behind a proxy, or in tests. Client certificates
	// and HTTP/2 are then out of reach.
	Plain bool
	// Grace is how long requests may take to end when the server does. 0: ten
	// seconds. Watches are told to end at once.
	Grace time.Duration
}

// Serve answers the requests of a listener until the context ends; then watches
// are drained, and what is under way is finished, for as long as the grace
// period lasts. It returns nil after an orderly end, once all of its goroutines
// have ended. The listener is closed in any case.
func (s *Server) Serve(ctx context.Context, l net.Listener, opts ServeOptions) error {
	if opts.Grace == 0 {
		opts.Grace = 10 * time.Second
	}
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // of clients' broken connections
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000, SendPingTimeout: time.Minute, PingTimeout: 30 * time.Second},
	}
	if !opts.Plain {
		config, err := s.tlsConfig(l.Addr(), &opts)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		h.TLSConfig = config
	}
	failed := make(chan error, 1)
	go func() { // ends when the server is shut down or closed
		if opts.Plain {
			failed <- h.Serve(l)
		} else {
			failed <- h.ServeTLS(l, "", "")
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("apiserver: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.Drain()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), opts.Grace)
	defer cancel()
	err := h.Shutdown(end)
	if err != nil {
		err = fmt.Errorf("apiserver: requests were cut off after the grace period of %v: %w", opts.Grace, errors.Join(err, h.Close()))
	}
	<-failed
	return err
}

func (s *Server) tlsConfig(addr net.Addr, opts *ServeOptions) (*tls.Config, error) {
	if opts.TLS != nil {
		return opts.TLS, nil
	}
	if opts.Authority == nil {
		a, err := authn.NewAuthority("slipway-ca")
		if err != nil {
			return nil, err
		}
		opts.Authority = a
	}
	hosts := append([]string{"localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local"}, opts.Hosts...)
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	if host, _, err := net.SplitHostPort(addr.String()); err == nil {
		hosts = append(hosts, host)
	}
	cert, err := opts.Authority.Server(hosts...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequestClientCert, // checked by the authenticator, which says what is wrong with it
		NextProtos:   []string{"h2", "http/1.1"},
	}, nil
}

// Kubeconfig returns the text of a kubeconfig file for a user with a client
// certificate. url is the server's, ca what signed its certificate.
func Kubeconfig(url string, ca, cert, key []byte) ([]byte, error) {
	return json.MarshalIndent(map[string]any{ // JSON is YAML
		"apiVersion": "v1", "kind": "Config", "current-context": "slipway",
		"clusters": []any{map[string]any{"name": "slipway", "cluster": map[string]any{"server": url, "certificate-authority-data": ca}}},
		"users":    []any{map[string]any{"name": "admin", "user": map[string]any{"client-certificate-data": cert, "client-key-data": key}}},
		"contexts": []any{map[string]any{"name": "slipway", "context": map[string]any{"cluster": "slipway", "user": "admin"}}},
	}, "", "  ")
}
