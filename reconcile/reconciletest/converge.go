// SPDX-License-Identifier: Apache-2.0

package reconciletest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/store"
)

// ConvergeOptions say what [Converges] tries and compares. The zero value works.
type ConvergeOptions struct {
	// Faults are what it tries; nil means all.
	Faults []Fault
	// Steps bounds at how many calls it tries each fault: if there are more, those
	// are spread over all. 0 means 50.
	Steps int
	// Horizon is how long the controllers have at the end to become quiet. 0 means
	// an hour.
	Horizon time.Duration
	// Ignore names kinds that need not come out the same, such as events.
	Ignore []store.KindName
	// Normalize changes an object, in the form that encoding/json gives to it, to
	// leave out what may differ. The world's metadata is left out already: UIDs,
	// versions, generations, and every text that is a time.
	Normalize func(kind store.KindName, object map[string]any)
}

// Converges checks that what f does ends in the same objects whatever [Fault]
// meets any one call that a reconcile makes to the store. It calls f once
// undisturbed, in which case the controllers must be idempotent besides, and then
// once for each call and fault, each time with a world of its own.
func Converges(t *testing.T, f func(*World), opts ...ConvergeOptions) {
	t.Helper()
	var o ConvergeOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	if o.Faults == nil {
		o.Faults = Faults()
	}
	if o.Steps == 0 {
		o.Steps = 50
	}
	if o.Horizon == 0 {
		o.Horizon = time.Hour
	}
	var want map[string]string
	var calls []Call
	t.Run("undisturbed", func(t *testing.T) {
		want, calls = o.outcome(t, f, nil)
	})
	if t.Failed() {
		return
	}
	if len(calls) == 0 {
		t.Fatal("reconciletest: no reconcile made any call to the store: do the controllers use Manager.Store?")
	}
	for _, fault := range o.Faults {
		for _, c := range spread(calls, o.Steps, fault) {
			t.Run(fmt.Sprintf("%s at call %d", fault, c.N), func(t *testing.T) {
				got, _ := o.outcome(t, f, func(at Call) Fault {
					if at.N == c.N {
						t.Logf("%s at %s", fault, at)
						return fault
					}
					return None
				})
				compare(t, got, want)
			})
		}
	}
}

// spread returns at most n of the calls that the fault concerns, evenly.
func spread(calls []Call, n int, f Fault) []Call {
	calls = slices.DeleteFunc(slices.Clone(calls), func(c Call) bool {
		return (f == Conflict || f == LoseAnswer) && !c.isWrite()
	})
	if len(calls) <= n {
		return calls
	}
	out := make([]Call, n)
	for i := range out {
		out[i] = calls[i*len(calls)/n]
	}
	return out
}

// outcome runs f in a world of its own and returns the objects at the end.
func (o *ConvergeOptions) outcome(t *testing.T, f func(*World), plan func(Call) Fault) (objects map[string]string, calls []Call) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, plan)
		w.do(func(w *World) {
			f(w)
			calls = w.Calls()
			w.Advance(o.Horizon)
			if plan == nil {
				w.Idempotent()
			}
			objects = o.objects(w)
		})
	})
	return objects, calls
}

// objects returns every object as text, by kind and key.
func (o *ConvergeOptions) objects(w *World) map[string]string {
	w.T.Helper()
	out := map[string]string{}
	for _, s := range w.store.Kinds() {
		if slices.Contains(o.Ignore, s.KindName) {
			continue
		}
		_, err := w.store.List(w.T.Context(), s, store.ListOptions{}, func(obj store.Object) bool {
			out[s.KindName.String()+" "+store.KeyOf(obj).String()] = o.text(w.T, s.KindName, obj)
			return true
		})
		if err != nil {
			w.T.Fatalf("reconciletest: list %s: %v", s.KindName, err)
		}
	}
	return out
}

func (o *ConvergeOptions) text(t *testing.T, kind store.KindName, obj store.Object) string {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatalf("reconciletest: %s %s as JSON: %v", kind, store.KeyOf(obj), err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatalf("reconciletest: %s %s as JSON: want an object: %v", kind, store.KeyOf(obj), err)
	}
	if meta, ok := fields["metadata"].(map[string]any); ok {
		for _, name := range []string{"uid", "resourceVersion", "generation", "managedFields"} {
			delete(meta, name)
		}
		if owners, ok := meta["ownerReferences"].([]any); ok {
			for _, owner := range owners {
				if owner, ok := owner.(map[string]any); ok {
					delete(owner, "uid")
				}
			}
		}
	}
	if o.Normalize != nil {
		o.Normalize(kind, fields)
	}
	data, err = json.MarshalIndent(withoutTimes(fields), "", "  ")
	if err != nil {
		t.Fatalf("reconciletest: %s %s as JSON: %v", kind, store.KeyOf(obj), err)
	}
	return string(data)
}

// withoutTimes replaces every text that is a time.
func withoutTimes(v any) any {
	switch v := v.(type) {
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return "a time"
		}
	case []any:
		for i := range v {
			v[i] = withoutTimes(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = withoutTimes(v[name])
		}
	}
	return v
}

// compare reports the objects that differ.
func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	names := slices.AppendSeq(slices.Collect(maps.Keys(want)), maps.Keys(got))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		switch g, w := got[name], want[name]; {
		case g == w:
		case g == "":
			t.Errorf("%s is missing; undisturbed it is\n%s", name, w)
		case w == "":
			t.Errorf("%s is there, and undisturbed it is not:\n%s", name, g)
		default:
			t.Errorf("%s differs (- undisturbed, + with the fault):\n%s", name, lineDiff(w, g))
		}
	}
}

// lineDiff shows the lines that only one of two texts has, with the lines around
// left out: enough for two forms of one object.
func lineDiff(before, after string) string {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintf(&out, "- %s\n", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&out, "+ %s\n", line)
		}
	}
	if out.Len() == 0 { // the same lines in another order
		return "- " + before + "\n+ " + after
	}
	return out.String()
}
