// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/slipway-dev/slipway/store/apiserver"
)

const (
	jsonPatch      = "Content-Type: application/json-patch+json"
	strategicPatch = "Content-Type: application/strategic-merge-patch+json"
	applyPatch     = "Content-Type: application/apply-patch+yaml"
)

func TestPatch(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	path := backupsPath + "/x"
	f.want(f.do("PATCH", path, `{}`, mergePatch), 404)
	f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s","tags":["a"]}`)), 201)
	f.want(f.do("PATCH", path, `{"spec":{"keep":2,"tags":null}}`, mergePatch), 200, `"keep":2`)
	f.want(f.do("PATCH", path, `[{"op":"test","path":"/spec/keep","value":2},{"op":"replace","path":"/spec/keep","value":3},{"op":"add","path":"/spec/tags","value":["b"]}]`, jsonPatch), 200, `"keep":3`, `"tags":["b"]`)
	f.want(f.do("PATCH", path, `{"spec":{"keep":4}}`, strategicPatch), 200, `"keep":4`)
	for _, c := range []struct {
		what, body, kind string
		code             int
		want             string
	}{
		{"test fails", `[{"op":"test","path":"/spec/keep","value":9}]`, jsonPatch, 422, "testing value /spec/keep failed"},
		{"no such path", `[{"op":"remove","path":"/spec/nope"}]`, jsonPatch, 422, "Unable to remove nonexistent key"},
		{"no list", `{"op":"remove"}`, jsonPatch, 400, "no list of operations"},
		{"no object", `[1]`, mergePatch, 400, "must be a JSON object"},
		{"no JSON", `{`, mergePatch, 400, "no JSON"},
		{"wrong type", `{"spec":{"keep":"x"}}`, mergePatch, 400, "cannot unmarshal"},
		{"invalid", `{"spec":{"keep":1000}}`, mergePatch, 422, "must be at most 100"},
		{"immutable", `{"spec":{"source":"t"}}`, mergePatch, 422, "field is immutable"},
		{"rename", `{"metadata":{"name":"y"}}`, mergePatch, 400, "does not match the name on the URL"},
		{"old version", `{"metadata":{"resourceVersion":"1"}}`, mergePatch, 409, "has been modified"},
		{"unknown type", `{}`, "Content-Type: text/plain", 415, "application/apply-patch+yaml"},
	} {
		a := f.do("PATCH", path, c.body, c.kind)
		if t.Log(c.what); a.code != c.code {
			t.Errorf("%s: code %d, want %d: %s", c.what, a.code, c.code, a.body)
		}
		f.want(a, c.code, c.want)
	}
	f.want(f.do("PATCH", path+"?fieldValidation=Strict", `{"spec":{"kep":1}}`, mergePatch), 400, `unknown field \"spec.kep\"`)
	f.want(f.do("PATCH", path+"?force=true", `{}`, mergePatch), 422, "force")
	if got := f.do("GET", path, "").get("spec.keep"); got != "4" {
		t.Errorf("after the refused patches keep is %s, want 4", got)
	}
}

// TestStrategicMerge: lists of Kubernetes' types merge by their keys.
func TestStrategicMerge(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	f.want(f.do("POST", podsPath, `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1"}]}}`), 201)
	a := f.want(f.do("PATCH", podsPath+"/p", `{"spec":{"containers":[{"name":"b","image":"2"}]}}`, strategicPatch), 200)
	if a.get("spec.containers.0.image") != "1" || a.get("spec.containers.1.image") != "2" {
		t.Errorf("patched to %s", a.body)
	}
	f.want(f.do("PATCH", podsPath+"/p", `{"spec":{"$patch":"replace","containers":7}}`, strategicPatch), 400)
	f.want(f.do("PATCH", podsPath+"/p", `{"spec":{"containers":[{"image":"2"}]}}`, strategicPatch), 422, "does not contain declared merge key")
}

// TestPatchTogether: patches that do not demand a version all take effect.
func TestPatchTogether(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 201)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			f.want(f.do("PATCH", backupsPath+"/x", fmt.Sprintf(`{"metadata":{"labels":{"l%d":"1"}}}`, i), mergePatch), 200)
		})
	}
	all.Wait()
	a := f.do("GET", backupsPath+"/x", "")
	for i := range 20 {
		if a.get(fmt.Sprintf("metadata.labels.l%d", i)) != "1" {
			t.Errorf("label l%d is lost", i)
		}
	}
}

