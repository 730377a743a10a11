// SPDX-License-Identifier: Apache-2.0

package kubetypes_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-dev/slipway/store"
)

// TestMetaFields compares the two structs field by field: names, order and JSON
// tags, so that a field that a later version of Kubernetes adds is noticed here.
func TestMetaFields(t *testing.T) {
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[store.Meta](), reflect.TypeFor[metav1.ObjectMeta]()},
		{reflect.TypeFor[store.OwnerReference](), reflect.TypeFor[metav1.OwnerReference]()},
		{reflect.TypeFor[store.ManagedFieldsEntry](), reflect.TypeFor[metav1.ManagedFieldsEntry]()},
	} {
		ours, theirs := fields(pair[0]), fields(pair[1])
		if ours != theirs {
			t.Errorf("%v has the fields\n%s\n%v has\n%s", pair[0], ours, pair[1], theirs)
		}
	}
}

func fields(t reflect.Type) string {
	var b strings.Builder
	for f := range t.Fields() {
		tag := strings.Replace(f.Tag.Get("json"), ",omitempty,omitzero", ",omitzero", 1)
		fmt.Fprintln(&b, f.Name, tag)
	}
	return b.String()
}

// TestMetaJSON has both types read the same text and write it again: what they
// write must be the same, byte for byte.
func TestMetaJSON(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`null`,
		`{"name":"web"}`,
		`{"creationTimestamp":null,"deletionTimestamp":null}`,
		`{"creationTimestamp":"2026-07-01T12:30:45Z"}`,
		`{"creationTimestamp":"2026-07-01T12:30:45.999999999+05:30","deletionTimestamp":"2026-07-01T00:00:00.5-11:00"}`,
		`{"creationTimestamp":"0001-01-01T00:00:00Z","deletionTimestamp":"0001-01-01T00:00:00Z"}`,
		`{"deletionTimestamp":"2026-07-01T12:30:45Z","deletionGracePeriodSeconds":0}`,
		`{"labels":{},"annotations":{},"finalizers":[],"ownerReferences":[],"managedFields":[]}`,
		`{"labels":null,"annotations":null,"finalizers":null,"ownerReferences":null,"managedFields":null}`,
		`{"labels":{"b":"2","a":"1","":""},"annotations":{"html":"<&>\u2028","binary":"\ufffd"}}`,
		`{"generation":-1,"resourceVersion":"","uid":"","selfLink":"/api/v1/x"}`,
		`{"generation":9223372036854775807,"deletionGracePeriodSeconds":-9223372036854775808}`,
		`{"ownerReferences":[{}]}`,
		`{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"a","uid":"u","controller":true,"blockOwnerDeletion":false},{"controller":null}]}`,
		`{"managedFields":[{}]}`,
		`{"managedFields":[{"time":null,"fieldsV1":null}]}`,
		`{"managedFields":[{"fieldsV1":{}},{"fieldsV1": { "f:metadata" : {"f:labels": {".":{}, "k:{\"a\":\"<\"}": {} } } } }]}`,
		`{"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","time":"2026-07-01T12:30:45.1Z","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}},"subresource":"status"}]}`,
		`{"unknown":{"name":"x"},"Name":"case"}`,
	} {
		sameJSON(t, text)
	}
}

// sameJSON has both types read and write the text.
func sameJSON(t *testing.T, text string) {
	t.Helper()
	var ours store.Meta
	var theirs metav1.ObjectMeta
	ourErr, theirErr := json.Unmarshal([]byte(text), &ours), json.Unmarshal([]byte(text), &theirs)
	if ourErr != nil || theirErr != nil {
		t.Errorf("Unmarshal(%s): Meta: %v; ObjectMeta: %v", text, ourErr, theirErr)
		return
	}
	if !ours.CreationTimestamp.Equal(theirs.CreationTimestamp.Time) {
		t.Errorf("%s: read as the time %v, ObjectMeta as %v", text, ours.CreationTimestamp, theirs.CreationTimestamp)
	}
	if got, want := marshal(t, ours), marshal(t, theirs); got != want {
		t.Errorf("%s:\nMeta writes       %s\nObjectMeta writes %s", text, got, want)
	}
}

func TestMetaJSONErrors(t *testing.T) {
	for _, text := range []string{
		`{"creationTimestamp":1}`, `{"creationTimestamp":""}`, `{"deletionTimestamp":"now"}`, `{"labels":{"a":1}}`,
		`{"generation":"1"}`, `{"ownerReferences":{}}`, `{"managedFields":[{"time":"2026"}]}`, `[]`,
	} {
		if json.Unmarshal([]byte(text), new(metav1.ObjectMeta)) == nil {
			t.Errorf("ObjectMeta reads %s", text)
		}
		if json.Unmarshal([]byte(text), new(store.Meta)) == nil {
			t.Errorf("Meta reads %s", text)
		}
	}
}

