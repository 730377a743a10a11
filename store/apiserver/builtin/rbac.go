// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) error {
	var errs field.ErrorList
	for i, r := range rules {
		path := field.NewPath("rules").Index(i)
		if len(r.Verbs) == 0 {
			errs = append(errs, field.Required(path.Child("verbs"), "verbs must contain at least one value"))
		}
		if len(r.NonResourceURLs) > 0 {
			if namespaced {
				errs = append(errs, field.Invalid(path.Child("nonResourceURLs"), r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
			}
			if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0 {
				errs = append(errs, field.Invalid(path.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			errs = append(errs, field.Required(path.Child("apiGroups"), "resource rules must supply at least one api group"))
		}
		if len(r.Resources) == 0 {
			errs = append(errs, field.Required(path.Child("resources"), "resource rules must supply at least one resource"))
		}
	}
	return result(errs)
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, kinds ...string) error {
	var errs field.ErrorList
	path := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(path.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	known := false
	for _, k := range kinds {
		known = known || ref.Kind == k
	}
	if !known {
		errs = append(errs, field.NotSupported(path.Child("kind"), ref.Kind, kinds))
	}
	if ref.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	for i, s := range subjects {
		at := field.NewPath("subjects").Index(i)
		if s.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		switch s.Kind {
		case rbacv1.UserKind, rbacv1.GroupKind, rbacv1.ServiceAccountKind:
		default:
			errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
		}
	}
	return result(errs)
}

func defaultSubjects(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	setDefault(&ref.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if k := subjects[i].Kind; k == rbacv1.UserKind || k == rbacv1.GroupKind {
			setDefault(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func createdAt[T object[T]]() apiserver.Column[T] {
	return column("Created At", func(o T) any { return o.GetCreationTimestamp().UTC().Format("2006-01-02T15:04:05Z07:00") })
}

// Roles returns the kind Role of rbac.authorization.k8s.io/v1, to be
// registered, with its validation.
func Roles() apiserver.Resource[*rbacv1.Role] {
	k := kind[*rbacv1.Role](rbacv1.GroupName, "v1", "Role")
	k.ValidateName = pathName
	k.Validate = func(_, r *rbacv1.Role) error { return validateRules(r.Rules, true) }
	return apiserver.Resource[*rbacv1.Role]{Kind: k, Columns: []apiserver.Column[*rbacv1.Role]{createdAt[*rbacv1.Role]()}}
}

// ClusterRoles returns the kind ClusterRole of rbac.authorization.k8s.io/v1, to
// be registered, with its validation.
func ClusterRoles() apiserver.Resource[*rbacv1.ClusterRole] {
	k := cluster[*rbacv1.ClusterRole](rbacv1.GroupName, "v1", "ClusterRole")
	k.ValidateName = pathName
	k.Validate = func(_, r *rbacv1.ClusterRole) error { return validateRules(r.Rules, false) }
	return apiserver.Resource[*rbacv1.ClusterRole]{Kind: k, Columns: []apiserver.Column[*rbacv1.ClusterRole]{createdAt[*rbacv1.ClusterRole]()}}
}

// RoleBindings returns the kind RoleBinding of rbac.authorization.k8s.io/v1, to
// be registered, with its defaults and validation.
func RoleBindings() apiserver.Resource[*rbacv1.RoleBinding] {
	k := kind[*rbacv1.RoleBinding](rbacv1.GroupName, "v1", "RoleBinding")
	k.ValidateName = pathName
	k.Indexes = []*store.Index[*rbacv1.RoleBinding]{store.NewMultiIndex(authz.SubjectIndex, func(b *rbacv1.RoleBinding) []string {
		return authz.SubjectKeys(b.Namespace, b.Subjects)
	})}
	k.Default = func(b *rbacv1.RoleBinding) { defaultSubjects(&b.RoleRef, b.Subjects) }
	k.Validate = func(_, b *rbacv1.RoleBinding) error {
		return validateBinding(b.RoleRef, b.Subjects, "Role", "ClusterRole")
	}
	k.Immutable = []store.Field[*rbacv1.RoleBinding]{{Name: "roleRef", Get: func(b *rbacv1.RoleBinding) any { return b.RoleRef }}}
	return apiserver.Resource[*rbacv1.RoleBinding]{
		Kind: k,
		Columns: append([]apiserver.Column[*rbacv1.RoleBinding]{
			column("Role", func(b *rbacv1.RoleBinding) any { return b.RoleRef.Kind + "/" + b.RoleRef.Name }),
			apiserver.Age[*rbacv1.RoleBinding](),
		}, subjectColumns(func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects })...),
	}
}

// ClusterRoleBindings returns the kind ClusterRoleBinding of
// rbac.authorization.k8s.io/v1, to be registered, with its defaults and
// validation.
func ClusterRoleBindings() apiserver.Resource[*rbacv1.ClusterRoleBinding] {
	k := cluster[*rbacv1.ClusterRoleBinding](rbacv1.GroupName, "v1", "ClusterRoleBinding")
	k.ValidateName = pathName
	k.Indexes = []*store.Index[*rbacv1.ClusterRoleBinding]{store.NewMultiIndex(authz.SubjectIndex, func(b *rbacv1.ClusterRoleBinding) []string {
		return authz.SubjectKeys("", b.Subjects)
	})}
	k.Default = func(b *rbacv1.ClusterRoleBinding) { defaultSubjects(&b.RoleRef, b.Subjects) }
	k.Validate = func(_, b *rbacv1.ClusterRoleBinding) error {
		return validateBinding(b.RoleRef, b.Subjects, "ClusterRole")
	}
	k.Immutable = []store.Field[*rbacv1.ClusterRoleBinding]{{Name: "roleRef", Get: func(b *rbacv1.ClusterRoleBinding) any { return b.RoleRef }}}
	return apiserver.Resource[*rbacv1.ClusterRoleBinding]{
		Kind: k,
		Columns: append([]apiserver.Column[*rbacv1.ClusterRoleBinding]{
			column("Role", func(b *rbacv1.ClusterRoleBinding) any { return b.RoleRef.Kind + "/" + b.RoleRef.Name }),
			apiserver.Age[*rbacv1.ClusterRoleBinding](),
		}, subjectColumns(func(b *rbacv1.ClusterRoleBinding) []rbacv1.Subject { return b.Subjects })...),
	}
}

func subjectColumns[T any](subjects func(T) []rbacv1.Subject) []apiserver.Column[T] {
	of := func(kind string) func(T) any {
		return func(o T) any {
			var names []string
			for _, s := range subjects(o) {
				if s.Kind == kind {
					name := s.Name
					if s.Kind == rbacv1.ServiceAccountKind {
						name = s.Namespace + "/" + s.Name
					}
					names = append(names, name)
				}
			}
			return strings.Join(names, ", ")
		}
	}
	return []apiserver.Column[T]{
		wide("Users", of(rbacv1.UserKind)), wide("Groups", of(rbacv1.GroupKind)), wide("ServiceAccounts", of(rbacv1.ServiceAccountKind)),
	}
}
