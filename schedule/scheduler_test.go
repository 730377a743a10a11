// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-dev/slipway/schedule"
)

// world runs a scheduler in a bubble of virtual time and remembers what became
// of pods.
type world struct {
	*testing.T
	*schedule.Scheduler

	mu        sync.Mutex
	on        map[string]string
	refused   map[string]string
	failed    map[string][]string
	evicted   []string
	fail      func(pod *schedule.Pod) error
	noConfirm bool
}

func run(t *testing.T, o schedule.Options, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, on: map[string]string{}, refused: map[string]string{}, failed: map[string][]string{}}
		o.Seed = 1
		if o.Binder == nil {
			o.Binder = schedule.BinderFunc(w.bind)
		}
		o.Events.Unschedulable = func(p *schedule.Pod, err *schedule.FitError) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refused[p.Name] = err.Error()
		}
		o.Events.Failed = func(p *schedule.Pod, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failed[p.Name] = append(w.failed[p.Name], err.Error())
		}
		s, err := schedule.New(o)
		if err != nil {
			t.Fatal(err)
		}
		w.Scheduler = s
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		test(w)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want context.Canceled", err)
		}
	})
}

func (w *world) bind(_ context.Context, pod *schedule.Pod, node *schedule.Node) error {
	if w.fail != nil {
		if err := w.fail(pod); err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.on[pod.Name] = node.Name
	delete(w.refused, pod.Name)
	w.mu.Unlock()
	if w.noConfirm {
		return nil
	}
	bound := *pod
	bound.NodeName = node.Name
	return w.UpdatePod(&bound)
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) node(name string, cpu int64) {
	w.Helper()
	w.must(w.AddNode(node(name, cpu)))
}

func (w *world) pod(name string, cpu int64, change ...func(*schedule.Pod)) {
	w.Helper()
	w.must(w.AddPod(pod(name, cpu, change...)))
}

// placed waits until nothing moves and returns where the pods are.
func (w *world) placed() map[string]string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.on)
}

func (w *world) want(on ...string) {
	w.Helper()
	got := []string{}
	for p, n := range w.placed() {
		got = append(got, p+"@"+n)
	}
	slices.Sort(got)
	slices.Sort(on)
	if !slices.Equal(got, on) {
		w.Errorf("placed: %q, want %q", got, on)
	}
}

func (w *world) wantRefused(pod, want string) {
	w.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.refused[pod]; got != want {
		w.Errorf("pod %s was refused with\n  %q, want\n  %q", pod, got, want)
	}
}

func (w *world) wantFailed(pod, part string) {
	w.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.failed[pod], func(s string) bool { return strings.Contains(s, part) }) {
		w.Errorf("pod %s failed with %q, want an error with %q", pod, w.failed[pod], part)
	}
}

func node(name string, cpu int64, change ...func(*schedule.Node)) *schedule.Node {
	n := &schedule.Node{
		Name:        name,
		Labels:      map[string]string{schedule.LabelHostname: name},
		Allocatable: schedule.Resources{CPU: cpu * 1000, Memory: 64 << 30, Pods: 110},
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func pod(name string, cpu int64, change ...func(*schedule.Pod)) *schedule.Pod {
	p := &schedule.Pod{Namespace: "default", Name: name, Requests: schedule.Resources{CPU: cpu * 1000}}
	for _, f := range change {
		f(p)
	}
	return p
}

// The textbook case: of nodes with 4, 10 and 15 CPUs, the first is too small for
// a pod of 5, and of the others the one with more left wins.
func TestTextbook(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		w.node("four", 4)
		w.node("ten", 10)
		w.node("fifteen", 15)
		w.pod("five", 5)
		w.want("five@fifteen")
	})
}

func TestUnschedulablePodWaitsForRoom(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		w.node("small", 4)
		w.pod("large", 8)
		w.wantRefused("large", "0/1 nodes are available: 1 Insufficient cpu.")
		for i := range 4 { // nobody starves behind it
			w.pod(fmt.Sprint("p", i), 1)
		}
		if got := len(w.placed()); got != 4 {
			w.Errorf("%d pods placed, want 4", got)
		}
		w.node("also-small", 4) // of no use to it: not even tried
		time.Sleep(time.Minute)
		w.wantRefused("large", "0/1 nodes are available: 1 Insufficient cpu.")
		w.node("big", 8)
		if got := w.placed()["large"]; got != "big" {
			w.Errorf("large is on %q, want big", got)
		}
	})
}

