// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/slipway-dev/slipway/store"
)

// shardTable says which session owns which shard. It is kept in an annotation of
// one Lease object, and written at a demanded version only.
//
// It names the sessions that own something with what is needed to depose them, so
// that this can be done even if somebody has deleted their own objects.
type shardTable struct {
	owners   []string // by shard: the session, or ""
	sessions map[string]shardSession
}

type shardSession struct {
	fence   store.LeaseID
	seconds int32 // how long its lease lasts
}

// shardsAnnotation holds the table.
const shardsAnnotation = "slipway.dev/shards"

// tableJSON is what the annotation holds: owners are indexes of sessions, -1 for
// nobody.
type tableJSON struct {
	Sessions []sessionJSON `json:"sessions"`
	Owners   []int         `json:"owners"`
}

type sessionJSON struct {
	ID      string        `json:"id"`
	Fence   store.LeaseID `json:"fence,omitempty"`
	Seconds int32         `json:"seconds"`
}

// newShardTable returns a table in which nobody owns anything.
func newShardTable(shards int) shardTable {
	return shardTable{make([]string, shards), map[string]shardSession{}}
}

// free reports whether nobody owns anything.
func (t shardTable) free() bool {
	return !slices.ContainsFunc(t.owners, func(o string) bool { return o != "" })
}

// with returns a copy of the table in which the owners are these, and the sessions
// those that own something; add may be one of them.
func (t shardTable) with(owners []string, id string, add shardSession) shardTable {
	next := shardTable{owners, map[string]shardSession{}}
	for _, o := range owners {
		if o == id {
			next.sessions[o] = add
		} else if o != "" {
			next.sessions[o] = t.sessions[o]
		}
	}
	return next
}

// store puts the table into the Lease.
func (t shardTable) store(l *Lease) error {
	out := tableJSON{Sessions: []sessionJSON{}, Owners: make([]int, len(t.owners))}
	index := map[string]int{"": -1}
	for i, o := range t.owners {
		if _, known := index[o]; !known {
			index[o] = len(out.Sessions)
			out.Sessions = append(out.Sessions, sessionJSON{o, t.sessions[o].fence, t.sessions[o].seconds})
		}
		out.Owners[i] = index[o]
	}
	text, err := json.Marshal(out)
	if err == nil {
		setAnnotation(l, shardsAnnotation, string(text))
	}
	return err
}

// readShardTable reads the table of a Lease. What is none is [store.ErrInvalid]:
// nobody may guess then who owns what.
func readShardTable(l *Lease) (shardTable, error) {
	bad := func(format string, args ...any) (shardTable, error) {
		return shardTable{}, store.Invalidf("Lease %s is no table of shards, or a damaged one: %s: "+
			"choose another name, or stop all replicas and delete it", store.KeyOf(l), fmt.Sprintf(format, args...))
	}
	text, ok := l.Annotations[shardsAnnotation]
	if !ok {
		return bad("it has no annotation %s", shardsAnnotation)
	}
	var in tableJSON
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return bad("annotation %s: %v", shardsAnnotation, err)
	}
	if len(in.Owners) == 0 || len(in.Owners) > maxShards {
		return bad("annotation %s: %d owners: want 1 to %d", shardsAnnotation, len(in.Owners), maxShards)
	}
	t := newShardTable(len(in.Owners))
	for i, s := range in.Sessions {
		if _, twice := t.sessions[s.ID]; s.ID == "" || twice || s.Seconds <= 0 {
			return bad("annotation %s: sessions[%d] is %+v: want an id of its own, and seconds above 0", shardsAnnotation, i, s)
		}
		t.sessions[s.ID] = shardSession{s.Fence, s.Seconds}
	}
	for shard, i := range in.Owners {
		if i < -1 || i >= len(in.Sessions) {
			return bad("annotation %s: owners[%d] is %d: want -1 to %d", shardsAnnotation, shard, i, len(in.Sessions)-1)
		}
		if i >= 0 {
			t.owners[shard] = in.Sessions[i].ID
		}
	}
	return t, nil
}
