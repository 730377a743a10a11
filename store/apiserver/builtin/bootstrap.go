// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// Bootstrap creates what clients expect to find in every cluster, unless it is
// there: the namespaces default, kube-system, kube-public and kube-node-lease,
// and the roles by which everyone may look around (discovery, /version, what one
// may do oneself), and which administrators give away: cluster-admin, admin,
// edit and view. The kinds concerned must be registered.
func Bootstrap(ctx context.Context, s store.Store) error {
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}}}
		ns.Spec.Finalizers, ns.Status.Phase = []corev1.FinalizerName{corev1.FinalizerKubernetes}, corev1.NamespaceActive
		if err := ensure(ctx, s, "", "Namespace", ns); err != nil {
			return err
		}
	}
	for _, r := range bootstrapRoles() {
		r.Labels = map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
		if err := ensure(ctx, s, rbacv1.GroupName, "ClusterRole", r); err != nil {
			return err
		}
	}
	for _, b := range bootstrapBindings() {
		b.Labels = map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
		if err := ensure(ctx, s, rbacv1.GroupName, "ClusterRoleBinding", b); err != nil {
			return err
		}
	}
	return nil
}

// BindClusterRole gives a cluster role to groups, everywhere, unless a binding of
// that name is there.
func BindClusterRole(ctx context.Context, s store.Store, name, role string, groups ...string) error {
	b := bind(role, groups...)
	b.Name = name
	return ensure(ctx, s, rbacv1.GroupName, "ClusterRoleBinding", b)
}

func ensure[T object[T]](ctx context.Context, s store.Store, group, kind string, o T) error {
	h, err := store.Lookup[T](s, store.KindName{Group: group, Name: kind})
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if _, err := h.Create(ctx, o); err != nil && !errors.Is(err, store.ErrAlreadyExists) {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

func role(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func rule(verbs, groups, resources []string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: groups, Resources: resources}
}

func bootstrapRoles() []*rbacv1.ClusterRole {
	all := []string{"*"}
	read := []string{"get", "list", "watch"}
	write := []string{"create", "delete", "deletecollection", "patch", "update"}
	groups := []string{"apps", "autoscaling", "batch", "discovery.k8s.io", "networking.k8s.io", "policy"}
	viewed := []string{"configmaps", "endpoints", "events", "limitranges", "namespaces", "persistentvolumeclaims", "pods", "pods/log", "pods/status",
		"replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "serviceaccounts",
		"services", "services/status"}
	edited := []string{"configmaps", "endpoints", "persistentvolumeclaims", "pods", "pods/attach", "pods/eviction", "pods/exec", "pods/portforward", "pods/proxy",
		"replicationcontrollers", "replicationcontrollers/scale", "secrets", "serviceaccounts", "services", "services/proxy"}
	view := []rbacv1.PolicyRule{rule(read, []string{""}, viewed), rule(read, groups, all)}
	edit := append(append([]rbacv1.PolicyRule(nil), view...), rule(read, []string{""}, []string{"secrets", "pods/exec", "pods/attach", "pods/portforward", "pods/proxy"}),
		rule(write, []string{""}, edited), rule(write, groups, all), rule([]string{"create"}, []string{""}, []string{"serviceaccounts/token"}))
	admin := append(append([]rbacv1.PolicyRule(nil), edit...),
		rule(append(append([]string(nil), read...), write...), []string{rbacv1.GroupName}, []string{"roles", "rolebindings"}),
		rule([]string{"create"}, []string{"authorization.k8s.io"}, []string{"localsubjectaccessreviews"}))
	public := []string{"/healthz", "/livez", "/readyz", "/version", "/version/"}
	return []*rbacv1.ClusterRole{
		role("cluster-admin", rule(all, all, all), rbacv1.PolicyRule{Verbs: all, NonResourceURLs: all}),
		role("admin", admin...), role("edit", edit...), role("view", view...),
		role("system:basic-user",
			rule([]string{"create"}, []string{"authorization.k8s.io"}, []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}),
			rule([]string{"create"}, []string{"authentication.k8s.io"}, []string{"selfsubjectreviews"})),
		role("system:discovery", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: append([]string{"/api", "/api/*", "/apis", "/apis/*",
			"/openapi", "/openapi/*"}, public...)}),
		role("system:public-info-viewer", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: public}),
		role("system:service-account-issuer-discovery", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/.well-known/openid-configuration", "/openid/v1/jwks"}}),
	}
}

func bootstrapBindings() []*rbacv1.ClusterRoleBinding {
	return []*rbacv1.ClusterRoleBinding{
		bind("cluster-admin", authn.GroupMasters),
		bind("system:basic-user", authn.GroupAuthenticated),
		bind("system:discovery", authn.GroupAuthenticated),
		bind("system:public-info-viewer", authn.GroupAuthenticated, authn.GroupUnauthenticated),
		bind("system:service-account-issuer-discovery", authn.GroupServiceAccounts),
	}
}

func bind(role string, groups ...string) *rbacv1.ClusterRoleBinding {
	b := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
	for _, g := range groups {
		b.Subjects = append(b.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: g})
	}
	return b
}
