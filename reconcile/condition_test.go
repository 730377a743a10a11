// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

func TestConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var have []reconcile.Condition
		start := time.Now().UTC()
		set := func(want bool, typ string, status reconcile.ConditionStatus, generation int64, reason string) {
			t.Helper()
			changed, err := reconcile.SetCondition(&have, reconcile.Condition{Type: typ, Status: status, ObservedGeneration: generation, Reason: reason})
			if err != nil || changed != want {
				t.Errorf("set %s %s %d %s: changed %v, error %v; want %v", typ, status, generation, reason, changed, err, want)
			}
		}
		set(true, "Ready", "False", 1, "Starting")
		set(true, "Healthy", "True", 1, "Checked")
		time.Sleep(90*time.Second + 300*time.Millisecond)
		set(false, "Ready", "False", 1, "Starting")
		set(true, "Ready", "False", 2, "StillStarting") // no transition
		set(true, "Healthy", "Unknown", 1, "Silent")    // a transition
		at := func(d time.Duration) store.Time { return store.Time{Time: start.Add(d)} }
		want := []reconcile.Condition{
			{Type: "Ready", Status: "False", ObservedGeneration: 2, LastTransitionTime: at(0), Reason: "StillStarting"},
			{Type: "Healthy", Status: "Unknown", ObservedGeneration: 1, LastTransitionTime: at(90 * time.Second), Reason: "Silent"},
		}
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("conditions (-want +got):\n%s", d)
		}
		given := reconcile.Condition{Type: "Ready", Status: "True", LastTransitionTime: at(time.Hour), Reason: "Asked"}
		if _, err := reconcile.SetCondition(&have, given); err != nil || have[0].LastTransitionTime != at(time.Hour) {
			t.Errorf("the time given: %v, error %v", have[0].LastTransitionTime, err)
		}
		if !reconcile.IsTrue(have, "Ready") || reconcile.IsTrue(have, "Healthy") || reconcile.IsTrue(have, "None") || reconcile.IsTrue[reconcile.Condition](nil, "Ready") {
			t.Error("IsTrue: want Ready only")
		}
		if c, ok := reconcile.FindCondition(have, "Healthy"); !ok || c.Reason != "Silent" {
			t.Errorf("found %+v, %v", c, ok)
		}
		if c, ok := reconcile.FindCondition(have, "None"); ok {
			t.Errorf("found %+v", c)
		}
		if !reconcile.RemoveCondition(&have, "Ready") || reconcile.RemoveCondition(&have, "Ready") || len(have) != 1 {
			t.Errorf("after the removal: %+v", have)
		}
	})
}

// TestConditionJSON has what metav1.Condition writes.
func TestConditionJSON(t *testing.T) {
	c := reconcile.Condition{Type: "Ready", Status: "True", LastTransitionTime: store.Time{Time: time.Unix(1e9, 5).UTC()}, Reason: "Done"}
	text, err := json.Marshal(c)
	must(t, err)
	const want = `{"type":"Ready","status":"True","lastTransitionTime":"2001-09-09T01:46:40Z","reason":"Done","message":""}`
	if string(text) != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
}

func TestConditionsBadInput(t *testing.T) {
	good := reconcile.Condition{Type: "Ready", Status: "True", Reason: "Done"}
	with := func(change func(*reconcile.Condition)) reconcile.Condition {
		c := good
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		c    reconcile.Condition
		text string
	}{
		"empty type":        {with(func(c *reconcile.Condition) { c.Type = "" }), "the type is empty"},
		"bad type":          {with(func(c *reconcile.Condition) { c.Type = "not ready" }), `condition type "not ready"`},
		"empty status":      {with(func(c *reconcile.Condition) { c.Status = "" }), `condition Ready: status "": want True, False or Unknown`},
		"bad status":        {with(func(c *reconcile.Condition) { c.Status = "true" }), `status "true"`},
		"empty reason":      {with(func(c *reconcile.Condition) { c.Reason = "" }), `reason ""`},
		"reason of words":   {with(func(c *reconcile.Condition) { c.Reason = "All done" }), `reason "All done"`},
		"reason of digits":  {with(func(c *reconcile.Condition) { c.Reason = "7" }), `reason "7"`},
		"reason ends in :":  {with(func(c *reconcile.Condition) { c.Reason = "A:" }), `reason "A:"`},
		"message of 33 KiB": {with(func(c *reconcile.Condition) { c.Message = strings.Repeat("x", 33<<10) }), "33792 bytes"},
	} {
		have := []reconcile.Condition{{Type: "Ready", Status: "False"}}
		changed, err := reconcile.SetCondition(&have, test.c)
		refused(t, name, err, store.ErrInvalid, test.text)
		if changed || have[0].Status != "False" || len(have) != 1 {
			t.Errorf("%s: changed %v, now %+v", name, changed, have)
		}
	}
	_, err := reconcile.SetCondition(nil, good)
	refused(t, "nil slice", err, store.ErrInvalid, "the slice is nil")
	if reconcile.RemoveCondition[reconcile.Condition](nil, "Ready") {
		t.Error("removed from no slice")
	}
	for _, reason := range []string{"A", "Aa1_", "A:b", "A,b"} {
		c, have := good, []reconcile.Condition(nil)
		c.Reason = reason
		if _, err := reconcile.SetCondition(&have, c); err != nil {
			t.Errorf("reason %s: %v", reason, err)
		}
	}
}
