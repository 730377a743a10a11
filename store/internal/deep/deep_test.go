// SPDX-License-Identifier: Apache-2.0

package deep_test

import (
	"math"
	"math/rand"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/slipway-dev/slipway/store/internal/deep"
)

// TestRandomTrees takes random values and all their copies with one change: Equal
// must say what reflect.DeepEqual says, Diff must agree, and no change of a copy
// may show in the original.
func TestRandomTrees(t *testing.T) {
	n := 0
	check := func(seed int64) bool {
		original, twin := newTree(seed), newTree(seed)
		if !reflect.DeepEqual(original, twin) {
			t.Fatalf("seed %d: the same seed gives two trees", seed)
		}
		r := rand.New(rand.NewSource(seed))
		for range 5 {
			c := deep.Copy(original)
			if !agree(t, original, c, true) {
				return false
			}
			var places []func()
			edits(reflect.ValueOf(c).Elem(), &places)
			places[r.Intn(len(places))]()
			n++
			if !agree(t, original, c, false) {
				return false
			}
			if !reflect.DeepEqual(original, twin) {
				t.Errorf("a change of the copy shows in the original: %s", deep.Diff(twin, original))
				return false
			}
		}
		return true
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 100}); err != nil {
		t.Error(err)
	}
	t.Logf("%d changes", n)
}

// agree checks Equal and Diff against reflect.DeepEqual, which must say want.
func agree(t *testing.T, a, b any, want bool) bool {
	t.Helper()
	if got := reflect.DeepEqual(a, b); got != want {
		t.Errorf("reflect.DeepEqual = %t, want %t", got, want)
		return false
	}
	got, back, diff := deep.Equal(a, b), deep.Equal(b, a), deep.Diff(a, b)
	if got != want || back != want || (diff == "") != want {
		t.Errorf("Equal = %t, the other way %t, Diff = %.300q, want %t", got, back, diff, want)
		return false
	}
	return true
}

func TestEqual(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	elsewhere := at.In(time.FixedZone("", 3600))
	type stamped struct{ At time.Time }
	type private struct{ at time.Time }
	f := func() {}
	var nilFunc func()
	shared := map[string]float64{"nan": math.NaN()}
	for _, test := range []struct {
		name string
		a, b any
		want bool
	}{
		{"nil", nil, nil, true},
		{"nil and typed nil", nil, (*int)(nil), false},
		{"types", int32(1), int64(1), false},
		{"nil and empty slice", []int(nil), []int{}, true},
		{"nil and empty map", map[string]string(nil), map[string]string{}, true},
		{"nil and empty bytes", []byte(nil), []byte{}, true},
		{"bytes", []byte("ab"), []byte("ab"), true},
		{"other bytes", []byte("ab"), []byte("ac"), false},
		{"nil pointers", (*int)(nil), (*int)(nil), true},
		{"nil pointer and pointer", (*int)(nil), new(int), false},
		{"one instant in two zones", at, elsewhere, true},
		{"in a struct", stamped{at}, stamped{elsewhere}, true},
		{"in a struct by pointer", &stamped{at}, &stamped{elsewhere}, true},
		{"two instants", &stamped{at}, &stamped{at.Add(1)}, false},
		{"in a map", map[string]time.Time{"": at}, map[string]time.Time{"": elsewhere}, true},
		{"in an interface", []any{at}, []any{elsewhere}, true},
		{"out of reach, compared by its parts", private{at}, private{elsewhere}, false},
		{"functions", f, f, false},
		{"nil functions", nilFunc, nilFunc, true},
		{"NaN", math.NaN(), math.NaN(), false},
		{"NaN in the same map", shared, shared, true},
		{"NaN as a key", map[float64]int{math.NaN(): 1}, map[float64]int{math.NaN(): 1}, false},
		{"map values", map[string]int{"a": 1}, map[string]int{"a": 2}, false},
		{"map keys", map[string]int{"a": 0}, map[string]int{"b": 0}, false},
		{"interfaces of two types", []any{1}, []any{"1"}, false},
		{"interface and nil", []any{1}, []any{nil}, false},
	} {
		if got := deep.Equal(test.a, test.b); got != test.want {
			t.Errorf("%s: Equal = %t, want %t", test.name, got, test.want)
		}
		if got := deep.Equal(test.b, test.a); got != test.want {
			t.Errorf("%s, the other way: Equal = %t, want %t", test.name, got, test.want)
		}
		if diff := deep.Diff(test.a, test.b); (diff == "") != test.want {
			t.Errorf("%s: Diff = %q", test.name, diff)
		}
	}
}

