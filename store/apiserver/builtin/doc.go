// SPDX-License-Identifier: Apache-2.0

// Package builtin serves Kubernetes' own kinds, as they are in k8s.io/api: with
// the names, columns, defaults and rules that kubectl and controllers rely on.
//
//	srv, err := apiserver.New(st, apiserver.Options{})
//	…
//	err = builtin.Register(srv, builtin.All()...)
//
// Each function returns an [apiserver.Resource], to be registered as it is or
// changed first. The rules are those that a cluster needs to work: names,
// selectors that match their templates, what can't change later. They are not
// all that Kubernetes checks.
package builtin
