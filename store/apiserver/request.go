// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"strings"

	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// target is what the path of a request names: a resource, an object,
// a subresource, or something else.
type target struct {
	group, version string
	resource       string // "": no resource
	namespace      string
	name           string
	sub            string
	rest           string // of the path, after the subresource
	watch          bool   // the old form of the path, /api/v1/watch/...
}

// parseTarget reads the path. ok is false for what is not below a version.
func parseTarget(path string) (t target, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		t.version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		t.group, t.version, parts = parts[1], parts[2], parts[3:]
	default:
		return t, false
	}
	if parts[0] == "watch" && len(parts) > 1 {
		t.watch, parts = true, parts[1:]
	}
	// /namespaces/NS/pods is in a namespace; /namespaces/NS, and its own
	// subresources, are about the namespace itself.
	if parts[0] == "namespaces" && len(parts) > 2 && !(len(parts) == 3 && namespaceSubresources[parts[2]]) {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.resource = parts[0]
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.sub = parts[2]
	}
	if len(parts) > 3 {
		t.rest = strings.Join(parts[3:], "/")
	}
	if t.resource == "namespaces" && t.namespace == "" {
		t.namespace = t.name // as Kubernetes' authorizers see it
	}
	return t, true
}

var namespaceSubresources = map[string]bool{"status": true, "finalize": true}

// verb returns the API verb of a request to a resource.
func (t *target) verb(r *http.Request, watch bool) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		switch {
		case watch || t.watch:
			return "watch"
		case t.name != "":
			return "get"
		}
		return "list"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if t.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return ""
}

func (t *target) attributes(verb string) authz.Attributes {
	return authz.Attributes{
		Verb: verb, Group: t.group, Version: t.version, Resource: t.resource, Subresource: t.sub,
		Namespace: t.namespace, Name: t.name,
	}
}