func TestDiff(t *testing.T) {
	type spec struct {
		Replicas int
		Args     []string
		Labels   map[string]string
		Limit    *int
	}
	type object struct {
		Spec  *spec
		Any   map[string]any
		inner struct{ n int }
	}
	with := func(change func(*object)) *object {
		o := &object{
			Spec: &spec{Replicas: 1, Args: []string{"a", "b"}, Labels: map[string]string{"app": "web"}, Limit: new(7)},
			Any:  map[string]any{"spec": map[string]any{"n": int64(1)}},
		}
		change(o)
		return o
	}
	a := with(func(*object) {})
	for _, test := range []struct {
		b    *object
		want string
	}{
		{with(func(*object) {}), ""},
		{with(func(o *object) { o.Spec.Replicas = 2 }), "Spec.Replicas: 1 != 2"},
		{with(func(o *object) { o.Spec.Args[1] = "c" }), "Spec.Args[1]: b != c"},
		{with(func(o *object) { o.Spec.Args = o.Spec.Args[:1] }), "Spec.Args: [a b] != [a]"},
		{with(func(o *object) { o.Spec.Labels["app"] = "db" }), "Spec.Labels[app]: web != db"},
		{with(func(o *object) { delete(o.Spec.Labels, "app") }), "Spec.Labels[app]: web != (absent)"},
		{with(func(o *object) { o.Spec.Labels["tier"] = "x" }), "Spec.Labels: map[app:web] != map[app:web tier:x]"},
		{with(func(o *object) { *o.Spec.Limit = 8 }), "Spec.Limit: 7 != 8"},
		{with(func(o *object) { o.Any["spec"].(map[string]any)["n"] = int64(2) }), "Any[spec][n]: 1 != 2"},
		{with(func(o *object) { o.Any["spec"].(map[string]any)["n"] = "1" }), "Any[spec][n]: 1 (int64) != 1 (string)"},
		{with(func(o *object) { o.inner.n = 1 }), "inner.n: 0 != 1"},
	} {
		if got := deep.Diff(a, test.b); got != test.want {
			t.Errorf("Diff = %q, want %q", got, test.want)
		}
	}
	if got, want := deep.Diff(1, "1"), "int != string"; got != want {
		t.Errorf("Diff = %q, want %q", got, want)
	}
	if got := deep.Diff(a, with(func(o *object) { o.Spec = nil })); !strings.HasPrefix(got, "Spec: ") {
		t.Errorf("Diff with a nil pointer = %q", got)
	}
}

// TestCopyKeepsWhatItCannotSee copies a time whole, and a hidden pointer as an
// assignment does.
func TestCopyKeepsWhatItCannotSee(t *testing.T) {
	type object struct {
		At     time.Time
		hidden *int
		F      func()
		C      chan int
	}
	o := object{At: time.Now(), hidden: new(1), F: func() {}, C: make(chan int)}
	c := deep.Copy(o)
	if c.At != o.At || c.hidden != o.hidden || c.F == nil || c.C != o.C {
		t.Errorf("Copy(%+v) = %+v", o, c)
	}
	if got := deep.Copy[any](nil); got != nil {
		t.Errorf("Copy(nil) = %v", got)
	}
	if got := deep.Copy([]any{[]int{1}, nil}); !reflect.DeepEqual(got, []any{[]int{1}, nil}) {
		t.Errorf("a copy of slices in interfaces: %v", got)
	}
}

func TestSize(t *testing.T) {
	type pair struct {
		Text string
		N    *int64
	}
	for _, test := range []struct {
		name string
		v    any
		want int
	}{
		{"nil", nil, 0},
		{"int", int64(1), 8},
		{"string", "four", 16 + 4},
		{"bytes by capacity", make([]byte, 1, 64), 24 + 64},
		{"strings", []string{"ab", "c"}, 24 + 2*16 + 3},
		{"nil map", map[string]string(nil), 8},
		{"map", map[string]string{"ab": "c"}, 8 + 48 + 32 + 8 + 3},
		{"struct", pair{"ab", new(int64)}, 24 + 2 + 8},
		{"pointer", &pair{"ab", nil}, 8 + 24 + 2},
		{"array", [2]pair{{"a", nil}, {"b", nil}}, 48 + 2},
		{"interface", []any{int64(1), nil}, 24 + 32 + 8},
	} {
		if got := deep.Size(test.v); got != test.want {
			t.Errorf("%s: Size = %d, want %d", test.name, got, test.want)
		}
	}
}

// TestSizeIsNearTheHeap compares the estimate with what copies of an object really
// take.
func TestSizeIsNearTheHeap(t *testing.T) {
	pod := newPod()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	copies := make([]*pod1k, 5000)
	before := heap()
	for i := range copies {
		copies[i] = deep.Copy(pod)
	}
	each := float64(heap()-before) / float64(len(copies))
	estimate := float64(deep.Size(pod))
	t.Logf("estimate %.0f B, heap %.0f B", estimate, each)
	if estimate < each/2 || estimate > each*2 {
		t.Errorf("estimate %.0f B, heap %.0f B: more than twice apart", estimate, each)
	}
	runtime.KeepAlive(copies)
}
