// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"sync"

	radix "github.com/hashicorp/go-memdb"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// slipway is the store as a user has it, with the mutation detector off.
type slipway struct {
	st   *memory.Store
	pods *store.Handle[*benchPod]
}

var benchNode = store.NewIndex("spec.nodeName", func(p *benchPod) string { return p.Spec.NodeName })

func openSlipway() subject { return newSlipway(memory.Options{}) }

func newSlipway(opts memory.Options) *slipway {
	opts.Mutations = store.DetectNever
	st := memory.New(opts)
	kind := store.Kind[*benchPod]{Name: "Pod", Indexes: []*store.Index[*benchPod]{benchNode}}
	return &slipway{st, must(store.Register(st, kind))}
}

func (s *slipway) write(update bool, pods []*benchPod) {
	over := store.WriteOptions{TakeOver: true}
	if len(pods) == 1 {
		if update {
			must(s.pods.Update(background, pods[0], over))
		} else {
			must(s.pods.Create(background, pods[0], over))
		}
		return
	}
	must(s.st.Txn(background, func(tx store.Tx) error {
		in := s.pods.In(tx)
		var errs error
		for _, p := range pods {
			var err error
			if update {
				_, err = in.Update(p, over)
			} else {
				_, err = in.Create(p, over)
			}
			errs = errors.Join(errs, err)
		}
		return errs
	}))
}

func (s *slipway) get(key store.Key) *benchPod { return must(s.pods.Get(background, key)) }

func (s *slipway) listNamespace(namespace string) int {
	return s.list(store.ListOptions{Namespace: namespace})
}

func (s *slipway) listNode(node string) int {
	return s.list(store.ListOptions{Fields: benchNode.Is(node)})
}

func (s *slipway) list(opts store.ListOptions) int {
	n := 0
	for p, err := range s.pods.List(background, opts) {
		if err != nil {
			panic(err)
		}
		if p != nil {
			n++
		}
	}
	return n
}

func (s *slipway) close() { s.st.Close() }

// rawMemdb is go-memdb with hand-written indexers, which are faster than the
// library's by reflection.
type rawMemdb struct{ db *radix.MemDB }

func openMemdb() subject {
	return &rawMemdb{must(radix.NewMemDB(&radix.DBSchema{Tables: map[string]*radix.TableSchema{
		"pods": {Name: "pods", Indexes: map[string]*radix.IndexSchema{
			"id":   {Name: "id", Unique: true, Indexer: rawKey{}},
			"node": {Name: "node", Indexer: rawNode{}},
		}},
	}}))}
}

type rawKey struct{}

func (rawKey) bytes(namespace, name string) []byte {
	b := make([]byte, 0, len(namespace)+len(name)+2)
	b = append(append(b, namespace...), 0)
	return append(append(b, name...), 0)
}

func (k rawKey) FromArgs(args ...any) ([]byte, error) {
	key := args[0].(store.Key)
	return k.bytes(key.Namespace, key.Name), nil
}

func (k rawKey) FromObject(o any) (bool, []byte, error) {
	p := o.(*benchPod)
	return true, k.bytes(p.Namespace, p.Name), nil
}

func (rawKey) PrefixFromArgs(args ...any) ([]byte, error) {
	return append([]byte(args[0].(string)), 0), nil
}

type rawNode struct{}

func (rawNode) FromArgs(args ...any) ([]byte, error) {
	return append([]byte(args[0].(string)), 0), nil
}

func (rawNode) FromObject(o any) (bool, []byte, error) {
	return true, append([]byte(o.(*benchPod).Spec.NodeName), 0), nil
}

func (s *rawMemdb) write(_ bool, pods []*benchPod) {
	txn := s.db.Txn(true)
	for _, p := range pods {
		if err := txn.Insert("pods", p); err != nil {
			panic(err)
		}
	}
	txn.Commit()
}

func (s *rawMemdb) get(key store.Key) *benchPod {
	return must(s.db.Txn(false).First("pods", "id", key)).(*benchPod)
}

func (s *rawMemdb) listNamespace(namespace string) int { return s.list("id_prefix", namespace) }
func (s *rawMemdb) listNode(node string) int           { return s.list("node", node) }

func (s *rawMemdb) list(index, value string) int {
	n := 0
	it := must(s.db.Txn(false).Get("pods", index, value))
	for o := it.Next(); o != nil; o = it.Next() {
		if o.(*benchPod) != nil {
			n++
		}
	}
	return n
}

func (s *rawMemdb) close() {}

// mutexMap is a map under a mutex with a set for each namespace and node: no
// versions, no snapshots, no order.
type mutexMap struct {
	mu          sync.RWMutex
	pods        map[store.Key]*benchPod
	byNamespace map[string]map[store.Key]*benchPod
	byNode      map[string]map[store.Key]*benchPod
}

func openMap() subject {
	return &mutexMap{
		pods:        map[store.Key]*benchPod{},
		byNamespace: map[string]map[store.Key]*benchPod{},
		byNode:      map[string]map[store.Key]*benchPod{},
	}
}

func (s *mutexMap) write(_ bool, pods []*benchPod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pods {
		key := store.Key{Namespace: p.Namespace, Name: p.Name}
		s.pods[key] = p
		put(s.byNamespace, p.Namespace, key, p)
		put(s.byNode, p.Spec.NodeName, key, p)
	}
}

func put(index map[string]map[store.Key]*benchPod, value string, key store.Key, p *benchPod) {
	if index[value] == nil {
		index[value] = map[store.Key]*benchPod{}
	}
	index[value][key] = p
}

func (s *mutexMap) get(key store.Key) *benchPod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pods[key]
}

func (s *mutexMap) listNamespace(namespace string) int { return s.list(s.byNamespace[namespace]) }
func (s *mutexMap) listNode(node string) int           { return s.list(s.byNode[node]) }

func (s *mutexMap) list(set map[store.Key]*benchPod) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	for _, p := range set {
		if p != nil {
			n++
		}
	}
	return n
}

func (s *mutexMap) close() {}
