// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// Node authorizes node agents: the user system:node:NAME of the group
// system:nodes may read what the pods of its node need, and write its own node,
// its lease, and the status of its pods. Pods must be indexed by spec.nodeName.
//
// See https://kubernetes.io/docs/reference/access-authn-authz/node/
type Node struct {
	Store store.Store
}

var kindPod = store.KindName{Name: "Pod"}

// Authorize implements [Authorizer]. It has no opinion on users that are no nodes.
func (n Node) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	node, ok := NodeName(a.User)
	if !ok || a.Resource == "" {
		return NoOpinion, "", nil
	}
	allowed, err := n.allows(ctx, node, &a)
	if allowed {
		return Allow, "", err
	}
	return NoOpinion, "node " + node + " can only reach what its own pods need", err
}

// NodeName returns the name of the node that the user is.
func NodeName(u *authn.User) (string, bool) {
	if !u.In(authn.GroupNodes) {
		return "", false
	}
	name, ok := strings.CutPrefix(u.Name, authn.NodePrefix)
	return name, ok && name != ""
}

var reads = []string{"get", "list", "watch"}

func (n Node) allows(ctx context.Context, node string, a *Attributes) (bool, error) {
	read := slices.Contains(reads, a.Verb)
	write := slices.Contains([]string{"create", "update", "patch"}, a.Verb)
	switch a.Group {
	case "":
		return n.allowsCore(ctx, node, a, read, write)
	case coordinationv1.GroupName:
		own := a.Name == node || a.Name == "" && a.Verb == "create"
		return a.Resource == "leases" && a.Namespace == corev1.NamespaceNodeLease && own &&
			(a.Verb == "get" || write || a.Verb == "delete"), nil
	case "discovery.k8s.io", "node.k8s.io", "storage.k8s.io":
		return read, nil
	case "events.k8s.io":
		return a.Resource == "events" && write, nil
	case "authentication.k8s.io":
		return a.Resource == "tokenreviews" && a.Verb == "create", nil
	case "authorization.k8s.io":
		return a.Verb == "create", nil
	}
	return false, nil
}

func (n Node) allowsCore(ctx context.Context, node string, a *Attributes, read, write bool) (bool, error) {
	switch a.Resource {
	case "pods":
		return n.allowsPod(ctx, node, a, read)
	case "nodes":
		if a.Verb == "list" || a.Verb == "watch" || a.Verb == "create" {
			return a.Subresource == "", nil
		}
		return a.Name == node && (read || write) && (a.Subresource == "" || a.Subresource == "status"), nil
	case "services", "namespaces", "persistentvolumes":
		return read, nil
	case "events":
		return write, nil
	case "secrets", "configmaps", "persistentvolumeclaims":
		if !read || a.Name == "" {
			return false, nil
		}
		return n.podRefers(ctx, node, a.Namespace, func(p *corev1.Pod) bool { return refers(p, a.Resource, a.Name) })
	case "serviceaccounts":
		if a.Name == "" || a.Verb != "get" && (a.Verb != "create" || a.Subresource != "token") {
			return false, nil
		}
		return n.podRefers(ctx, node, a.Namespace, func(p *corev1.Pod) bool { return p.Spec.ServiceAccountName == a.Name })
	}
	return false, nil
}

// allowsPod: any node may read pods (as in Kubernetes, where a field selector
// narrows what an agent asks for), and change the status of its own.
func (n Node) allowsPod(ctx context.Context, node string, a *Attributes, read bool) (bool, error) {
	switch {
	case read && a.Subresource == "":
		return true, nil
	case a.Verb == "create" && a.Subresource == "": // mirror pods; admission checks the node
		return true, nil
	case a.Verb == "delete" && a.Subresource == "",
		(a.Verb == "update" || a.Verb == "patch") && a.Subresource == "status":
		p, err := get[*corev1.Pod](ctx, n.Store, kindPod, store.NewKey(a.Namespace, a.Name))
		if err != nil {
			return false, err
		}
		return p.Spec.NodeName == node, nil
	}
	return false, nil
}

func (n Node) podRefers(ctx context.Context, node, namespace string, f func(*corev1.Pod) bool) (bool, error) {
	h, err := store.Lookup[*corev1.Pod](n.Store, kindPod)
	if err != nil {
		return false, err
	}
	fields := store.FieldSelector{{Name: "spec.nodeName", Value: node}}
	for p, err := range h.List(ctx, store.ListOptions{Namespace: namespace, Fields: fields}) {
		if err != nil {
			return false, err
		}
		if f(p) {
			return true, nil
		}
	}
	return false, nil
}

// refers reports whether the pod mounts or reads the named object.
func refers(p *corev1.Pod, resource, name string) bool {
	found := false
	note := func(r, n string) { found = found || r == resource && n == name }
	for _, s := range p.Spec.ImagePullSecrets {
		note("secrets", s.Name)
	}
	for i := range p.Spec.Volumes {
		visitVolume(&p.Spec.Volumes[i], note)
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			visitContainer(&list[i], note)
		}
	}
	return found
}

func visitVolume(v *corev1.Volume, note func(resource, name string)) {
	switch {
	case v.Secret != nil:
		note("secrets", v.Secret.SecretName)
	case v.ConfigMap != nil:
		note("configmaps", v.ConfigMap.Name)
	case v.PersistentVolumeClaim != nil:
		note("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				note("secrets", s.Secret.Name)
			}
			if s.ConfigMap != nil {
				note("configmaps", s.ConfigMap.Name)
			}
		}
	}
}

func visitContainer(c *corev1.Container, note func(resource, name string)) {
	for _, e := range c.EnvFrom {
		if e.SecretRef != nil {
			note("secrets", e.SecretRef.Name)
		}
		if e.ConfigMapRef != nil {
			note("configmaps", e.ConfigMapRef.Name)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			note("secrets", r.Name)
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			note("configmaps", r.Name)
		}
	}
}
