// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/store"
)

// recordPrefix is the domain of the annotations in which [Apply] keeps what it
// set.
const recordPrefix = "applied.slipway.dev/"

func isRecord(annotation string) bool { return strings.HasPrefix(annotation, recordPrefix) }

// fieldSet is a set of fields: a tree of the names that JSON has for fields, of
// keys of maps, and of keys of elements. One without children is a leaf, a field
// that was set as a whole.
type fieldSet map[string]fieldSet

// justThere is the set of a struct or map that is to be there, whatever is in it:
// taken back, it goes if it is empty. (A leaf would go with what others put
// there.)
func justThere() fieldSet { return fieldSet{"": {}} }

func (f fieldSet) String() string {
	text, err := json.Marshal(f) // keys in order
	if err != nil {
		panic("reconcile: a tree of strings has no JSON: " + err.Error())
	}
	return string(text)
}

// parseRecord reads what String wrote; anything else is the empty set.
func parseRecord(text string) fieldSet {
	var f fieldSet
	if json.Unmarshal([]byte(text), &f) != nil {
		return nil
	}
	return f
}

// merger puts the fields that are set in one object into another of its type.
//
// Each of its functions takes the destination, the source, and the fields that
// were set there the last time. It returns those set now; nil says that the
// source sets none, and then the caller releases those of the last time.
type merger struct {
	own []string // paths of fields to replace even by nothing
}

func (m *merger) object(s *store.Schema, dst, src store.Object, was fieldSet) fieldSet {
	d, v := reflect.ValueOf(dst), reflect.ValueOf(src)
	now := fieldSet{}
	if d.Kind() == reflect.Pointer && d.Elem().Kind() == reflect.Struct {
		if set := m.fields("", d.Elem(), v.Elem(), was); set != nil {
			now = set
		}
	}
	if meta := mergeMetadata(s, dst, src, was["metadata"]); len(meta) > 0 {
		now["metadata"] = meta
	}
	return now
}

// mergeMetadata merges the part of the metadata that is not the store's.
func mergeMetadata(s *store.Schema, dst, src store.Object, was fieldSet) fieldSet {
	now := fieldSet{}
	put := func(name string, set fieldSet) {
		if len(set) > 0 {
			now[name] = set
		}
	}
	labels, set := mergeText(dst.GetLabels(), src.GetLabels(), was["labels"])
	dst.SetLabels(labels)
	put("labels", set)
	notes, set := mergeText(dst.GetAnnotations(), src.GetAnnotations(), was["annotations"])
	dst.SetAnnotations(notes)
	put("annotations", set)
	finalizers, set := mergeSet(dst.GetFinalizers(), src.GetFinalizers(), was["finalizers"], func(f string) string { return f })
	dst.SetFinalizers(finalizers)
	put("finalizers", set)
	if s.Accessors.Owners != nil {
		owners, set := mergeSet(s.Accessors.Owners(dst), s.Accessors.Owners(src), was["ownerReferences"],
			func(r store.OwnerReference) string { return r.UID })
		s.Accessors.SetOwners(dst, owners)
		put("ownerReferences", set)
	}
	return now
}

func mergeText(dst, src map[string]string, was fieldSet) (map[string]string, fieldSet) {
	now, out := fieldSet{}, cloneMap(dst)
	for k := range was {
		if _, still := src[k]; !still {
			delete(out, k)
		}
	}
	for k, v := range src {
		if !isRecord(k) {
			out[k], now[k] = v, fieldSet{}
		}
	}
	if len(out) == 0 {
		return nil, now
	}
	return out, now
}

func cloneMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// mergeSet merges elements by their keys: those there keep their places.
func mergeSet[E any](dst, src []E, was fieldSet, key func(E) string) ([]E, fieldSet) {
	now := fieldSet{}
	for _, e := range src {
		now[key(e)] = fieldSet{}
	}
	var out []E // nil if none is left
	for _, e := range dst {
		_, ours := was[key(e)]
		if _, still := now[key(e)]; still || !ours {
			out = append(out, e)
		}
	}
	for _, e := range src {
		if i := slices.IndexFunc(out, func(o E) bool { return key(o) == key(e) }); i >= 0 {
			out[i] = e
		} else {
			out = append(out, e)
		}
	}
	return out, now
}