func TestRemovedPodMakesRoom(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		w.node("n", 4)
		w.pod("a", 3)
		synctest.Wait()
		w.pod("b", 3)
		w.want("a@n")
		time.Sleep(2 * time.Second) // past its backoff
		w.must(w.RemovePod("default/a"))
		w.want("a@n", "b@n")
	})
}

func TestPriorityGoesFirst(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		for i := range 5 {
			w.pod(fmt.Sprint("low", i), 4)
		}
		w.pod("high", 4, func(p *schedule.Pod) { p.Priority = 1 })
		synctest.Wait()
		w.node("n", 4)
		time.Sleep(time.Minute)
		w.want("high@n")
	})
}

func TestGates(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		w.node("n", 4)
		w.pod("gated", 1, func(p *schedule.Pod) { p.SchedulingGates = []string{"example.com/quota"} })
		time.Sleep(time.Hour)
		w.want()
		w.must(w.UpdatePod(pod("gated", 1)))
		w.want("gated@n")
	})
}

func TestBindFailureIsRetriedWithBackoff(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		var tries []time.Duration
		start := time.Now()
		w.fail = func(*schedule.Pod) error {
			tries = append(tries, time.Since(start))
			if len(tries) < 7 {
				return errors.New("the store is down")
			}
			return nil
		}
		w.node("n", 4)
		w.pod("a", 1)
		time.Sleep(time.Minute)
		w.want("a@n")
		w.wantFailed("a", "plugin DefaultBinder: Bind of pod default/a on node n: the store is down")
		want := []time.Duration{0, 1, 3, 7, 15, 25, 35}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(tries, want) {
			w.Errorf("tries at %v, want %v", tries, want)
		}
	})
}

func TestAssumedPodExpires(t *testing.T) {
	run(t, schedule.Options{AssumeTimeout: 30 * time.Second}, func(w *world) {
		w.noConfirm = true
		w.node("n", 4)
		w.pod("lost", 4)
		w.want("lost@n")
		w.pod("next", 4)
		time.Sleep(29 * time.Second)
		w.want("lost@n")
		time.Sleep(10 * time.Second)
		w.want("lost@n", "next@n")
	})
}

func TestPreemption(t *testing.T) {
	var w *world
	o := schedule.Options{Evict: func(_ context.Context, victim, by *schedule.Pod) error {
		w.mu.Lock()
		w.evicted = append(w.evicted, victim.Name+" for "+by.Name)
		w.mu.Unlock()
		return w.RemovePod("default/" + victim.Name)
	}}
	run(t, o, func(x *world) {
		w = x
		w.node("a", 4)
		w.node("b", 4)
		for _, p := range []struct {
			name, node string
			priority   int32
		}{{"a1", "a", 5}, {"a2", "a", 1}, {"b1", "b", 3}, {"b2", "b", 3}} {
			w.pod(p.name, 2, func(q *schedule.Pod) { q.Priority, q.NodeName = p.priority, p.node })
		}
		w.pod("high", 2, func(p *schedule.Pod) { p.Priority = 10 })
		time.Sleep(5 * time.Second)
		w.want("high@a")
		if want := []string{"a2 for high"}; !slices.Equal(w.evicted, want) {
			w.Errorf("evicted %q, want %q", w.evicted, want)
		}
	})
}

func TestFailedEvictionIsRetried(t *testing.T) {
	var w *world
	n := 0
	o := schedule.Options{Evict: func(_ context.Context, victim, _ *schedule.Pod) error {
		if n++; n == 1 {
			return errors.New("no connection")
		}
		return w.RemovePod("default/" + victim.Name)
	}}
	run(t, o, func(x *world) {
		w = x
		w.node("a", 4)
		w.pod("low", 3, func(p *schedule.Pod) { p.NodeName = "a" })
		w.pod("high", 3, func(p *schedule.Pod) { p.Priority = 10 })
		time.Sleep(20 * time.Second)
		w.want("high@a")
		w.wantFailed("high", "evicting pod default/low from node a: no connection")
	})
}

