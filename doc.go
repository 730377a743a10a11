// SPDX-License-Identifier: Apache-2.0

// Package slipway is what Kubernetes is made of, as small Go packages that
// anyone can import. A slipway is the place where ships are built and launched.
//
// This package holds no code: it is the front page, and the home of the tests
// that keep the house in order. The packages are
//
//   - [github.com/slipway-dev/slipway/store]: a versioned, watchable store of
//     Go objects, with transactions, history and several engines.
//   - [github.com/slipway-dev/slipway/schedule]: Kubernetes' scheduling framework
//     and default plugins, for anything that is placed on anything.
//   - [github.com/slipway-dev/slipway/netproxy]: services to packet rules,
//     generated, traced and applied.
//   - [github.com/slipway-dev/slipway/runtime]: CRI-shaped container runtimes, and
//     the life cycle of pods.
//
// ARCHITECTURE.md describes how they fit together and why they are as they are.
package slipway
