// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

// hullWith returns a hull with that spec.
func hullWith(spec hullSpec) *hull {
	h := newHull("h")
	h.Spec = spec
	return h
}

// TestApplySteps applies, lets others write, applies again, and looks at the
// spec each time.
func TestApplySteps(t *testing.T) {
	type step struct {
		apply  *hullSpec       // by the one manager
		second *hullSpec       // by another
		other  func(*hullSpec) // by somebody who does not apply
		opts   reconcile.ApplyOptions
		want   hullSpec
		action reconcile.ApplyAction
		diff   string
	}
	const created, patched, unchanged = reconcile.ActionCreated, reconcile.ActionPatched, reconcile.ActionUnchanged
	for name, steps := range map[string][]step{
		"what others set stays": {
			{apply: &hullSpec{Length: 3}, want: hullSpec{Length: 3}, action: created},
			{apply: &hullSpec{Length: 3}, want: hullSpec{Length: 3}, action: unchanged},
			{other: func(s *hullSpec) { s.Name, s.Afloat = "Argo", true }, want: hullSpec{Length: 3, Name: "Argo", Afloat: true}},
			{apply: &hullSpec{Length: 3}, want: hullSpec{Length: 3, Name: "Argo", Afloat: true}, action: unchanged},
			{apply: &hullSpec{Length: 4}, want: hullSpec{Length: 4, Name: "Argo", Afloat: true}, action: patched, diff: "spec.length: 3 -> 4"},
			{other: func(s *hullSpec) { s.Length = 9 }, want: hullSpec{Length: 9, Name: "Argo", Afloat: true}},
			{apply: &hullSpec{Length: 4}, want: hullSpec{Length: 4, Name: "Argo", Afloat: true}, action: patched, diff: "spec.length: 9 -> 4"},
		},
		"what is no longer set is emptied": {
			{apply: &hullSpec{Length: 3, Name: "Argo", Afloat: true, Crew: new(7), Engine: &engine{Power: 5}, Ropes: []string{"a"}},
				want: hullSpec{Length: 3, Name: "Argo", Afloat: true, Crew: new(7), Engine: &engine{Power: 5}, Ropes: []string{"a"}}, action: created},
			{apply: &hullSpec{Length: 3}, want: hullSpec{Length: 3}, action: patched,
				diff: `spec.name: "Argo" -> "", spec.afloat: true -> false, spec.crew: 7 -> none, spec.ropes[0]: "a" -> none, spec.engine: {"power":5} -> none`},
		},
		"a pointer to zero says something": {
			{apply: &hullSpec{Crew: new(0)}, want: hullSpec{Crew: new(0)}, action: created},
			{other: func(s *hullSpec) { s.Crew = new(2) }, want: hullSpec{Crew: new(2)}},
			{apply: &hullSpec{Crew: new(0)}, want: hullSpec{Crew: new(0)}, action: patched, diff: "spec.crew: 2 -> 0"},
			{other: func(s *hullSpec) { s.Engine = &engine{Power: 2} }, want: hullSpec{Crew: new(0), Engine: &engine{Power: 2}}},
			{apply: &hullSpec{Crew: new(0), Engine: &engine{Fuel: "oil"}}, want: hullSpec{Crew: new(0), Engine: &engine{Power: 2, Fuel: "oil"}}, action: patched,
				diff: `spec.engine.fuel: "" -> "oil"`},
			{apply: &hullSpec{Crew: new(0), Engine: &engine{}}, want: hullSpec{Crew: new(0), Engine: &engine{Power: 2}}, action: patched,
				diff: `spec.engine.fuel: "oil" -> ""`},
		},
		"a struct that is just there": {
			{apply: &hullSpec{Engine: &engine{}, Holds: map[string]hold{"fore": {}, "aft": {}}}, want: hullSpec{Engine: &engine{}, Holds: map[string]hold{"fore": {}, "aft": {}}}, action: created},
			{other: func(s *hullSpec) { s.Engine.Power, s.Holds["fore"] = 2, hold{Tons: 1} }, want: hullSpec{Engine: &engine{Power: 2}, Holds: map[string]hold{"fore": {Tons: 1}, "aft": {}}}},
			{apply: &hullSpec{}, want: hullSpec{Engine: &engine{Power: 2}, Holds: map[string]hold{"fore": {Tons: 1}}}, action: patched, diff: `spec.holds[aft]: {} -> none`},
			{apply: &hullSpec{Engine: &engine{}}, want: hullSpec{Engine: &engine{Power: 2}, Holds: map[string]hold{"fore": {Tons: 1}}}, action: patched},
			{other: func(s *hullSpec) { s.Engine.Power = 0 }, want: hullSpec{Engine: &engine{}, Holds: map[string]hold{"fore": {Tons: 1}}}},
			{apply: &hullSpec{}, want: hullSpec{Holds: map[string]hold{"fore": {Tons: 1}}}, action: patched, diff: `spec.engine: {} -> none`},
		},
		"maps by key": {
			{apply: &hullSpec{Flags: map[string]string{"a": "1", "b": "2"}}, want: hullSpec{Flags: map[string]string{"a": "1", "b": "2"}}, action: created},
			{other: func(s *hullSpec) { s.Flags["c"] = "3" }, want: hullSpec{Flags: map[string]string{"a": "1", "b": "2", "c": "3"}}},
			{apply: &hullSpec{Flags: map[string]string{"a": "4"}}, want: hullSpec{Flags: map[string]string{"a": "4", "c": "3"}}, action: patched,
				diff: `spec.flags[a]: "1" -> "4", spec.flags[b]: "2" -> none`},
			{apply: &hullSpec{}, want: hullSpec{Flags: map[string]string{"c": "3"}}, action: patched, diff: `spec.flags[a]: "4" -> none`},
		},
		"structs in maps": {
			{apply: &hullSpec{Holds: map[string]hold{"fore": {Tons: 1}, "aft": {Tons: 2}}}, want: hullSpec{Holds: map[string]hold{"fore": {Tons: 1}, "aft": {Tons: 2}}}, action: created},
			{other: func(s *hullSpec) { s.Holds["fore"] = hold{1, "tea"} }, want: hullSpec{Holds: map[string]hold{"fore": {1, "tea"}, "aft": {Tons: 2}}}},
			{apply: &hullSpec{Holds: map[string]hold{"fore": {}}}, want: hullSpec{Holds: map[string]hold{"fore": {Cargo: "tea"}}}, action: patched,
				diff: `spec.holds[aft]: {"tons":2} -> none, spec.holds[fore].tons: 1 -> 0`},
		},
		"slices as a whole": {
			{apply: &hullSpec{Ropes: []string{"a", "b"}}, want: hullSpec{Ropes: []string{"a", "b"}}, action: created},
			{other: func(s *hullSpec) { s.Ropes = append(s.Ropes, "c") }, want: hullSpec{Ropes: []string{"a", "b", "c"}}},
			{apply: &hullSpec{Ropes: []string{"a"}, Seal: []byte("x")}, want: hullSpec{Ropes: []string{"a"}, Seal: []byte("x")}, action: patched,
				diff: `spec.ropes[1]: "b" -> none, spec.ropes[2]: "c" -> none, spec.seal: none -> 1 bytes`},
		},
		"slices by element where the tags say so": {
			{apply: &hullSpec{Masts: []mast{{Name: "main", Height: 9}, {Name: "fore", Height: 7}}}, want: hullSpec{Masts: []mast{{Name: "main", Height: 9}, {Name: "fore", Height: 7}}}, action: created},
			{other: func(s *hullSpec) { s.Masts = []mast{{Name: "spare"}, {"main", 9, "lateen"}, {Name: "fore", Height: 7}} },
				want: hullSpec{Masts: []mast{{Name: "spare"}, {"main", 9, "lateen"}, {Name: "fore", Height: 7}}}},
			{apply: &hullSpec{Masts: []mast{{Name: "main", Height: 10}, {Name: "aft"}}}, want: hullSpec{Masts: []mast{{Name: "spare"}, {"main", 10, "lateen"}, {Name: "aft"}}}, action: patched,
				diff: `spec.masts[1].height: 9 -> 10, spec.masts[2].name: "fore" -> "aft", spec.masts[2].height: 7 -> 0`},
			{apply: &hullSpec{Masts: []mast{{Name: "aft"}, {Name: "main", Height: 10}}}, want: hullSpec{Masts: []mast{{Name: "aft"}, {"main", 10, "lateen"}, {Name: "spare"}}}, action: patched,
				diff: `spec.masts[0].name: "spare" -> "aft", spec.masts[2].name: "aft" -> "spare"`},
			{apply: &hullSpec{Length: 1}, want: hullSpec{Length: 1, Masts: []mast{{Name: "spare"}}}, action: patched, diff: "spec.length: 0 -> 1, "},
		},
		"elements that have no key": {
			{apply: &hullSpec{Masts: []mast{{Height: 1}, {Height: 2}}}, want: hullSpec{Masts: []mast{{Height: 1}, {Height: 2}}}, action: created},
			{apply: &hullSpec{Masts: []mast{{Height: 2}}}, want: hullSpec{Masts: []mast{{Height: 2}}}, action: patched, diff: "spec.masts[0].height: 1 -> 2"},
			{apply: &hullSpec{Masts: []mast{{Name: "a"}, {Name: "a"}}}, want: hullSpec{Masts: []mast{{Name: "a"}, {Name: "a"}}}, action: patched, diff: "spec.masts[0].name"},
		},
		"fields of one's own": {
			{apply: &hullSpec{Length: 1}, want: hullSpec{Length: 1}, action: created},
			{other: func(s *hullSpec) { s.Afloat, s.Ropes = true, []string{"a"} }, want: hullSpec{Length: 1, Afloat: true, Ropes: []string{"a"}}},
			{apply: &hullSpec{Length: 1}, opts: reconcile.ApplyOptions{Own: []string{"spec.afloat"}}, want: hullSpec{Length: 1, Ropes: []string{"a"}}, action: patched, diff: "spec.afloat: true -> false"},
			{apply: &hullSpec{Length: 1}, opts: reconcile.ApplyOptions{Own: []string{"spec"}}, want: hullSpec{Length: 1}, action: patched, diff: `spec.ropes[0]: "a" -> none`},
		},
		"two managers": {
			{apply: &hullSpec{Length: 1, Flags: map[string]string{"a": "1"}}, want: hullSpec{Length: 1, Flags: map[string]string{"a": "1"}}, action: created},
			{second: &hullSpec{Name: "Argo", Flags: map[string]string{"b": "2"}}, want: hullSpec{Length: 1, Name: "Argo", Flags: map[string]string{"a": "1", "b": "2"}}, action: patched,
				diff: `spec.name: "" -> "Argo", spec.flags[b]: none -> "2"`},
			{apply: &hullSpec{Length: 1}, want: hullSpec{Length: 1, Name: "Argo", Flags: map[string]string{"b": "2"}}, action: patched, diff: `spec.flags[a]: "1" -> none`},
			{second: &hullSpec{}, want: hullSpec{Length: 1}, action: patched, diff: `spec.name: "Argo" -> "", spec.flags[b]: "2" -> none`},
		},
		"an object that was there": {
			{other: nil, apply: &hullSpec{}, want: hullSpec{}, action: created},
			{other: func(s *hullSpec) { s.Length = 2 }, want: hullSpec{Length: 2}},
			{apply: &hullSpec{Length: 2}, want: hullSpec{Length: 2}, action: patched}, // the record is new, and nothing else
			{apply: &hullSpec{Length: 2}, want: hullSpec{Length: 2}, action: unchanged},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			ctx := t.Context()
			for i, s := range steps {
				var done reconcile.Applied[*hull]
				var err error
				switch {
				case s.apply != nil:
					done, err = reconcile.Apply(ctx, f.hulls, hullWith(*s.apply), s.opts)
				case s.second != nil:
					s.opts.Manager = "second"
					done, err = reconcile.Apply(ctx, f.hulls, hullWith(*s.second), s.opts)
				default:
					done.Object, err = f.hulls.Patch(ctx, store.NewKey("sea", "h"), func(h *hull) error { s.other(&h.Spec); return nil })
				}
				must(t, err)
				if d := cmp.Diff(s.want, done.Object.Spec); d != "" {
					t.Errorf("step %d: spec (-want +got):\n%s", i, d)
				}
				if done.Action != s.action || !strings.HasPrefix(done.Diff, s.diff) || s.diff == "" && done.Diff != "" {
					t.Errorf("step %d: %s, diff %s\nwant %s, %s", i, done.Action, done.Diff, s.action, s.diff)
				}
			}
		})
	}
}

