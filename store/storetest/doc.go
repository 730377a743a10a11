// SPDX-License-Identifier: Apache-2.0

// Package storetest tests that an engine keeps the contract of [store.Store].
// The author of an engine calls it from a test of his own:
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store {
//			st, err := myengine.Open(t.TempDir())
//			if err != nil {
//				t.Fatal(err)
//			}
//			return st
//		}, storetest.Options{})
//	}
//
// # What is tested
//
// One sub-test stands for one promise, by subject, so that the name of a failed
// test says which promise is broken: Watch/Atomic, Update/StaleVersionConflicts.
// What only some engines can do ([store.Transactor], [store.Snapshotter],
// [store.Leaser], [store.Compactor]) is tested where the engine has the
// interface and skipped, with the reason, where it has not; an option that an
// engine can't honour is declared in [Options], and then tested to be refused
// with [store.ErrUnsupported].
//
// Beside the rules one by one there are
//
//   - Model: random operations, compared with a plain map and a copy of it for
//     each revision, watches from random revisions included;
//   - Linearizable: concurrent histories, checked by porcupine
//     (https://github.com/anishathalye/porcupine), which looks for an order of
//     the operations that a plain map would explain;
//   - Concurrent: the six guarantees of watches under concurrent writers,
//     compaction and slow watchers.
//
// [Compare] runs the operations of Model against two engines and demands the
// same answers, texts of errors included.
//
// # Time
//
// Each test runs in a bubble of [testing/synctest], where hours of leases take
// no time and a watch that misses an event fails at once instead of after a
// time-out. An engine that talks to a network or waits for a disk can't run in
// one: set Options.RealTime, and the same tests wait for real.
//
// # Repeating a failure, and longer runs
//
// Random tests print their seed where they fail. These variables of the
// environment apply to them:
//
//	STORETEST_SEED=n    begin with this seed instead of a random one
//	STORETEST_SCALE=n   do n times as much: a soak is STORETEST_SCALE=100
//
// With -short they do a quarter.
package storetest
