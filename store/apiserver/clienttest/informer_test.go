// SPDX-License-Identifier: Apache-2.0

package clienttest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/clienttest"
	"github.com/slipway-dev/slipway/store/memory"
)

// world is a server, a proxy before it that can cut connections, and a client
// with an informer.
type world struct {
	t      *testing.T
	store  *memory.Store
	ca     *authn.Authority
	server *clienttest.Instance
	proxy  *proxy
	client kubernetes.Interface
	lister corelisters.ConfigMapLister
}

func newWorld(t *testing.T, contentType string) *world {
	w := &world{t: t, store: memory.New(memory.Options{History: store.History{Revisions: 50}})}
	t.Cleanup(func() { w.store.Close() })
	var err error
	if w.ca, err = authn.NewAuthority("test"); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(w.stop)
	w.proxy = newProxy(t, strings.TrimPrefix(w.server.URL, "https://"))
	config := &rest.Config{
		Host: "https://" + w.proxy.address(), QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: w.server.CA, CertData: w.server.Cert, KeyData: w.server.Key},
		ContentConfig:   rest.ContentConfig{ContentType: contentType, AcceptContentTypes: contentType},
	}
	if w.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(w.client, 0)
	w.lister = factory.Core().V1().ConfigMaps().Lister()
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("the informer of %v did not sync", kind)
		}
	}
	return w
}

func (w *world) start() {
	w.t.Helper()
	address := ""
	if w.server != nil {
		address = strings.TrimPrefix(w.server.URL, "https://")
	}
	server, err := clienttest.StartAs(context.WithoutCancel(w.t.Context()), w.store, address, w.ca, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = server
}

func (w *world) stop() {
	if err := w.server.Stop(); err != nil {
		w.t.Error(err)
	}
}

// restart ends the server, and starts another on the same store.
func (w *world) restart() {
	w.t.Helper()
	w.proxy.cut()
	w.stop()
	for _, s := range w.store.Kinds() {
		if err := w.server.Server.Unregister(s.KindName); err != nil {
			w.t.Fatal(err)
		}
	}
	w.start()
}

// write makes n changes through the store, so that it matters in no way whether
// the client is connected.
func (w *world) write(n, from int) {
	w.t.Helper()
	h, err := store.Lookup[*corev1.ConfigMap](w.store, store.KindName{Name: "ConfigMap"})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range n {
		name := fmt.Sprintf("c%d", (from+i)%7)
		key := store.NewKey("default", name)
		if (from+i)%11 == 10 {
			_, err = h.Delete(w.t.Context(), key)
		} else if _, err = h.Patch(w.t.Context(), key, func(c *corev1.ConfigMap) error { c.Data = map[string]string{"n": fmt.Sprint(from + i)}; return nil }); err != nil {
			_, err = h.Create(w.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// settle waits until the informer's cache is what the store holds.
func (w *world) settle() {
	w.t.Helper()
	h, err := store.Lookup[*corev1.ConfigMap](w.store, store.KindName{Name: "ConfigMap"})
	if err != nil {
		w.t.Fatal(err)
	}
	want := map[string]string{}
	for c, err := range h.List(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		want[c.Name] = c.ResourceVersion
	}
	var got map[string]string
	for range 600 {
		list, err := w.lister.List(labels.Everything())
		if err != nil {
			w.t.Fatal(err)
		}
		got = map[string]string{}
		for _, c := range list {
			got[c.Name] = c.ResourceVersion
		}
		if maps.Equal(got, want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("after 30 s the informer has %v, and the store %v", got, want)
}

// TestInformer: client-go's informers end up with what the store holds, whatever
// happens to the connection, the server or the history in between.
func TestInformer(t *testing.T) {
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			w := newWorld(t, contentType)
			w.write(30, 0)
			w.settle()
			t.Log("dropped connections")
			for i := range 5 {
				w.proxy.cut()
				w.write(9, 30+9*i)
			}
			w.settle()
			t.Log("compaction while away")
			w.proxy.block(true)
			w.write(200, 100) // more than the history holds
			w.proxy.block(false)
			w.settle()
			t.Log("restart")
			w.restart()
			w.write(20, 300)
			w.settle()
			if _, err := w.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			w.settle()
		})
	}
}

// proxy forwards connections, and can cut them all.
type proxy struct {
	l      net.Listener
	target string

	mu      sync.Mutex
	conns   map[net.Conn]bool
	blocked bool
	all     sync.WaitGroup
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: target, conns: map[net.Conn]bool{}}
	p.all.Go(p.accept)
	t.Cleanup(func() { l.Close(); p.block(true); p.all.Wait() })
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil || !p.keep(in, out) {
			in.Close()
			if err == nil {
				out.Close()
			}
			continue
		}
		p.all.Go(func() { _, _ = io.Copy(out, in); out.Close(); in.Close() })
		p.all.Go(func() { _, _ = io.Copy(in, out); in.Close(); out.Close() })
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.blocked
}

// cut closes every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// block cuts every connection, and lets no new one in until it is lifted.
func (p *proxy) block(on bool) {
	p.mu.Lock()
	p.blocked = on
	p.mu.Unlock()
	if on {
		p.cut()
	}
}
