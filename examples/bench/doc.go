// SPDX-License-Identifier: Apache-2.0

// Package bench measures slipway against its rivals, each in the same run. It is
// a module of its own so that nobody who uses slipway downloads them:
//
//	go -C examples/bench test -run '^$' -bench .
package bench
