// SPDX-License-Identifier: Apache-2.0

// Package watchtest has a source that fails, for tests of what is built on
// package watch: informers, collections, controllers.
//
//	src := watchtest.New(pods, watchtest.Options{Seed: 1})   // pods is a *store.Handle
//	i := watch.New(src, watch.Options[*Pod]{})
//	…
//	src.SetFaults(watchtest.Faults{Disconnect: 0.1, Duplicate: 0.1, Reorder: 0.1})
//	…                                                          // let things happen
//	src.Heal()
//	time.Sleep(time.Minute)                                    // in a synctest bubble: at once
//	…                                                          // the informer equals the store
//
// Random faults come with a probability for each event; others are asked for by
// methods. The source passes on what another one says, so that between faults it
// is as real as that: a handle to a store in memory, most of the time.
package watchtest
