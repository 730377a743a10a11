// SPDX-License-Identifier: Apache-2.0

package core

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/internal/deep"
)

// detector keeps a copy of every present object, and compares when the object
// is about to be replaced, and when the store is closed. It costs a copy and a
// comparison for each write and doubles the memory.
type detector struct {
	mu     sync.Mutex
	copies map[*Entry]recorded
}

type recorded struct {
	schema *store.Schema
	object store.Object
}

// newDetector returns nil where none is wanted; a nil detector does nothing.
func newDetector(m store.Mutations) *detector {
	if m == store.DetectNever || m == store.DetectInTests && flag.Lookup("test.v") == nil {
		return nil
	}
	return &detector{copies: map[*Entry]recorded{}}
}

// record remembers what the entry is like.
func (d *detector) record(schema *store.Schema, e *Entry) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.copies[e] = recorded{schema, schema.Copy(e.Object)}
}

// forget drops an entry that was replaced.
func (d *detector) forget(e *Entry) {
	if d == nil || e == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.copies, e)
}

// check panics if the entry's object was changed since it was recorded: the
// mistake is the program's, and what it breaks is every other reader's.
func (d *detector) check(e *Entry) {
	if d == nil {
		return
	}
	d.mu.Lock()
	was, ok := d.copies[e]
	d.mu.Unlock()
	if !ok {
		return
	}
	if what := deep.Diff(was.object, e.Object); what != "" {
		panic(fmt.Sprintf("store: %s %s was changed outside of a write: %s. Objects that a store hands out or takes over are shared: change a DeepCopy, or use Patch",
			was.schema.KindName, e.Key, what))
	}
}

// checkAll checks every present object.
func (d *detector) checkAll() {
	if d == nil {
		return
	}
	d.mu.Lock()
	entries := slices.Collect(maps.Keys(d.copies))
	d.mu.Unlock()
	for _, e := range entries {
		d.check(e)
	}
}
