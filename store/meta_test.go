// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// thing is a type of a user's own.
type thing struct {
	store.Meta `json:"metadata"`
	Spec       struct{ Node string } `json:"spec"`
	Status     struct{ Phase string }
	Parts      map[string][]string
	Next       *thing
}

func (o *thing) DeepCopy() *thing { return store.DeepCopy(o) }

func TestMetaClone(t *testing.T) {
	m := fullMeta(t)
	c := m.Clone()
	checkSeparate(t, &m, &c)

	var empty store.Meta
	if got := empty.Clone(); !reflect.DeepEqual(got, empty) {
		t.Errorf("a clone of the empty metadata is %+v", got)
	}
	hollow := store.Meta{
		Labels: map[string]string{}, Finalizers: []string{}, OwnerReferences: []store.OwnerReference{{}},
		ManagedFields: []store.ManagedFieldsEntry{{}},
	}
	if got := hollow.Clone(); !reflect.DeepEqual(got, hollow) {
		t.Errorf("a clone of %+v is %+v", hollow, got)
	}
}

// TestMetaAccessors sets each field by its accessor and reads it back both ways.
func TestMetaAccessors(t *testing.T) {
	full := fullMeta(t)
	var m store.Meta
	from, to := reflect.ValueOf(&full), reflect.ValueOf(&m)
	for f := range reflect.TypeFor[store.Meta]().Fields() {
		if f.Name == "SelfLink" { // no longer set by anyone, so without accessors
			m.SelfLink = full.SelfLink
			continue
		}
		get, set := from.MethodByName("Get"+f.Name), to.MethodByName("Set"+f.Name)
		if !get.IsValid() || !set.IsValid() {
			t.Errorf("no accessors of %s", f.Name)
			continue
		}
		set.Call(get.Call(nil))
		if got := to.MethodByName("Get" + f.Name).Call(nil)[0].Interface(); !reflect.DeepEqual(got, to.Elem().FieldByIndex(f.Index).Interface()) {
			t.Errorf("Get%s = %v", f.Name, got)
		}
	}
	if !reflect.DeepEqual(m, full) {
		t.Errorf("got %+v, want %+v", m, full)
	}
}

// TestMetaInAType marshals a type that embeds Meta: a method of Meta's for JSON
// would take over all of it.
func TestMetaInAType(t *testing.T) {
	o := thing{Meta: store.Meta{Name: "a"}, Parts: map[string][]string{"x": nil}}
	text, err := json.Marshal(&o)
	if want := `{"metadata":{"name":"a"},"spec":{"Node":""},"Status":{"Phase":""},"Parts":{"x":null},"Next":null}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
}

// fullMeta returns metadata of which no field is zero, at any depth.
func fullMeta(t *testing.T) store.Meta {
	t.Helper()
	var m store.Meta
	n := 0
	fill(reflect.ValueOf(&m).Elem(), &n)
	for f, v := range reflect.ValueOf(m).Fields() {
		if v.IsZero() {
			t.Fatalf("%s was not filled", f.Name)
		}
	}
	return m
}

func fill(v reflect.Value, n *int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 0).UTC()))
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes(fmt.Appendf(nil, `{"f":%d}`, *n))
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprint("text-", *n))
	case v.Kind() == reflect.Int64:
		v.SetInt(int64(*n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case v.Kind() == reflect.Map:
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(elem, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, elem)
	case v.Kind() == reflect.Struct:
		for _, f := range v.Fields() {
			fill(f, n)
		}
	default:
		panic("fill does not know " + v.Type().String())
	}
}

// checkSeparate checks that the two values are equal and share nothing.
func checkSeparate(t *testing.T, a, b any) {
	t.Helper()
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v and %+v differ", a, b)
	}
	separate(t, fmt.Sprintf("%T", a), reflect.ValueOf(a), reflect.ValueOf(b))
}

func separate(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	if a.Type() == reflect.TypeFor[time.Time]() { // its location is shared by all
		return
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if !a.IsNil() && a.Pointer() == b.Pointer() && (a.Kind() != reflect.Slice || a.Cap() > 0) {
			t.Errorf("%s is shared", path)
			return
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		if !a.IsNil() {
			separate(t, path, a.Elem(), b.Elem())
		}
	case reflect.Struct:
		for i := range a.NumField() {
			separate(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Slice:
		for i := range a.Len() {
			separate(t, fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))
		}
	case reflect.Map:
		for it := a.MapRange(); it.Next(); {
			separate(t, fmt.Sprintf("%s[%v]", path, it.Key()), it.Value(), b.MapIndex(it.Key()))
		}
	}
}
