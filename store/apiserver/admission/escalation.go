// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// Escalation keeps users from giving away more than they have: who writes a role
// must have all of its rights, or the right to "escalate" it; who binds a role,
// the same, or the right to "bind" it. may is what the server authorizes by.
//
// See https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
func Escalation(roles authz.RBAC, may authz.Authorizer) Plugin { return escalation{roles, may} }

type escalation struct {
	roles authz.RBAC
	may   authz.Authorizer
}

func (escalation) Handles(op Operation, r schema.GroupResource, sub string) bool {
	return r.Group == rbacv1.GroupName && sub == "" && (op == Create || op == Update)
}

func (e escalation) Validate(ctx context.Context, r *Request) error {
	switch o := r.Object.(type) {
	case *rbacv1.Role:
		return e.check(ctx, r, "escalate", r.Resource.Resource, o.Name, o.Rules)
	case *rbacv1.ClusterRole:
		return e.check(ctx, r, "escalate", r.Resource.Resource, o.Name, o.Rules)
	case *rbacv1.RoleBinding:
		return e.binding(ctx, r, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return e.binding(ctx, r, o.RoleRef)
	}
	return nil
}

func (e escalation) binding(ctx context.Context, r *Request, ref rbacv1.RoleRef) error {
	resource := "clusterroles"
	if ref.Kind == "Role" {
		resource = "roles"
	}
	rules, err := e.roles.RoleRules(ctx, r.Namespace, ref)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err != nil { // a role that is not there could be made later, with any rights
		rules = []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}
	}
	return e.check(ctx, r, "bind", resource, ref.Name, rules)
}

// check asks for the verb first, and then for each right.
func (e escalation) check(ctx context.Context, r *Request, verb, resource, name string, rules []rbacv1.PolicyRule) error {
	a := authz.Attributes{User: r.User, Verb: verb, Group: rbacv1.GroupName, Version: "v1", Resource: resource, Namespace: r.Namespace, Name: name}
	if d, _, err := e.may.Authorize(ctx, a); d == authz.Allow {
		return err
	}
	held, err := e.roles.Rules(ctx, r.User, r.Namespace)
	if err != nil {
		return err
	}
	missing := authz.Uncovered(held, rules)
	if len(missing) == 0 {
		return nil
	}
	var texts []string
	for _, m := range missing {
		texts = append(texts, compact(m))
	}
	return fmt.Errorf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", r.User.Name, r.User.Groups, strings.Join(texts, "\n"))
}

func compact(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name string
		list []string
	}{{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"ResourceNames", r.ResourceNames}, {"NonResourceURLs", r.NonResourceURLs}, {"Verbs", r.Verbs}} {
		if len(p.list) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.list))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
