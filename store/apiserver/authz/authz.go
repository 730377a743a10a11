// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"errors"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// Attributes say what a user asks for: a resource, or, where Resource is "", a
// path that is none.
type Attributes struct {
	User        *authn.User
	Verb        string // get, list, watch, create, update, patch, delete, deletecollection, …; of a path: the method in lower case
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Path        string
}

// Decision is an authorizer's answer.
type Decision int

// The decisions.
const (
	NoOpinion Decision = iota // ask the next; if there is none, the answer is no
	Allow
	Deny
)

// Authorizer says whether a user may do something. The reason is shown to the
// user. An error means that the authorizer could not find out all there is to
// know; the decision counts all the same.
type Authorizer interface {
	Authorize(context.Context, Attributes) (Decision, string, error)
}

// RuleResolver is an authorizer that can list what a user may do in a
// namespace, for SelfSubjectRulesReview.
type RuleResolver interface {
	Rules(ctx context.Context, u *authn.User, namespace string) ([]rbacv1.PolicyRule, error)
}

// Func makes a function an [Authorizer].
type Func func(context.Context, Attributes) (Decision, string, error)

// Authorize calls the function.
func (f Func) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	return f(ctx, a)
}

// AllowAll lets everyone do everything.
func AllowAll() Authorizer {
	return Func(func(context.Context, Attributes) (Decision, string, error) { return Allow, "", nil })
}

// First asks each authorizer in turn and takes the first opinion. It resolves
// rules by asking those of them that can.
func First(list ...Authorizer) Authorizer { return first(list) }

type first []Authorizer

func (f first) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	var errs []error
	var reasons []string
	for _, z := range f {
		d, reason, err := z.Authorize(ctx, a)
		if d != NoOpinion {
			return d, reason, err
		}
		if err != nil {
			errs = append(errs, err)
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
	}
	return NoOpinion, strings.Join(reasons, ", "), errors.Join(errs...)
}

func (f first) Rules(ctx context.Context, u *authn.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var errs []error
	for _, z := range f {
		if r, ok := z.(RuleResolver); ok {
			more, err := r.Rules(ctx, u, namespace)
			rules = append(rules, more...)
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return rules, errors.Join(errs...)
}

// Masters lets members of the group system:masters do everything.
func Masters() Authorizer {
	return Func(func(_ context.Context, a Attributes) (Decision, string, error) {
		if a.User.In(authn.GroupMasters) {
			return Allow, "", nil
		}
		return NoOpinion, "", nil
	})
}