func TestApplyMetadata(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	owner, other := f.hull("owner"), f.hull("other")
	want := newPlank("p")
	want.Labels = map[string]string{"a": "1", "b": "2"}
	want.Annotations = map[string]string{"note": "x"}
	want.Finalizers = []string{holdFinalizer}
	must(t, reconcile.SetController(f.planks, want, f.hulls, owner))
	first, err := reconcile.Apply(ctx, f.planks, want)
	must(t, err)
	_, err = f.planks.Patch(ctx, store.KeyOf(want), func(p *plank) error {
		p.Labels["theirs"] = "3"
		p.Annotations["theirs"] = "4"
		p.Finalizers = append(p.Finalizers, "other.example.com/x")
		return reconcile.SetOwner(f.planks, p, f.hulls, other)
	})
	must(t, err)
	again, err := reconcile.Apply(ctx, f.planks, want)
	if must(t, err); again.Action != reconcile.ActionUnchanged {
		t.Errorf("%s: %s", again.Action, again.Diff)
	}
	less := newPlank("p")
	less.Labels = map[string]string{"a": "1"}
	less.UID, less.ResourceVersion, less.Generation = "not looked at", "7", 7
	last, err := reconcile.Apply(ctx, f.planks, less)
	must(t, err)
	got := last.Object
	notes := maps.Clone(got.Annotations)
	maps.DeleteFunc(notes, func(k, _ string) bool { return strings.HasPrefix(k, "applied.slipway.dev/") })
	for _, x := range []struct {
		what      string
		got, want any
	}{
		{"labels", got.Labels, map[string]string{"a": "1", "theirs": "3"}},
		{"annotations", notes, map[string]string{"theirs": "4"}},
		{"finalizers", got.Finalizers, []string{"other.example.com/x"}},
		{"owners", got.OwnerReferences, []store.OwnerReference{{APIVersion: "sea.example.com/v1", Kind: "Hull", Name: "other", UID: other.UID}}},
		{"UID", got.UID, first.Object.UID},
	} {
		if d := cmp.Diff(x.want, x.got); d != "" {
			t.Errorf("%s (-want +got):\n%s", x.what, d)
		}
	}
	if got := got.Annotations["applied.slipway.dev/default"]; got != `{"metadata":{"labels":{"a":{}}}}` {
		t.Errorf("record %s", got)
	}
}

