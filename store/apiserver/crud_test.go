// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"net/http"
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

func TestCreate(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	a := f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 201, `{"kind":"Backup","apiVersion":"example.com/v1"`)
	for path, want := range map[string]string{"spec.keep": "1", "metadata.generation": "1", "metadata.namespace": "a"} {
		if got := a.get(path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 409, `"reason":"AlreadyExists"`, `backups.example.com \"x\" already exists`)
	if got := f.want(f.do("POST", backupsPath, `{"metadata":{"generateName":"g-"},"spec":{"source":"s"}}`), 201).get("metadata.name"); len(got) != 7 {
		t.Errorf("generated name %q", got)
	}
	// The status is not the creator's to set, a pod's phase is the kind's default.
	a = f.want(f.do("POST", backupsPath, `{"metadata":{"name":"y"},"spec":{"source":"s"},"status":{"phase":"Done"}}`), 201)
	if got := a.get("status.phase"); got != "<none>" {
		t.Errorf("status %s was stored on create", got)
	}
	if got := f.want(f.do("POST", podsPath, podJSON("p")), 201).get("status.phase"); got != "Pending" {
		t.Errorf("the pod's phase is %s, want Pending", got)
	}
}

// TestRefused: what is wrong is answered in Kubernetes' words, and nothing is stored.
func TestRefused(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	deep := strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300)
	for _, c := range []struct {
		what, method, path, body string
		headers                  []string
		code                     int
		want                     []string
	}{
		{"malformed", "POST", backupsPath, `{"metadata":`, nil, 400, []string{"json parse error", `"reason":"BadRequest"`}},
		{"empty", "POST", backupsPath, ` `, nil, 400, []string{"the body is empty"}},
		{"wrong type", "POST", backupsPath, backupJSON("x", `{"keep":"many"}`), nil, 400, []string{"cannot be handled as a Backup", "cannot unmarshal string"}},
		{"overflow", "POST", backupsPath, backupJSON("x", `{"keep":99999999999}`), nil, 400, []string{"cannot unmarshal number 99999999999"}},
		{"unknown field", "POST", backupsPath + "?fieldValidation=Strict", backupJSON("x", `{"kep":1}`), nil, 400, []string{`strict decoding error: unknown field \"spec.kep\"`}},
		{"twice", "POST", backupsPath + "?fieldValidation=Strict", backupJSON("x", `{"keep":1,"keep":2}`), nil, 400, []string{`duplicate field \"spec.keep\"`}},
		{"field validation", "POST", backupsPath + "?fieldValidation=Lax", backupJSON("x", `{}`), nil, 400, []string{"Unsupported value"}},
		{"deep", "POST", backupsPath, backupJSON("x", deep), nil, 400, []string{"nests deeper than 256"}},
		{"huge", "POST", backupsPath, backupJSON("x", `{"source":"`+strings.Repeat("x", 4<<20)+`"}`), nil, 413, []string{"RequestEntityTooLarge"}},
		{"other kind", "POST", backupsPath, podJSON("x"), nil, 400, []string{"does not match the expected API version"}},
		{"other namespace", "POST", backupsPath, `{"metadata":{"name":"x","namespace":"b"}}`, nil, 400, []string{"(b != a)"}},
		{"name", "POST", backupsPath, backupJSON("X_", `{}`), nil, 422, []string{`"reason":"Invalid"`, "metadata.name", "RFC 1123 subdomain"}},
		{"long name", "POST", backupsPath, backupJSON(strings.Repeat("x", 254), `{}`), nil, 422, []string{"must be no more than 253"}},
		{"no name", "POST", backupsPath, `{"spec":{}}`, nil, 422, []string{"name or generateName is required"}},
		{"label", "POST", backupsPath, `{"metadata":{"name":"x","labels":{"a b":"c"}}}`, nil, 422, []string{"metadata.labels"}},
		{"validation", "POST", backupsPath, backupJSON("x", `{"keep":101}`), nil, 422,
			[]string{`Backup.example.com \"x\" is invalid: spec.keep: Invalid value: 101: must be at most 100`, `"field":"spec.keep"`, `"reason":"FieldValueInvalid"`}},
		{"version", "POST", backupsPath, `{"metadata":{"name":"x","resourceVersion":"1"}}`, nil, 400, []string{"resourceVersion should not be set"}},
		{"media type", "POST", backupsPath, "x", []string{"Content-Type: text/csv"}, 415, []string{"UnsupportedMediaType"}},
		{"protobuf of a type without", "POST", backupsPath, "k8s\x00", []string{"Content-Type: application/vnd.kubernetes.protobuf"}, 415, nil},
		{"damaged protobuf", "POST", podsPath, "k8s\x00\xff\xff", []string{"Content-Type: application/vnd.kubernetes.protobuf"}, 400, nil},
		{"yaml bomb", "POST", backupsPath, "a: &a [x,x]\nb: &b [*a,*a]\n" + strings.Repeat("c: [*b", 10), []string{"Content-Type: application/yaml"}, 400, nil},
		{"accept", "GET", backupsPath, "", []string{"Accept: text/csv"}, 406, []string{"only the following media types are accepted"}},
		{"no such kind", "GET", "/apis/example.com/v1/namespaces/a/nopes", "", nil, 404, []string{"could not find the requested resource"}},
		{"watch of no such kind", "GET", "/apis/example.com/v1/nopes?watch=true", "", nil, 404, nil},
		{"no such subresource", "GET", backupsPath + "/x/nope", "", nil, 404, nil},
		{"cluster path of a namespaced object", "GET", "/apis/example.com/v1/backups/x", "", nil, 404, nil},
		{"method", "PUT", backupsPath, "{}", nil, 405, []string{"MethodNotAllowed"}},
		{"no such object", "GET", backupsPath + "/x", "", nil, 404, []string{`backups.example.com \"x\" not found`, `"kind":"backups"`, `"group":"example.com"`}},
		{"label selector", "GET", backupsPath + "?labelSelector=a,,b", "", nil, 400, []string{"unable to parse requirement"}},
		{"field selector", "GET", backupsPath + "?fieldSelector=no.such=x", "", nil, 400, []string{"field label not supported: no.such"}},
		{"limit", "GET", backupsPath + "?limit=x", "", nil, 400, []string{"limit"}},
		{"continue", "GET", backupsPath + "?continue=nonsense", "", nil, 400, []string{"continue key is not valid"}},
		{"version", "GET", backupsPath + "?resourceVersion=x", "", nil, 400, []string{"invalid resource version"}},
		{"match without version", "GET", backupsPath + "?resourceVersionMatch=Exact", "", nil, 422, []string{"resourceVersionMatch is forbidden unless"}},
		{"initial events without match", "GET", backupsPath + "?watch=1&sendInitialEvents=true", "", nil, 422, []string{"requires setting resourceVersionMatch"}},
		{"timeout", "GET", backupsPath + "?watch=1&timeoutSeconds=-1", "", nil, 400, []string{"timeoutSeconds"}},
		{"dry run", "POST", backupsPath + "?dryRun=Some", backupJSON("x", `{}`), nil, 422, []string{"dryRun"}},
		{"url", "GET", backupsPath + "?x=" + strings.Repeat("y", 9000), "", nil, 414, nil},
		{"pod without containers", "POST", podsPath, `{"metadata":{"name":"p"},"spec":{}}`, nil, 422, []string{`Pod \"p\" is invalid: spec.containers: Required value`}},
		{"quantity", "POST", podsPath, `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1x"}}}]}}`, nil, 400, []string{"quantities must match the regular expression"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := *f
			f.T = t
			f.want(f.do(c.method, c.path, c.body, c.headers...), c.code, append(c.want, `"kind":"Status"`)...)
		})
	}
	f.want(f.do("GET", "/apis/example.com/v1/backups", ""), 200, `"items":[]`)
	f.want(f.do("GET", "/api/v1/pods", ""), 200, `"items":[]`)
}

