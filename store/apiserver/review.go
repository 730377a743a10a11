// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// virtual is a resource whose objects are answers to questions: they are created
// and nothing is stored.
type virtual struct {
	gvk        schema.GroupVersionKind
	plural     string
	namespaced bool
	elem       reflect.Type
	create     func(ctx context.Context, x *exchange, body any) error // fills in the answer
}

func (v *virtual) gvr() schema.GroupVersionResource {
	return v.gvk.GroupVersion().WithResource(v.plural)
}

func (s *Server) addVirtual(v *virtual) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.registry.Load().clone()
	if next.virtual[v.gvr()] != nil || next.resources[v.gvr()] != nil {
		return fmt.Errorf("apiserver: %s is served already: %w", v.gvr(), store.ErrKindExists)
	}
	next.virtual[v.gvr()] = v
	s.registry.Store(next)
	return nil
}

// review answers a question.
func (x *exchange) review(v *virtual) error {
	if x.verb != "create" || x.target.name != "" {
		return methodNotAllowed()
	}
	if v.namespaced != (x.target.namespace != "") {
		return pageNotFound()
	}
	data, err := x.server.readBody(x.r)
	if err != nil {
		return err
	}
	validation, err := parseFieldValidation(x.r.URL.Query().Get("fieldValidation"))
	if err != nil {
		return err
	}
	body := reflect.New(v.elem).Interface()
	d := &decoder{kind: v.gvk, validation: validation, depth: x.server.limits.Depth, warn: x.w.warn}
	if err := d.decode(contentType(x.r), data, body); err != nil {
		return err
	}
	_, protobuf := body.(marshaler)
	m, err := accepted(x.r, protobuf)
	if err != nil {
		return err
	}
	if err := v.create(x.r.Context(), x, body); err != nil {
		return err
	}
	body.(hasObjectKind).GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	x.answer(http.StatusCreated, m.format, v.gvk, body)
	return nil
}

func question[T any](group, kind, plural string, namespaced bool, create func(context.Context, *exchange, *T) error) *virtual {
	return &virtual{
		gvk: schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, plural: plural, namespaced: namespaced,
		elem:   reflect.TypeFor[T](),
		create: func(ctx context.Context, x *exchange, body any) error { return create(ctx, x, body.(*T)) },
	}
}

// reviews are the questions about users and their rights.
func (s *Server) reviews() []*virtual {
	const az, an = authorizationv1.GroupName, authenticationv1.GroupName
	return []*virtual{
		question(az, "SelfSubjectAccessReview", "selfsubjectaccessreviews", false, selfAccess),
		question(az, "SubjectAccessReview", "subjectaccessreviews", false, access),
		question(az, "LocalSubjectAccessReview", "localsubjectaccessreviews", true, localAccess),
		question(az, "SelfSubjectRulesReview", "selfsubjectrulesreviews", false, selfRules),
		question(an, "SelfSubjectReview", "selfsubjectreviews", false, whoAmI),
		question(an, "TokenReview", "tokenreviews", false, reviewToken),
	}
}

func whoAmI(_ context.Context, x *exchange, body *authenticationv1.SelfSubjectReview) error {
	body.Status.UserInfo = userInfo(x.user)
	return nil
}

func userInfo(u *authn.User) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// reviewToken says whose a token is: by the authenticator, as if it came with a
// request of its own.
func reviewToken(ctx context.Context, x *exchange, body *authenticationv1.TokenReview) error {
	if body.Spec.Token == "" {
		return apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	body.Status = authenticationv1.TokenReviewStatus{}
	var u *authn.User
	var err error
	if i := x.server.opts.Issuer; i != nil {
		u, body.Status.Audiences, _, err = i.Review(ctx, body.Spec.Token, body.Spec.Audiences)
	}
	if u == nil && err == nil && len(body.Spec.Audiences) == 0 {
		r := &http.Request{Method: http.MethodGet, Header: http.Header{"Authorization": {"Bearer " + body.Spec.Token}}}
		u, err = x.server.opts.Authenticator.Authenticate(r.WithContext(ctx))
	}
	if err != nil {
		body.Status.Error = err.Error()
		return nil
	}
	if u != nil {
		body.Status.Authenticated, body.Status.User = true, userInfo(u)
	}
	return nil
}

func selfAccess(ctx context.Context, x *exchange, body *authorizationv1.SelfSubjectAccessReview) error {
	a, err := attributesOf(x.user, body.Spec.ResourceAttributes, body.Spec.NonResourceAttributes)
	if err != nil {
		return err
	}
	body.Status = x.decide(ctx, a)
	return nil
}

func access(ctx context.Context, x *exchange, body *authorizationv1.SubjectAccessReview) error {
	a, err := attributesOf(subjectOf(&body.Spec), body.Spec.ResourceAttributes, body.Spec.NonResourceAttributes)
	if err != nil {
		return err
	}
	body.Status = x.decide(ctx, a)
	return nil
}

func localAccess(ctx context.Context, x *exchange, body *authorizationv1.LocalSubjectAccessReview) error {
	r := body.Spec.ResourceAttributes
	if r == nil || r.Namespace != x.target.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must be the namespace of the request, %q", x.target.namespace))
	}
	a, err := attributesOf(subjectOf(&body.Spec), r, nil)
	if err != nil {
		return err
	}
	body.Status = x.decide(ctx, a)
	return nil
}

func subjectOf(s *authorizationv1.SubjectAccessReviewSpec) *authn.User {
	u := &authn.User{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: map[string][]string{}}
	for k, v := range s.Extra {
		u.Extra[k] = v
	}
	return u
}

func attributesOf(u *authn.User, r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) (authz.Attributes, error) {
	switch {
	case (r == nil) == (n == nil):
		return authz.Attributes{}, apierrors.NewBadRequest("exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be specified")
	case u.Name == "" && len(u.Groups) == 0:
		return authz.Attributes{}, apierrors.NewBadRequest("spec.user: Required value: at least one of user or group must be specified")
	case n != nil:
		return authz.Attributes{User: u, Verb: n.Verb, Path: n.Path}, nil
	}
	return authz.Attributes{User: u, Verb: r.Verb, Group: r.Group, Version: r.Version, Resource: r.Resource,
		Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}, nil
}

func (x *exchange) decide(ctx context.Context, a authz.Attributes) authorizationv1.SubjectAccessReviewStatus {
	decision, reason, err := x.server.opts.Authorizer.Authorize(ctx, a)
	s := authorizationv1.SubjectAccessReviewStatus{Allowed: decision == authz.Allow, Denied: decision == authz.Deny, Reason: reason}
	if err != nil {
		s.EvaluationError = err.Error()
	}
	return s
}

func selfRules(ctx context.Context, x *exchange, body *authorizationv1.SelfSubjectRulesReview) error {
	if body.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	body.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	resolver, ok := x.server.opts.Authorizer.(authz.RuleResolver)
	if !ok {
		body.Status.Incomplete = true
		body.Status.EvaluationError = "the authorizer can't list rules"
		return nil
	}
	rules, err := resolver.Rules(ctx, x.user, body.Spec.Namespace)
	if err != nil {
		body.Status.Incomplete, body.Status.EvaluationError = true, err.Error()
	}
	for _, r := range rules {
		if len(r.APIGroups) > 0 {
			body.Status.ResourceRules = append(body.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames})
		}
		if len(r.NonResourceURLs) > 0 {
			body.Status.NonResourceRules = append(body.Status.NonResourceRules, authorizationv1.NonResourceRule{
				Verbs: r.Verbs, NonResourceURLs: slices.Clone(r.NonResourceURLs)})
		}
	}
	return nil
}
