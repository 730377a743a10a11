// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package pod

import (
	"context"
	"errors"
	"io/fs"

	"github.com/slipway-dev/slipway/runtime"
)

// Machine measures nothing on this system: set Eviction.Signals.
func Machine(root string, images runtime.ImageService) func(context.Context) (Signals, error) {
	return func(context.Context) (Signals, error) { return Signals{}, errors.ErrUnsupported }
}

func allocated(info fs.FileInfo) int64 { return info.Size() }

func mountMemory(string, int64) error { return errors.ErrUnsupported }

func unmountMemory(string) error { return nil }