// A pod of lower priority must not take the room that is being made.
func TestNominatedRoomIsKept(t *testing.T) {
	o := schedule.Options{Evict: func(context.Context, *schedule.Pod, *schedule.Pod) error { return nil }}
	run(t, o, func(w *world) {
		w.node("a", 4)
		w.pod("low", 3, func(p *schedule.Pod) { p.NodeName = "a" })
		w.pod("high", 4, func(p *schedule.Pod) { p.Priority = 10 })
		synctest.Wait()
		w.pod("small", 1)
		time.Sleep(time.Second)
		w.want()
		w.must(w.RemovePod("default/low"))
		time.Sleep(5 * time.Second)
		w.want("high@a")
	})
}

func TestGroupAllOrNothing(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		member := func(p *schedule.Pod) { p.Group = "g" }
		w.node("a", 4)
		w.must(w.SetGroup(schedule.Group{Namespace: "default", Name: "g", MinMember: 3}))
		w.pod("g1", 2, member)
		w.pod("g2", 2, member)
		time.Sleep(time.Minute)
		w.want() // too few members
		w.pod("g3", 2, member)
		time.Sleep(time.Second)
		w.want() // too little room for three
		w.wantRefused("g1", "0/1 nodes are available: 1 Insufficient cpu.")
		w.pod("other", 4) // the group holds nothing back
		w.want("other@a")
		time.Sleep(time.Minute)
		w.node("b", 4)
		w.node("c", 4)
		time.Sleep(time.Minute)
		if got := len(w.placed()); got != 4 {
			w.Errorf("%v placed, want other and all of the group", w.placed())
		}
		w.pod("late", 1, member)
		time.Sleep(time.Second)
		if got := len(w.placed()); got != 5 {
			w.Errorf("%v placed, want the late member too", w.placed())
		}
	})
}

type permit struct {
	status *schedule.Status
	wait   time.Duration
}

func (permit) Name() string { return "permit" }
func (p permit) Permit(context.Context, *schedule.State, *schedule.Pod, *schedule.Node) (*schedule.Status, time.Duration) {
	return p.status, p.wait
}

func withPlugin(p ...schedule.Plugin) schedule.Options {
	return schedule.Options{Profiles: []schedule.Profile{{Plugins: schedule.With(schedule.DefaultPlugins(), p...)}}}
}

func TestPermitWaits(t *testing.T) {
	run(t, withPlugin(permit{schedule.NewStatus(schedule.Wait), 10 * time.Second}), func(w *world) {
		w.node("n", 4)
		w.pod("a", 4)
		time.Sleep(9 * time.Second)
		w.want()
		for _, p := range w.Waiting() {
			if p.Pod().Name != "a" || p.Node().Name != "n" {
				w.Errorf("%s waits for %s", p.Pod(), p.Node().Name)
			}
			p.Allow("permit")
		}
		w.want("a@n")
	})
}

func TestPermitTimesOut(t *testing.T) {
	run(t, withPlugin(permit{schedule.NewStatus(schedule.Wait), 10 * time.Second}), func(w *world) {
		w.node("n", 4)
		w.pod("a", 4)
		time.Sleep(10*time.Second + time.Millisecond)
		w.wantFailed("a", "plugin permit: not permitted within its time")
		w.want()
		w.must(w.RemovePod("default/a"))
	})
}

func TestPermitRefuses(t *testing.T) {
	run(t, withPlugin(permit{status: schedule.Reject("not today")}), func(w *world) {
		w.node("n", 4)
		w.pod("a", 4)
		w.wantFailed("a", "plugin permit: Permit of pod default/a on node n: Unschedulable: not today")
		w.want()
	})
}

// A pod that is removed while it is being bound is not placed again.
func TestRemoveWhileBinding(t *testing.T) {
	run(t, schedule.Options{}, func(w *world) {
		w.fail = func(*schedule.Pod) error {
			time.Sleep(time.Second)
			return errors.New("too late")
		}
		w.node("n", 4)
		w.pod("a", 4)
		synctest.Wait()
		w.must(w.RemovePod("default/a"))
		time.Sleep(time.Minute)
		w.want()
		if err := w.RemovePod("default/a"); !errors.Is(err, schedule.ErrNotFound) {
			w.Errorf("a second RemovePod returned %v, want ErrNotFound", err)
		}
		w.fail = nil
		w.pod("b", 4)
		w.want("b@n")
	})
}
