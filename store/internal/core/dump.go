// SPDX-License-Identifier: Apache-2.0

package core

import (
	"bufio"
	"fmt"
	"io"

	"github.com/slipway-dev/slipway/store"
)

// Dump writes what the store holds as text for a person: the revision, the
// window, and for each kind its size, its watchers and its keys with their
// versions.
func (s *Store) Dump(w io.Writer) error {
	kinds := s.kinds.Load()
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "revision %d, oldest readable %d\n", s.revision.Load(), s.floor.Load())
	for _, schema := range s.Kinds() {
		t := kinds.bySchema[schema]
		if t == nil {
			continue // unregistered this instant
		}
		v, _ := s.present(t)
		h, end := t.log.window()
		fmt.Fprintf(out, "kind %s (%s): %d objects, %d events kept, %d watchers asleep\n",
			schema.KindName, schema.Type, v.Len(), end-h.first, t.hub.asleep())
		v.Ascend("", store.Key{}, func(e *Entry) bool {
			fmt.Fprintf(out, "  %s @%d\n", e.Key, e.Revision)
			return true
		})
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("store: dump: %w", err)
	}
	return nil
}

// asleep returns how many watchers wait.
func (h *hub) asleep() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.all.sleepers)
	for _, b := range h.scoped {
		n += len(b.sleepers)
	}
	return n
}
