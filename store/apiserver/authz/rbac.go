// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// The kinds that RBAC reads. Bindings need the index [SubjectIndex].
var (
	kindRole               = store.KindName{Group: rbacv1.GroupName, Name: "Role"}
	kindClusterRole        = store.KindName{Group: rbacv1.GroupName, Name: "ClusterRole"}
	kindRoleBinding        = store.KindName{Group: rbacv1.GroupName, Name: "RoleBinding"}
	kindClusterRoleBinding = store.KindName{Group: rbacv1.GroupName, Name: "ClusterRoleBinding"}
)

// SubjectIndex is the name of the index by which RBAC finds the bindings of a
// user: its values are those of [SubjectKeys].
const SubjectIndex = "subject"

// SubjectKeys returns the values of a binding's subjects in [SubjectIndex].
func SubjectKeys(namespace string, subjects []rbacv1.Subject) []string {
	keys := make([]string, 0, len(subjects))
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			keys = append(keys, "u:"+s.Name)
		case rbacv1.GroupKind:
			keys = append(keys, "g:"+s.Name)
		case rbacv1.ServiceAccountKind:
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			keys = append(keys, "u:"+authn.ServiceAccountPrefix+ns+":"+s.Name)
		}
	}
	return keys
}

// userKeys returns the values under which a user's bindings are found.
func userKeys(u *authn.User) []string {
	keys := make([]string, 0, len(u.Groups)+1)
	keys = append(keys, "u:"+u.Name)
	for _, g := range u.Groups {
		keys = append(keys, "g:"+g)
	}
	return keys
}

// RBAC authorizes by the roles and bindings that a store holds, as they are at
// the time of the request.
type RBAC struct {
	Store store.Store
}

var (
	_ Authorizer   = RBAC{}
	_ RuleResolver = RBAC{}
)

// Authorize allows what one of the user's roles allows.
func (b RBAC) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	if a.User == nil {
		return NoOpinion, "", nil
	}
	allowed := false
	err := b.visit(ctx, a.User, a.Namespace, func(r *rbacv1.PolicyRule) bool {
		allowed = allows(r, &a)
		return !allowed
	})
	if allowed {
		return Allow, "", nil
	}
	return NoOpinion, "", err
}

// Rules implements [RuleResolver]: the rules of the user's cluster roles, and of
// the roles that are bound in the namespace.
func (b RBAC) Rules(ctx context.Context, u *authn.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	err := b.visit(ctx, u, namespace, func(r *rbacv1.PolicyRule) bool {
		rules = append(rules, *r)
		return true
	})
	return rules, err
}

// RoleRules returns the rules of the role that a binding in the namespace ("":
// cluster-wide) refers to.
func (b RBAC) RoleRules(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "ClusterRole":
		role, err := get[*rbacv1.ClusterRole](ctx, b.Store, kindClusterRole, store.Key{Name: ref.Name})
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	case "Role":
		role, err := get[*rbacv1.Role](ctx, b.Store, kindRole, store.NewKey(namespace, ref.Name))
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	}
	return nil, fmt.Errorf("role reference of kind %q: want Role or ClusterRole", ref.Kind)
}

// visit calls f for each of the user's rules until it returns false. Roles that
// are missing are an error in the end, and no obstacle to the others.
func (b RBAC) visit(ctx context.Context, u *authn.User, namespace string, f func(*rbacv1.PolicyRule) bool) error {
	var errs []error
	more := true
	rules := func(ns string, ref rbacv1.RoleRef) {
		found, err := b.RoleRules(ctx, ns, ref)
		if err != nil {
			errs = append(errs, err)
		}
		for i := range found {
			if more = more && f(&found[i]); !more {
				return
			}
		}
	}
	for _, key := range userKeys(u) {
		err := each(ctx, b.Store, kindClusterRoleBinding, "", key, func(o *rbacv1.ClusterRoleBinding) bool {
			rules("", o.RoleRef)
			return more
		})
		if err == nil && more && namespace != "" {
			err = each(ctx, b.Store, kindRoleBinding, namespace, key, func(o *rbacv1.RoleBinding) bool {
				rules(o.Namespace, o.RoleRef)
				return more
			})
		}
		if err != nil {
			errs = append(errs, err)
		}
		if !more {
			return nil
		}
	}
	return errors.Join(errs...)
}

func get[T store.Copier[T]](ctx context.Context, s store.Store, kind store.KindName, key store.Key) (T, error) {
	h, err := store.Lookup[T](s, kind)
	if err != nil {
		var zero T
		return zero, err
	}
	return h.Get(ctx, key)
}

func each[T store.Copier[T]](ctx context.Context, s store.Store, kind store.KindName, namespace, subject string, f func(T) bool) error {
	h, err := store.Lookup[T](s, kind)
	if err != nil {
		return err
	}
	fields := store.FieldSelector{{Name: SubjectIndex, Value: subject}}
	for o, err := range h.List(ctx, store.ListOptions{Namespace: namespace, Fields: fields}) {
		if err != nil {
			return err
		}
		if !f(o) {
			return nil
		}
	}
	return nil
}

// allows reports whether the rule allows the request.
func allows(r *rbacv1.PolicyRule, a *Attributes) bool {
	if !has(r.Verbs, a.Verb, rbacv1.VerbAll) {
		return false
	}
	if a.Resource == "" {
		return slices.ContainsFunc(r.NonResourceURLs, func(p string) bool { return pathMatches(p, a.Path) })
	}
	return has(r.APIGroups, a.Group, rbacv1.APIGroupAll) && resourceMatches(r.Resources, a.Resource, a.Subresource) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
}

func has(list []string, want, all string) bool {
	for _, s := range list {
		if s == want || s == all {
			return true
		}
	}
	return false
}

// resourceMatches knows the forms "pods", "pods/log", "*", and "*/log".
func resourceMatches(list []string, resource, sub string) bool {
	for _, s := range list {
		if s == rbacv1.ResourceAll {
			return true
		}
		r, rs, _ := strings.Cut(s, "/")
		if (r == resource || r == "*") && rs == sub && (r != "*" || sub != "") {
			return true
		}
	}
	return false
}

// pathMatches compares a rule's path, which may end in "*", with a path.
func pathMatches(rule, path string) bool {
	if prefix, ok := strings.CutSuffix(rule, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return rule == path
}
