// SPDX-License-Identifier: Apache-2.0

package memdb

import (
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/core"
)

// Store is a store in go-memdb. Its methods are those of [store.Engine]. It is safe for
// concurrent use.
type Store struct {
	store.Engine
}

// Options configure a store. The zero value works.
type Options = store.Options

// New returns an empty store. It starts no goroutine; the first lease does, and
// Close ends it.
func New(opts Options) *Store {
	return &Store{core.New(newTable, opts)}
}
