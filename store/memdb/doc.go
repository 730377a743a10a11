// SPDX-License-Identifier: Apache-2.0

// Package memdb is the plain engine of the store: objects in HashiCorp's
// go-memdb, an in-memory database of immutable radix trees.
//
//	st := memdb.New(memdb.Options{})
//	defer st.Close()
//	pods, err := store.Register(st, store.Kind[*Pod]{Name: "Pod"})
//
// It keeps the whole contract, as package memory does, in a hundred lines of
// its own. It is the reference that the fast engine is compared with by tests,
// and a home for those who already run on go-memdb. Choose package memory
// otherwise: it is three to four times faster and takes a tenth of the memory.
package memdb
