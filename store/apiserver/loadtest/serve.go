// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
	"github.com/slipway-dev/slipway/store/apiserver/builtin"
	"github.com/slipway-dev/slipway/store/memory"
)

// serve runs a server with everything that a cluster's has, over memory. The
// load comes from a user who is no master, so that RBAC has work to do.
func serve(ctx context.Context, address string) error {
	st := memory.New(memory.Options{})
	defer st.Close()
	rbac := authz.RBAC{Store: st}
	may := authz.First(authz.Masters(), authz.Node{Store: st}, rbac)
	s, err := apiserver.New(st, apiserver.Options{
		Authenticator: authn.Tokens(map[string]*authn.User{"secret": {Name: "load", Groups: []string{"load"}}}),
		Authorizer:    may,
		Admission: []admission.Plugin{admission.NamespaceLifecycle(), admission.LimitRanges(), admission.Priority(),
			admission.DefaultTolerations(), admission.Escalation(rbac, may), admission.ResourceQuotas()},
		Handlers: map[string]http.Handler{"/debug/pprof/": http.HandlerFunc(pprof.Index), "/debug/pprof/profile": http.HandlerFunc(pprof.Profile)},
	})
	if err != nil {
		return err
	}
	if err := builtin.Register(s, builtin.All()...); err != nil {
		return err
	}
	if err := builtin.Bootstrap(ctx, st); err != nil {
		return err
	}
	if err := builtin.BindClusterRole(ctx, st, "load", "cluster-admin", "load"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return s.Serve(ctx, l, apiserver.ServeOptions{})
}
