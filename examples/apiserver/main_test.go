// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestServe does what the comment of the command says, with a kubeconfig that the
// program wrote.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, file) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	url, client := connect(t, file)
	const path = "/apis/example.com/v1/namespaces/default/ships"
	for _, c := range []struct {
		body string
		code int
		want string
	}{
		{"apiVersion: example.com/v1\nkind: Ship\nmetadata: {name: vasa}\nspec: {cargo: 64}\n", 201, `"cargo":64`},
		{"apiVersion: example.com/v1\nkind: Ship\nmetadata: {name: raft}\nspec: {cargo: -1}\n", 422, "spec.cargo: Invalid value: -1: must not be negative"},
	} {
		resp, err := client.Post(url+path, "application/yaml", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || !strings.Contains(string(text), c.want) {
			t.Errorf("%d %s, want %d with %q", resp.StatusCode, text, c.code, c.want)
		}
	}
}

// connect returns the server and a client for it, as a kubeconfig has them.
func connect(t *testing.T, file string) (string, *http.Client) {
	t.Helper()
	var data []byte
	for range 500 { // until it is written
		if data, _ = os.ReadFile(file); json.Valid(data) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			}
		}
	}
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(config.Users[0].User.Cert, config.Users[0].User.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Clusters[0].Cluster.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	t.Cleanup(transport.CloseIdleConnections)
	return config.Clusters[0].Cluster.Server, &http.Client{Transport: transport}
}
