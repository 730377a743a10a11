// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// foreign has metadata methods whose types nobody bound, as Kubernetes' types.
type foreign struct{ bare }

type foreignUID string

func (*foreign) GetUID() foreignUID { return "" }
func (o *foreign) DeepCopy() *foreign {
	return store.DeepCopy(o)
}

// bare has no more metadata than an object needs.
type bare struct {
	name, namespace, version, generateName string
	generation                             int64
	labels, annotations                    map[string]string
	finalizers                             []string
	Data                                   string
	Status                                 string
}

func (o *bare) GetName() string                    { return o.name }
func (o *bare) SetName(s string)                   { o.name = s }
func (o *bare) GetGenerateName() string            { return o.generateName }
func (o *bare) GetNamespace() string               { return o.namespace }
func (o *bare) SetNamespace(s string)              { o.namespace = s }
func (o *bare) GetResourceVersion() string         { return o.version }
func (o *bare) SetResourceVersion(s string)        { o.version = s }
func (o *bare) GetGeneration() int64               { return o.generation }
func (o *bare) SetGeneration(n int64)              { o.generation = n }
func (o *bare) GetLabels() map[string]string       { return o.labels }
func (o *bare) SetLabels(m map[string]string)      { o.labels = m }
func (o *bare) GetAnnotations() map[string]string  { return o.annotations }
func (o *bare) SetAnnotations(m map[string]string) { o.annotations = m }
func (o *bare) GetFinalizers() []string            { return o.finalizers }
func (o *bare) SetFinalizers(f []string)           { o.finalizers = f }
func (o *bare) DeepCopy() *bare                    { c := *o; return &c }