func TestApply(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	path := backupsPath + "/x"
	const head = "apiVersion: example.com/v1\nkind: Backup\nmetadata: {name: x}\n"
	f.want(f.do("PATCH", path, head, applyPatch), 422, "is required for apply patch")
	f.want(f.do("PATCH", path+"?fieldManager=one", head+"spec: {source: s, keep: 2, tags: [a]}\n", applyPatch), 201, `"keep":2`)
	f.want(f.do("PATCH", path+"?fieldManager=two", head+"spec: {keep: 3}\n", applyPatch), 409, `conflict with \"one\"`, ".spec.keep", `"reason":"FieldManagerConflict"`)
	f.want(f.do("PATCH", path+"?fieldManager=two&force=true", head+"spec: {keep: 3, tags: [b]}\n", applyPatch), 200, `"keep":3`, `"tags":["a","b"]`)
	// What its only owner no longer applies is removed; what it shares stays.
	a := f.want(f.do("PATCH", path+"?fieldManager=one", head+"spec: {source: s}\n", applyPatch), 200, `"tags":["b"]`, `"keep":3`)
	same := f.want(f.do("PATCH", path+"?fieldManager=one", head+"spec: {source: s}\n", applyPatch), 200)
	if a.get("metadata.resourceVersion") != same.get("metadata.resourceVersion") {
		t.Error("an apply that changes nothing made a new version")
	}
	// An update takes over what it changes.
	f.want(f.do("PATCH", path+"?fieldManager=three", `{"spec":{"keep":7}}`, mergePatch), 200)
	f.want(f.do("PATCH", path+"?fieldManager=two", head+"spec: {keep: 3, tags: [b]}\n", applyPatch), 409, `conflict with \"three\"`)
	f.want(f.do("PATCH", path+"/status?fieldManager=ctl", head+"status: {phase: Done}\nspec: {keep: 50}\n", applyPatch), 200, `"phase":"Done"`, `"keep":7`)
	for body, want := range map[string]string{
		head + "spec: {kep: 1}\n":   `unknown field`,
		head + "spec: {tags: {}}\n": "cannot unmarshal",
		"[1]":                       "cannot unmarshal",
		"kind: [":                   "cannot be handled",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n":                                               "does not match the expected API version",
		"apiVersion: example.com/v1\nkind: Backup\nmetadata: {name: other}\n":                            "does not match the name on the URL",
		head + "spec: {keep: 101}\n":                                                                     "must be at most 100",
		"apiVersion: example.com/v1\nkind: Backup\nmetadata: {name: x, managedFields: [{manager: m}]}\n": "managedFields must be nil",
	} {
		a := f.do("PATCH", path+"?fieldManager=four&force=true&fieldValidation=Strict", body, applyPatch)
		if a.code != 400 && a.code != 422 {
			t.Errorf("%q: code %d, want 400 or 422", body, a.code)
		}
		f.want(a, a.code, want)
	}
}

func TestScale(t *testing.T) {
	f := newFixture(t, apiserver.Options{})
	path := backupsPath + "/x/scale"
	f.want(f.do("GET", path, ""), 404)
	f.want(f.do("POST", backupsPath, backupJSON("x", `{"source":"s"}`)), 201)
	f.want(f.do("GET", path, ""), 200, `"kind":"Scale","apiVersion":"autoscaling/v1"`, `"replicas":1`)
	f.want(f.do("PATCH", path, `{"spec":{"replicas":5}}`, mergePatch), 200, `"replicas":5`)
	f.want(f.do("PUT", path, `{"metadata":{"name":"x"},"spec":{"replicas":6}}`), 200, `"replicas":6`)
	f.want(f.do("PUT", path, `{"metadata":{"name":"x"},"spec":{"replicas":-1}}`), 422, "spec.replicas", "must be greater than or equal to 0")
	f.want(f.do("PUT", path, `{"metadata":{"name":"x","resourceVersion":"1"},"spec":{"replicas":2}}`), 409)
	f.want(f.do("PATCH", path, `{"spec":{"replicas":1000}}`, mergePatch), 422, "must be at most 100")
	f.want(f.do("DELETE", path, ""), 405)
	if got := f.do("GET", backupsPath+"/x", "").get("spec.keep"); got != "6" {
		t.Errorf("keep is %s, want 6", got)
	}
}
