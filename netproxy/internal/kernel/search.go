// SPDX-License-Identifier: Apache-2.0

// Package kernel is what back ends that run rule programs have in common.
package kernel

import (
	"context"
	"errors"

	"github.com/slipway-dev/slipway/netproxy"
)

// Rules is a back end's rule set with its kernel.
type Rules interface {
	// Add and Remove change the rule set only.
	Add([]*netproxy.Route) error
	Remove([]*netproxy.Route)
	// Push brings the kernel to the rule set, and changes nothing if it fails.
	Push(context.Context) error
}

// Search leaves out those of the routes that the kernel refuses, and puts all
// others into effect. It is called after a push was refused for cause, with the
// routes that had changed. If they are not to blame, the error is not a
// ServiceError, and the rule set is as before.
func Search(ctx context.Context, r Rules, routes []*netproxy.Route, cause error) error {
	if len(routes) == 0 {
		return cause
	}
	r.Remove(routes)
	if err := r.Push(ctx); err != nil {
		return errors.Join(cause, r.Add(routes))
	}
	return add(ctx, r, routes)
}

// add puts routes in, half by half where the kernel refuses them together.
func add(ctx context.Context, r Rules, routes []*netproxy.Route) error {
	if err := r.Add(routes); err != nil {
		return err
	}
	err := r.Push(ctx)
	if err == nil || !errors.Is(err, netproxy.ErrRefused) {
		return err
	}
	r.Remove(routes)
	if len(routes) > 1 {
		half := len(routes) / 2
		return errors.Join(add(ctx, r, routes[:half]), add(ctx, r, routes[half:]))
	}
	refused := &netproxy.ServiceError{Service: routes[0].Name, Err: err}
	if err := r.Push(ctx); err != nil {
		return errors.Join(refused, err)
	}
	return refused
}
