// SPDX-License-Identifier: Apache-2.0

// Package store keeps Go objects, of any type, with revisions, optimistic
// concurrency, transactions over several kinds, history, and watches.
package store