// value merges a value of any type, which must be settable.
func (m *merger) value(path string, dst, src reflect.Value, was fieldSet, tag reflect.StructTag) fieldSet {
	if slices.Contains(m.own, path) {
		dst.Set(src)
		return fieldSet{}
	}
	if isOpaque(src.Type()) {
		return setLeaf(dst, src)
	}
	switch src.Kind() {
	case reflect.Pointer:
		return m.pointer(path, dst, src, was)
	case reflect.Struct:
		return m.fields(path, dst, src, was)
	case reflect.Map:
		return m.mapping(path, dst, src, was)
	case reflect.Interface:
		return m.dynamic(path, dst, src, was)
	case reflect.Slice:
		if src.Len() == 0 {
			return nil
		}
		if key, ok := mergeKey(tag, dst, src); ok {
			return m.elements(path, dst, src, was, key)
		}
		dst.Set(src)
		return fieldSet{}
	}
	return setLeaf(dst, src)
}

func setLeaf(dst, src reflect.Value) fieldSet {
	if src.IsZero() {
		return nil
	}
	dst.Set(src)
	return fieldSet{}
}

// pointer merges what a pointer points to: to zero is something, too.
func (m *merger) pointer(path string, dst, src reflect.Value, was fieldSet) fieldSet {
	if src.IsNil() {
		return nil
	}
	if src.Elem().Kind() != reflect.Struct {
		dst.Set(src)
		return fieldSet{}
	}
	if dst.IsNil() {
		dst.Set(reflect.New(src.Type().Elem()))
	}
	if now := m.fields(path, dst.Elem(), src.Elem(), was); now != nil {
		return now
	}
	return justThere()
}

func (m *merger) fields(path string, dst, src reflect.Value, was fieldSet) fieldSet {
	now := fieldSet{}
	for f := range jsonFields(src.Type()) {
		from, to := src.Field(f.index), dst.Field(f.index)
		at := joinPath(path, f.name)
		switch {
		case at == "" && isObject(from.Type()) || !m.mayTouch(at):
		case f.name == "": // embedded: its fields are ours
			maps.Copy(now, m.value(at, to, from, was, f.tag))
		default:
			m.child(now, f.name, m.value(at, to, from, was[f.name], f.tag), was, func(old fieldSet) { release(to, old, f.tag) })
		}
	}
	if len(now) == 0 {
		return nil
	}
	return now
}

// child notes the fields set in a child, or releases those of the last time.
func (m *merger) child(now fieldSet, name string, set, was fieldSet, release func(fieldSet)) {
	if set != nil {
		now[name] = set
	} else if old, ours := was[name]; ours {
		release(old)
	}
}

// mayTouch reports whether the field is open to an apply: the metadata is merged
// apart, and the status only where it is asked for.
func (m *merger) mayTouch(path string) bool {
	switch path {
	case "metadata":
		return false
	case "status":
		return slices.ContainsFunc(m.own, func(p string) bool { return p == path || strings.HasPrefix(p, path+".") })
	}
	return true
}

func (m *merger) mapping(path string, dst, src reflect.Value, was fieldSet) fieldSet {
	if src.Len() == 0 {
		return nil
	}
	if src.Type().Key().Kind() != reflect.String {
		dst.Set(src)
		return fieldSet{}
	}
	out := reflect.MakeMap(src.Type()) // a map of its own: src stays as it is
	for it := dst.MapRange(); it.Next(); {
		out.SetMapIndex(it.Key(), it.Value())
	}
	now := fieldSet{}
	for name, old := range was {
		k := reflect.ValueOf(name).Convert(src.Type().Key())
		if !src.MapIndex(k).IsValid() && m.mayTouch(joinPath(path, name)) {
			releaseKey(out, k, old)
		}
	}
	for it := src.MapRange(); it.Next(); {
		k, name := it.Key(), it.Key().String()
		at := joinPath(path, name)
		if !m.mayTouch(at) {
			continue
		}
		v := reflect.New(src.Type().Elem()).Elem()
		if have := out.MapIndex(k); have.IsValid() {
			v.Set(have)
		}
		set := m.value(at, v, it.Value(), was[name], "")
		if set == nil { // the key says something even where its value is zero
			if set = justThere(); v.Kind() != reflect.Struct || isOpaque(v.Type()) {
				v.Set(it.Value())
				set = fieldSet{}
			}
		}
		out.SetMapIndex(k, v)
		now[name] = set
	}
	dst.Set(out)
	return now
}

