// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/memory"
)

// The objects of the helpers' tests: a hull has planks; a yard is cluster-scoped.
type hull struct {
	store.Meta `json:"metadata"`
	Spec       hullSpec   `json:"spec"`
	Status     hullStatus `json:"status"`
}

type hullSpec struct {
	Length int               `json:"length,omitempty"`
	Name   string            `json:"name,omitempty"`
	Afloat bool              `json:"afloat,omitempty"`
	Crew   *int              `json:"crew,omitempty"`
	Flags  map[string]string `json:"flags,omitempty"`
	Ropes  []string          `json:"ropes,omitempty"`
	Masts  []mast            `json:"masts,omitempty" patchStrategy:"merge" patchMergeKey:"name"`
	Engine *engine           `json:"engine,omitempty"`
	Seal   []byte            `json:"seal,omitempty"`
	Holds  map[string]hold   `json:"holds,omitempty"`
}

type mast struct {
	Name   string `json:"name"`
	Height int    `json:"height,omitempty"`
	Sail   string `json:"sail,omitempty"`
}

type engine struct {
	Power int    `json:"power,omitempty"`
	Fuel  string `json:"fuel,omitempty"`
}

type hold struct {
	Tons  int    `json:"tons,omitempty"`
	Cargo string `json:"cargo,omitempty"`
}

type hullStatus struct {
	Conditions []reconcile.Condition `json:"conditions,omitempty"`
	Planks     int                   `json:"planks,omitempty"`
}

func (h *hull) DeepCopy() *hull { return store.DeepCopy(h) }

type plank struct {
	store.Meta `json:"metadata"`
}

func (p *plank) DeepCopy() *plank { return store.DeepCopy(p) }

type yard struct {
	store.Meta `json:"metadata"`
}

func (y *yard) DeepCopy() *yard { return store.DeepCopy(y) }

// fleet is a store with the three kinds.
type fleet struct {
	*testing.T
	st     *memory.Store
	hulls  *store.Handle[*hull]
	planks *store.Handle[*plank]
	yards  *store.Handle[*yard]
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	st := memory.New(memory.Options{})
	t.Cleanup(func() { must(t, st.Close()) })
	return &fleet{t, st,
		registerIn(t, st, store.Kind[*hull]{Name: "Hull", Group: "sea.example.com", Version: "v1"}),
		registerIn(t, st, store.Kind[*plank]{Name: "Plank", Version: "v1"}),
		registerIn(t, st, store.Kind[*yard]{Name: "Yard", Version: "v1", Scope: store.Cluster}),
	}
}

func registerIn[T store.Copier[T]](t *testing.T, st store.Store, k store.Kind[T]) *store.Handle[T] {
	t.Helper()
	h, err := store.Register(st, k)
	must(t, err)
	return h
}

func newHull(name string) *hull { return &hull{Meta: store.Meta{Namespace: "sea", Name: name}} }
func newPlank(name string) *plank {
	return &plank{Meta: store.Meta{Namespace: "sea", Name: name}}
}

func (f *fleet) hull(name string) *hull {
	f.Helper()
	h, err := f.hulls.Create(f.Context(), newHull(name))
	must(f.T, err)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails the test unless the error is of the sentinel and has the texts.
func refused(t *testing.T, what string, err, sentinel error, texts ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("%s: error %v, want %v", what, err, sentinel)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: error %q, want one with %q", what, err, text)
		}
	}
}
