// SPDX-License-Identifier: Apache-2.0

package memdb_test

import (
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memdb"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/store/storetest"
)

func open(*testing.T) store.Store { return memdb.New(memdb.Options{}) }

func TestContract(t *testing.T) { storetest.Run(t, open, storetest.Options{}) }

// TestSameAsMemory runs random operations against this engine, which is the
// plain one, and the fast one.
func TestSameAsMemory(t *testing.T) {
	storetest.Compare(t, open, func(*testing.T) store.Store { return memory.New(memory.Options{}) }, storetest.Options{})
}