// TestSchemaErrors has each mistake in a kind refused, by name.
func TestSchemaErrors(t *testing.T) {
	x := store.NewIndex("x", func(*thing) string { return "" })
	kind := func(change func(*store.Kind[*thing])) store.Kind[*thing] {
		k := store.Kind[*thing]{Name: "Thing"}
		change(&k)
		return k
	}
	half := func(a store.Accessors[*thing]) store.Kind[*thing] {
		return kind(func(k *store.Kind[*thing]) { k.Accessors = a })
	}
	index := func(x ...*store.Index[*thing]) store.Kind[*thing] {
		return kind(func(k *store.Kind[*thing]) { k.Indexes = x })
	}
	named := func(name string) store.Kind[*thing] {
		return index(store.NewIndex(name, func(*thing) string { return "" }))
	}
	const pair = "a getter without its setter"
	for _, test := range []struct {
		kind store.Kind[*thing]
		want string
	}{
		{store.Kind[*thing]{}, "register: invalid: kind's name is empty"},
		{store.Kind[*thing]{Name: "a/b"}, `register a/b: invalid: kind's name "a/b": must not contain '/'`},
		{store.Kind[*thing]{Name: "Thing", Group: "Apps"}, `register Thing.Apps: invalid: name "Apps"`},
		{store.Kind[*thing]{Name: "Thing", Scope: 7}, "scope 7: want Namespaced or Cluster"},
		{half(store.Accessors[*thing]{UID: func(*thing) string { return "" }}), pair},
		{half(store.Accessors[*thing]{SetUID: func(*thing, string) {}}), pair},
		{half(store.Accessors[*thing]{CreationTime: func(*thing) time.Time { return time.Time{} }}), pair},
		{half(store.Accessors[*thing]{SetCreationTime: func(*thing, time.Time) {}}), pair},
		{half(store.Accessors[*thing]{DeletionTime: func(*thing) time.Time { return time.Time{} }}), pair},
		{half(store.Accessors[*thing]{SetDeletionTime: func(*thing, time.Time) {}}), pair},
		{half(store.Accessors[*thing]{Owners: func(*thing) []store.OwnerReference { return nil }}), pair},
		{half(store.Accessors[*thing]{SetOwners: func(*thing, []store.OwnerReference) {}}), pair},
		{index(nil), "index 0 has no function"},
		{index(x, new(store.Index[*thing])), "index 1 has no function"},
		{index(store.NewIndex[*thing]("y", nil)), "index 0 has no function"},
		{index(store.NewMultiIndex[*thing]("y", nil)), "index 0 has no function"},
		{index(x, x), `two indexes of the name "x"`},
		{named(""), `index 0: the name "" is empty or taken`},
		{named("metadata.name"), `the name "metadata.name" is empty or taken`},
		{named("metadata.namespace"), `the name "metadata.namespace" is empty or taken`},
		{named("spec node"), `the name "spec node" has ' ' at position 4`},
		{named("a=b"), `has '=' at position 1`},
		{named("a,b"), `has ',' at position 1`},
		{named("!a"), `has '!' at position 0`},
		{named(`a\`), `has '\\' at position 1`},
		{kind(func(k *store.Kind[*thing]) { k.Immutable = []store.Field[*thing]{{Name: "spec.x"}} }), `immutable field 0 ("spec.x") has no Get function`},
	} {
		s, err := test.kind.Schema()
		if s != nil || !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Schema() = %v, %v, want an invalid error with %q", s, err, test.want)
		}
	}
	_, err := store.Kind[*foreign]{Name: "Foreign"}.Schema()
	if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "store.InferAccessors[*store_test.foreign]()") {
		t.Errorf("Schema() of a type with foreign metadata: %v", err)
	}
}

func TestSchema(t *testing.T) {
	s, err := store.Kind[*thing]{Name: "Thing", Group: "example.com", Version: "v2", DanglingOwners: true}.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.APIVersion(); got != "example.com/v2" || s.Version != "v2" || !s.DanglingOwners {
		t.Errorf("APIVersion %q of %+v", got, s)
	}
	if s.Is(nil) || s.Is((*thing)(nil)) || s.Is(&bare{}) || !s.Is(&thing{}) {
		t.Error("Is takes the wrong objects")
	}
	a := &thing{Parts: map[string][]string{"a": {"b"}}}
	if b := s.Copy(a); !s.Equal(a, b) || b == store.Object(a) {
		t.Error("Copy does not copy")
	}
	if got := s.Size(a); got < 100 {
		t.Errorf("Size = %d", got)
	}
	core, err := store.Kind[*bare]{Name: "Bare", Version: "v1"}.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if got := core.APIVersion(); got != "v1" {
		t.Errorf("APIVersion = %q", got)
	}
	if acc := core.Accessors; acc.UID != nil || acc.CreationTime != nil || acc.DeletionTime != nil || acc.Owners != nil {
		t.Error("a type without metadata has accessors of it")
	}
}

// TestSameSpec says what the generation counts, per shape of type.
func TestSameSpec(t *testing.T) {
	schema := func(s *store.Schema, err error) *store.Schema {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	things := schema(store.Kind[*thing]{Name: "Thing"}.Schema())
	bares := schema(store.Kind[*bare]{Name: "Bare"}.Schema())
	custom := schema(store.Kind[*thing]{Name: "Thing", Spec: func(o *thing) any { return o.Parts }}.Schema())
	parts := &thing{Parts: map[string][]string{"a": nil}}
	node, phase := &thing{}, &thing{}
	node.Spec.Node, phase.Status.Phase = "n", "p"
	for _, test := range []struct {
		name   string
		schema *store.Schema
		a, b   store.Object
		want   bool
	}{
		{"field Spec", things, &thing{}, node, false},
		{"field Status", things, &thing{}, phase, true},
		{"beside Spec", things, &thing{}, parts, true},
		{"metadata", things, &thing{}, &thing{Meta: store.Meta{Name: "x"}}, true},
		{"without Spec", bares, &bare{}, &bare{Data: "x"}, false},
		{"without Spec, Status", bares, &bare{}, &bare{Status: "x"}, true},
		{"Kind.Spec", custom, &thing{}, parts, false},
		{"beside Kind.Spec", custom, &thing{}, node, true},
	} {
		if got := test.schema.SameSpec(test.a, test.b); got != test.want {
			t.Errorf("%s: SameSpec = %t, want %t", test.name, got, test.want)
		}
	}
}

// TestPrepare has the hooks see what they should.
func TestPrepare(t *testing.T) {
	type call struct{ old, new string }
	var calls []call
	s, err := store.Kind[*thing]{
		Name:    "Thing",
		Default: func(o *thing) { o.Status.Phase = "defaulted" },
		Validate: func(old, o *thing) error {
			c := call{new: o.Spec.Node + " " + o.Status.Phase}
			if old != nil {
				c.old = old.Spec.Node
			}
			calls = append(calls, c)
			return nil
		},
		Immutable: []store.Field[*thing]{{Name: "spec.node", Get: func(o *thing) any { return o.Spec.Node }}},
	}.Schema()
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := &thing{}, &thing{}, &thing{}
	a.Spec.Node, b.Spec.Node, c.Spec.Node = "n", "n", "m"
	if err := s.Prepare(nil, a); err != nil {
		t.Error(err)
	}
	if err := s.Prepare(a, b); err != nil {
		t.Error(err)
	}
	err = s.Prepare(a, c)
	if want := "invalid: spec.node is immutable: it is n and can't become m"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	want := []call{{"", "n defaulted"}, {"n", "n defaulted"}}
	if len(calls) != 2 || calls[0] != want[0] || calls[1] != want[1] {
		t.Errorf("Validate was called with %v, want %v", calls, want)
	}
}
