// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/store"
)

// query is what a list of a cache selects, checked against its indexes.
type query[T store.Object] struct {
	namespace, name string // "": all
	labels          store.Selector
	fields          []fieldTest
	none            bool // the conditions contradict each other
	limit           int
	after           string // the key where the page begins, exclusive; as text
}

// fieldTest is a condition on an index.
type fieldTest struct {
	index store.SchemaIndex
	nth   int // among the cache's indexes, -1: metadata.name, metadata.namespace
	value string
	not   bool
}

func (t *fieldTest) matches(o store.Object) bool { return t.index.Has(o, t.value) != t.not }

func (c *contents[T]) query(opts store.ListOptions) (q query[T], err error) {
	q = query[T]{namespace: opts.Namespace, labels: opts.Labels, limit: opts.Limit}
	if opts.Limit < 0 {
		return q, store.Invalidf("limit %d: want 0, for none, or more", opts.Limit)
	}
	if opts.Continue != "" {
		after, ok := strings.CutPrefix(opts.Continue, tokenPrefix)
		if !ok {
			return q, store.Invalidf("continue token %q is not of this cache", opts.Continue)
		}
		q.after = after
	}
	for _, f := range opts.Fields {
		t, err := c.field(f)
		if err != nil {
			return q, err
		}
		switch {
		case f.Name == store.FieldName && !f.Not:
			q.none = q.none || q.name != "" && q.name != f.Value || f.Value == ""
			q.name = f.Value
		case f.Name == store.FieldNamespace && !f.Not && f.Value != "":
			q.none = q.none || q.namespace != "" && q.namespace != f.Value
			q.namespace = f.Value
		default:
			q.fields = append(q.fields, t)
		}
	}
	return q, nil
}

// byNamespace is the index that contents have of themselves.
var byNamespace = store.SchemaIndex{Name: store.FieldNamespace, One: store.Object.GetNamespace}

// tokenPrefix begins a continue token of a cache; the last key of the page
// follows.
const tokenPrefix = "after:"

func (c *contents[T]) field(f store.FieldCondition) (fieldTest, error) {
	t := fieldTest{nth: -1, value: f.Value, not: f.Not}
	for i := range c.indexes {
		if c.indexes[i].Name == f.Name {
			t.nth, t.index = i, c.indexes[i].SchemaIndex
			return t, nil
		}
	}
	switch f.Name {
	case store.FieldName:
		t.index = store.SchemaIndex{Name: f.Name, One: store.Object.GetName}
		return t, nil
	case store.FieldNamespace:
		t.index = byNamespace
		return t, nil
	}
	known := []string{store.FieldName}
	for i := range c.indexes {
		known = append(known, c.indexes[i].Name)
	}
	return t, store.Invalidf("field %q is no index of the cache: it has %q", f.Name, known)
}

func (q *query[T]) matches(o T) bool {
	if q.namespace != "" && o.GetNamespace() != q.namespace || q.name != "" && o.GetName() != q.name {
		return false
	}
	for i := range q.fields {
		if !q.fields[i].matches(o) {
			return false
		}
	}
	return q.labels.Empty() || q.labels.Matches(o.GetLabels())
}

// candidates calls yield with objects among which are all that match, by the
// cheapest way; some may be given twice.
func (c *contents[T]) candidates(q *query[T], yield func(T)) {
	if q.name != "" && (q.namespace != "" || c.cluster) {
		if o, ok := c.get(store.Key{Namespace: q.namespace, Name: q.name}); ok {
			yield(o)
		}
		return
	}
	var best *posting
	scan := true // no index helps
	consider := func(nth int, value string) {
		if p := c.find(&c.indexes[nth], value); scan || p.len() < best.len() {
			best, scan = p, false
		}
	}
	for i := range q.fields {
		if t := &q.fields[i]; t.nth >= 0 && !t.not {
			consider(t.nth, t.value)
		}
	}
	if q.namespace != "" && !c.cluster {
		consider(0, q.namespace)
	}
	switch {
	case scan:
		for o := range c.objects.all {
			yield(o)
		}
	case best != nil:
		for hash := range best.all {
			c.objects.each(hash, yield)
		}
	}
}

// list returns the objects that match in the order of their keys, and whether
// more come after the limit.
func (c *contents[T]) list(q *query[T]) (out []T, more bool) {
	if q.none {
		return nil, false
	}
	var after store.Key
	if q.after != "" {
		after = parseKey(q.after)
	}
	c.candidates(q, func(o T) {
		if q.matches(o) && (q.after == "" || store.KeyOf(o).Compare(after) > 0) {
			out = append(out, o)
		}
	})
	sortByKey(out)
	out = slices.CompactFunc(out, func(a, b T) bool { return store.Object(a) == store.Object(b) })
	if q.limit > 0 && len(out) > q.limit {
		return out[:q.limit], true
	}
	return out, false
}

func parseKey(text string) store.Key {
	if namespace, name, found := strings.Cut(text, "/"); found {
		return store.NewKey(namespace, name)
	}
	return store.Key{Name: text}
}

// sortByKey orders objects by namespace and name, as lists are.
func sortByKey[T store.Object](objects []T) {
	slices.SortFunc(objects, func(a, b T) int {
		if c := strings.Compare(a.GetNamespace(), b.GetNamespace()); c != 0 {
			return c
		}
		return strings.Compare(a.GetName(), b.GetName())
	})
}

// readable refuses a revision that these contents are not of.
func (c *contents[T]) readable(opts store.ReadOptions) error {
	revision := c.revision
	switch {
	case opts.AtLeast > revision || opts.Exact > revision:
		return store.ErrFuture
	case opts.Exact != 0 && opts.Exact < revision:
		return store.ErrTooOld
	}
	return nil
}