func TestWarnings(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	a := f.want(f.do("POST", backupsPath, backupJSON("x", `{"kep":1}`)), 201)
	if got := a.header.Get("Warning"); got != `299 - "unknown field \"spec.kep\""` {
		t.Errorf("warning %s", got)
	}
	a = f.want(f.do("POST", backupsPath+"?fieldValidation=Ignore", backupJSON("y", `{"kep":1}`)), 201)
	if got := a.header.Get("Warning"); got != "" {
		t.Errorf("warning %s where unknown fields are ignored", got)
	}
}

func TestUpdate(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	first := f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 201)
	version, uid := first.get("metadata.resourceVersion"), first.get("metadata.uid")
	path := backupsPath + "/x"
	a := f.want(f.do("PUT", path, backupJSON("x", `{"source":"s","keep":2}`)), 200)
	if a.get("spec.keep") != "2" || a.get("metadata.uid") != uid || a.get("metadata.generation") != "2" {
		t.Errorf("updated to %s", a.body)
	}
	f.want(f.do("PUT", path, fmt.Sprintf(`{"metadata":{"name":"x","resourceVersion":%q},"spec":{"source":"s","keep":3}}`, version)), 409, `"reason":"Conflict"`, "the object has been modified")
	f.want(f.do("PUT", path, `{"metadata":{"name":"x","uid":"other"},"spec":{"source":"s"}}`), 409, "Precondition failed: UID")
	f.want(f.do("PUT", path, backupJSON("y", `{}`)), 400, "the name of the object (y) does not match the name on the URL (x)")
	f.want(f.do("PUT", path, backupJSON("x", `{"source":"t"}`)), 422, `spec.source: Invalid value: \"t\": field is immutable`, `"field":"spec.source"`)
	f.want(f.do("PUT", backupsPath+"/nope", backupJSON("nope", `{}`)), 404)
	// The status has a door of its own, and the door leads nowhere else.
	f.want(f.do("PUT", path, `{"metadata":{"name":"x"},"spec":{"source":"s","keep":4},"status":{"phase":"No"}}`), 200)
	a = f.want(f.do("PUT", path+"/status", `{"metadata":{"name":"x","labels":{"a":"b"}},"spec":{"source":"s","keep":5},"status":{"phase":"Done"}}`), 200)
	if a.get("spec.keep") != "4" || a.get("status.phase") != "Done" || a.get("metadata.labels.a") != "<none>" {
		t.Errorf("after the status: %s", a.body)
	}
	version = a.get("metadata.resourceVersion")
	a = f.want(f.do("PUT", path, `{"metadata":{"name":"x"},"spec":{"source":"s","keep":4}}`), 200)
	if got := a.get("metadata.resourceVersion"); got != version {
		t.Errorf("an update without a change made version %s of %s", got, version)
	}
}

