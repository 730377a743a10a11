// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubeversion "k8s.io/apimachinery/pkg/version"
)

// group and version order what is served, as discovery shows it: what comes
// first is preferred.
type group struct {
	name     string
	versions []version
}

type version struct {
	name      string
	resources []*resource
	virtual   []*virtual
}

// groups returns what is served: Kubernetes' own groups before others.
func (g *registry) groups() []group {
	byGV := map[schema.GroupVersion]*version{}
	at := func(gv schema.GroupVersion) *version {
		if byGV[gv] == nil {
			byGV[gv] = &version{name: gv.Version}
		}
		return byGV[gv]
	}
	for _, r := range g.sorted() {
		v := at(r.gvk.GroupVersion())
		v.resources = append(v.resources, r)
	}
	for _, r := range g.virtual {
		v := at(r.gvk.GroupVersion())
		v.virtual = append(v.virtual, r)
	}
	var out []group
	for gv, v := range byGV {
		slices.SortFunc(v.virtual, func(a, b *virtual) int { return cmp.Compare(a.plural, b.plural) })
		i := slices.IndexFunc(out, func(x group) bool { return x.name == gv.Group })
		if i < 0 {
			i, out = len(out), append(out, group{name: gv.Group})
		}
		out[i].versions = append(out[i].versions, *v)
	}
	for _, x := range out {
		slices.SortFunc(x.versions, func(a, b version) int { return -kubeversion.CompareKubeAwareVersionStrings(a.name, b.name) })
	}
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(rank(a.name), rank(b.name)), cmp.Compare(a.name, b.name))
	})
	return out
}

// rank puts the core group first, then Kubernetes' own.
func rank(group string) int {
	switch {
	case group == "":
		return 0
	case group == "apps":
		return 1
	case !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io"):
		return 2
	}
	return 3
}

// apiResource describes a resource in the old form of discovery.
func (r *resource) apiResources() []metav1.APIResource {
	out := []metav1.APIResource{{
		Name: r.plural, SingularName: r.singular, Namespaced: r.namespaced(), Kind: r.gvk.Kind,
		Verbs: r.verbs, ShortNames: r.short, Categories: r.categories,
		StorageVersionHash: hash([]byte(r.gvk.String()))[:11] + "=",
	}}
	for _, s := range r.subresources() {
		kind := metav1.APIResource{Name: r.plural + "/" + s.Subresource, Namespaced: r.namespaced(), Kind: s.ResponseKind.Kind, Verbs: s.Verbs}
		if s.ResponseKind.Group != r.gvk.Group || s.ResponseKind.Version != r.gvk.Version {
			kind.Group, kind.Version = s.ResponseKind.Group, s.ResponseKind.Version
		}
		out = append(out, kind)
	}
	return out
}

// subresources describes them in the new form.
func (r *resource) subresources() []apidiscoveryv2.APISubresourceDiscovery {
	var out []apidiscoveryv2.APISubresourceDiscovery
	add := func(name string, kind gvk, verbs ...string) {
		out = append(out, apidiscoveryv2.APISubresourceDiscovery{Subresource: name, Verbs: verbs,
			ResponseKind: &metav1.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}})
	}
	for _, name := range r.subNames {
		add(name, r.subs[name].kind, r.subs[name].verbs...)
	}
	if r.scale != nil {
		add("scale", scaleKind, "get", "patch", "update")
	}
	if r.status != nil {
		add("status", r.gvk, "get", "patch", "update")
	}
	slices.SortFunc(out, func(a, b apidiscoveryv2.APISubresourceDiscovery) int {
		return cmp.Compare(a.Subresource, b.Subresource)
	})
	return out
}

func (v *virtual) apiResource() metav1.APIResource {
	return metav1.APIResource{Name: v.plural, SingularName: strings.ToLower(v.gvk.Kind), Namespaced: v.namespaced, Kind: v.gvk.Kind, Verbs: []string{"create"}}
}

// discoverVersion describes a version in the new form.
func (v *version) discover(gv schema.GroupVersion) apidiscoveryv2.APIVersionDiscovery {
	out := apidiscoveryv2.APIVersionDiscovery{Version: v.name, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	scope := func(namespaced bool) apidiscoveryv2.ResourceScope {
		if namespaced {
			return apidiscoveryv2.ScopeNamespace
		}
		return apidiscoveryv2.ScopeCluster
	}
	kind := func(k string) *metav1.GroupVersionKind {
		return &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: k}
	}
	for _, r := range v.resources {
		out.Resources = append(out.Resources, apidiscoveryv2.APIResourceDiscovery{
			Resource: r.plural, ResponseKind: kind(r.gvk.Kind), Scope: scope(r.namespaced()), SingularResource: r.singular,
			Verbs: r.verbs, ShortNames: r.short, Categories: r.categories, Subresources: r.subresources(),
		})
	}
	for _, r := range v.virtual {
		out.Resources = append(out.Resources, apidiscoveryv2.APIResourceDiscovery{
			Resource: r.plural, ResponseKind: kind(r.gvk.Kind), Scope: scope(r.namespaced),
			SingularResource: strings.ToLower(r.gvk.Kind), Verbs: []string{"create"},
		})
	}
	return out
}

