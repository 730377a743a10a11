// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"strings"

	"github.com/slipway-dev/slipway/store"
)

// checkOwners checks the owner references that the write adds or changes: the
// owner must exist, under that UID, in the same namespace or cluster-scoped.
// What was read is validated by the commit.
func (p *preparer) checkOwners(old, o store.Object) error {
	owners := p.t.schema.Accessors.Owners
	if owners == nil || p.t.schema.DanglingOwners {
		return nil
	}
	refs := owners(o)
	if len(refs) == 0 {
		return nil
	}
	var before []store.OwnerReference
	if old != nil {
		before = owners(old)
	}
	for i, ref := range refs {
		known := func(r store.OwnerReference) bool {
			return r.UID == ref.UID && r.Kind == ref.Kind && r.Name == ref.Name && r.APIVersion == ref.APIVersion
		}
		if slices.ContainsFunc(before, known) {
			continue
		}
		if err := p.checkOwner(ref, o.GetNamespace()); err != nil {
			return store.Invalidf("owner reference %d: %w", i, err)
		}
	}
	return nil
}

func (p *preparer) checkOwner(ref store.OwnerReference, namespace string) error {
	group, _, found := strings.Cut(ref.APIVersion, "/")
	if !found {
		group = ""
	}
	name := store.KindName{Group: group, Name: ref.Kind}
	t := p.s.kinds.Load().byName[name]
	if t == nil {
		return store.Invalidf("kind %s is not registered", name)
	}
	key := store.Key{Name: ref.Name}
	if t.schema.Scope == store.Namespaced {
		if namespace == "" {
			return store.Invalidf("a cluster-scoped object can't be owned by %s %s, which is namespaced", name, ref.Name)
		}
		key.Namespace = namespace
	}
	e, err := p.owner(t, key)
	if err != nil {
		return err
	}
	if e == nil {
		return store.Invalidf("there is no %s %s", name, key)
	}
	if t.schema.Accessors.UID != nil {
		if have := t.schema.Accessors.UID(e.Object); have != ref.UID {
			return store.Invalidf("%s %s has UID %s, not %q", name, key, have, ref.UID)
		}
	}
	p.reads = append(p.reads, read{t, key, e})
	return nil
}

// owner reads an owner for a write outside of a transaction.
func (s *Store) owner(t *table, key store.Key) (*Entry, error) { return s.latest(t, key), nil }