func TestDryRun(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	f.want(f.do("POST", backupsPath+"?dryRun=All", backupJSON("x", `{"source":"s"}`)), 201, `"keep":1`)
	f.want(f.do("GET", backupsPath+"/x", ""), 404)
	f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 201)
	f.want(f.do("PUT", backupsPath+"/x?dryRun=All", backupJSON("x", `{"source":"s","keep":9}`)), 200, `"keep":9`)
	f.want(f.do("DELETE", backupsPath+"/x?dryRun=All", ""), 200)
	f.want(f.do("DELETE", backupsPath+"/x", `{"dryRun":["All"]}`), 200)
	f.want(f.do("GET", backupsPath+"/x", ""), 200, `"keep":1`)
}

func TestDelete(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	make := func(name, meta string) string {
		f.Helper()
		return f.want(f.do("POST", backupsPath, fmt.Sprintf(`{"metadata":{"name":%q%s},"spec":{"source":"s"}}`, name, meta)), 201).get("metadata.uid")
	}
	path := backupsPath + "/x"
	uid := make("x", "")
	f.want(f.do("DELETE", path, `{"preconditions":{"uid":"other"}}`), 409, "Precondition failed: UID")
	f.want(f.do("DELETE", path, `{"preconditions":{"resourceVersion":"1"}}`), 409, "Precondition failed: ResourceVersion")
	f.want(f.do("DELETE", path, `{"propagationPolicy":"Sideways"}`), 422, "propagationPolicy")
	f.want(f.do("DELETE", path, `{"kind":"Pod"}`), 400, "DeleteOptions")
	f.want(f.do("DELETE", path, `{"propagationPolicy":"Background","preconditions":{"uid":"`+uid+`"}}`), 200, `"status":"Success"`, uid)
	f.want(f.do("DELETE", path, ""), 404)

	make("x", `,"finalizers":["example.com/f"]`)
	a := f.want(f.do("DELETE", path, ""), 200, `"kind":"Backup"`, "deletionTimestamp")
	f.want(f.do("DELETE", path, ""), 200, `"resourceVersion":"`+a.get("metadata.resourceVersion")+`"`)
	f.want(f.do("PATCH", path, `{"metadata":{"finalizers":["example.com/f","example.com/g"]}}`, "Content-Type: application/merge-patch+json"), 422, "finalizers")
	f.want(f.do("PATCH", path, `{"metadata":{"finalizers":null}}`, "Content-Type: application/merge-patch+json"), 200)
	f.want(f.do("GET", path, ""), 404)

	for policy, finalizer := range map[string]string{"Foreground": "foregroundDeletion", "Orphan": "orphan"} {
		make("x", "")
		f.want(f.do("DELETE", path+"?propagationPolicy="+policy, ""), 200, `"finalizers":["`+finalizer+`"]`)
		f.want(f.do("PATCH", path, `{"metadata":{"finalizers":null}}`, "Content-Type: application/merge-patch+json"), 200)
	}

	for i := range 5 {
		make(fmt.Sprint("c", i), fmt.Sprintf(`,"labels":{"odd":"%d"}`, i%2))
	}
	f.want(f.do("DELETE", backupsPath+"?labelSelector=odd=1", ""), 200, `"kind":"BackupList"`, `"c1"`, `"c3"`)
	if got := f.do("GET", backupsPath, "").get("items.2.metadata.name"); got != "c4" {
		t.Errorf("after the deletion of a collection the third is %s, want c4", got)
	}
}