func TestApplyLeavesStatus(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	h := f.hull("h")
	_, err := f.hulls.Patch(ctx, store.KeyOf(h), func(h *hull) error { h.Status.Planks = 5; return nil })
	must(t, err)
	want := newHull("h")
	want.Spec.Length, want.Status.Planks = 2, 9
	done, err := reconcile.Apply(ctx, f.hulls, want)
	must(t, err)
	if done.Object.Status.Planks != 5 {
		t.Errorf("the status was written: %d", done.Object.Status.Planks)
	}
	done, err = reconcile.Apply(ctx, f.hulls, want, reconcile.ApplyOptions{Own: []string{"status.planks"}})
	must(t, err)
	if done.Object.Status.Planks != 9 {
		t.Errorf("the status was not written where it is owned: %d", done.Object.Status.Planks)
	}
}

// TestApplyDefaults does not fight with what the kind fills in.
func TestApplyDefaults(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	boats := registerIn(t, f.st, store.Kind[*hull]{Name: "Boat", Default: func(h *hull) {
		if h.Spec.Name == "" {
			h.Spec.Name = "unnamed"
		}
		for i := range h.Spec.Ropes {
			h.Spec.Ropes[i] = strings.ToLower(h.Spec.Ropes[i])
		}
	}})
	want := hullWith(hullSpec{Ropes: []string{"A"}})
	for i, action := range []reconcile.ApplyAction{reconcile.ActionCreated, reconcile.ActionUnchanged, reconcile.ActionUnchanged} {
		done, err := reconcile.Apply(ctx, boats, want)
		must(t, err)
		if done.Action != action {
			t.Errorf("apply %d: %s: %s", i, done.Action, done.Diff)
		}
	}
	want.Spec.Name = "Argo"
	_, err := reconcile.Apply(ctx, boats, want)
	must(t, err)
	want.Spec.Name = ""
	done, err := reconcile.Apply(ctx, boats, want)
	must(t, err)
	if done.Object.Spec.Name != "unnamed" {
		t.Errorf("no longer set, and so the default again: got %q", done.Object.Spec.Name)
	}
}