// aggregated describes all groups but the core's, or only the core's.
func (g *registry) aggregated(core bool) *apidiscoveryv2.APIGroupDiscoveryList {
	list := &apidiscoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"}}
	for _, x := range g.groups() {
		if core != (x.name == "") {
			continue
		}
		d := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: x.name}}
		for _, v := range x.versions {
			d.Versions = append(d.Versions, v.discover(schema.GroupVersion{Group: x.name, Version: v.name}))
		}
		list.Items = append(list.Items, d)
	}
	return list
}

func (g *registry) apiGroup(x group) metav1.APIGroup {
	out := metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: x.name}
	for _, v := range x.versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: schema.GroupVersion{Group: x.name, Version: v.name}.String(), Version: v.name})
	}
	out.PreferredVersion = out.Versions[0]
	return out
}

func (s *Server) routeDiscovery(mux *http.ServeMux) {
	mux.HandleFunc("GET /api", func(w http.ResponseWriter, r *http.Request) { s.serveGroups(w, r, true) })
	mux.HandleFunc("GET /api/{$}", func(w http.ResponseWriter, r *http.Request) { s.serveGroups(w, r, true) })
	mux.HandleFunc("GET /apis", func(w http.ResponseWriter, r *http.Request) { s.serveGroups(w, r, false) })
	mux.HandleFunc("GET /apis/{$}", func(w http.ResponseWriter, r *http.Request) { s.serveGroups(w, r, false) })
	mux.HandleFunc("GET /api/{version}", s.serveVersion)
	mux.HandleFunc("GET /apis/{group}", s.serveGroup)
	mux.HandleFunc("GET /apis/{group}/{version}", s.serveVersion)
}

// aggregatedType is the media type by which clients ask for everything at once,
// and know that they got it.
const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// wantsAggregated reports whether the client prefers everything at once.
func wantsAggregated(r *http.Request) bool {
	for clause := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		name, params, err := mime.ParseMediaType(clause)
		if err != nil {
			continue
		}
		if name == typeJSON && params["as"] == "APIGroupDiscoveryList" && params["g"] == "apidiscovery.k8s.io" && params["v"] == "v2" {
			return true
		}
		if params["as"] == "" && name == typeJSON {
			return false
		}
	}
	return false
}

func (s *Server) serveGroups(w http.ResponseWriter, r *http.Request, core bool) {
	g := s.registry.Load()
	w.Header().Add("Vary", "Accept")
	if wantsAggregated(r) {
		serveDocument(w, r, aggregatedType, g.aggregated(core))
		return
	}
	if core {
		serveDocument(w, r, typeJSON, &metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: g.coreVersions(),
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}},
		})
		return
	}
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	for _, x := range g.groups() {
		if x.name != "" {
			item := g.apiGroup(x)
			item.TypeMeta = metav1.TypeMeta{}
			list.Groups = append(list.Groups, item)
		}
	}
	serveDocument(w, r, typeJSON, list)
}

func (g *registry) coreVersions() []string {
	out := []string{}
	for _, x := range g.groups() {
		for _, v := range x.versions {
			if x.name == "" {
				out = append(out, v.name)
			}
		}
	}
	return out
}

func (s *Server) serveGroup(w http.ResponseWriter, r *http.Request) {
	g := s.registry.Load()
	for _, x := range g.groups() {
		if x.name != "" && x.name == r.PathValue("group") {
			serveDocument(w, r, typeJSON, g.apiGroup(x))
			return
		}
	}
	notFound(w)
}

func (s *Server) serveVersion(w http.ResponseWriter, r *http.Request) {
	gv := schema.GroupVersion{Group: r.PathValue("group"), Version: r.PathValue("version")}
	for _, x := range s.registry.Load().groups() {
		for _, v := range x.versions {
			if x.name != gv.Group || v.name != gv.Version {
				continue
			}
			list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
			for _, res := range v.resources {
				list.APIResources = append(list.APIResources, res.apiResources()...)
			}
			for _, q := range v.virtual {
				list.APIResources = append(list.APIResources, q.apiResource())
			}
			serveDocument(w, r, typeJSON, list)
			return
		}
	}
	notFound(w)
}

func notFound(w http.ResponseWriter) {
	st := pageNotFound().ErrStatus
	data, err := encodeJSON(statusKind, &st)
	if err != nil {
		panic(err) // a Status is always encodable
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write(data) // the client is gone, if this fails
}

// serveDocument answers with something that changes rarely: clients keep it and
// ask whether it is still so.
func serveDocument(w http.ResponseWriter, r *http.Request, contentType string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	etag := `"` + strings.ToUpper(hash(data)) + `"`
	h.Set("ETag", etag)
	h.Set("Cache-Control", "public")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if rw, ok := w.(*response); ok {
		rw.send(r, http.StatusOK, contentType, data)
		return
	}
	h.Set("Content-Type", contentType)
	_, _ = w.Write(data) // the client is gone, if this fails
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