// TestGrace: a pod that runs lingers until its node agent says that it has ended.
func TestGrace(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	f.want(f.do("POST", podsPath, podJSON("p")), 201)
	f.want(f.do("POST", podsPath+"/p/binding", `{"apiVersion":"v1","kind":"Binding","target":{"kind":"Node","name":"n1"}}`), 201, "Success")
	f.want(f.do("POST", podsPath+"/p/binding", `{"target":{"name":"n2"}}`), 409, `already assigned to node \"n1\"`)
	if got := f.do("GET", "/api/v1/pods?fieldSelector=spec.nodeName=n1", "").get("items.0.metadata.name"); got != "p" {
		t.Errorf("on n1: %s, want p", got)
	}
	a := f.want(f.do("DELETE", podsPath+"/p", ""), 200, `"kind":"Pod"`, "deletionTimestamp")
	if got := a.get("metadata.deletionGracePeriodSeconds"); got != "30" {
		t.Errorf("grace period %s, want 30", got)
	}
	if got := f.do("DELETE", podsPath+"/p", `{"gracePeriodSeconds":60}`).get("metadata.deletionGracePeriodSeconds"); got != "30" {
		t.Errorf("grace period %s after a longer one was asked for, want 30", got)
	}
	if got := f.do("DELETE", podsPath+"/p", `{"gracePeriodSeconds":5}`).get("metadata.deletionGracePeriodSeconds"); got != "5" {
		t.Errorf("grace period %s, want 5", got)
	}
	f.want(f.do("PATCH", podsPath+"/p/status", `{"status":{"phase":"Running"}}`, "Content-Type: application/merge-patch+json"), 200, "deletionTimestamp")
	f.want(f.do("DELETE", podsPath+"/p", `{"gracePeriodSeconds":0}`), 200, "Success")
	f.want(f.do("GET", podsPath+"/p", ""), 404)
	f.want(f.do("POST", podsPath, podJSON("q")), 201) // runs nowhere
	f.want(f.do("DELETE", podsPath+"/q", ""), 200, "Success")
	f.want(f.do("POST", podsPath, podJSON("e")), 201)
	f.want(f.do("POST", podsPath+"/e/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"e"}}`), 201, "Success")
	f.want(f.do("GET", podsPath+"/e", ""), 404)
}

// TestProtobuf: built-in kinds come and go as protobuf, as kubectl sends them.
func TestProtobuf(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	const proto = "application/vnd.kubernetes.protobuf"
	raw, err := (&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": "v"}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Raw: raw}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := "/api/v1/namespaces/a/configmaps"
	a := f.want(f.do("POST", path, "k8s\x00"+string(body), "Content-Type: "+proto, "Accept: "+proto+",application/json"), 201)
	decode := func(a answer, into interface{ Unmarshal([]byte) error }) string {
		t.Helper()
		if got := a.header.Get("Content-Type"); got != proto {
			t.Errorf("content type %s: %s", got, a.body)
		}
		var u runtime.Unknown
		if err := u.Unmarshal([]byte(strings.TrimPrefix(string(a.body), "k8s\x00"))); err != nil {
			t.Fatal(err)
		}
		if err := into.Unmarshal(u.Raw); err != nil {
			t.Fatal(err)
		}
		return u.Kind
	}
	var c corev1.ConfigMap
	if kind := decode(a, &c); kind != "ConfigMap" || c.Data["k"] != "v" || c.ResourceVersion == "" {
		t.Errorf("created %s %v", kind, c)
	}
	var list corev1.ConfigMapList
	if kind := decode(f.do("GET", path, "", "Accept: "+proto), &list); kind != "ConfigMapList" || len(list.Items) != 1 || list.ResourceVersion == "" {
		t.Errorf("listed %s %v", kind, list)
	}
	var st metav1.Status
	if kind := decode(f.do("GET", path+"/nope", "", "Accept: "+proto), &st); kind != "Status" || st.Code != http.StatusNotFound {
		t.Errorf("missing: %s %v", kind, st)
	}
	f.want(f.do("GET", backupsPath, "", "Accept: "+proto+",application/json"), 200, `"kind":"BackupList"`)
}

// TestPast: an object is read as it was, inside the history.
func TestPast(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	first := f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 201).get("metadata.resourceVersion")
	f.want(f.do("PUT", backupsPath+"/x", backupJSON("x", `{"source":"s","keep":2}`)), 200)
	f.want(f.do("GET", backupsPath+"/x?resourceVersionMatch=Exact&resourceVersion="+first, ""), 200, `"keep":1`)
	f.want(f.do("GET", backupsPath+"?resourceVersionMatch=Exact&resourceVersion="+first, ""), 200, `"keep":1`)
	rev, err := f.store.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("GET", backupsPath+"?resourceVersionMatch=Exact&resourceVersion="+first, ""), 410, `"reason":"Expired"`)
	f.want(f.do("GET", backupsPath+"/x?resourceVersion="+store.FormatRevision(rev+100), ""), 504, "Too large resource version", `"reason":"ResourceVersionTooLarge"`)
}

// TestDryRunWithoutTransactions: on a store that can't take back what was tried,
// a dry run is refused and changes nothing.
func TestDryRunWithoutTransactions(t *testing.T) {
	st := memory.New(memory.Options{})
	t.Cleanup(func() { st.Close() })
	s, err := apiserver.New(struct{ store.Store }{st}, apiserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := builtin.Register(s, append(builtin.All(), backups())...); err != nil {
		t.Fatal(err)
	}
	f := serveFixture(t, st, s)
	f.want(f.do("POST", backupsPath+"?dryRun=All", backupJSON("x", `{"source":"s"}`)), 400, "dry run is not supported")
	f.want(f.do("GET", backupsPath+"/x", ""), 404)
	f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 201)
	f.want(f.do("DELETE", backupsPath+"/x?dryRun=All", ""), 400, "dry run is not supported")
	f.want(f.do("GET", backupsPath+"/x", ""), 200)
}
