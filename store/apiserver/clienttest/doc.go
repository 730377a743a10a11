// SPDX-License-Identifier: Apache-2.0

// Package clienttest tests store/apiserver with the clients that it is for: the
// real kubectl, and client-go's informers. It is a module of its own because of
// what those bring along.
//
// [Start] serves the built-in kinds and a kind of its own, [Backup], from memory,
// over TLS, with RBAC and admission: what an API server looks like in full.
package clienttest
