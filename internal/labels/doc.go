// SPDX-License-Identifier: Apache-2.0

// Package labels selects objects by their labels, with the meaning and the text
// syntax that Kubernetes gives to label selectors
// (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/).
//
// A [Selector] is a conjunction of requirements; the zero value selects
// everything. [Parse] reads the text form:
//
//	app=web,tier!=db,env in (prod, qa),!canary,release
//
// It is internal because each package of slipway that selects by labels has its
// own public face for it.
package labels
