// SPDX-License-Identifier: Apache-2.0

// Package reconcile runs controllers: functions that make the world as an object
// says it should be, called again whenever something that they depend on changes.
package reconcile