// TestMetaJSONRandom fills both types with the same random metadata, of which any
// field may be empty, and compares what they write.
func TestMetaJSONRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	full := 0
	for range 2000 {
		ours, theirs := randomMeta(r)
		if ours.ManagedFields != nil && ours.Labels != nil && ours.OwnerReferences != nil && ours.DeletionTimestamp != nil {
			full++
		}
		got, want := marshal(t, ours), marshal(t, theirs)
		if got != want {
			t.Fatalf("seed %d:\nMeta writes       %s\nObjectMeta writes %s", seed, got, want)
		}
		sameJSON(t, want)
	}
	if full == 0 {
		t.Error("no metadata was nearly full: the test tests little")
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// randomMeta returns the same metadata in both types.
func randomMeta(r *rand.Rand) (store.Meta, metav1.ObjectMeta) {
	var a store.Meta
	var b metav1.ObjectMeta
	some := func() bool { return r.IntN(3) > 0 }
	text := func() string {
		return []string{"", "a", "web-1", "example.com/x", `"<&>\`, "\u2028é\x00", "bad\xff"}[r.IntN(7)]
	}
	instant := func() time.Time { // of any zone and precision
		zone := time.FixedZone("", r.IntN(86400)-43200)
		return time.Unix(r.Int64N(4e9), r.Int64N(1e9)).In(zone)
	}
	a.Name, a.GenerateName, a.Namespace, a.UID, a.ResourceVersion = text(), text(), text(), text(), text()
	b.Name, b.GenerateName, b.Namespace, b.ResourceVersion = a.Name, a.GenerateName, a.Namespace, a.ResourceVersion
	b.UID = types.UID(a.UID)
	a.Generation = r.Int64N(3)
	b.Generation = a.Generation
	if some() {
		at := instant()
		a.CreationTimestamp, b.CreationTimestamp = store.Time{Time: at}, metav1.NewTime(at)
	}
	if some() {
		at := instant()
		if !some() {
			at = time.Time{}
		}
		a.DeletionTimestamp, b.DeletionTimestamp = &store.Time{Time: at}, &metav1.Time{Time: at}
	}
	if some() {
		a.DeletionGracePeriodSeconds = new(r.Int64N(31))
		b.DeletionGracePeriodSeconds = a.DeletionGracePeriodSeconds
	}
	if some() {
		a.Labels, a.Annotations, a.Finalizers = map[string]string{}, map[string]string{}, []string{}
		for range r.IntN(3) {
			a.Labels[text()], a.Annotations[text()] = text(), text()
			a.Finalizers = append(a.Finalizers, text())
		}
		b.Labels, b.Annotations, b.Finalizers = a.Labels, a.Annotations, a.Finalizers
	}
	for range r.IntN(3) {
		ref := store.OwnerReference{APIVersion: text(), Kind: text(), Name: text(), UID: text()}
		if some() {
			ref.Controller, ref.BlockOwnerDeletion = new(some()), new(some())
		}
		a.OwnerReferences = append(a.OwnerReferences, ref)
		b.OwnerReferences = append(b.OwnerReferences, metav1.OwnerReference{
			APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, UID: types.UID(ref.UID),
			Controller: ref.Controller, BlockOwnerDeletion: ref.BlockOwnerDeletion,
		})
	}
	for range r.IntN(3) {
		f := store.ManagedFieldsEntry{Manager: text(), Operation: text(), APIVersion: text(), FieldsType: text(), Subresource: text()}
		g := metav1.ManagedFieldsEntry{
			Manager: f.Manager, Operation: metav1.ManagedFieldsOperationType(f.Operation), APIVersion: f.APIVersion,
			FieldsType: f.FieldsType, Subresource: f.Subresource,
		}
		if some() {
			at := instant()
			f.Time, g.Time = &store.Time{Time: at}, &metav1.Time{Time: at}
		}
		if some() {
			raw := json.RawMessage(`{"f:metadata": {"f:labels":{}}, "html":"<"}`)
			f.FieldsV1, g.FieldsV1 = &raw, metav1.NewFieldsV1(string(raw))
		}
		a.ManagedFields, b.ManagedFields = append(a.ManagedFields, f), append(b.ManagedFields, g)
	}
	return a, b
}
