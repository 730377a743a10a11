// SPDX-License-Identifier: Apache-2.0

// Package deep compares, copies and measures Go values by reflection. The store
// uses it where a kind gives no function of its own: to see that a write
// changes nothing, to tell the spec's part from the rest, to bound history by
// bytes, and to find a caller who changes a shared object.
package deep
