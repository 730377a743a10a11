// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
)

// Version is what /version reports, and kubectl version shows.
type Version struct {
	Major        string `json:"major"`
	Minor        string `json:"minor"`
	GitVersion   string `json:"gitVersion"`
	GitCommit    string `json:"gitCommit"`
	GitTreeState string `json:"gitTreeState"`
	BuildDate    string `json:"buildDate"`
	GoVersion    string `json:"goVersion"`
	Compiler     string `json:"compiler"`
	Platform     string `json:"platform"`
}

// The version of Kubernetes whose API this package follows.
const (
	kubeMajor, kubeMinor = "1", "36"
	kubeVersion          = "v1.36.0+slipway"
)

func (v Version) complete() Version {
	v.Major, v.Minor = cmp.Or(v.Major, kubeMajor), cmp.Or(v.Minor, kubeMinor)
	v.GitVersion = cmp.Or(v.GitVersion, kubeVersion)
	v.GitTreeState = cmp.Or(v.GitTreeState, "clean")
	v.BuildDate = cmp.Or(v.BuildDate, "1970-01-01T00:00:00Z")
	v.GoVersion = cmp.Or(v.GoVersion, runtime.Version())
	v.Compiler = cmp.Or(v.Compiler, runtime.Compiler)
	v.Platform = cmp.Or(v.Platform, runtime.GOOS+"/"+runtime.GOARCH)
	return v
}

// newMux serves what is no resource.
func (s *Server) newMux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.opts.Version.complete()) })
	mux.HandleFunc("GET /version/{$}", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.opts.Version.complete()) })
	mux.HandleFunc("GET /livez", s.serveLive)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /healthz", s.serveReady)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	mux.HandleFunc("GET /{$}", s.serveIndex)
	s.routeDiscovery(mux)
	s.routeOpenAPI(mux)
	if i := s.opts.Issuer; i != nil {
		mux.HandleFunc("GET /openid/v1/jwks", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/jwk-set+json")
			_, _ = w.Write(i.JWKS()) // the client is gone, if this fails
		})
		mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", typeJSON)
			_, _ = w.Write(i.Discovery("https://" + r.Host + "/openid/v1/jwks")) // likewise
		})
	}
	for pattern, h := range s.opts.Handlers {
		mux.Handle(pattern, h)
	}
	return mux
}

func (s *Server) serveLive(w http.ResponseWriter, r *http.Request) {
	probe(w, r, map[string]error{"ping": nil})
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	checks := map[string]error{"ping": nil, "store": s.storeReady(r.Context()), "shutdown": nil}
	if s.draining() {
		checks["shutdown"] = errDraining
	}
	if s.opts.Ready != nil {
		checks["ready"] = s.opts.Ready(r.Context())
	}
	probe(w, r, checks)
}

func (s *Server) storeReady(ctx context.Context) error {
	_, err := s.store.Revision(ctx)
	return err
}

// probe answers "ok", or what is wrong; with ?verbose, each check.
func probe(w http.ResponseWriter, r *http.Request, checks map[string]error) {
	names := make([]string, 0, len(checks))
	bad := false
	for name, err := range checks {
		names = append(names, name)
		bad = bad || err != nil
	}
	slices.Sort(names)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if bad {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, verbose := r.URL.Query()["verbose"]
	if !bad && !verbose {
		fmt.Fprint(w, "ok")
		return
	}
	for _, name := range names {
		if err := checks[name]; err != nil {
			fmt.Fprintf(w, "[-]%s failed: %v\n", name, err)
		} else {
			fmt.Fprintf(w, "[+]%s ok\n", name)
		}
	}
	verdict := "passed"
	if bad {
		verdict = "failed"
	}
	fmt.Fprintf(w, "%s check %s\n", r.URL.Path[1:], verdict)
}

// serveIndex lists the paths.
func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	paths := []string{"/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}
	for _, g := range s.registry.Load().groups() {
		if g.name != "" {
			paths = append(paths, "/apis/"+g.name)
			for _, v := range g.versions {
				paths = append(paths, "/apis/"+g.name+"/"+v.name)
			}
		}
	}
	slices.Sort(paths)
	writeJSON(w, map[string]any{"paths": paths})
}

func writeJSON(w http.ResponseWriter, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	_, _ = w.Write(data) // the client is gone, if this fails
}
