// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strings"
	"unicode/utf8"

	"github.com/slipway-dev/slipway/internal/labels"
)

// KindName identifies a kind within a store. Group is "" for kinds of one's own
// that need no group; it tells apart kinds of one name, as Kubernetes' API
// groups do.
type KindName struct {
	Group, Name string
}

// String returns "Name.group", or the name where there is no group.
func (n KindName) String() string {
	if n.Group == "" {
		return n.Name
	}
	return n.Name + "." + n.Group
}

// Scope says whether the objects of a kind live in namespaces.
type Scope uint8

// The scopes.
const (
	// Namespaced objects have a namespace, which must not be empty.
	Namespaced Scope = iota
	// Cluster objects have none.
	Cluster
)

// Kind describes the objects of one kind. Only Name is required. A kind is a
// value: it can be made, registered and unregistered at run time, and several
// kinds may share one Go type.
//
// The functions are hooks: they must be pure (no side effects, no calls to the
// store, the same answer for the same object), because they run inside the
// transaction and may run again. A hook that panics fails the write with
// [ErrHookPanic].
type Kind[T Copier[T]] struct {
	// Name is the kind's name, such as "Pod".
	Name string
	// Group and Version are its API group and the version that is stored, such as
	// "apps" and "v1". Owner references name kinds by them.
	Group, Version string
	// Scope is Namespaced unless it is set to Cluster.
	Scope Scope
	// Accessors bind metadata whose types the store can't name. Zero: T embeds
	// Meta. See [InferAccessors] for Kubernetes' types.
	Accessors Accessors[T]
	// Indexes are the kind's secondary indexes. Namespace and name are always
	// indexed, as are labels never: a label that is asked for often is worth an
	// index of its own.
	Indexes []*Index[T]
	// ValidateName checks names beyond the rule that all names keep: 1 to 253
	// bytes of UTF-8, no space, control character, '/' or '%', not "." and not
	// "..". It is asked on create. See [DNSLabel] and [DNSSubdomain].
	ValidateName func(name string) error
	// Default fills in what the caller left out, before Validate, on create and
	// update. The object is a copy (or taken over).
	Default func(T)
	// Validate refuses what breaks the kind's rules; old is nil on create. What it
	// returns is made to match ErrInvalid.
	Validate func(old, new T) error
	// Immutable are the fields that an update must not change.
	Immutable []Field[T]
	// Spec returns the part whose change makes the generation grow, compared
	// deeply. nil: the field named Spec if T points to a struct that has one, else
	// all of the struct but its metadata and the field named Status. A type that
	// keeps all of that in one map, as unstructured.Unstructured does, needs it.
	Spec func(T) any
	// Equal says whether a write changes nothing. It must compare metadata too.
	// nil: deep comparison, in which nil and empty slices and maps are the same.
	Equal func(a, b T) bool
	// Size estimates an object's size in bytes, for a history window bounded by
	// bytes. nil: measured by reflection.
	Size func(T) int
	// Keep reports whether an object that is being deleted must stay for now,
	// although it has no finalizers: a namespace that still has content, a pod
	// whose grace period lasts. Delete marks such an object, and the update after
	// which Keep is false removes it. The deletion timestamp is as much later as
	// the object's DeletionGracePeriodSeconds says, if it has that field. nil: only
	// finalizers keep an object.
	Keep func(T) bool
	// DanglingOwners lets owner references name owners that do not exist, as
	// Kubernetes' API server does. false: they are checked when they are written.
	DanglingOwners bool
	// Convert makes an object of this kind from one that the store holds in another
	// Go type, because the kind was registered with that before. nil: such objects
	// make Register fail.
	Convert func(Object) (T, error)
}

// Field is a part of an object under a name that errors can use.
type Field[T any] struct {
	Name string // its path, such as "spec.selector"
	Get  func(T) any
}

// KindName returns the name that identifies the kind in a store.
func (k Kind[T]) KindName() KindName { return KindName{Group: k.Group, Name: k.Name} }

// DNSLabel checks that a name is a DNS label (RFC 1123): up to 63 lower-case
// letters, digits and '-', beginning and ending with a letter or digit.
func DNSLabel(name string) error {
	if len(name) == 0 || len(name) > 63 || strings.Contains(name, ".") || !labels.IsSubdomain(name) {
		return Invalidf("name %q: want 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit", name)
	}
	return nil
}

// DNSSubdomain checks that a name is a DNS subdomain (RFC 1123): up to 253
// characters, DNS labels separated by dots.
func DNSSubdomain(name string) error {
	if len(name) == 0 || len(name) > 253 || !labels.IsSubdomain(name) {
		return Invalidf("name %q: want 1 to 253 lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit", name)
	}
	return nil
}

// ValidateName checks the rule that all names and namespaces keep: Kubernetes' rule
// for path segments, in UTF-8, without control characters and spaces.
func ValidateName(what, name string) error {
	if name == "" {
		return Invalidf("%s is empty", what)
	}
	if len(name) > 253 {
		return Invalidf("%s %.20q… has %d bytes: want at most 253", what, name, len(name))
	}
	if name == "." || name == ".." {
		return Invalidf("%s %q: must not be '.' or '..'", what, name)
	}
	if !utf8.ValidString(name) { // JSON, and so a continue token, has no way to say it
		return Invalidf("%s %q: must be valid UTF-8", what, name)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == 0x7f || c == '/' || c == '%' {
			return Invalidf("%s %q: must not contain %q", what, name, c)
		}
	}
	return nil
}
