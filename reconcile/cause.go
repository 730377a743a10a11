// SPDX-License-Identifier: Apache-2.0

package reconcile

import "github.com/slipway-dev/slipway/store"

// Cause says why a key was added to a queue: the change of an object, or one of
// the reasons that have no object.
type Cause struct {
	// Reason is what happened, in a word or two: "added", "modified", "deleted",
	// "initial", "resync", "gained", "retry", "conflict", "again", "asked".
	Reason string
	// Kind and Key name the object that changed; zero where there is none.
	Kind store.KindName
	Key  store.Key
	// Revision is that of the change; 0 where there is none.
	Revision uint64
}

// String returns "modified Pod default/web at revision 7".
func (c Cause) String() string {
	text := c.Reason
	if c.Kind != (store.KindName{}) {
		text += " " + c.Kind.String() + " " + c.Key.String()
	}
	if c.Revision != 0 {
		text += " at revision " + store.FormatRevision(c.Revision)
	}
	return text
}
