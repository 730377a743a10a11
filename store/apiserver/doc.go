// SPDX-License-Identifier: Apache-2.0

// Package apiserver serves the objects of a store as Kubernetes' API server does,
// so that kubectl, client-go and every other client of Kubernetes can talk to
// whatever a program keeps.
//
//	type Backup struct {
//		store.Meta `json:"metadata"`
//		Spec       BackupSpec   `json:"spec"`
//		Status     BackupStatus `json:"status,omitzero"`
//	}
//
//	func (b *Backup) DeepCopy() *Backup { return store.DeepCopy(b) }
//
//	func main() {
//		st := memory.New(memory.Options{})
//		defer st.Close()
//		srv, err := apiserver.New(st, apiserver.Options{})
//		if err != nil {
//			log.Fatal(err)
//		}
//		err = apiserver.Register(srv, apiserver.Resource[*Backup]{
//			Kind:    store.Kind[*Backup]{Name: "Backup", Group: "example.com", Version: "v1"},
//			Columns: []apiserver.Column[*Backup]{{Name: "Phase", Value: func(b *Backup) any { return b.Status.Phase }}},
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//		log.Fatal(http.ListenAndServe("127.0.0.1:8001", srv))
//	}
//
// and then kubectl --server=http://127.0.0.1:8001 get backups. Kubernetes' own
// kinds are in package builtin.
//
// # What is served
//
// Every kind has get, list, watch, create, update, patch (JSON, merge, strategic
// merge, server-side apply), delete and deletecollection; a kind whose type has a
// field Status has the subresource status; others come by [Resource.Scale] and
// [Subresource]. Discovery, OpenAPI v2 and v3, /version, /livez, /readyz,
// /healthz and /metrics say what there is. Bodies may be JSON, YAML, or protobuf
// for types that have it; answers may also be tables and bare metadata. Errors
// are Status objects with Kubernetes' reasons, codes and causes.
//
// A kind is served in one version, the one that is stored.
//
// # The way of a request
//
//	request -> limits -> authn -> authz -> decode -> admission: mutate, validate
//	                                                      |
//	        answer <- encode once, share <- store <- transaction: quotas, write
//
// The gates are interfaces with implementations in packages authn, authz and
// admission. A change is prepared on the present object, and the write demands
// that it is still the present one; otherwise all of it begins anew, unless the
// client demanded a version. What must hold at the commit runs in the
// transaction. [Server.Store] is the same way without HTTP.
//
// # Beyond Kubernetes
//
// [Transaction] changes several objects at once, over HTTP too. A get or list
// with resourceVersionMatch=Exact reads the past, inside the store's history.
//
// # Concurrency and memory
//
// A [Server] is safe for concurrent use, and starts no goroutines of its own;
// [Server.Serve] waits for those of its connections. Stored objects are encoded
// once for all who read them; the encodings that are kept are bounded
// ([Options.Encodings]). A watcher holds no memory while it is idle, at most
// 32 KiB while it is written to, and is cut off where its client does not read.
// What a stranger can send is bounded by [Limits].
//
// # Errors
//
// [StatusError] is the error of refused requests. It matches the store's errors
// (errors.Is) and those of apimachinery (apierrors.IsNotFound).
package apiserver
