// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"errors"
	"net/http"
	"slices"
)

// The names and groups that Kubernetes gives a meaning of its own.
const (
	AnonymousUser        = "system:anonymous"
	GroupAuthenticated   = "system:authenticated"
	GroupUnauthenticated = "system:unauthenticated"
	GroupMasters         = "system:masters" // may do everything
	GroupNodes           = "system:nodes"
	NodePrefix           = "system:node:" // of a node's user name
)

// User is who makes a request. It is shared by everything that looks at the
// request, and must not be changed.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// In reports whether the user is a member of the group.
func (u *User) In(group string) bool { return u != nil && slices.Contains(u.Groups, group) }

// Authenticator finds out who makes a request. It returns nil and no error
// where the request has no credentials of the kind that it knows, and an error
// where it has and they are bad: the answer is then 401 Unauthorized.
type Authenticator interface {
	Authenticate(*http.Request) (*User, error)
}

// Func makes a function an [Authenticator].
type Func func(*http.Request) (*User, error)

// Authenticate calls the function.
func (f Func) Authenticate(r *http.Request) (*User, error) { return f(r) }

// First asks each authenticator in turn and takes the first user that one of
// them finds. Where none finds one, it returns the errors of all.
func First(auths ...Authenticator) Authenticator {
	return Func(func(r *http.Request) (*User, error) {
		var errs []error
		for _, a := range auths {
			u, err := a.Authenticate(r)
			if u != nil && err == nil {
				return u, nil
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
		return nil, errors.Join(errs...)
	})
}

// Anonymous takes every request for one of the user system:anonymous. It comes
// last: a request with bad credentials is still refused, because the error of
// an authenticator before it counts, unless the request has none at all.
func Anonymous() Authenticator {
	return Func(func(r *http.Request) (*User, error) {
		if r.Header.Get("Authorization") != "" {
			return nil, nil
		}
		return &User{Name: AnonymousUser, Groups: []string{GroupUnauthenticated}}, nil
	})
}

type userKey struct{}

// NewContext returns a context that carries the user.
func NewContext(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// FromContext returns the user that the context carries, or nil.
func FromContext(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	return u
}

// authenticated returns the user with the group that all who are known have.
func authenticated(u *User) *User {
	if u.In(GroupAuthenticated) {
		return u
	}
	c := *u
	c.Groups = append(slices.Clone(u.Groups), GroupAuthenticated)
	return &c
}
