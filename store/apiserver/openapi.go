// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"reflect"
	"sync"

	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"

	"github.com/slipway-dev/slipway/store/apiserver/internal/openapi"
)

// documents are what is said about a registry. They are made when they are first
// asked for: OpenAPI of the built-in kinds takes a second, and some megabytes.
type documents struct {
	once sync.Once
	mux  *http.ServeMux
	err  error
}

// patterns is a ServeMux as the OpenAPI handlers want it.
type patterns struct{ mux *http.ServeMux }

func (p patterns) Handle(path string, h http.Handler)       { p.mux.Handle(path, h) }
func (p patterns) HandlePrefix(path string, h http.Handler) { p.mux.Handle(path, h) }

func (s *Server) routeOpenAPI(mux *http.ServeMux) {
	serve := func(w http.ResponseWriter, r *http.Request) {
		d := &s.registry.Load().documents
		d.once.Do(func() { d.mux, d.err = s.registry.Load().openAPI() })
		if d.err != nil {
			s.log.Error("apiserver: OpenAPI", "error", d.err)
			http.Error(w, d.err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Del("Cache-Control") // the handlers have their own
		d.mux.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET /openapi/v2", serve)
	mux.HandleFunc("GET /openapi/v3", serve)
	mux.HandleFunc("GET /openapi/v3/", serve)
}

// openAPI returns the handlers of the registry's documents.
func (g *registry) openAPI() (*http.ServeMux, error) {
	mux := http.NewServeMux()
	v3 := handler3.NewOpenAPIService()
	var all []openapi.Resource
	for _, x := range g.groups() {
		for _, v := range x.versions {
			described := v.describe()
			all = append(all, described...)
			path := "apis/" + x.name + "/" + v.name
			if x.name == "" {
				path = "api/" + v.name
			}
			v3.UpdateGroupVersion(path, openapi.V3(described))
		}
	}
	if err := v3.RegisterOpenAPIV3VersionedService("/openapi/v3", patterns{mux}); err != nil {
		return nil, err
	}
	handler.NewOpenAPIService(openapi.V2(all)).RegisterOpenAPIVersionedService("/openapi/v2", patterns{mux})
	return mux, nil
}

// describe returns what OpenAPI is to say of a version's resources.
func (v *version) describe() []openapi.Resource {
	var out []openapi.Resource
	for _, r := range v.resources {
		d := openapi.Resource{Kind: r.gvk, Plural: r.plural, Namespaced: r.namespaced(), Type: r.elem, Verbs: r.verbs, Description: r.description}
		if r.untyped {
			d.Type = nil
		}
		for _, s := range r.subresources() {
			sub := openapi.Subresource{Name: s.Subresource, Verbs: s.Verbs, Kind: gvk{Group: s.ResponseKind.Group, Version: s.ResponseKind.Version, Kind: s.ResponseKind.Kind}}
			if own := r.subs[s.Subresource]; own != nil && own.body != nil {
				sub.Type = reflect.TypeOf(own.body()).Elem()
			}
			d.Subresources = append(d.Subresources, sub)
		}
		out = append(out, d)
	}
	for _, q := range v.virtual {
		out = append(out, openapi.Resource{Kind: q.gvk, Plural: q.plural, Namespaced: q.namespaced, Type: q.elem, Verbs: []string{"create"}})
	}
	return out
}
