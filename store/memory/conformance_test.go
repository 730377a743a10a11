// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/store/storetest"
)

func open(*testing.T) store.Store { return memory.New(memory.Options{}) }

func TestContract(t *testing.T) { storetest.Run(t, open, storetest.Options{}) }
