// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"sync/atomic"
)

// watch follows a cycle in which plugins from elsewhere take part: one of them may
// never return. A cycle can be abandoned only while it is in such a plugin, which
// reads the cluster and changes nothing; when the plugin returns, the cycle finds
// itself abandoned and ends without touching the cluster again.
type watch struct {
	at   atomic.Pointer[place] // the plugin from elsewhere that runs; nil: none does
	gone place                 // what at points to once the cycle is abandoned
}

// abandon gives the cycle up and says where it was. It fails while no plugin from
// elsewhere runs.
func (w *watch) abandon() (place, bool) {
	p := w.at.Load()
	if p == nil || !w.at.CompareAndSwap(p, &w.gone) {
		return place{}, false
	}
	return *p, true
}

// back reports whether the cycle may go on.
func (w *watch) back() bool {
	p := w.at.Load()
	return p == nil || p != &w.gone && w.at.CompareAndSwap(p, nil)
}

// errAbandoned unwinds a cycle that was abandoned.
var errAbandoned = errors.New("the cycle was abandoned")

// outside notes that code from elsewhere is about to run, inside that it returned.
func (c *Cycle) outside() {
	if c.watch != nil {
		at := c.at
		c.watch.at.Store(&at)
	}
}

func (c *Cycle) inside() {
	if c.watch != nil && !c.watch.back() {
		panic(errAbandoned)
	}
}

// Context is done when the plugin that asks should give up: when the scheduler
// stops, or after [Options].PluginTimeout. A plugin that waits for anything must
// heed it.
func (c *Cycle) Context() context.Context {
	if c.ctx == nil {
		return context.Background()
	}
	return c.ctx
}
