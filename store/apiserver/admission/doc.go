// SPDX-License-Identifier: Apache-2.0

// Package admission changes and refuses what is to be stored: the third gate of
// an API server, after it is known who asks and that they may.
//
//	type owner struct{}
//
//	func (owner) Handles(op admission.Operation, r schema.GroupResource, sub string) bool {
//		return op == admission.Create && r.Resource == "backups"
//	}
//
//	func (owner) Mutate(_ context.Context, r *admission.Request) error {
//		r.Object.SetAnnotations(map[string]string{"created-by": r.User.Name})
//		return nil
//	}
//
// A plugin is a [Mutator], a [Validator], a [Transactional] or several of them.
// All mutators run before all validators, in the order in which they are given.
// Both run before the transaction, on the version that the write then demands;
// what must hold at the commit (a quota, say) is Transactional. An error that is
// no API status of its own is answered as 403 Forbidden.
//
// The plugins of this package are Kubernetes' rules for Kubernetes' types; they
// do nothing where the kinds that they need are not registered.
package admission
