// SPDX-License-Identifier: Apache-2.0

package storetest_test

import (
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memdb"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/store/storetest"
)

// The whole test of an engine: here of memory, with memdb as the reference that
// it must agree with.
func Example() {
	open := func(*testing.T) store.Store { return memory.New(memory.Options{}) }
	reference := func(*testing.T) store.Store { return memdb.New(memdb.Options{}) }

	_ = []testing.InternalTest{
		{Name: "TestContract", F: func(t *testing.T) { storetest.Run(t, open, storetest.Options{}) }},
		{Name: "TestSameAsMemdb", F: func(t *testing.T) { storetest.Compare(t, open, reference, storetest.Options{}) }},
	}
}
