// SPDX-License-Identifier: Apache-2.0

package deep

import "reflect"

// Copy returns a copy of v that shares nothing with it that can be reached
// through exported fields. Unexported fields are copied as an assignment does,
// so that values such as time.Time stay whole. Values must not be cyclic.
func Copy[T any](v T) T {
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	out.Set(reflect.ValueOf(&v).Elem())
	separate(out)
	return out.Interface().(T)
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
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
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
