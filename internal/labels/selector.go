// SPDX-License-Identifier: Apache-2.0

package labels

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Operator says how a requirement compares a label with its values.
type Operator string

// The operators of Kubernetes' label selectors. Gt and Lt compare base-10
// integers and occur in node selectors only; the text syntax writes them as
// "key>1" and "key<1".
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
	Gt           Operator = "Gt"
	Lt           Operator = "Lt"
)

// Requirement is one condition on one label. Build it with [NewRequirement],
// which checks it: a requirement that was not checked may match nothing.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string
}

// NewRequirement returns a checked requirement. In and NotIn take one value or
// more, Exists and DoesNotExist none, Gt and Lt one integer.
func NewRequirement(key string, op Operator, values ...string) (Requirement, error) {
	if err := ValidateKey(key); err != nil {
		return Requirement{}, err
	}
	switch op {
	case In, NotIn:
		if len(values) == 0 {
			return Requirement{}, fmt.Errorf("label %q: operator %s needs at least one value", key, op)
		}
	case Exists, DoesNotExist:
		if len(values) != 0 {
			return Requirement{}, fmt.Errorf("label %q: operator %s takes no value, got %q", key, op, values)
		}
	case Gt, Lt:
		if len(values) != 1 {
			return Requirement{}, fmt.Errorf("label %q: operator %s takes one value, got %d", key, op, len(values))
		}
		if _, err := strconv.ParseInt(values[0], 10, 64); err != nil {
			return Requirement{}, fmt.Errorf("label %q: operator %s takes an integer, got %q", key, op, values[0])
		}
		return Requirement{key, op, slices.Clone(values)}, nil // not a label value: it may be negative
	default:
		return Requirement{}, fmt.Errorf("label %q: unknown operator %q (want In, NotIn, Exists, DoesNotExist, Gt or Lt)", key, op)
	}
	for _, v := range values {
		if err := ValidateValue(v); err != nil {
			return Requirement{}, fmt.Errorf("label %q: %w", key, err)
		}
	}
	return Requirement{key, op, slices.Clone(values)}, nil
}

// Matches reports whether the labels meet the requirement. An absent label meets
// NotIn and DoesNotExist only.
func (r Requirement) Matches(labels map[string]string) bool {
	v, ok := labels[r.Key]
	switch r.Operator {
	case In:
		return ok && slices.Contains(r.Values, v)
	case NotIn:
		return !ok || !slices.Contains(r.Values, v)
	case Exists:
		return ok
	case DoesNotExist:
		return !ok
	case Gt, Lt:
		if !ok || len(r.Values) != 1 {
			return false
		}
		have, err1 := strconv.ParseInt(v, 10, 64)
		want, err2 := strconv.ParseInt(r.Values[0], 10, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		if r.Operator == Gt {
			return have > want
		}
		return have < want
	}
	return false
}

// String returns the requirement in the text syntax that [Parse] reads.
func (r Requirement) String() string {
	switch r.Operator {
	case Exists:
		return r.Key
	case DoesNotExist:
		return "!" + r.Key
	case Gt, Lt:
		sign := ">"
		if r.Operator == Lt {
			sign = "<"
		}
		return r.Key + sign + strings.Join(r.Values, "")
	}
	if len(r.Values) == 1 {
		if r.Operator == NotIn {
			return r.Key + "!=" + r.Values[0]
		}
		return r.Key + "=" + r.Values[0]
	}
	word := " in ("
	if r.Operator == NotIn {
		word = " notin ("
	}
	values := slices.Sorted(slices.Values(r.Values))
	return r.Key + word + strings.Join(values, ",") + ")"
}

// Selector is a conjunction of requirements. The zero value selects everything.
type Selector []Requirement

// FromMap returns the selector that demands each of the given labels.
func FromMap(labels map[string]string) (Selector, error) {
	var s Selector
	for key, value := range labels {
		r, err := NewRequirement(key, In, value)
		if err != nil {
			return nil, err
		}
		s = append(s, r)
	}
	slices.SortFunc(s, func(a, b Requirement) int { return strings.Compare(a.Key, b.Key) })
	return s, nil
}

// Matches reports whether the labels meet every requirement.
func (s Selector) Matches(labels map[string]string) bool {
	for i := range s {
		if !s[i].Matches(labels) {
			return false
		}
	}
	return true
}

// String returns the selector in the text syntax that [Parse] reads; the zero
// value's is empty.
func (s Selector) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}
