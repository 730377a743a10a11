// SPDX-License-Identifier: Apache-2.0

// Package watch keeps up with the objects of a store: informers with indexed
// caches and handlers, shared by all who need them.
package watch
