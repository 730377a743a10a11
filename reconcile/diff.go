// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds of a [Diff].
const (
	maxDiffChanges = 10
	maxDiffValue   = 60  // bytes, of one value
	maxDiffPath    = 120 // bytes, of one path
)

// Diff returns what differs between two objects of one type, as one short line
// for a debug log:
//
//	spec.replicas: 2 -> 3, metadata.labels[app]: none -> "web"
//
// Paths are as in JSON. At most ten differences are named, and the number of the
// others; long values are cut, and of bytes there is only the length. What a
// store counts in the metadata (resource version, generation, managed fields) is left out.
// It is "" where nothing else differs. Other values are shown as they are: do
// not log the differences of what is secret.
func Diff[T any](old, new T) string {
	var d differ
	d.values("", reflect.ValueOf(&old).Elem(), reflect.ValueOf(&new).Elem())
	if more := d.count - len(d.lines); more > 0 {
		d.lines = append(d.lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(d.lines, ", ")
}

// differ collects differences, and counts those beyond the bound.
type differ struct {
	lines []string
	count int
}

func (d *differ) report(path string, a, b reflect.Value) {
	if d.count++; d.count <= maxDiffChanges {
		d.lines = append(d.lines, cut(path, maxDiffPath)+": "+valueText(a)+" -> "+valueText(b))
	}
}

// values compares two values of one static type.
func (d *differ) values(path string, a, b reflect.Value) {
	switch {
	case a.Kind() == reflect.Interface:
		a, b = a.Elem(), b.Elem()
		if a.IsValid() && b.IsValid() && a.Type() == b.Type() {
			d.values(path, a, b)
		} else if a.IsValid() || b.IsValid() {
			d.report(path, a, b)
		}
	case isOpaque(a.Type()):
		if !equalOpaque(a, b) {
			d.report(path, a, b)
		}
	case a.Kind() == reflect.Pointer:
		switch {
		case a.Pointer() == b.Pointer():
		case a.IsNil() || b.IsNil():
			d.report(path, a, b)
		default:
			d.values(path, a.Elem(), b.Elem())
		}
	case a.Kind() == reflect.Struct:
		for f := range jsonFields(a.Type()) {
			if at := joinPath(path, f.name); !isCounted(at) {
				d.values(at, a.Field(f.index), b.Field(f.index))
			}
		}
	case a.Kind() == reflect.Map:
		d.maps(path, a, b)
	case isBytes(a.Type()) || a.Kind() == reflect.Array:
		if !reflect.DeepEqual(a.Interface(), b.Interface()) && a.Len()+b.Len() > 0 {
			d.report(path, a, b)
		}
	case a.Kind() == reflect.Slice:
		d.slices(path, a, b)
	case a.Comparable() && !a.Equal(b):
		d.report(path, a, b)
	}
}

func (d *differ) maps(path string, a, b reflect.Value) {
	keys := map[string]reflect.Value{}
	for _, m := range []reflect.Value{a, b} {
		for _, k := range m.MapKeys() {
			keys[fmt.Sprint(k)] = k
		}
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		at := path + "[" + name + "]"
		if a.Type() == anyMapType { // unstructured: keys are fields
			at = joinPath(path, name)
		}
		x, y := a.MapIndex(keys[name]), b.MapIndex(keys[name])
		switch {
		case isCounted(at) || isRecord(name):
		case x.IsValid() && y.IsValid():
			d.values(at, x, y)
		default:
			d.report(at, x, y)
		}
	}
}

func (d *differ) slices(path string, a, b reflect.Value) {
	for i := range max(a.Len(), b.Len()) {
		at := path + "[" + strconv.Itoa(i) + "]"
		switch {
		case i >= a.Len():
			d.report(at, reflect.Value{}, b.Index(i))
		case i >= b.Len():
			d.report(at, a.Index(i), reflect.Value{})
		default:
			d.values(at, a.Index(i), b.Index(i))
		}
	}
}

// isCounted reports whether the store itself counts in the field.
func isCounted(path string) bool {
	switch path {
	case "metadata.resourceVersion", "metadata.generation", "metadata.managedFields":
		return true
	}
	return false
}

// valueText returns a value as text of bounded size; an invalid one is none.
func valueText(v reflect.Value) string {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && !isOpaque(v.Type()) {
		v = v.Elem()
	}
	switch {
	case !v.IsValid() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.IsNil():
		return "none"
	case isBytes(v.Type()):
		return fmt.Sprintf("%d bytes", v.Len())
	case v.Kind() == reflect.String && !isOpaque(v.Type()):
		return strconv.Quote(cut(v.String(), maxDiffValue))
	}
	text, err := json.Marshal(v.Interface())
	if err != nil { // a function, say
		return v.Type().String()
	}
	return cut(string(text), maxDiffValue)
}

// cut shortens the text to n bytes, on a boundary between characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// jsonField is a field of a struct as JSON names it.
type jsonField struct {
	name  string // "" where the fields of an embedded struct count as those of the outer one
	index int
	tag   reflect.StructTag
}

// jsonFields yields the exported fields that JSON writes. The one field of
// unstructured.Unstructured, a map by the name of Object, counts as embedded.
func jsonFields(t reflect.Type) func(yield func(jsonField) bool) {
	return func(yield func(jsonField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			embedded := f.Anonymous && f.Type.Kind() == reflect.Struct
			if !f.IsExported() && !embedded || name == "-" {
				continue
			}
			if name == "" && !embedded && !(t.NumField() == 1 && f.Name == "Object" && f.Type == anyMapType) {
				name = f.Name
			}
			if !yield(jsonField{name, i, f.Tag}) {
				return
			}
		}
	}
}

func joinPath(path, name string) string {
	if path == "" || name == "" {
		return cmp.Or(path, name)
	}
	return path + "." + name
}

var (
	anyMapType    = reflect.TypeFor[map[string]any]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
	timeType      = reflect.TypeFor[time.Time]()
)

func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// isOpaque reports whether a value of the type is one thing, whatever its
// fields are: a time, a quantity, whatever has a JSON of its own or fields that
// can't be seen. The object, which may have such methods, too, is none.
func isOpaque(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Interface || t.Name() == "" || isObject(t) {
		return false
	}
	return hasJSON(t) || hasHidden(t)
}

func hasJSON(t reflect.Type) bool {
	return t.Implements(marshalerType) || reflect.PointerTo(t).Implements(marshalerType)
}

func hasHidden(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for f := range t.Fields() {
		if !f.IsExported() && !f.Anonymous {
			return true
		}
	}
	return false
}

// equalOpaque compares by JSON, which is what the type itself says that it is.
func equalOpaque(a, b reflect.Value) bool {
	x, y := a.Interface(), b.Interface()
	if t := a.Type(); t == timeType {
		return x.(time.Time).Equal(y.(time.Time))
	} else if !hasJSON(t) {
		return reflect.DeepEqual(x, y)
	}
	s, errX := json.Marshal(x)
	t, errY := json.Marshal(y)
	if errX != nil || errY != nil {
		return reflect.DeepEqual(x, y)
	}
	return string(s) == string(t)
}