func TestApplyOwned(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	a, b := f.hull("a"), f.hull("b")
	ofA, ofB := newPlank("p"), newPlank("p")
	must(t, reconcile.SetController(f.planks, ofA, f.hulls, a))
	must(t, reconcile.SetController(f.planks, ofB, f.hulls, b))
	_, err := f.planks.Create(ctx, newPlank("p"))
	must(t, err)
	_, err = reconcile.Apply(ctx, f.planks, ofA) // an object without controller can be had
	must(t, err)
	before, err := f.planks.Get(ctx, store.KeyOf(ofA))
	must(t, err)
	_, err = reconcile.Apply(ctx, f.planks, ofB)
	refused(t, "owned by another", err, reconcile.ErrOwned, "Plank sea/p is controlled by Hull a", "not by Hull b")
	after, err := f.planks.Get(ctx, store.KeyOf(ofA))
	must(t, err)
	if after != before {
		t.Error("it was written")
	}
	labelled := newPlank("p")
	labelled.Labels = map[string]string{"x": "y"}
	done, err := reconcile.Apply(ctx, f.planks, labelled, reconcile.ApplyOptions{Manager: "labels"}) // does not ask for control
	must(t, err)
	if !reconcile.IsControlledBy(f.planks, done.Object, f.hulls, a) {
		t.Error("lost its controller")
	}
}

