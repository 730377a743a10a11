// SPDX-License-Identifier: Apache-2.0

package deep

import "reflect"

// Copy returns a copy of v that shares nothing with it that can be reached
// through exported fields, those that an embedded struct lends included.
// Unexported fields are copied as an assignment does, so that values such as
// time.Time stay whole; so are embedded pointers to unexported types, functions,
// channels, and what the keys of maps refer to. Values must not be cyclic.
func Copy[T any](v T) T {
	separate(reflect.ValueOf(&v).Elem())
	return v
}

// separate replaces what v refers to by copies. v must be settable.
func separate(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		fresh := reflect.New(v.Type().Elem())
		fresh.Elem().Set(v.Elem())
		separate(fresh.Elem())
		v.Set(fresh)
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		fresh := reflect.New(v.Elem().Type()).Elem()
		fresh.Set(v.Elem())
		separate(fresh)
		v.Set(fresh)
	case reflect.Struct:
		for i, n := 0, v.NumField(); i < n; i++ { // v.Fields would describe each field too
			// A struct that is embedded under an unexported name can't be set, but
			// its exported fields can.
			if f := v.Field(i); f.CanSet() || f.Kind() == reflect.Struct {
				separate(f)
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		fresh := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(fresh, v)
		v.Set(fresh)
		if isPlain(v.Type().Elem()) {
			return
		}
		for i := range v.Len() {
			separate(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			separate(v.Index(i))
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		fresh := reflect.MakeMapWithSize(v.Type(), v.Len())
		elem := reflect.New(v.Type().Elem()).Elem()
		for it := v.MapRange(); it.Next(); {
			elem.SetIterValue(it)
			separate(elem)
			fresh.SetMapIndex(it.Key(), elem)
		}
		v.Set(fresh)
	}
}

// isPlain reports whether values of the type refer to nothing that can change.
func isPlain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map, reflect.Struct, reflect.Array:
		return false
	}
	return true
}
