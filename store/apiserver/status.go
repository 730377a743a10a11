// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"reflect"

	"github.com/slipway-dev/slipway/store"
)

// unstructuredObject is what unstructured.Unstructured has and no other object.
type unstructuredObject interface {
	UnstructuredContent() map[string]any
	SetUnstructuredContent(map[string]any)
}

// statusField reads and writes the part of an object that the status
// subresource is for.
type statusField struct {
	copy  func(from, to store.Object) // both of the kind; from is not changed, and shares nothing with to afterwards
	clear func(store.Object)
	same  func(a, b store.Object) bool
}

// statusOf returns the status of a kind whose type has the field Status, or nil.
func statusOf(r *resource) *statusField {
	if r.untyped {
		return untypedStatus(r.schema)
	}
	f, ok := r.elem.FieldByName("Status")
	if !ok || len(f.Index) != 1 {
		return nil
	}
	at := f.Index[0]
	field := func(o store.Object) reflect.Value { return reflect.ValueOf(o).Elem().Field(at) }
	return &statusField{
		copy:  func(from, to store.Object) { field(to).Set(field(r.schema.Copy(from))) },
		clear: func(o store.Object) { field(o).SetZero() },
		same: func(a, b store.Object) bool {
			return semantic.DeepEqual(field(a).Interface(), field(b).Interface())
		},
	}
}

func untypedStatus(s *store.Schema) *statusField {
	content := func(o store.Object) map[string]any { return o.(unstructuredObject).UnstructuredContent() }
	return &statusField{
		copy: func(from, to store.Object) {
			if status, ok := content(s.Copy(from))["status"]; ok {
				content(to)["status"] = status
				return
			}
			delete(content(to), "status")
		},
		clear: func(o store.Object) { delete(content(o), "status") },
		same: func(a, b store.Object) bool {
			return semantic.DeepEqual(content(a)["status"], content(b)["status"])
		},
	}
}
