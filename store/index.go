// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
)

// Index is a secondary index of a kind: it finds objects by a value computed
// from them, without a scan. Declare it once, give it to the [Kind], and ask
// with [Index.Is]; its name is what field selectors call it, so it has no
// space, '!', '=', ',' or '\'.
//
//	var byNode = store.NewIndex("spec.nodeName", func(p *Pod) string { return p.Spec.NodeName })
//	…
//	for p, err := range pods.List(ctx, store.ListOptions{Fields: byNode.Is("node-1")}) { … }
type Index[T any] struct {
	name string
	one  func(T) string
	many func(T) []string
}

// NewIndex returns an index with exactly one value for each object; "" is a
// value like any other. The function must be pure: the same object gives the
// same value, always.
func NewIndex[T any](name string, value func(T) string) *Index[T] {
	return &Index[T]{name: name, one: value}
}

// NewMultiIndex returns an index with any number of values for each object; an
// object without values is not in the index. Values given twice count once. The
// function must be pure.
func NewMultiIndex[T any](name string, values func(T) []string) *Index[T] {
	return &Index[T]{name: name, many: values}
}

// Name returns the name that field selectors use.
func (x *Index[T]) Name() string { return x.name }

// Is selects the objects that have the value in this index.
func (x *Index[T]) Is(value string) FieldSelector {
	return FieldSelector{{Name: x.name, Value: value}}
}

// The fields that every kind has, beside its indexes.
const (
	FieldName      = "metadata.name"
	FieldNamespace = "metadata.namespace"
)

// FieldSelector selects objects by fields: each condition names an index of the
// kind, or metadata.name or metadata.namespace, which every kind has. The zero
// value selects everything. A condition on a field that is no index is
// [ErrInvalid] when the selector is used.
type FieldSelector []FieldCondition

// FieldCondition is one condition of a [FieldSelector].
type FieldCondition struct {
	Name  string // of the index
	Value string
	Not   bool // the object must not have the value
}

// And returns a selector with the conditions of both.
func (s FieldSelector) And(other FieldSelector) FieldSelector {
	return append(s[:len(s):len(s)], other...)
}

// ParseFieldSelector reads a field selector in Kubernetes' text syntax:
// name=value, name==value and name!=value, separated by commas. In values, the
// characters comma, equals sign and backslash are escaped by a backslash. The
// error matches [ErrInvalid] and names the position.
func ParseFieldSelector(text string) (FieldSelector, error) {
	var s FieldSelector
	for pos := 0; pos < len(text); {
		end := fieldEnd(text, pos)
		c, err := parseField(text, pos, end)
		if err != nil {
			return nil, err
		}
		s = append(s, c)
		pos = end + 1
		if pos == len(text) { // a comma with nothing after it
			return nil, Invalidf("field selector %q: at position %d: want a field name, got the end", text, pos)
		}
	}
	return s, nil
}

// fieldEnd returns where the condition that begins at pos ends: at a comma that
// is not escaped, or at the end.
func fieldEnd(text string, pos int) int {
	for ; pos < len(text) && text[pos] != ','; pos++ {
		if text[pos] == '\\' {
			pos++
		}
	}
	return min(pos, len(text))
}

func parseField(text string, pos, end int) (FieldCondition, error) {
	fail := func(at int, what string) (FieldCondition, error) {
		return FieldCondition{}, Invalidf("field selector %q: at position %d: %s", text, at, what)
	}
	name, rest, found := strings.Cut(text[pos:end], "=")
	name, not := strings.CutSuffix(name, "!")
	if !not {
		rest = strings.TrimPrefix(rest, "=")
	}
	pos += len(name) - len(strings.TrimLeft(name, fieldSpace))
	switch name = strings.Trim(name, fieldSpace); {
	case name == "":
		return fail(pos, "want a field name")
	case badFieldName(name) >= 0:
		at := badFieldName(name)
		return fail(pos+at, fmt.Sprintf("a field name has no %q", name[at]))
	case !found:
		return fail(end, fmt.Sprintf("want '=', '==' or '!=' after %q", name))
	}
	value, bad := unescapeField(rest)
	if bad >= 0 {
		return fail(end-len(rest)+bad, `'=' and '\' in a value are written '\=' and '\\'`)
	}
	return FieldCondition{Name: name, Value: value, Not: not}, nil
}

// fieldSpace is what may stand around a field name, and not in it.
const fieldSpace = " \t\r\n"

// badFieldName returns the offset of the first character that a field selector
// has no way to say in a name, or -1.
func badFieldName(name string) int { return strings.IndexAny(name, fieldSpace+`!=,\`) }

// unescapeField undoes the escapes of a value; bad is the offset of a character
// that should have been escaped, or -1.
func unescapeField(s string) (value string, bad int) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '=':
			return "", i
		case '\\':
			if i++; i == len(s) || !strings.ContainsRune(`\,=`, rune(s[i])) {
				return "", i - 1
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), -1
}

// String returns the selector in the syntax that [ParseFieldSelector] reads.
func (s FieldSelector) String() string {
	parts := make([]string, len(s))
	for i, c := range s {
		op := "="
		if c.Not {
			op = "!="
		}
		parts[i] = c.Name + op + fieldEscaper.Replace(c.Value)
	}
	return strings.Join(parts, ",")
}

var fieldEscaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `=`, `\=`)
