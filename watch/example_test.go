// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/watch"
)

type Pod struct {
	store.Meta `json:"metadata"`
	Spec       struct{ Node string }
}

func (p *Pod) DeepCopy() *Pod { return store.DeepCopy(p) }

var byNode = store.NewIndex("spec.node", func(p *Pod) string { return p.Spec.Node })

// openPods returns a store with two pods; errors are left out for brevity.
func openPods(ctx context.Context) (*memory.Store, *store.Handle[*Pod]) {
	st := memory.New(memory.Options{})
	pods, _ := store.Register(st, store.Kind[*Pod]{Name: "Pod", Indexes: []*store.Index[*Pod]{byNode}})
	pods.Create(ctx, newPod("web-1", "node-1"))
	pods.Create(ctx, newPod("web-2", "node-2"))
	return st, pods
}

func newPod(name, node string) *Pod {
	p := &Pod{Meta: store.Meta{Namespace: "default", Name: name}}
	p.Spec.Node = node
	return p
}

// background runs f until stop is called, which waits for it.
func background(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	return func() { cancel(); wg.Wait() }
}

func Example() {
	ctx := context.Background()
	st, podHandle := openPods(ctx)
	defer st.Close()

	cache := watch.NewCache(st, watch.CacheOptions{})
	pods := watch.For(cache, podHandle)
	defer background(cache.Run)()

	added := make(chan string)
	reg := pods.Handle(watch.Handler[*Pod]{
		Add: func(p *Pod, initial bool) { added <- fmt.Sprint("add ", p.Name, " initial: ", initial) },
	})
	fmt.Println(<-added)
	fmt.Println(<-added)
	<-reg.Synced()

	web3, _ := podHandle.Create(ctx, newPod("web-3", "node-1"))
	fmt.Println(<-added)
	revision, _ := store.RevisionOf(web3)
	if err := pods.WaitFor(ctx, revision); err != nil {
		fmt.Println(err)
	}
	for p, err := range pods.List(store.ListOptions{Fields: byNode.Is("node-1")}) {
		fmt.Println(p.Name, err)
	}
	// Output:
	// add web-1 initial: true
	// add web-2 initial: true
	// add web-3 initial: false
	// web-1 <nil>
	// web-3 <nil>
}

// An informer with selectors of its own is made by New.
func ExampleNew() {
	ctx := context.Background()
	st, podHandle := openPods(ctx)
	defer st.Close()

	onNode1 := watch.New(podHandle, watch.Options[*Pod]{Fields: byNode.Is("node-1")})
	gone := make(chan string)
	reg := onNode1.Handle(watch.Handler[*Pod]{Delete: func(last *Pod) { gone <- last.Name }})
	defer background(onNode1.Run)()
	<-reg.Synced()

	podHandle.Patch(ctx, store.NewKey("default", "web-1"), func(p *Pod) error { p.Spec.Node = "node-2"; return nil })
	fmt.Println(<-gone, "is no longer on node-1")
	// Output:
	// web-1 is no longer on node-1
}

// A view reads several kinds at one moment, at least as new as one's own writes.
func ExampleCache_View() {
	ctx := context.Background()
	st, podHandle := openPods(ctx)
	defer st.Close()
	cache := watch.NewCache(st, watch.CacheOptions{})
	watch.For(cache, podHandle)
	defer background(cache.Run)()

	web3, _ := podHandle.Create(ctx, newPod("web-3", "node-1"))
	revision, _ := store.RevisionOf(web3)
	view, err := cache.View(ctx, watch.Versions{podHandle.Schema().KindName: revision})
	if err != nil {
		fmt.Println(err)
		return
	}
	podHandle.Delete(ctx, store.KeyOf(web3)) // the view does not see it
	for p := range podHandle.At(view).List() {
		fmt.Println(p.Name)
	}
	// Output:
	// web-1
	// web-2
	// web-3
}

type Node struct {
	store.Meta `json:"metadata"`
}

func (n *Node) DeepCopy() *Node { return store.DeepCopy(n) }

// PodOnNode is what ExampleJoin makes of a pod and its node.
type PodOnNode struct {
	store.Meta
	Node string
}

func (p *PodOnNode) DeepCopy() *PodOnNode { return store.DeepCopy(p) }

// A join is made again whenever one of the objects that it is made of changes.
func ExampleJoin() {
	ctx := context.Background()
	st, pods := openPods(ctx)
	defer st.Close()
	nodes, _ := store.Register(st, store.Kind[*Node]{Name: "Node", Scope: store.Cluster})

	joined := watch.Join(pods, nodes,
		func(p *Pod) []store.Key { return []store.Key{{Name: p.Spec.Node}} },
		func(p *Pod, nodes []*Node) *PodOnNode {
			if len(nodes) == 0 {
				return nil // on no node that there is
			}
			return &PodOnNode{Node: nodes[0].Labels["zone"] + "/" + nodes[0].Name}
		})
	defer background(joined.Run)()

	located := watch.New(joined, watch.Options[*PodOnNode]{})
	added := make(chan string)
	located.Handle(watch.Handler[*PodOnNode]{Add: func(p *PodOnNode, _ bool) { added <- p.Name + " is on " + p.Node }})
	defer background(located.Run)()
	<-located.Synced()

	nodes.Create(ctx, &Node{store.Meta{Name: "node-2", Labels: map[string]string{"zone": "north"}}})
	fmt.Println(<-added)
	// Output:
	// web-2 is on north/node-2
}
