// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// The headers by which a user asks to be taken for another: kubectl --as.
const (
	impersonateUser   = "Impersonate-User"
	impersonateUID    = "Impersonate-Uid"
	impersonateGroup  = "Impersonate-Group"
	impersonatePrefix = "Impersonate-Extra-"
)

// impersonate replaces the user by the one that the request asks for, if the
// user may impersonate each of the name, the groups and the rest.
func (x *exchange) impersonate() error {
	h := x.r.Header
	name := h.Get(impersonateUser)
	if name == "" {
		if h.Get(impersonateGroup) != "" || h.Get(impersonateUID) != "" {
			return apierrors.NewBadRequest("requested groups or uid without impersonating a user")
		}
		return nil
	}
	as := &authn.User{Name: name, UID: h.Get(impersonateUID), Groups: slices.Clone(h.Values(impersonateGroup)), Extra: map[string][]string{}}
	if err := x.mayBe(as); err != nil {
		return err
	}
	for key, values := range h {
		if extra, ok := strings.CutPrefix(key, impersonatePrefix); ok {
			if decoded, err := url.PathUnescape(extra); err == nil {
				extra = decoded
			}
			extra = strings.ToLower(extra)
			for _, v := range values {
				if err := x.authorize(authz.Attributes{Verb: "impersonate", Group: "authentication.k8s.io", Version: "v1", Resource: "userextras", Subresource: extra, Name: v}); err != nil {
					return err
				}
			}
			as.Extra[extra] = values
		}
	}
	if ns, sa, ok := authn.SplitServiceAccount(name); ok && len(as.Groups) == 0 {
		as.Groups = authn.ServiceAccountUser(ns, sa, "").Groups
	}
	if name == authn.AnonymousUser {
		as.Groups = append(as.Groups, authn.GroupUnauthenticated)
	} else if !as.In(authn.GroupAuthenticated) {
		as.Groups = append(as.Groups, authn.GroupAuthenticated)
	}
	x.user = as
	return nil
}

// mayBe checks the right to the name, the UID and the groups.
func (x *exchange) mayBe(as *authn.User) error {
	a := authz.Attributes{Verb: "impersonate", Version: "v1", Resource: "users", Name: as.Name}
	if ns, sa, ok := authn.SplitServiceAccount(as.Name); ok {
		a.Resource, a.Namespace, a.Name = "serviceaccounts", ns, sa
	}
	if err := x.authorize(a); err != nil {
		return err
	}
	if as.UID != "" {
		if err := x.authorize(authz.Attributes{Verb: "impersonate", Group: "authentication.k8s.io", Version: "v1", Resource: "uids", Name: as.UID}); err != nil {
			return err
		}
	}
	for _, g := range as.Groups {
		if err := x.authorize(authz.Attributes{Verb: "impersonate", Version: "v1", Resource: "groups", Name: g}); err != nil {
			return err
		}
	}
	return nil
}
