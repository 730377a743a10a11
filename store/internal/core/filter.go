// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// filter is what a list or a watch selects, checked and resolved against the
// kind. Its zero value selects everything.
type filter struct {
	namespace string // "": all, unless cluster
	name      string
	cluster   bool // the kind's objects have no namespace, so that a name is a key
	labels    store.Selector
	fields    []fieldTest
}

// fieldTest is a condition on an index of the kind.
type fieldTest struct {
	index store.SchemaIndex
	nth   int // the index's number
	value string
	not   bool
}

// newFilter resolves the conditions. A contradiction (two names, say) is
// expressed by none, which selects nothing.
func newFilter(s *store.Schema, namespace, name string, labels store.Selector, fields store.FieldSelector) (f filter, none bool, err error) {
	f = filter{namespace: namespace, name: name, labels: labels, cluster: s.Scope == store.Cluster}
	if s.Scope == store.Cluster && namespace != "" {
		return f, false, store.Invalidf("namespace %q: the kind is cluster-scoped", namespace)
	}
	for _, c := range fields {
		switch {
		case c.Name == store.FieldName && !c.Not:
			none = none || f.name != "" && f.name != c.Value || c.Value == ""
			f.name = c.Value
		case c.Name == store.FieldNamespace && !c.Not && c.Value != "":
			none = none || f.namespace != "" && f.namespace != c.Value || s.Scope == store.Cluster
			f.namespace = c.Value
		default:
			t := fieldTest{value: c.Value, not: c.Not}
			if t.index, t.nth, err = findField(s, c.Name); err != nil {
				return f, false, err
			}
			f.fields = append(f.fields, t)
		}
	}
	return f, none, nil
}

// findField returns the index of that name; for the fields that every kind has,
// one of number -1.
func findField(s *store.Schema, name string) (store.SchemaIndex, int, error) {
	switch name {
	case store.FieldName:
		return store.SchemaIndex{Name: name, One: store.Object.GetName}, -1, nil
	case store.FieldNamespace:
		return store.SchemaIndex{Name: name, One: store.Object.GetNamespace}, -1, nil
	}
	i := slices.IndexFunc(s.Indexes, func(x store.SchemaIndex) bool { return x.Name == name })
	if i < 0 {
		known := []string{store.FieldName, store.FieldNamespace}
		for _, x := range s.Indexes {
			known = append(known, x.Name)
		}
		return store.SchemaIndex{}, 0, store.Invalidf("field %q is no index of the kind: it has %q", name, known)
	}
	return s.Indexes[i], i, nil
}

// everything reports whether the filter selects all objects.
func (f *filter) everything() bool {
	return f.namespace == "" && f.name == "" && len(f.fields) == 0 && f.labels.Empty()
}

// matches reports whether the filter selects the entry.
func (f *filter) matches(e *Entry) bool {
	if f.namespace != "" && f.namespace != e.Key.Namespace || f.name != "" && f.name != e.Key.Name {
		return false
	}
	for i := range f.fields {
		if !f.fields[i].matches(e.Object) {
			return false
		}
	}
	return f.labels.Empty() || f.labels.Matches(e.Object.GetLabels())
}

func (t *fieldTest) matches(o store.Object) bool { return t.index.Has(o, t.value) != t.not }

// ascend calls yield with the entries of the view that the filter selects, from
// the key on, by the cheapest way.
func (f *filter) ascend(v View, from store.Key, yield func(*Entry) bool) {
	if f.name != "" && (f.namespace != "" || f.cluster) {
		key := store.Key{Namespace: f.namespace, Name: f.name}
		if e := v.Get(key); e != nil && key.Compare(from) >= 0 && f.matches(e) {
			yield(e)
		}
		return
	}
	for i := range f.fields {
		if t := &f.fields[i]; t.nth >= 0 && !t.not {
			f.ascendIndex(v, i, from, yield)
			return
		}
	}
	rest := filter{name: f.name, labels: f.labels, fields: f.fields}
	v.Ascend(f.namespace, from, rest.before(yield))
}

// ascendIndex does so by the index of the field test number i.
func (f *filter) ascendIndex(v View, i int, from store.Key, yield func(*Entry) bool) {
	rest := filter{name: f.name, labels: f.labels}
	if len(f.fields) > 1 {
		rest.fields = slices.Delete(slices.Clone(f.fields), i, i+1)
	}
	yield = rest.before(yield)
	if f.namespace == "" {
		v.AscendIndex(f.fields[i].nth, f.fields[i].value, from, yield)
		return
	}
	if start := (store.Key{Namespace: f.namespace}); from.Compare(start) < 0 {
		from = start
	}
	v.AscendIndex(f.fields[i].nth, f.fields[i].value, from, func(e *Entry) bool {
		return e.Key.Namespace == f.namespace && yield(e) // within a value they are ordered by key
	})
}

// before returns a yield that passes on what the filter selects.
func (f *filter) before(yield func(*Entry) bool) func(*Entry) bool {
	if f.everything() {
		return yield
	}
	return func(e *Entry) bool { return !f.matches(e) || yield(e) }
}
