// SPDX-License-Identifier: Apache-2.0

package deep_test

import (
	"math/rand"
	"reflect"
	"testing/quick"
	"time"
)

// tree has a field of every shape that an object may have.
type tree struct {
	Bool    bool
	Int     int
	Small   uint8
	Float   float32
	Complex complex64
	Text    string
	Bytes   []byte
	Named   namedBytes
	Strings []string
	Labels  map[string]string
	Typed   map[key]namedText
	Trees   map[string]*tree
	Next    *tree
	Values  []tree
	Pairs   [2]*int
	Any     any
	Time    time.Time
	embedded
	hidden struct{ text string }
}

type (
	namedBytes []byte
	namedText  string
	key        struct{ A, B int8 }
	embedded   struct {
		Promoted map[string]int
	}
)

// newTree returns a random tree: the same for the same seed, without sharing
// anything.
func newTree(seed int64) *tree {
	r := rand.New(rand.NewSource(seed))
	t := randomTree(r, 2)
	return &t
}

func random[T any](r *rand.Rand) T {
	v, ok := quick.Value(reflect.TypeFor[T](), r)
	if !ok {
		panic("testing/quick can't make the type")
	}
	return v.Interface().(T)
}

func randomTree(r *rand.Rand, depth int) tree {
	some := func() bool { return r.Intn(2) == 0 }
	t := tree{
		Bool: some(), Int: r.Intn(3), Small: uint8(r.Intn(3)), Float: r.Float32(), Complex: complex(r.Float32(), 0),
		Text: random[string](r),
		Time: time.Unix(r.Int63n(1e9), 0).UTC(),
	}
	t.hidden.text = t.Text
	if some() {
		t.Bytes, t.Named, t.Strings = random[[]byte](r), random[namedBytes](r), random[[]string](r)
	}
	if some() {
		t.Labels, t.Typed, t.Promoted = random[map[string]string](r), random[map[key]namedText](r), random[map[string]int](r)
	}
	if some() {
		t.Bytes, t.Labels = []byte{}, map[string]string{} // empty, not nil
	}
	if some() {
		t.Pairs = random[[2]*int](r)
	}
	if depth == 0 {
		return t
	}
	below := func() tree { return randomTree(r, depth-1) }
	if some() {
		t.Next = new(below())
	}
	for range r.Intn(3) {
		t.Values = append(t.Values, below())
		if t.Trees == nil {
			t.Trees = map[string]*tree{}
		}
		t.Trees[random[string](r)] = new(below())
	}
	switch r.Intn(6) {
	case 0:
		t.Any = int64(r.Intn(3))
	case 1:
		t.Any = "text"
	case 2:
		t.Any = map[string]any{"spec": map[string]any{"n": float64(r.Intn(3)), "list": []any{"a", nil, true}}}
	case 3:
		t.Any = below()
	case 4:
		t.Any = new(below())
	}
	return t
}

// edits appends a function for each single place where v, which must be
// settable, can be changed through exported fields.
func edits(v reflect.Value, out *[]func()) {
	change := func(f func()) { *out = append(*out, f) }
	switch v.Kind() {
	case reflect.Bool:
		change(func() { v.SetBool(!v.Bool()) })
	case reflect.Int:
		change(func() { v.SetInt(v.Int() + 1) })
	case reflect.Uint8:
		change(func() { v.SetUint(v.Uint() + 1) })
	case reflect.Float32:
		change(func() { v.SetFloat(v.Float() + 1) })
	case reflect.Complex64:
		change(func() { v.SetComplex(v.Complex() + 1i) })
	case reflect.String:
		change(func() { v.SetString(v.String() + "x") })
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			change(func() { v.Set(reflect.ValueOf(v.Interface().(time.Time).Add(1))) })
			return
		}
		for _, f := range v.Fields() {
			if f.CanSet() || f.Kind() == reflect.Struct {
				edits(f, out)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			edits(v.Index(i), out)
		}
	case reflect.Slice:
		change(func() { v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem()))) })
		for i := range v.Len() {
			edits(v.Index(i), out)
		}
	case reflect.Pointer:
		if v.IsNil() {
			change(func() { v.Set(reflect.New(v.Type().Elem())) })
			return
		}
		change(func() { v.SetZero() })
		edits(v.Elem(), out)
	case reflect.Interface:
		if v.IsNil() {
			change(func() { v.Set(reflect.ValueOf("text")) })
			return
		}
		change(func() { v.SetZero() })
		if p := v.Elem(); p.Kind() == reflect.Pointer {
			edits(p.Elem(), out)
		} else if p.Kind() == reflect.Map {
			editMap(p, out)
		}
	case reflect.Map:
		if v.IsNil() {
			change(func() {
				v.Set(reflect.MakeMap(v.Type()))
				v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
			})
			return
		}
		editMap(v, out)
	}
}

func editMap(m reflect.Value, out *[]func()) {
	for it := m.MapRange(); it.Next(); {
		k, value := it.Key(), it.Value()
		*out = append(*out, func() { m.SetMapIndex(k, reflect.Value{}) })
		switch value.Kind() {
		case reflect.Pointer:
			if !value.IsNil() {
				edits(value.Elem(), out)
			}
		case reflect.Interface:
			if inner := value.Elem(); inner.Kind() == reflect.Map {
				editMap(inner, out)
			}
		default:
			changed := reflect.New(value.Type()).Elem()
			changed.Set(value)
			var inside []func()
			edits(changed, &inside)
			*out = append(*out, func() {
				inside[0]()
				m.SetMapIndex(k, changed)
			})
		}
	}
}
