// SPDX-License-Identifier: Apache-2.0

package deep

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Equal reports whether a and b hold the same value. It differs from
// [reflect.DeepEqual] in three ways: times are equal if they are the same
// instant; a nil slice or map is equal to an empty one, as in Kubernetes'
// semantic equality, because their JSON is mostly the same; and the common map
// and slice types take a fast path without allocation (an object of 1.5 KB with
// three maps: 1.2 µs and no allocation, against 3.7 µs and 18: BenchmarkEqual).
//
// Functions are equal only if both are nil. Values must not be cyclic.
func Equal(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if !va.IsValid() || !vb.IsValid() {
		return va.IsValid() == vb.IsValid()
	}
	return va.Type() == vb.Type() && EqualValues(va, vb)
}

// EqualValues is [Equal] of two reflected values of one type.
func EqualValues(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		if a.Pointer() == b.Pointer() {
			return true
		}
		return !a.IsNil() && !b.IsNil() && EqualValues(a.Elem(), b.Elem())
	case reflect.Struct:
		return equalStructs(a, b)
	case reflect.String:
		return a.String() == b.String()
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		if a.Len() == 0 || a.Pointer() == b.Pointer() {
			return true
		}
		if a.Type() == bytesType && a.CanInterface() && b.CanInterface() {
			return slices.Equal(a.Bytes(), b.Bytes())
		}
		return equalElements(a, b)
	case reflect.Array:
		return equalElements(a, b)
	case reflect.Map:
		return equalMaps(a, b)
	case reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		a, b = a.Elem(), b.Elem()
		return a.Type() == b.Type() && EqualValues(a, b)
	case reflect.Func:
		return a.IsNil() && b.IsNil()
	default:
		return a.Equal(b)
	}
}

var (
	bytesType     = reflect.TypeFor[[]byte]()
	stringMapType = reflect.TypeFor[map[string]string]()
	timeType      = reflect.TypeFor[time.Time]()
)

func equalStructs(a, b reflect.Value) bool {
	if a.Type() == timeType && a.CanInterface() && b.CanInterface() {
		if a.CanAddr() && b.CanAddr() { // without allocation
			return a.Addr().Interface().(*time.Time).Equal(*b.Addr().Interface().(*time.Time))
		}
		return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
	}
	for i := range a.NumField() {
		if !EqualValues(a.Field(i), b.Field(i)) {
			return false
		}
	}
	return true
}

func equalElements(a, b reflect.Value) bool {
	for i := range a.Len() {
		if !EqualValues(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func equalMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	if a.Len() == 0 || a.Pointer() == b.Pointer() {
		return true
	}
	if a.Type() == stringMapType && a.CanInterface() && b.CanInterface() {
		return maps.Equal(a.Interface().(map[string]string), b.Interface().(map[string]string))
	}
	for it := a.MapRange(); it.Next(); {
		v := b.MapIndex(it.Key())
		if !v.IsValid() || !EqualValues(it.Value(), v) {
			return false
		}
	}
	return true
}

// Diff returns the path of the first difference between a and b and the two
// values there, as text for a person ("Spec.Replicas: 1 != 2"), or "" where
// they are equal by [Equal].
func Diff(a, b any) string {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if !va.IsValid() || !vb.IsValid() || va.Type() != vb.Type() {
		if Equal(a, b) {
			return ""
		}
		return fmt.Sprintf("%T != %T", a, b)
	}
	return diff("", va, vb)
}

func diff(path string, a, b reflect.Value) string {
	if EqualValues(a, b) {
		return ""
	}
	switch {
	case a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil():
		return diff(path, a.Elem(), b.Elem())
	case a.Kind() == reflect.Interface && !a.IsNil() && !b.IsNil():
		a, b = a.Elem(), b.Elem()
		if a.Type() == b.Type() {
			return diff(path, a, b)
		}
		return fmt.Sprintf("%s: %v (%s) != %v (%s)", path, a, a.Type(), b, b.Type())
	case a.Kind() == reflect.Struct && a.Type() != timeType:
		for i := range a.NumField() {
			if d := diff(join(path, a.Type().Field(i).Name), a.Field(i), b.Field(i)); d != "" {
				return d
			}
		}
	case a.Kind() == reflect.Slice && a.Len() == b.Len():
		for i := range a.Len() {
			if d := diff(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i)); d != "" {
				return d
			}
		}
	case a.Kind() == reflect.Map && !a.IsNil() && !b.IsNil():
		for it := a.MapRange(); it.Next(); {
			at := fmt.Sprintf("%s[%v]", path, it.Key())
			v := b.MapIndex(it.Key())
			if !v.IsValid() {
				return fmt.Sprintf("%s: %v != (absent)", at, it.Value())
			}
			if d := diff(at, it.Value(), v); d != "" {
				return d
			}
		}
	}
	return fmt.Sprintf("%s: %v != %v", path, a, b)
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}
