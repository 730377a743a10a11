// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Uncovered returns what of the wanted rules the held rules do not allow: a user
// can't give away more than that user has.
func Uncovered(held, wanted []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var missing []rbacv1.PolicyRule
	for _, w := range wanted {
		for _, atom := range atoms(w) {
			if !slices.ContainsFunc(held, func(h rbacv1.PolicyRule) bool { return covers(h, atom) }) {
				missing = append(missing, atom)
			}
		}
	}
	return missing
}

// atoms breaks a rule into rules of one verb, group, resource and name each.
func atoms(r rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, verb := range r.Verbs {
		for _, path := range r.NonResourceURLs {
			out = append(out, rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{path}})
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				atom := rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}}
				if len(r.ResourceNames) == 0 {
					out = append(out, atom)
				}
				for _, name := range r.ResourceNames {
					atom.ResourceNames = []string{name}
					out = append(out, atom)
				}
			}
		}
	}
	return out
}

// covers reports whether the held rule allows all that the atom does.
func covers(h, atom rbacv1.PolicyRule) bool {
	if !has(h.Verbs, atom.Verbs[0], rbacv1.VerbAll) {
		return false
	}
	if len(atom.NonResourceURLs) > 0 {
		want := atom.NonResourceURLs[0]
		return slices.ContainsFunc(h.NonResourceURLs, func(p string) bool {
			return p == want || strings.HasSuffix(p, "*") && strings.HasPrefix(want, strings.TrimSuffix(p, "*"))
		})
	}
	if !has(h.APIGroups, atom.APIGroups[0], rbacv1.APIGroupAll) {
		return false
	}
	resource, sub, _ := strings.Cut(atom.Resources[0], "/")
	if !slices.Contains(h.Resources, atom.Resources[0]) && !resourceMatches(h.Resources, resource, sub) {
		return false
	}
	if atom.Resources[0] == rbacv1.ResourceAll && !slices.Contains(h.Resources, rbacv1.ResourceAll) {
		return false
	}
	return len(h.ResourceNames) == 0 || len(atom.ResourceNames) > 0 && slices.Contains(h.ResourceNames, atom.ResourceNames[0])
}
