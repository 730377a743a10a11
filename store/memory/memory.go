// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/core"
)

// Store is a store in memory. Its methods are those of the contract:
// [store.Store], [store.Transactor], [store.Snapshotter], [store.Leaser] and
// [store.Compactor], and Dump(io.Writer) error, which writes what it holds as
// text. It is safe for concurrent use.
type Store struct {
	engine
}

type engine = *core.Store

// Options configure a store. The zero value works.
type Options = store.Options

var (
	_ store.Transactor  = (*Store)(nil)
	_ store.Snapshotter = (*Store)(nil)
	_ store.Leaser      = (*Store)(nil)
	_ store.Compactor   = (*Store)(nil)
)

// New returns an empty store. It starts no goroutine; the first lease does, and
// Close ends it.
func New(opts Options) *Store {
	return &Store{core.New(newTable, opts)}
}
