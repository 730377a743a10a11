// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// runReserve calls the Reserve plugins, and takes back what they did if one
// refuses.
func (p *profile) runReserve(ctx context.Context, s *State, pod *Pod, node *Node) error {
	for i, r := range p.reserve {
		err := guard(r.Name(), "Reserve", pod, node, func() *Status { return r.Reserve(ctx, s, pod, node) })
		if err != nil {
			return errors.Join(err, unreserve(ctx, p.reserve[:i+1], s, pod, node))
		}
	}
	return nil
}

// runUnreserve takes back what the Reserve plugins did, in reverse.
func (p *profile) runUnreserve(ctx context.Context, s *State, pod *Pod, node *Node) error {
	return unreserve(ctx, p.reserve, s, pod, node)
}

func unreserve(ctx context.Context, list []ReservePlugin, s *State, pod *Pod, node *Node) error {
	var errs []error
	for _, r := range slices.Backward(list) {
		errs = append(errs, guard(r.Name(), "Unreserve", pod, node, func() *Status {
			r.Unreserve(ctx, s, pod, node)
			return nil
		}))
	}
	return errors.Join(errs...)
}

// guard calls a plugin and turns its failure or panic into an error that says
// whose it is.
func guard(plugin, point string, pod *Pod, node *Node, call func() *Status) (err error) {
	blame := func(cause error) error {
		e := &PluginError{Plugin: plugin, Point: point, Pod: pod.String(), Err: cause}
		if node != nil {
			e.Node = node.Name
		}
		return e
	}
	defer func() {
		if v := recover(); v != nil {
			cause, ok := v.(error)
			if !ok {
				cause = fmt.Errorf("%v", v)
			}
			err = blame(fmt.Errorf("panic: %w", cause))
		}
	}()
	switch s := call(); {
	case s.code() == Success:
		return nil
	case s.Err != nil:
		return blame(s.Err)
	default:
		return blame(&statusError{s})
	}
}

// statusError is a status other than success as an error.
type statusError struct{ *Status }

func (e *statusError) Error() string { return e.Status.String() }
