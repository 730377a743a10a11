// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strconv"
	"strings"

	"github.com/slipway-dev/slipway/store/internal/deep"
)

// Object is what the store asks of everything it keeps: the usual metadata
// accessors, with predeclared types only, so that every Kubernetes API type
// (*corev1.Pod and its kin) satisfies it as it is. A type of one's own embeds
// [Meta].
//
// What is read from a store is shared with every other reader and must not be
// changed: take a DeepCopy first, or use Patch.
type Object interface {
	GetName() string
	SetName(string)
	GetGenerateName() string
	GetNamespace() string
	SetNamespace(string)
	GetResourceVersion() string
	SetResourceVersion(string)
	GetGeneration() int64
	SetGeneration(int64)
	GetLabels() map[string]string
	SetLabels(map[string]string)
	GetAnnotations() map[string]string
	SetAnnotations(map[string]string)
	GetFinalizers() []string
	SetFinalizers([]string)
}

// Copier is the constraint of typed handles: an [Object] with the DeepCopy
// method that Kubernetes' types have. A type without generated code can write
//
//	func (p *Pod) DeepCopy() *Pod { return store.DeepCopy(p) }
type Copier[T any] interface {
	Object
	DeepCopy() T
}

// Key names an object within its kind. Objects of a cluster-scoped kind have no
// namespace.
type Key struct {
	Namespace, Name string
}

// NewKey returns the key of a namespaced object.
func NewKey(namespace, name string) Key { return Key{Namespace: namespace, Name: name} }

// KeyOf returns the object's key.
func KeyOf(o Object) Key { return Key{Namespace: o.GetNamespace(), Name: o.GetName()} }

// String returns "namespace/name", or the name where there is no namespace.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// Compare orders keys by namespace, then by name, as lists do.
func (k Key) Compare(other Key) int {
	if c := strings.Compare(k.Namespace, other.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, other.Name)
}

// RevisionOf returns the revision that last changed the object, which is what
// its resource version says: 0 for an object that no store has written. It is
// the revision to wait for after a write.
func RevisionOf(o Object) (uint64, error) { return ParseRevision(o.GetResourceVersion()) }

// ParseRevision reads a resource version. Empty text is revision 0; what is no
// number is [ErrInvalid].
func ParseRevision(resourceVersion string) (uint64, error) {
	if resourceVersion == "" {
		return 0, nil
	}
	rev, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0, Invalidf("resource version %q: want a decimal number", resourceVersion)
	}
	return rev, nil
}

// FormatRevision returns the resource version of a revision.
func FormatRevision(rev uint64) string { return strconv.FormatUint(rev, 10) }

// DeepCopy returns a copy of v that shares nothing with it that can be reached
// through exported fields; unexported fields are copied as an assignment does.
// It is the body of a DeepCopy method for a type without generated code, and
// costs two to three times what generated code does.
func DeepCopy[T any](v T) T { return deep.Copy(v) }
