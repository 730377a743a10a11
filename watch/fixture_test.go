// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
	"github.com/slipway-dev/slipway/watch"
)

// note is the objects' type in these tests.
type note struct {
	store.Meta `json:"metadata"`
	Spec       struct{ Text, Owner string }
}

func (n *note) DeepCopy() *note { return store.DeepCopy(n) }

var byOwner = store.NewIndex("spec.owner", func(n *note) string { return n.Spec.Owner })

func newNote(namespace, name, text, owner string) *note {
	n := &note{Meta: store.Meta{Namespace: namespace, Name: name, Labels: map[string]string{"owner": owner}}}
	n.Spec.Text, n.Spec.Owner = text, owner
	return n
}

var noteKind = store.Kind[*note]{Name: "Note", Indexes: []*store.Index[*note]{byOwner}}

// remote hides what a store in this process can do beyond the contract, so that
// an informer keeps a cache of its own.
type remote struct{ store.Store }

func open(t *testing.T) *memory.Store {
	t.Helper()
	st := memory.New(memory.Options{})
	t.Cleanup(func() { st.Close() })
	return st
}

func register(t *testing.T, st store.Store) *store.Handle[*note] {
	t.Helper()
	h, err := store.Register(st, noteKind)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// must returns a function that fails the test on an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// run runs f until the test is over, and waits for it.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// diary writes down what a handler is told.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// read returns what was written since the last time.
func (d *diary) read() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return strings.Join(lines, "; ")
}

func (d *diary) handler() watch.Handler[*note] {
	return watch.Handler[*note]{
		Add: func(n *note, initial bool) {
			word := "add"
			if initial {
				word = "initial"
			}
			d.add("%s %s %s", word, n.Name, n.Spec.Text)
		},
		Update: func(old, new *note) { d.add("update %s %s>%s", new.Name, old.Spec.Text, new.Spec.Text) },
		Delete: func(last *note) { d.add("delete %s %s", last.Name, last.Spec.Text) },
	}
}

// names returns what a list yields, as text.
func names(t *testing.T, i *watch.Informer[*note], opts store.ListOptions) string {
	t.Helper()
	var out []string
	for n, err := range i.List(opts) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n.Name+"="+n.Spec.Text)
	}
	return strings.Join(out, " ")
}

// eachMode runs a test with an informer of a store in this process, and of one
// that looks like any other source.
func eachMode(t *testing.T, test func(t *testing.T, wrap func(store.Store) store.Store)) {
	t.Run("direct", func(t *testing.T) { test(t, func(st store.Store) store.Store { return st }) })
	t.Run("cached", func(t *testing.T) { test(t, func(st store.Store) store.Store { return remote{st} }) })
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func sorted(text string) string {
	parts := strings.Split(text, "; ")
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
