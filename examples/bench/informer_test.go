// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	kcache "k8s.io/client-go/tools/cache"
	crcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/watch"
)

// The benchmarks compare informers in one run, over the same Kubernetes pods
// with two indexes: namespace and node. A source=channel is the same for all
// subjects: objects that are decoded already, and events that arrive on a channel
// of 100. A source=store is slipway's store in the same process, which the
// others have no counterpart to. An iteration is the whole job, to the moment
// that a handler has had everything.

const (
	informerObjects = 100_000
	perNamespace    = 100
	perNode         = 100
	nodeField       = "spec.nodeName"
)

func newPod(n, revision int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("namespace-%04d", n/perNamespace), Name: fmt.Sprintf("web-%07d-x7k2p", n),
			UID: types.UID(fmt.Sprintf("%036d", n)), ResourceVersion: strconv.Itoa(revision),
			Labels: map[string]string{"app": "web", "tier": "front"},
		},
		Spec: corev1.PodSpec{
			NodeName:   fmt.Sprintf("node-%04d", n*7919%(informerObjects/perNode)),
			Containers: []corev1.Container{{Name: "web", Image: "registry.example/web:v1"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func newPods(n int) []*corev1.Pod {
	pods := make([]*corev1.Pod, n)
	for i := range pods {
		pods[i] = newPod(i, i+1)
	}
	return pods
}

// updated returns a new version of each pod, in random order.
func updated(pods []*corev1.Pod) []*corev1.Pod {
	next := make([]*corev1.Pod, len(pods))
	for i, j := range rand.New(rand.NewPCG(3, 4)).Perm(len(pods)) {
		p := *pods[j]
		p.ResourceVersion = strconv.Itoa(len(pods) + 1 + i)
		p.Status.Phase = corev1.PodRunning
		next[i] = &p
	}
	return next
}

// job is an informer at work.
type job struct {
	objects, updates int // that each handler is to have
	handlers         []tally
	synced, done     sync.WaitGroup // one for each handler
}

// tally is what one handler has had; its calls come one at a time.
type tally struct {
	added, updated int
	_              [48]byte // a cache line for each handler
}

func newJob(handlers, objects, updates int) *job {
	j := &job{objects: objects, updates: updates, handlers: make([]tally, handlers)}
	j.synced.Add(handlers)
	j.done.Add(handlers)
	return j
}

func (j *job) add(n int) {
	t := &j.handlers[n]
	t.added++
	if t.added == j.objects {
		j.synced.Done()
	}
}

func (j *job) update(n int) {
	t := &j.handlers[n]
	t.updated++
	if t.updated == j.updates {
		j.done.Done()
	}
}

// subject is an informer of the pods that calls a job's methods.
type subject struct {
	run     func()              // starts it
	prepare func([]*corev1.Pod) // gets the updates ready, outside of the measurement
	send    func([]*corev1.Pod)
	stop    func()
}

// informerSubject makes one.
type informerSubject func(pods []*corev1.Pod, j *job) subject

var channelSubjects = []struct {
	name  string
	start informerSubject
}{
	{"slipway", startSlipwayChannel},
	{"client-go", startClientGo},
	{"controller-runtime", startControllerRuntime},
}

var byNode = store.NewIndex(nodeField, func(p *corev1.Pod) string { return p.Spec.NodeName })

var podKind = store.Kind[*corev1.Pod]{
	Name: "Pod", Accessors: store.InferAccessors[*corev1.Pod](), Indexes: []*store.Index[*corev1.Pod]{byNode},
}

// channelSource is a source of decoded objects: the list is at hand, events come
// on a channel.
type channelSource struct {
	pods   []*corev1.Pod
	events chan store.Event[*corev1.Pod]
}

func (s *channelSource) Page(context.Context, ...store.ListOptions) (store.Page[*corev1.Pod], error) {
	return store.Page[*corev1.Pod]{Items: s.pods, ListMeta: store.ListMeta{Revision: uint64(len(s.pods))}}, nil
}

func (s *channelSource) Watch(ctx context.Context, _ ...store.WatchOptions) iter.Seq2[store.Event[*corev1.Pod], error] {
	return func(yield func(store.Event[*corev1.Pod], error) bool) {
		for {
			select {
			case ev := <-s.events:
				if !yield(ev, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Schema and Store give the source a kind, and so its indexes, as a handle to a
// remote store has them; the store itself is never asked.
func (s *channelSource) Schema() *store.Schema { return must(podKind.Schema()) }
func (s *channelSource) Store() store.Store    { return nil }

func startSlipwayChannel(pods []*corev1.Pod, j *job) subject {
	src := &channelSource{pods, make(chan store.Event[*corev1.Pod], 100)}
	s := slipway(src, j)
	s.send = func(updates []*corev1.Pod) {
		for i, p := range updates {
			src.events <- store.Event[*corev1.Pod]{Type: store.Modified, Object: p, Revision: uint64(len(pods) + 1 + i), Last: true}
		}
	}
	return s
}

func slipway(src watch.Source[*corev1.Pod], j *job) subject {
	i := watch.New(src, watch.Options[*corev1.Pod]{})
	for n := range j.handlers {
		i.Handle(watch.Handler[*corev1.Pod]{
			Add:    func(*corev1.Pod, bool) { j.add(n) },
			Update: func(_, _ *corev1.Pod) { j.update(n) },
		})
	}
	return running(i.Run, i)
}

// running is a subject that runs until it is stopped.
func running(run func(context.Context) error, keep any) subject {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	return subject{
		run:     func() { wg.Go(func() { check(run(ctx)) }) },
		prepare: func([]*corev1.Pod) {},
		stop:    func() { cancel(); wg.Wait(); runtime.KeepAlive(keep) },
	}
}

// startSlipwayStore reads a store in this process. The updates are written before
// the informer sees the first of them, so that writing is not what is measured.
func startSlipwayStore(pods []*corev1.Pod, j *job) subject {
	st := memory.New(memory.Options{Mutations: store.DetectNever, History: store.History{Revisions: -1}})
	h := must(store.Register(st, podKind))
	write(st, h, false, pods)
	src := &gatedHandle{h, make(chan struct{})}
	s := slipway(src, j)
	stop := s.stop
	s.prepare = func(updates []*corev1.Pod) { write(st, h, true, updates) }
	s.send = func([]*corev1.Pod) { close(src.gate) }
	s.stop = func() { stop(); st.Close() }
	return s
}

// gatedHandle is a handle whose watches wait at a gate.
type gatedHandle struct {
	*store.Handle[*corev1.Pod]
	gate chan struct{}
}

func (g *gatedHandle) Watch(ctx context.Context, opts ...store.WatchOptions) iter.Seq2[store.Event[*corev1.Pod], error] {
	return func(yield func(store.Event[*corev1.Pod], error) bool) {
		select {
		case <-g.gate:
			g.Handle.Watch(ctx, opts...)(yield)
		case <-ctx.Done():
		}
	}
}

func write(st *memory.Store, h *store.Handle[*corev1.Pod], update bool, pods []*corev1.Pod) {
	over := store.WriteOptions{TakeOver: true}
	for _, p := range pods {
		p := *p
		p.ResourceVersion, p.UID = "", ""
		if update {
			must(h.Update(context.Background(), &p, over))
		} else {
			must(h.Create(context.Background(), &p, over))
		}
	}
}

// listWatch is the channel source for client-go. It lists and watches apart, as
// the others do.
type listWatch struct {
	kcache.ListWatch
	events chan kwatch.Event
}

func (*listWatch) IsWatchListSemanticsUnSupported() bool { return true }

func (l *listWatch) ResultChan() <-chan kwatch.Event { return l.events }
func (l *listWatch) Stop()                           {}

func newListWatch(pods []*corev1.Pod) *listWatch {
	list := &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(len(pods))}}
	for _, p := range pods { // a list of pointers: of a PodList, client-go would copy each pod
		list.Items = append(list.Items, kruntime.RawExtension{Object: p})
	}
	l := &listWatch{events: make(chan kwatch.Event, 100)}
	l.ListWithContextFunc = func(context.Context, metav1.ListOptions) (kruntime.Object, error) { return list, nil }
	l.WatchFuncWithContext = func(context.Context, metav1.ListOptions) (kwatch.Interface, error) { return l, nil }
	return l
}

func (l *listWatch) send(updates []*corev1.Pod) {
	for _, p := range updates {
		l.events <- kwatch.Event{Type: kwatch.Modified, Object: p}
	}
}

func nodeOf(o any) ([]string, error) { return []string{o.(*corev1.Pod).Spec.NodeName}, nil }

func startClientGo(pods []*corev1.Pod, j *job) subject {
	l := newListWatch(pods)
	i := kcache.NewSharedIndexInformer(l, &corev1.Pod{}, 0, kcache.Indexers{
		kcache.NamespaceIndex: kcache.MetaNamespaceIndexFunc, nodeField: nodeOf,
	})
	addHandlers(j, i.AddEventHandler)
	s := running(func(ctx context.Context) error { i.RunWithContext(ctx); return nil }, i)
	s.send = l.send
	return s
}

func addHandlers(j *job, add func(kcache.ResourceEventHandler) (kcache.ResourceEventHandlerRegistration, error)) {
	for n := range j.handlers {
		must(add(kcache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { j.add(n) },
			UpdateFunc: func(_, _ any) { j.update(n) },
		}))
	}
}

func startControllerRuntime(pods []*corev1.Pod, j *job) subject {
	l := newListWatch(pods)
	crlog.SetLogger(logr.Discard())
	scheme := kruntime.NewScheme()
	check(corev1.AddToScheme(scheme))
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	c := must(crcache.New(&rest.Config{}, crcache.Options{
		Scheme: scheme, Mapper: mapper, HTTPClient: http.DefaultClient,
		NewInformer: func(_ kcache.ListerWatcher, o kruntime.Object, resync time.Duration, x kcache.Indexers) kcache.SharedIndexInformer {
			return kcache.NewSharedIndexInformer(l, o, resync, x)
		},
	}))
	ctx := context.Background()
	check(c.IndexField(ctx, &corev1.Pod{}, nodeField, func(o client.Object) []string {
		return []string{o.(*corev1.Pod).Spec.NodeName}
	}))
	i := must(c.GetInformer(ctx, &corev1.Pod{}, crcache.BlockUntilSynced(false)))
	addHandlers(j, i.AddEventHandler)
	s := running(c.Start, c)
	s.send = l.send
	return s
}

// meter measures processor time, and the heap that is in use.
type meter struct {
	cpu  time.Duration
	heap uint64
}

func (m *meter) start() {
	m.heap = heapInUse()
	m.cpu = processorTime()
}

func heapInUse() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first freed by finalizers and weak pointers
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func processorTime() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkInformerSync lists 100,000 pods into a cache and to one handler.
func BenchmarkInformerSync(b *testing.B) {
	pods := newPods(informerObjects)
	sync := func(start informerSubject) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			var cpu time.Duration
			var heap uint64
			for b.Loop() {
				b.StopTimer()
				j := newJob(1, len(pods), 1)
				var m meter
				prepared := start(pods, j)
				m.start()
				b.StartTimer()
				prepared.run()
				j.synced.Wait()
				b.StopTimer()
				cpu += processorTime() - m.cpu
				heap += heapInUse() - m.heap
				prepared.stop()
				b.StartTimer()
			}
			n := float64(b.N) * float64(len(pods))
			b.ReportMetric(float64(cpu.Nanoseconds())/n, "cpu-ns/object")
			b.ReportMetric(float64(heap)/n, "heap-B/object")
			b.ReportMetric(0, "ns/op")
		}
	}
	b.Run("source=store/slipway", sync(startSlipwayStore))
	for _, s := range channelSubjects {
		b.Run("source=channel/"+s.name, sync(s.start))
	}
}

// BenchmarkInformerUpdate sends an update of each of 100,000 pods through an
// informer to one handler.
func BenchmarkInformerUpdate(b *testing.B) {
	pods := newPods(informerObjects)
	updates := updated(pods)
	b.Run("source=store/slipway", benchUpdates(startSlipwayStore, pods, updates, 1))
	for _, s := range channelSubjects {
		b.Run("source=channel/"+s.name, benchUpdates(s.start, pods, updates, 1))
	}
}

// BenchmarkInformerHandlers sends an update of each pod to many handlers. A pod is
// updated once, so that every delivery takes place, however far a handler is
// behind.
func BenchmarkInformerHandlers(b *testing.B) {
	for _, size := range []struct{ handlers, pods int }{{1, 100_000}, {100, 20_000}, {1000, 4000}} {
		pods := newPods(size.pods)
		updates := updated(pods)
		b.Run(fmt.Sprintf("%d/source=store/slipway", size.handlers), benchUpdates(startSlipwayStore, pods, updates, size.handlers))
		for _, s := range channelSubjects[:2] {
			b.Run(fmt.Sprintf("%d/source=channel/%s", size.handlers, s.name), benchUpdates(s.start, pods, updates, size.handlers))
		}
	}
}

func benchUpdates(start informerSubject, pods, updates []*corev1.Pod, handlers int) func(*testing.B) {
	return func(b *testing.B) {
		b.ReportAllocs()
		var cpu time.Duration
		for b.Loop() {
			b.StopTimer()
			j := newJob(handlers, len(pods), len(updates))
			prepared := start(pods, j)
			prepared.run()
			j.synced.Wait()
			prepared.prepare(updates)
			var m meter
			m.start()
			b.StartTimer()
			prepared.send(updates)
			j.done.Wait()
			b.StopTimer()
			cpu += processorTime() - m.cpu
			prepared.stop()
			b.StartTimer()
		}
		n := float64(b.N) * float64(len(updates))
		b.ReportMetric(float64(cpu.Nanoseconds())/n, "cpu-ns/update")
		b.ReportMetric(float64(cpu.Nanoseconds())/n/float64(handlers), "cpu-ns/delivery")
		b.ReportMetric(0, "ns/op")
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}
