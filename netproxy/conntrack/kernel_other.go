// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package conntrack

import (
	"context"
	"errors"

	"github.com/slipway-dev/slipway/netproxy"
)

type kernel struct{}

func (kernel) Flows(context.Context, netproxy.Family) ([]Flow, error) {
	return nil, errors.ErrUnsupported
}

func (kernel) Delete(context.Context, Flow) error { return errors.ErrUnsupported }
