// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// TokenRequests is the subresource by which the tokens of service accounts are
// asked for: kubectl create token.
func TokenRequests(issuer *authn.Issuer) apiserver.Subresource[*corev1.ServiceAccount] {
	return apiserver.Subresource[*corev1.ServiceAccount]{
		Name: "token",
		Kind: schema.GroupVersionKind{Group: authenticationv1.GroupName, Version: "v1", Kind: "TokenRequest"},
		Serve: func(_ http.ResponseWriter, c *apiserver.Call) {
			t, err := issue(issuer, c)
			if err == nil {
				err = c.Answer(http.StatusCreated, t)
			}
			if err != nil {
				c.Fail(err)
			}
		},
	}
}

// The shortest and the longest life of a token that can be asked for.
const (
	shortest = 10 * time.Minute
	longest  = 1 << 32 * time.Second
)

func issue(issuer *authn.Issuer, c *apiserver.Call) (*authenticationv1.TokenRequest, error) {
	t := &authenticationv1.TokenRequest{}
	if err := c.Decode(t); err != nil {
		return nil, err
	}
	life := time.Hour
	if s := t.Spec.ExpirationSeconds; s != nil && *s > 0 {
		if *s > int64(longest/time.Second) || *s < int64(shortest/time.Second) {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("spec.expirationSeconds: Invalid value: %d: may not specify a duration less than 10 minutes, nor longer than 2^32 seconds", *s))
		}
		life = time.Duration(*s) * time.Second
	}
	sa := c.Object.(*corev1.ServiceAccount)
	claims := authn.ServiceAccountClaims{Namespace: sa.Namespace, ServiceAccount: authn.Bound{Name: sa.Name, UID: string(sa.UID)}}
	if ref := t.Spec.BoundObjectRef; ref != nil {
		bound := &authn.Bound{Name: ref.Name, UID: string(ref.UID)}
		switch ref.Kind {
		case "Pod":
			claims.Pod = bound
		case "Secret":
			claims.Secret = bound
		case "Node":
			claims.Node = bound
		default:
			return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of kind %q: want Pod, Secret or Node", ref.Kind))
		}
	}
	token, err := issuer.Issue(claims, t.Spec.Audiences, life)
	if err != nil {
		return nil, err
	}
	t.ObjectMeta = metav1.ObjectMeta{Name: sa.Name, Namespace: sa.Namespace, CreationTimestamp: metav1.Now()}
	t.Status = authenticationv1.TokenRequestStatus{Token: token.Text, ExpirationTimestamp: metav1.NewTime(token.Expires)}
	return t, nil
}

// TokenOwners checks that the service account of a token, and what the token is
// bound to, are still there: for authn.IssuerOptions.Exists.
func TokenOwners(s store.Store) func(context.Context, authn.ServiceAccountClaims) error {
	return func(ctx context.Context, c authn.ServiceAccountClaims) error {
		err := alive[*corev1.ServiceAccount](ctx, s, "ServiceAccount", c.Namespace, &c.ServiceAccount)
		return errors.Join(err,
			alive[*corev1.Pod](ctx, s, "Pod", c.Namespace, c.Pod),
			alive[*corev1.Secret](ctx, s, "Secret", c.Namespace, c.Secret),
			alive[*corev1.Node](ctx, s, "Node", "", c.Node))
	}
}

func alive[T object[T]](ctx context.Context, s store.Store, kind, namespace string, b *authn.Bound) error {
	if b == nil {
		return nil
	}
	h, err := store.Lookup[T](s, store.KindName{Name: kind})
	if err != nil {
		return err
	}
	o, err := h.Get(ctx, store.NewKey(namespace, b.Name))
	if err != nil {
		return err
	}
	if b.UID != "" && string(o.GetUID()) != b.UID {
		return fmt.Errorf("the %s %s that the token was made for is gone: another has its name", kind, b.Name)
	}
	return nil
}
