// SPDX-License-Identifier: Apache-2.0

// Package reconciletest runs controllers in virtual time, against a real store
// that fails where it is told to, and checks that they converge whatever happens
// in between.
//
//	func TestBackups(t *testing.T) {
//		reconciletest.Converges(t, func(w *reconciletest.World) {
//			w.Start(func(m *reconcile.Manager) error { return backup.Add(m) })
//			create(w, &Backup{…})
//			w.Advance(time.Hour)
//		})
//	}
//
// [Run] calls a function with a [World]: a store in memory, and a manager whose
// controllers run as they would in production, in a testing/synctest bubble, where
// a day takes no longer than what happens in it. The world records each reconcile
// with what it read and wrote.
//
// [Converges] calls the function once undisturbed, and then once for each call
// that a reconcile made to the store and each [Fault]: the process dies before or
// after the call, the call meets a conflict, fails, takes a minute, or succeeds but
// its answer is lost. Each time the store must end up with what it had without
// the fault. [World.Idempotent] checks that what has converged stays untouched.
//
// # Limits
//
// Everything in the function runs in the bubble: no network and no real processes.
// Names that the store makes from generateName differ from run to run: give
// [Normalize] what makes them comparable. Faults concern the calls that reconciles
// make through [reconcile.Manager.Store]; informers, elections and the test itself
// see the store as it is.
package reconciletest
