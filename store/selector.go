// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/slipway-dev/slipway/internal/labels"

// Selector selects objects by their labels, with the meaning that Kubernetes
// gives to label selectors. The zero value selects everything. Build one with
// [ParseSelector], [MatchLabels] or [Selector.And].
type Selector struct {
	all labels.Selector
}

// SelectorOperator is an operator of [Selector.And].
type SelectorOperator = labels.Operator

// The operators of label selectors. An absent label meets NotIn and
// DoesNotExist only.
const (
	In           = labels.In
	NotIn        = labels.NotIn
	Exists       = labels.Exists
	DoesNotExist = labels.DoesNotExist
)

// SelectorSyntaxError is the error of [ParseSelector] for text that can't be
// read: it says at which position, and what would be right there.
type SelectorSyntaxError = labels.SyntaxError

// ParseSelector reads a selector in Kubernetes' text syntax, for example
//
//	app=web,tier!=db,env in (prod, qa),track notin (canary),release,!legacy
//
// The error matches [ErrInvalid] and, where the text can't be read, is a
// [*SelectorSyntaxError].
func ParseSelector(text string) (Selector, error) {
	all, err := labels.Parse(text)
	if err != nil {
		return Selector{}, &invalidError{err}
	}
	return Selector{all}, nil
}

// MatchLabels selects the objects that have each of the given labels.
func MatchLabels(set map[string]string) (Selector, error) {
	all, err := labels.FromMap(set)
	if err != nil {
		return Selector{}, &invalidError{err}
	}
	return Selector{all}, nil
}

// And returns a selector that demands one condition more. In and NotIn take one
// value or more, Exists and DoesNotExist none.
func (s Selector) And(key string, op SelectorOperator, values ...string) (Selector, error) {
	r, err := labels.NewRequirement(key, op, values...)
	if err != nil {
		return Selector{}, &invalidError{err}
	}
	return Selector{append(s.all[:len(s.all):len(s.all)], r)}, nil
}

// Matches reports whether the labels meet every condition.
func (s Selector) Matches(set map[string]string) bool { return s.all.Matches(set) }

// Empty reports whether the selector selects everything.
func (s Selector) Empty() bool { return len(s.all) == 0 }

// String returns the selector in the syntax that [ParseSelector] reads.
func (s Selector) String() string { return s.all.String() }