// dynamic merges what an interface holds: maps as in an unstructured object key
// by key, all else as a whole.
func (m *merger) dynamic(path string, dst, src reflect.Value, was fieldSet) fieldSet {
	if src.IsNil() {
		return nil
	}
	from := src.Elem()
	if from.Type() == anyMapType && !dst.IsNil() && dst.Elem().Type() == anyMapType {
		to := reflect.New(anyMapType).Elem()
		to.Set(dst.Elem())
		if set := m.mapping(path, to, from, was); set != nil {
			dst.Set(to)
			return set
		}
	}
	dst.Set(src)
	return fieldsOf(from)
}

// fieldsOf returns the fields of a value that was set where there was none.
func fieldsOf(v reflect.Value) fieldSet {
	set := fieldSet{}
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() || v.Type() != anyMapType {
		return set
	}
	for it := v.MapRange(); it.Next(); {
		set[it.Key().String()] = fieldsOf(it.Value())
	}
	if len(set) == 0 {
		return justThere()
	}
	return set
}

// elements merges slices element by element. Those there keep their places, if
// that is the order in which src has them; new ones follow.
func (m *merger) elements(path string, dst, src reflect.Value, was fieldSet, key keyFunc) fieldSet {
	now, index := fieldSet{}, map[string]reflect.Value{}
	for i := range src.Len() {
		index[key(src.Index(i))] = src.Index(i)
	}
	out := reflect.MakeSlice(src.Type(), 0, max(dst.Len(), src.Len()))
	place := map[string]int{}
	for i := range dst.Len() {
		name := key(dst.Index(i))
		_, ours := was[name]
		if _, still := index[name]; ours && !still {
			continue
		}
		place[name] = out.Len()
		out = reflect.Append(out, dst.Index(i))
	}
	for i := range src.Len() {
		name := key(src.Index(i))
		at, there := place[name]
		if !there {
			at = out.Len()
			out = reflect.Append(out, reflect.Zero(src.Type().Elem()))
		}
		now[name] = m.value(path+"["+name+"]", out.Index(at), src.Index(i), was[name], "")
		place[name] = at
	}
	dst.Set(inOrder(out, src, place, key))
	return now
}

// inOrder returns the elements as they are, if those of src stand in its order;
// else those of src first, and then the others.
func inOrder(out, src reflect.Value, place map[string]int, key keyFunc) reflect.Value {
	places := make([]int, src.Len())
	for i := range places {
		places[i] = place[key(src.Index(i))]
	}
	if slices.IsSorted(places) {
		return out
	}
	ours := map[int]bool{}
	sorted := reflect.MakeSlice(out.Type(), 0, out.Len())
	for _, p := range places {
		ours[p] = true
		sorted = reflect.Append(sorted, out.Index(p))
	}
	for i := range out.Len() {
		if !ours[i] {
			sorted = reflect.Append(sorted, out.Index(i))
		}
	}
	return sorted
}

// keyFunc returns the key of an element.
type keyFunc func(reflect.Value) string

// mergeKey returns the key of the elements, if the field's tag names one and it
// tells the elements apart in both slices.
func mergeKey(tag reflect.StructTag, slices ...reflect.Value) (keyFunc, bool) {
	name := tag.Get("patchMergeKey")
	if name == "" || !strings.Contains(tag.Get("patchStrategy"), "merge") {
		return nil, false
	}
	elem := slices[0].Type().Elem()
	if elem.Kind() != reflect.Struct {
		return nil, false
	}
	index := -1
	for f := range jsonFields(elem) {
		if f.name == name {
			index = f.index
		}
	}
	if index < 0 {
		return nil, false
	}
	key := func(v reflect.Value) string { return fmt.Sprint(v.Field(index).Interface()) }
	for _, s := range slices {
		seen := map[string]bool{}
		for i := range s.Len() {
			k := key(s.Index(i))
			if s.Index(i).Field(index).IsZero() || seen[k] {
				return nil, false
			}
			seen[k] = true
		}
	}
	return key, true
}

