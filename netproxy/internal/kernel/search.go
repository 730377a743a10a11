// SPDX-License-Identifier: Apache-2.0

// Package kernel is what back ends that run rule programs have in common.
package kernel

import (
	"context"
	"errors"

	"github.com/slipway-dev/slipway/netproxy"
)

// Rules is a back end's rule set with its kernel.
type Rules struct {
	// Update changes the rule set only. To take a route out never fails.
	Update func([]netproxy.Change) error
	// Push brings the kernel to the rule set, and changes nothing if it fails.
	Push func(context.Context) error
}

func (r Rules) add(routes []*netproxy.Route) error {
	changes := make([]netproxy.Change, len(routes))
	for i, route := range routes {
		changes[i].New = route
	}
	return r.Update(changes)
}

func (r Rules) remove(routes []*netproxy.Route) error {
	changes := make([]netproxy.Change, len(routes))
	for i, route := range routes {
		changes[i].Old = route
	}
	return r.Update(changes)
}

// Search leaves out those of the routes that the kernel refuses, and puts all
// others into effect. It is called after a push was refused for cause, with the
// routes that had changed. If they are not to blame, the error is not a
// ServiceError, and the rule set is as before.
func Search(ctx context.Context, r Rules, routes []*netproxy.Route, cause error) error {
	if len(routes) == 0 {
		return cause
	}
	if err := r.remove(routes); err != nil {
		return errors.Join(cause, err)
	}
	if err := r.Push(ctx); err != nil {
		return errors.Join(cause, r.add(routes))
	}
	return add(ctx, r, routes)
}

// add puts routes in, half by half where the kernel refuses them together.
func add(ctx context.Context, r Rules, routes []*netproxy.Route) error {
	if err := r.add(routes); err != nil {
		return err
	}
	err := r.Push(ctx)
	if err == nil || !errors.Is(err, netproxy.ErrRefused) {
		return err
	}
	if err := r.remove(routes); err != nil {
		return err
	}
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
