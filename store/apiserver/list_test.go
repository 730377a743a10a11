// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/store/apiserver"
)

// seeded is a fixture with n backups, of alternating labels and sources.
func seeded(t *testing.T, n int, opts apiserver.Options) *fixture {
	f := newFixture(t, opts)
	for i := range n {
		f.want(f.do("POST", backupsPath, fmt.Sprintf(`{"metadata":{"name":"b%03d","labels":{"odd":"%d"}},"spec":{"source":"s%d"}}`, i, i%2, i%3)), 201)
	}
	return f
}

func TestListPages(t *testing.T) {
	f := seeded(t, 10, apiserver.Options{})
	var names []string
	token := ""
	for page := 0; ; page++ {
		a := f.want(f.do("GET", "/apis/example.com/v1/backups?limit=3&continue="+token, ""), 200)
		for i := 0; a.get(fmt.Sprintf("items.%d.metadata.name", i)) != "<none>"; i++ {
			names = append(names, a.get(fmt.Sprintf("items.%d.metadata.name", i)))
		}
		if page == 0 {
			if got := a.get("metadata.remainingItemCount"); got != "7" {
				t.Errorf("remaining %s, want 7", got)
			}
			f.want(f.do("DELETE", backupsPath+"/b009", ""), 200) // the pages are of one revision
		}
		if token = a.get("metadata.continue"); token == "<none>" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "b000 b001 b002 b003 b004 b005 b006 b007 b008 b009" {
		t.Errorf("pages: %s", got)
	}
	token = f.do("GET", backupsPath+"?limit=3", "").get("metadata.continue")
	f.want(f.do("POST", backupsPath, backupJSON("z", `{}`)), 201)
	rev, err := f.store.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("GET", backupsPath+"?limit=3&continue="+token, ""), 410, "The provided continue parameter is too old", `"reason":"Expired"`)
}

