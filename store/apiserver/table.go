// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/slipway-dev/slipway/store"
)

// Age is the column that says how old an object is. Its type must know when it
// was created.
func Age[T any]() Column[T] {
	return Column[T]{
		Name:        "Age",
		Description: "CreationTimestamp is a timestamp representing the server time when this object was created.",
		Value:       func(o T) any { return Since(creation(o)) },
	}
}

// creation returns when the object was created, or the zero time.
func creation(o any) time.Time {
	switch m := o.(type) {
	case interface{ GetCreationTimestamp() metav1.Time }:
		return m.GetCreationTimestamp().Time
	case interface{ GetCreationTimestamp() store.Time }:
		return m.GetCreationTimestamp().Time
	}
	return time.Time{}
}

// Since returns how long ago that was, as kubectl shows it: 5m, 3d4h.
func Since(t time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t))
}

func tableKind(m media) gvk { return gvk{Group: "meta.k8s.io", Version: m.version, Kind: "Table"} }

// table shows objects as rows. The first column is always the name.
func (x *exchange) table(o *op, m media, items []store.Object, meta store.ListMeta, headed bool) (*metav1.Table, error) {
	include := x.r.URL.Query().Get("includeObject")
	switch metav1.IncludeObjectPolicy(include) {
	case "", metav1.IncludeMetadata, metav1.IncludeNone, metav1.IncludeObject:
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("includeObject: %q: want Metadata, None or Object", include))
	}
	t := &metav1.Table{Rows: make([]metav1.TableRow, 0, len(items))}
	if meta.Revision != 0 {
		t.ListMeta = listMeta(meta)
	}
	if headed {
		t.ColumnDefinitions = o.res.columnDefinitions()
	}
	for _, obj := range items {
		row := metav1.TableRow{Cells: make([]any, 0, len(o.res.columns)+1)}
		row.Cells = append(row.Cells, obj.GetName())
		for _, c := range o.res.columns {
			row.Cells = append(row.Cells, c.value(obj))
		}
		raw, err := x.rowObject(o, m, obj, metav1.IncludeObjectPolicy(include))
		if err != nil {
			return nil, err
		}
		row.Object = runtime.RawExtension{Raw: raw}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// rowObject returns the JSON that goes with a row.
func (x *exchange) rowObject(o *op, m media, obj store.Object, include metav1.IncludeObjectPolicy) ([]byte, error) {
	switch include {
	case metav1.IncludeNone:
		return nil, nil
	case metav1.IncludeObject:
		return x.server.encodings.of(o.res, obj, formatJSON)
	}
	return encodeJSON(partialKind(m), &metav1.PartialObjectMetadata{ObjectMeta: *partial(o.res, obj)})
}

func (r *resource) columnDefinitions() []metav1.TableColumnDefinition {
	out := []metav1.TableColumnDefinition{{
		Name: "Name", Type: "string", Format: "name",
		Description: "Name must be unique within a namespace. It is given when the object is created, and can't be updated.",
	}}
	for _, c := range r.columns {
		out = append(out, metav1.TableColumnDefinition{Name: c.name, Type: c.typ, Format: c.format, Description: c.description, Priority: c.priority})
	}
	return out
}

// yamlList answers with a list as YAML, which nobody is in a hurry for.
func (x *exchange) yamlList(parts [][]byte) error {
	data, err := yaml.JSONToYAML(bytes.Join(parts, nil))
	if err != nil {
		return err
	}
	x.w.send(x.r, 200, typeYAML, data)
	return nil
}

// protobufList encodes a list as Kubernetes' list messages have it: the metadata
// in field 1, the items in field 2.
func protobufList(kind gvk, meta metav1.ListMeta, items []store.Object) ([]byte, error) {
	head, err := meta.Marshal()
	if err != nil {
		return nil, err
	}
	raw := appendMessage(nil, 1, head)
	for _, obj := range items {
		m, ok := obj.(marshaler)
		if !ok {
			return nil, fmt.Errorf("encode %s: %T has no protobuf form", kind.Kind, obj)
		}
		data, err := m.Marshal()
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", kind.Kind, err)
		}
		raw = appendMessage(raw, 2, data)
	}
	return envelope(kind, raw)
}

// appendMessage appends a length-delimited field.
func appendMessage(b []byte, field int, data []byte) []byte {
	b = append(b, byte(field<<3|2))
	n := uint64(len(data))
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(append(b, byte(n)), data...)
}
