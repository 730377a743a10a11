// SPDX-License-Identifier: Apache-2.0

// Package authz says who may do what with an API server: the second of its
// three gates.
//
//	may := authz.First(authz.Masters(), authz.Node{Store: st}, authz.RBAC{Store: st})
//	decision, reason, err := may.Authorize(ctx, authz.Attributes{User: u, Verb: "get", Resource: "pods", Namespace: "default"})
//
// [RBAC] reads Kubernetes' roles and bindings from the store with each request,
// by an index, so that a change counts at once. [Node] lets node agents reach
// what their pods need. [Masters] lets the group system:masters do everything.
// What nobody allows is refused.
package authz
