// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/runtime/fake"
	"github.com/slipway-dev/slipway/runtime/pod"
)

// TestEventsOfADay: a pod that crashes all day tells few events, and their counts
// lose none.
func TestEventsOfADay(t *testing.T) {
	crash := script(map[string]fake.Behaviour{"main": {ExitAfter: time.Second, ExitCode: 1}})
	in(t, fake.Options{Script: crash}, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		w.after(24 * time.Hour)
		starts := len(w.startsOf("main"))
		w.mu.Lock()
		defer w.mu.Unlock()
		if starts < 280 || len(w.events) > 25+24*12+10 {
			t.Errorf("%d starts and %d events, want at most 25 repeats, then 12 an hour", starts, len(w.events))
		}
		byName := map[string]pod.Event{}
		for _, e := range w.events {
			old, again := byName[e.Name]
			if again != (e.Count > 1) || again && (e.Count <= old.Count || !e.First.Equal(old.First) || e.Reason != old.Reason || e.Message != old.Message) {
				t.Fatalf("event %+v after %+v", e, old)
			}
			byName[e.Name] = e
		}
		if len(byName) > 6 {
			t.Errorf("%d different events: %v", len(byName), byName)
		}
		most := 0
		for _, e := range byName {
			if e.Reason == pod.EventStarted {
				most = e.Count
			}
		}
		// The last starts may not have been told: the kinds of events take turns.
		if most < starts-20 || most > starts {
			t.Errorf("the count of Started is %d after %d starts", most, starts)
		}
	})
}

// TestSimilarEvents: events that differ in their message only are combined.
func TestSimilarEvents(t *testing.T) {
	n := 0
	options := fake.Options{Before: func(_ context.Context, c fake.Call) error {
		if c.Op == "RunPodSandbox" {
			n++
			return errors.New(fmt.Sprint("attempt ", n))
		}
		return nil
	}}
	in(t, options, pod.Config{}, func(w *world) {
		w.set(simple("a"))
		w.after(time.Hour)
		w.mu.Lock()
		defer w.mu.Unlock()
		single, combined := 0, 0
		for _, e := range w.events {
			if strings.HasPrefix(e.Message, "(combined from similar events): ") {
				combined++
			} else {
				single++
			}
		}
		if single != 10 || combined < 20 || combined > 40 {
			t.Errorf("%d single and %d combined events for %d failures, want 10, and one series", single, combined, n)
		}
		last := w.events[len(w.events)-1]
		if last.Count < n-30-10 {
			t.Errorf("the last event counts %d of %d failures", last.Count, n)
		}
	})
}

// TestNewEventsAreAlwaysTold: who has used up the repeats still tells what is new.
func TestNewEventsAreAlwaysTold(t *testing.T) {
	crash := script(map[string]fake.Behaviour{"main": {ExitAfter: time.Second, ExitCode: 1}})
	config := pod.Config{CrashBackOff: pod.BackOff{Initial: time.Second, Max: time.Second}}
	in(t, fake.Options{Script: crash}, config, func(w *world) {
		w.set(simple("a"))
		w.after(time.Hour)
		for w.state("a", "main") != "Running" {
			w.after(100 * time.Millisecond)
		}
		before := len(w.story())
		if err := w.m.Delete("a", nil); err != nil {
			t.Fatal(err)
		}
		w.after(time.Minute)
		if s := w.story()[before:]; s != ", Killing main" {
			t.Errorf("the repeats were used up, and the end of the pod told %q, want Killing", s)
		}
	})
}
