// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/builtin"
	"github.com/slipway-dev/slipway/store/memory"
)

// target is a server that is asked without a network.
type target struct {
	store  *memory.Store
	server *apiserver.Server
}

func newTarget(f *testing.F) *target {
	st := memory.New(memory.Options{Mutations: store.DetectNever})
	f.Cleanup(func() { st.Close() })
	s, err := apiserver.New(st, apiserver.Options{})
	if err != nil {
		f.Fatal(err)
	}
	if err := builtin.Register(s, builtin.Pods(), builtin.ConfigMaps(), builtin.Deployments(), backups()); err != nil {
		f.Fatal(err)
	}
	return &target{st, s}
}

// ask sends a request and fails on answers that are the server's fault.
func (x *target) ask(t *testing.T, method, path, body, contentType string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Skip("no URL")
	}
	r.URL, r.RequestURI = u, path
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	x.server.ServeHTTP(w, r)
	if w.Code >= 500 && w.Code != http.StatusGatewayTimeout || w.Code < 200 {
		t.Fatalf("%s %s %q: %d %s", method, path, body, w.Code, w.Body)
	}
	return w.Code
}

var bodyTypes = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}

// FuzzCreate: whatever the body, the answer is a client's error or an object, and
// an error stores nothing.
func FuzzCreate(f *testing.F) {
	raw, err := (&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	envelope, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	for i, body := range []string{podJSON("p"), backupJSON("x", `{"source":"s","keep":3,"tags":["a","a"]}`), "metadata: {name: x}\nspec: {source: s}\n", "k8s\x00" + string(envelope),
		`{"metadata":{"name":"x","managedFields":[{"fieldsV1":{"f:a":null}}]}}`, `{"metadata":{"creationTimestamp":"x"}}`, "a: &a [*a]", "null", "[]", "{}"} {
		for which := range uint8(3) {
			f.Add(uint8(i), which, body)
		}
	}
	x := newTarget(f)
	paths := []string{podsPath, backupsPath, "/apis/apps/v1/namespaces/a/deployments"}
	f.Fuzz(func(t *testing.T, kind, contentType uint8, body string) {
		before, err := x.store.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		code := x.ask(t, "POST", paths[int(kind)%len(paths)]+"?fieldValidation=Strict", body, bodyTypes[int(contentType)%len(bodyTypes)])
		after, err := x.store.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if code != 201 && after != before {
			t.Errorf("answered %d and stored something", code)
		}
	})
}

var patchMedia = []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"}

// FuzzPatch: whatever the patch, the answer is a client's error or an object.
func FuzzPatch(f *testing.F) {
	for _, body := range []string{`[{"op":"add","path":"/metadata/labels/x","value":"y"}]`, `[{"op":"copy","from":"/spec","path":"/spec/containers/0"}]`,
		`[{"op":"move","from":"","path":"/a"}]`, `{"metadata":{"labels":null}}`, `{"spec":{"containers":[{"$patch":"delete","name":"c"}]}}`,
		`{"spec":{"$setElementOrder/containers":[{"name":"d"}],"containers":[{"name":"d","image":"j"}]}}`, `{"spec":{"$retainKeys":["x"]}}`,
		`{"$deleteFromPrimitiveList/x":[1]}`, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, ports: [{containerPort: 80},{containerPort: 80}]}]}\n", `{"metadata":{"managedFields":[{}]}}`} {
		for which := range uint8(4) {
			f.Add(which, which%2 == 0, body)
		}
	}
	x := newTarget(f)
	f.Fuzz(func(t *testing.T, kind uint8, own bool, body string) {
		path, object := podsPath, podJSON("p")
		if own {
			path, object = backupsPath, backupJSON("p", `{"source":"s"}`)
		}
		x.ask(t, "POST", path, object, "application/json")
		for _, sub := range []string{"", "/status"} {
			x.ask(t, "PATCH", path+"/p"+sub+"?fieldManager=fuzz&force="+map[bool]string{true: "true"}[kind%4 == 3], body, patchMedia[int(kind)%len(patchMedia)])
		}
		x.ask(t, "PATCH", "/apis/example.com/v1/namespaces/a/backups/p/scale", body, patchMedia[int(kind)%len(patchMedia)])
		x.ask(t, "DELETE", path+"/p", `{"gracePeriodSeconds":0}`, "application/json")
		x.ask(t, "PATCH", path+"/p", `{"metadata":{"finalizers":null}}`, "application/merge-patch+json")
	})
}

// FuzzRequest: whatever the path, the query and the delete options, the answer is
// not the server's fault.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{podsPath + "?labelSelector=a in (b,c),!d&fieldSelector=spec.nodeName=x&limit=1", podsPath + "?continue=eyJ2IjoxfQ", podsPath + "/p/log",
		"/apis/apps/v1/namespaces/a/deployments/x/scale", "/api/v1/namespaces/a/pods/p?resourceVersion=0", "/api//v1", "/apis", "/openapi/v2", "//", "/api/v1/watch/pods?timeoutSeconds=1&resourceVersion=1"} {
		f.Add("GET", path, "")
		f.Add("DELETE", path, `{"propagationPolicy":"Orphan","preconditions":{"uid":"x"}}`)
	}
	x := newTarget(f)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if u, err := url.ParseRequestURI(path); err != nil || method != "GET" && method != "DELETE" || strings.Contains(path, "watch") ||
			strings.Contains(u.RawQuery, "resourceVersion") { // these wait
			t.Skip()
		}
		x.ask(t, method, strings.ReplaceAll(path, " ", "%20"), body, "application/json")
	})
}
