// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// Operation is what is done to an object.
type Operation string

// The operations.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT" // a subresource that is no object: exec, say
)

// Request is a change that is asked for, as plugins see it.
type Request struct {
	Operation   Operation
	User        *authn.User
	Kind        schema.GroupVersionKind
	Resource    schema.GroupVersionResource
	Subresource string
	Namespace   string
	Name        string
	// Object is the object as it is to be stored; nil for Delete and Connect. A
	// [Mutator] may change it.
	Object store.Object
	// Old is the object as it is stored; nil for Create. It is shared and must not
	// be changed.
	Old    store.Object
	DryRun bool
	// Warn adds a warning to the answer. Never nil.
	Warn func(string)
	// Reader reads the present state: outside of the transaction for Mutate and
	// Validate.
	Reader Reader
}

// Reader reads objects of any registered kind, by name of the kind.
type Reader interface {
	// Get returns store.ErrNotFound where there is no such object, and
	// store.ErrUnknownKind where the kind is not registered.
	Get(kind store.KindName, key store.Key) (store.Object, error)
	// List calls yield for each object of the namespace until it returns false.
	List(kind store.KindName, opts store.ListOptions, yield func(store.Object) bool) error
}

// Plugin is one rule of the chain. It implements one or more of [Mutator],
// [Validator] and [Transactional].
type Plugin interface {
	// Handles reports whether the plugin wants to see requests of this operation
	// on this resource. Its answer must not depend on anything else.
	Handles(op Operation, resource schema.GroupResource, subresource string) bool
}

// Mutator changes objects before they are validated: defaults that depend on
// more than the object, for example.
type Mutator interface {
	Plugin
	Mutate(context.Context, *Request) error
}

// Validator refuses requests. It sees the object after all mutators.
type Validator interface {
	Plugin
	Validate(context.Context, *Request) error
}

// Transactional is a plugin whose rule must hold at the commit: quotas,
// allocation of addresses. Within is called in the transaction that carries out
// the request, and may run again; what it reads, the commit depends on; what it
// writes is written with the object or not at all.
type Transactional interface {
	Plugin
	Within(ctx context.Context, tx Tx, r *Request) error
}

// Tx is the transaction in which a request is carried out.
type Tx interface {
	Reader
	// Update replaces an object of a registered kind.
	Update(kind store.KindName, o store.Object) error
}
