// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
)

var (
	kindNamespace      = store.KindName{Name: "Namespace"}
	namespacesResource = schema.GroupResource{Resource: "namespaces"}
)

// NamespaceLifecycle lets objects be created only in namespaces that exist and
// are not being deleted, which it checks in the transaction: nothing can slip in
// while a namespace goes. It keeps the namespaces that a cluster can't be
// without from being deleted.
func NamespaceLifecycle() Plugin { return namespaceLifecycle{} }

type namespaceLifecycle struct{}

var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

func (namespaceLifecycle) Handles(op Operation, r schema.GroupResource, sub string) bool {
	return sub == "" && (op == Create || op == Delete && r == namespacesResource)
}

func (namespaceLifecycle) Validate(_ context.Context, r *Request) error {
	if r.Operation == Delete && slices.Contains(immortal, r.Name) {
		return errors.New("this namespace may not be deleted")
	}
	return nil
}

// Mutate changes nothing: it refuses early what Within would, before other
// plugins look for things in a namespace that is not there.
func (n namespaceLifecycle) Mutate(_ context.Context, r *Request) error { return n.open(r.Reader, r) }

func (n namespaceLifecycle) Within(_ context.Context, tx Tx, r *Request) error { return n.open(tx, r) }

// open checks that the namespace takes new objects.
func (namespaceLifecycle) open(reader Reader, r *Request) error {
	if r.Operation != Create || r.Namespace == "" {
		return nil
	}
	o, err := reader.Get(kindNamespace, store.Key{Name: r.Namespace})
	switch {
	case errors.Is(err, store.ErrUnknownKind): // a server without namespaces as objects
		return nil
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(namespacesResource, r.Namespace)
	case err != nil:
		return err
	}
	ns, ok := o.(*corev1.Namespace)
	if !ok || ns.DeletionTimestamp == nil {
		return nil
	}
	refused := apierrors.NewForbidden(r.Resource.GroupResource(), r.Name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", r.Namespace))
	refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", r.Namespace), Field: "metadata.namespace",
	})
	return refused
}
