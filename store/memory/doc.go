// SPDX-License-Identifier: Apache-2.0

// Package memory is the default engine of the store: objects in memory, in
// copy-on-write B-trees with a hash table beside them.
//
//	st := memory.New(memory.Options{})
//	defer st.Close()
//	pods, err := store.Register(st, store.Kind[*Pod]{Name: "Pod"})
//
// It keeps the whole contract, optional interfaces included. Nothing outlives
// the process.
//
// # Memory
//
// Beside the object itself the engine takes about 150 bytes for it, with
// namespace and name and one index of one's own; each further index takes about
// 35. A version in the history window takes about 80 bytes and the object.
package memory