// release empties the fields that were set the last time and are not now.
func release(dst reflect.Value, old fieldSet, tag reflect.StructTag) {
	if len(old) == 0 {
		dst.SetZero()
		return
	}
	switch dst.Kind() {
	case reflect.Pointer:
		if dst.IsNil() {
			return
		}
		if release(dst.Elem(), old, ""); dst.Elem().IsZero() {
			dst.SetZero()
		}
	case reflect.Struct:
		for f := range jsonFields(dst.Type()) {
			if f.name == "" {
				release(dst.Field(f.index), old, f.tag)
			} else if sub, ours := old[f.name]; ours {
				release(dst.Field(f.index), sub, f.tag)
			}
		}
	case reflect.Map:
		for name, sub := range old {
			releaseKey(dst, reflect.ValueOf(name).Convert(dst.Type().Key()), sub)
		}
		if dst.Len() == 0 {
			dst.SetZero()
		}
	case reflect.Interface:
		if !dst.IsNil() && dst.Elem().Type() == anyMapType {
			m := reflect.New(anyMapType).Elem()
			m.Set(reflect.ValueOf(maps.Clone(dst.Elem().Interface().(map[string]any))))
			if release(m, old, ""); m.IsNil() {
				dst.SetZero()
			} else {
				dst.Set(m)
			}
		}
	case reflect.Slice:
		releaseElements(dst, old, tag)
	}
}

func releaseElements(dst reflect.Value, old fieldSet, tag reflect.StructTag) {
	key, ok := mergeKey(tag, dst)
	if !ok {
		return
	}
	out := reflect.MakeSlice(dst.Type(), 0, dst.Len())
	for i := range dst.Len() {
		if _, ours := old[key(dst.Index(i))]; !ours {
			out = reflect.Append(out, dst.Index(i))
		}
	}
	if dst.Set(out); out.Len() == 0 {
		dst.SetZero()
	}
}

// releaseKey empties what was set below a key of a map, and drops the key when
// nothing is left.
func releaseKey(m, k reflect.Value, old fieldSet) {
	have := m.MapIndex(k)
	if !have.IsValid() {
		return
	}
	v := reflect.New(m.Type().Elem()).Elem()
	v.Set(have)
	if release(v, old, ""); v.IsZero() {
		m.SetMapIndex(k, reflect.Value{})
	} else {
		m.SetMapIndex(k, v)
	}
}

var objectType = reflect.TypeFor[store.Object]()

// isObject reports whether a struct's pointer has the metadata's accessors: the
// object, or the metadata that it embeds.
func isObject(t reflect.Type) bool { return reflect.PointerTo(t).Implements(objectType) }

// checkPath checks that a path leads to a field that an apply may set.
func checkPath(t reflect.Type, path string) error {
	if path == "metadata" || strings.HasPrefix(path, "metadata.") {
		return errors.New("the metadata is not replaced")
	}
	for name := range strings.SplitSeq(path, ".") {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map || t.Kind() == reflect.Interface {
			return nil // any key
		}
		f, ok := fieldNamed(t, name)
		if !ok {
			return fmt.Errorf("%s has no field %q: want the names of JSON, separated by dots", t, name)
		}
		t = f
	}
	return nil
}

// fieldNamed returns the type of the field that JSON calls by the name.
func fieldNamed(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for f := range jsonFields(t) {
		switch ft := t.Field(f.index).Type; {
		case f.name == name:
			return ft, true
		case f.name == "" && ft == anyMapType: // unstructured
			return ft.Elem(), true
		case f.name == "":
			if found, ok := fieldNamed(ft, name); ok {
				return found, true
			}
		}
	}
	return nil, false
}
