// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/quick"

	"github.com/slipway-dev/slipway/store"
)

func TestParseRevision(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0, "0": 0, "1": 1, "007": 7, "18446744073709551615": math.MaxUint64,
	} {
		if got, err := store.ParseRevision(text); err != nil || got != want {
			t.Errorf("ParseRevision(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{" ", "-1", "+1", "1.0", "1e3", "0x1", "1_000", "18446744073709551616", "١", "latest"} {
		got, err := store.ParseRevision(text)
		if !errors.Is(err, store.ErrInvalid) || got != 0 || !strings.Contains(err.Error(), "want a decimal number") {
			t.Errorf("ParseRevision(%q) = %d, %v, want an invalid error", text, got, err)
		}
	}
	roundTrip := func(rev uint64) bool {
		got, err := store.ParseRevision(store.FormatRevision(rev))
		return err == nil && got == rev
	}
	if err := quick.Check(roundTrip, nil); err != nil {
		t.Error(err)
	}
	o := &thing{}
	if got, err := store.RevisionOf(o); err != nil || got != 0 {
		t.Errorf("RevisionOf a new object = %d, %v", got, err)
	}
	o.SetResourceVersion("12")
	if got, err := store.RevisionOf(o); err != nil || got != 12 {
		t.Errorf("RevisionOf = %d, %v, want 12", got, err)
	}
}

func TestKey(t *testing.T) {
	if got := store.NewKey("default", "web").String(); got != "default/web" {
		t.Errorf("got %q", got)
	}
	if got := store.NewKey("", "node").String(); got != "node" {
		t.Errorf("got %q", got)
	}
	if got := store.KeyOf(&thing{Meta: store.Meta{Namespace: "a", Name: "b"}}); got != store.NewKey("a", "b") {
		t.Errorf("KeyOf = %v", got)
	}
	keys := []store.Key{{"", ""}, {"", "a"}, {"", "b"}, {"a", ""}, {"a", "a"}, {"a", "a-"}, {"a", "b"}, {"a-", "a"}, {"b", "a"}}
	for i, a := range keys {
		for j, b := range keys {
			if got, want := a.Compare(b), min(1, max(-1, i-j)); got != want {
				t.Errorf("%v compared with %v: %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestKindName(t *testing.T) {
	if got := (store.KindName{Name: "Pod"}).String(); got != "Pod" {
		t.Errorf("got %q", got)
	}
	if got := (store.Kind[*thing]{Name: "Deployment", Group: "apps"}).KindName().String(); got != "Deployment.apps" {
		t.Errorf("got %q", got)
	}
}

func TestDeepCopy(t *testing.T) {
	o := &thing{Meta: fullMeta(t), Parts: map[string][]string{"a": {"b"}}, Next: &thing{Parts: map[string][]string{}}}
	c := store.DeepCopy(o)
	checkSeparate(t, o, c)
	c.Parts["a"][0] = "changed"
	if o.Parts["a"][0] != "b" {
		t.Error("a change of the copy shows in the original")
	}
	if store.DeepCopy[*thing](nil) != nil {
		t.Error("a copy of nil is not nil")
	}
}