func TestListSelectors(t *testing.T) {
	f := seeded(t, 6, apiserver.Options{})
	for query, want := range map[string]string{
		"labelSelector=odd=1":                                 "b001 b003 b005",
		"labelSelector=odd+in+(0),odd":                        "b000 b002 b004",
		"fieldSelector=spec.source=s0":                        "b000 b003",
		"fieldSelector=spec.source!=s0,metadata.name!=b001":   "b002 b004 b005",
		"fieldSelector=metadata.name=b002":                    "b002",
		"fieldSelector=metadata.namespace=b":                  "",
		"labelSelector=odd=1&fieldSelector=spec.source%3Ds0":  "b003",
		"resourceVersion=0":                                   "b000 b001 b002 b003 b004 b005",
		"resourceVersion=1&resourceVersionMatch=NotOlderThan": "b000 b001 b002 b003 b004 b005",
	} {
		a := f.want(f.do("GET", "/apis/example.com/v1/backups?"+query, ""), 200)
		var names []string
		for i := 0; a.get(fmt.Sprintf("items.%d.metadata.name", i)) != "<none>"; i++ {
			names = append(names, a.get(fmt.Sprintf("items.%d.metadata.name", i)))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestShapes(t *testing.T) {
	f := seeded(t, 2, apiserver.Options{})
	table := "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	a := f.want(f.do("GET", backupsPath, "", table), 200, `"kind":"Table","apiVersion":"meta.k8s.io/v1"`, `"kind":"PartialObjectMetadata"`)
	for path, want := range map[string]string{
		"columnDefinitions.0.name": "Name", "columnDefinitions.0.format": "name", "columnDefinitions.1.name": "Phase", "columnDefinitions.2.name": "Age",
		"rows.1.cells.0": "b001", "rows.1.object.metadata.labels.odd": "1", "rows.1.object.spec": "<none>",
	} {
		if got := a.get(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	f.want(f.do("GET", backupsPath+"/b000?includeObject=Object", "", table), 200, `"source":"s0"`)
	f.want(f.do("GET", backupsPath+"?includeObject=Nothing", "", table), 400, "includeObject")
	a = f.want(f.do("GET", backupsPath, "", "Accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"), 200, `"kind":"PartialObjectMetadataList"`)
	if strings.Contains(string(a.body), `"spec"`) {
		t.Errorf("the metadata has a spec: %s", a.body)
	}
	f.want(f.do("GET", backupsPath+"/b000", "", "Accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"), 200, `"kind":"PartialObjectMetadata"`)
	f.want(f.do("GET", backupsPath, "", "Accept: application/yaml"), 200, "kind: BackupList", "source: s0")
	f.want(f.do("GET", backupsPath+"/b000", "", "Accept: application/yaml"), 200, "kind: Backup\n")
	f.want(f.do("POST", backupsPath, "metadata: {name: yaml}\nspec: {source: z}\n", "Content-Type: application/yaml"), 201, `"source":"z"`)
	f.want(f.do("GET", backupsPath, "", "Accept: application/json;as=Chair;v=v1;g=meta.k8s.io"), 406)
}

func TestGzip(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	f.want(f.do("POST", backupsPath, backupJSON("big", `{"source":"`+strings.Repeat("x", 200<<10)+`"}`)), 201)
	for path, want := range map[string]string{backupsPath: "gzip", backupsPath + "/big": "gzip", backupsPath + "/nope": ""} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := f.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("%s: encoding %q, want %q", path, got, want)
		}
		if want == "" {
			continue
		}
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(z)
		if err != nil || len(data) < 200<<10 {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
	}
}

func TestDiscovery(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	aggregated := "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
	a := f.want(f.do("GET", "/apis", "", aggregated), 200, `"kind":"APIGroupDiscoveryList"`, `"resource":"backups"`, `"subresource":"scale"`)
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/json;g=apidiscovery.k8s.io;v=v2") {
		t.Errorf("content type %q", got)
	}
	f.want(f.do("GET", "/apis", "", aggregated, "If-None-Match: "+a.header.Get("ETag")), 304)
	f.want(f.do("GET", "/api", "", aggregated), 200, `"resource":"pods"`, `"shortNames":["po"]`, `"categories":["all"]`)
	f.want(f.do("GET", "/api", ""), 200, `"kind":"APIVersions"`)
	f.want(f.do("GET", "/apis", ""), 200, `"kind":"APIGroupList"`, "example.com/v1")
	f.want(f.do("GET", "/apis/example.com", ""), 200, `"preferredVersion"`)
	f.want(f.do("GET", "/apis/example.com/v1", ""), 200, `"name":"backups/status"`, `"name":"backups/scale"`)
	f.want(f.do("GET", "/apis/nope", ""), 404)
	f.want(f.do("GET", "/nope", ""), 404)
	f.want(f.do("GET", "/openapi/v3", ""), 200, "/openapi/v3/apis/example.com/v1?hash=")
	f.want(f.do("GET", "/openapi/v3/apis/example.com/v1", ""), 200, `"fieldValidation"`, `"x-kubernetes-list-type":"set"`)
	f.want(f.do("GET", "/openapi/v2", "", "Accept: application/json"), 200, `"swagger":"2.0"`)
	f.want(f.do("GET", "/openapi/v2", "", "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf"), 200)
	f.want(f.do("GET", "/version", ""), 200, `"gitVersion": "v1.36`)
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		f.want(f.do("GET", path, ""), 200, "ok")
		f.want(f.do("GET", path+"?verbose", ""), 200, "[+]ping ok")
	}
	f.want(f.do("GET", "/metrics", ""), 200, `apiserver_request_total{verb="",code="200"}`)
	// Kinds come and go while the server runs.
	if err := f.server.Unregister(backups().Kind.KindName()); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("GET", backupsPath, ""), 404)
	if err := apiserver.Register(f.server, backups()); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("GET", backupsPath, ""), 200)
}