func TestApplyBadInput(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	for name, test := range map[string]struct {
		desired *hull
		opts    reconcile.ApplyOptions
		text    string
	}{
		"nil":                 {nil, reconcile.ApplyOptions{}, "desired object is nil"},
		"no name":             {&hull{Meta: store.Meta{Namespace: "sea", GenerateName: "h-"}}, reconcile.ApplyOptions{}, "has no name"},
		"no namespace":        {&hull{Meta: store.Meta{Name: "h"}}, reconcile.ApplyOptions{}, "namespace is empty"},
		"manager":             {newHull("h"), reconcile.ApplyOptions{Manager: "the builder"}, `manager "the builder"`},
		"own what is not":     {newHull("h"), reconcile.ApplyOptions{Own: []string{"spec.lenght"}}, `own field "spec.lenght": `},
		"own below a scalar":  {newHull("h"), reconcile.ApplyOptions{Own: []string{"spec.length.x"}}, `has no field "x"`},
		"own the metadata":    {newHull("h"), reconcile.ApplyOptions{Own: []string{"metadata.labels"}}, "the metadata is not replaced"},
		"own an empty string": {newHull("h"), reconcile.ApplyOptions{Own: []string{""}}, `has no field ""`},
	} {
		_, err := reconcile.Apply(ctx, f.hulls, test.desired, test.opts)
		refused(t, name, err, store.ErrInvalid, test.text)
	}
	h := newHull("h")
	h.Finalizers = []string{holdFinalizer}
	_, err := f.hulls.Create(ctx, h)
	must(t, err)
	_, err = f.hulls.Delete(ctx, store.KeyOf(h))
	must(t, err)
	_, err = reconcile.Apply(ctx, f.hulls, newHull("h"))
	refused(t, "being deleted", err, reconcile.ErrBeingDeleted, "apply Hull.sea.example.com sea/h: is being deleted")
	_, err = f.hulls.Create(ctx, newHull("damaged"))
	must(t, err)
	_, err = f.hulls.Patch(ctx, store.NewKey("sea", "damaged"), func(h *hull) error {
		h.Annotations = map[string]string{"applied.slipway.dev/default": `{"spec":7`}
		return nil
	})
	must(t, err)
	done, err := reconcile.Apply(ctx, f.hulls, newHull("damaged"))
	if err != nil || done.Object.Annotations["applied.slipway.dev/default"] != "{}" {
		t.Errorf("a damaged record: %v, now %v", err, done.Object.Annotations)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := reconcile.Apply(ended, f.hulls, newHull("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
}

func TestApplyInTransaction(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	for i, action := range []reconcile.ApplyAction{reconcile.ActionCreated, reconcile.ActionUnchanged, reconcile.ActionPatched} {
		var got reconcile.Applied[*plank]
		_, err := f.st.Txn(ctx, func(tx store.Tx) error {
			owner, err := reconcile.ApplyIn(tx, f.hulls, newHull("h"))
			if err != nil {
				return err
			}
			p := newPlank("p")
			if i == 2 {
				p.Labels = map[string]string{"a": "b"}
			}
			if err := reconcile.SetController(f.planks, p, f.hulls, owner.Object); err != nil {
				return err
			}
			got, err = reconcile.ApplyIn(tx, f.planks, p)
			return err
		})
		must(t, err)
		if got.Action != action {
			t.Errorf("transaction %d: %s (%s), want %s", i, got.Action, got.Diff, action)
		}
	}
}

// staleStore reads what was there some time ago.
type staleStore struct {
	store.Store
	old store.Snapshot
}

func (s *staleStore) Get(_ context.Context, schema *store.Schema, key store.Key, _ store.ReadOptions) (store.Object, error) {
	return s.old.Get(schema, key)
}

// TestApplyStaleReads reads from a cache that is behind: the write finds out.
func TestApplyStaleReads(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	stale := &staleStore{Store: f.st}
	hulls, err := store.Lookup[*hull](stale, f.hulls.Schema().KindName)
	must(t, err)
	look := func() {
		t.Helper()
		stale.old, err = f.st.Snapshot(ctx, store.ReadOptions{})
		must(t, err)
	}
	apply := func(length int, want reconcile.ApplyAction) {
		t.Helper()
		done, err := reconcile.Apply(ctx, hulls, hullWith(hullSpec{Length: length}))
		must(t, err)
		if done.Action != want || done.Object.Spec.Length != length {
			t.Errorf("%s, length %d; want %s, %d", done.Action, done.Object.Spec.Length, want, length)
		}
	}
	look()
	apply(1, reconcile.ActionCreated)
	apply(2, reconcile.ActionPatched)
	apply(2, reconcile.ActionUnchanged)
	look()
	_, err = f.hulls.Delete(ctx, store.NewKey("sea", "h"))
	must(t, err)
	apply(3, reconcile.ActionCreated)
}

// TestApplyConcurrently has two who apply to one object at once: both get all
// that they set, and nobody a conflict.
func TestApplyConcurrently(t *testing.T) {
	f := newFleet(t)
	done := make(chan error)
	const n = 200
	for i := range 2 {
		go func() {
			for j := range n {
				want := newHull("h")
				want.Labels = map[string]string{fmt.Sprint("worker-", i): fmt.Sprint(j)}
				if _, err := reconcile.Apply(t.Context(), f.hulls, want, reconcile.ApplyOptions{Manager: fmt.Sprint("worker-", i)}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	must(t, errors.Join(<-done, <-done))
	h, err := f.hulls.Get(t.Context(), store.NewKey("sea", "h"))
	must(t, err)
	last := fmt.Sprint(n - 1)
	if want := map[string]string{"worker-0": last, "worker-1": last}; !maps.Equal(h.Labels, want) {
		t.Errorf("labels %v, want %v", h.Labels, want)
	}
}

// TestApplyProperty applies random specs and lets others write random fields: what
// is desired holds, a second apply writes nothing, and what others set, and
// nobody who applies ever did, stays.
func TestApplyProperty(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	f := newFleet(t)
	ctx := t.Context()
	flags := func(prefix string) map[string]string {
		m := map[string]string{}
		for i := range 4 {
			if rng.IntN(2) == 0 {
				m[fmt.Sprint(prefix, i)] = fmt.Sprint(rng.IntN(3))
			}
		}
		return m
	}
	key := store.NewKey("sea", "h")
	theirs := map[string]string{}
	for range 500 {
		want := hullSpec{Length: rng.IntN(3), Afloat: rng.IntN(2) == 0, Flags: flags("ours-")}
		if rng.IntN(2) == 0 {
			want.Engine = &engine{Power: rng.IntN(3)}
		}
		for i, name := range []string{"main", "fore", "aft"} {
			if rng.IntN(2) == 0 {
				want.Masts = append(want.Masts, mast{Name: name, Height: i + rng.IntN(2)})
			}
		}
		done, err := reconcile.Apply(ctx, f.hulls, hullWith(want))
		must(t, err)
		got := done.Object.Spec
		if got.Length != want.Length || got.Afloat != want.Afloat || want.Engine != nil && got.Engine.Power != want.Engine.Power {
			t.Fatalf("spec %+v, want %+v", got, want)
		}
		all := maps.Clone(want.Flags)
		maps.Copy(all, theirs)
		if !maps.Equal(got.Flags, all) {
			t.Fatalf("flags %v, want %v", got.Flags, all)
		}
		masts := slices.DeleteFunc(slices.Clone(got.Masts), func(m mast) bool { return m.Name == "spare" })
		for i := range masts {
			masts[i].Sail = ""
		}
		if d := cmp.Diff(append([]mast{}, want.Masts...), append([]mast{}, masts...)); d != "" {
			t.Fatalf("masts (-want +got):\n%s", d)
		}
		again, err := reconcile.Apply(ctx, f.hulls, hullWith(want))
		must(t, err)
		if again.Action != reconcile.ActionUnchanged || again.Object != done.Object {
			t.Fatalf("a second apply %s: %s", again.Action, again.Diff)
		}
		_, err = f.hulls.Patch(ctx, key, func(h *hull) error {
			theirs = flags("theirs-")
			maps.DeleteFunc(h.Spec.Flags, func(k, _ string) bool { return strings.HasPrefix(k, "theirs-") })
			if h.Spec.Flags == nil {
				h.Spec.Flags = map[string]string{}
			}
			maps.Copy(h.Spec.Flags, theirs)
			if i := rng.IntN(3); i < len(h.Spec.Masts) {
				h.Spec.Masts[i].Sail = "lateen"
			} else if !slices.ContainsFunc(h.Spec.Masts, func(m mast) bool { return m.Name == "spare" }) {
				h.Spec.Masts = slices.Insert(h.Spec.Masts, rng.IntN(len(h.Spec.Masts)+1), mast{Name: "spare"})
			}
			return nil
		})
		must(t, err)
	}
}
