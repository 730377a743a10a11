// SPDX-License-Identifier: Apache-2.0

package deep

import "reflect"

// mapOverhead is what a map entry costs beside its key and value (swiss map
// control bytes and spare room), and mapHeader the map itself, in bytes.
const (
	mapOverhead = 8
	mapHeader   = 48
)

// Size estimates how many bytes of heap the value takes, in bytes: what it
// refers to included, shared parts counted as often as they are met. Values
// must not be cyclic.
func Size(v any) int {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return 0
	}
	return int(rv.Type().Size()) + beyond(rv)
}

// beyond is the size of what v refers to.
func beyond(v reflect.Value) int {
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 0
		}
		return int(v.Elem().Type().Size()) + beyond(v.Elem())
	case reflect.Struct:
		n := 0
		for i, fields := 0, v.NumField(); i < fields; i++ { // v.Fields would describe each field too
			n += beyond(v.Field(i))
		}
		return n
	case reflect.Slice:
		n := v.Cap() * int(v.Type().Elem().Size())
		if isPlain(v.Type().Elem()) && v.Type().Elem().Kind() != reflect.String {
			return n
		}
		for i := range v.Len() {
			n += beyond(v.Index(i))
		}
		return n
	case reflect.Array:
		n := 0
		for i := range v.Len() {
			n += beyond(v.Index(i))
		}
		return n
	case reflect.Map:
		if v.IsNil() {
			return 0
		}
		n := mapHeader + v.Len()*(int(v.Type().Key().Size()+v.Type().Elem().Size())+mapOverhead)
		for it := v.MapRange(); it.Next(); {
			n += beyond(it.Key()) + beyond(it.Value())
		}
		return n
	}
	return 0
}
